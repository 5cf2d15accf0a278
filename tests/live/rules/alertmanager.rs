//! A real Alertmanager, and the webhook at its end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;

use crate::ask::client;
use crate::process::{Process, free_port};

type Heard = Arc<Mutex<Vec<Value>>>;

/// Hears what Alertmanager tells.
pub(crate) struct Webhook {
    url: String,
    heard: Heard,
}

impl Webhook {
    pub(crate) async fn start() -> Self {
        let heard = Heard::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let app = Router::new().route("/", post(hear)).with_state(Arc::clone(&heard));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, heard }
    }

    /// Whether it was told of an alert in this state.
    pub(crate) async fn told(&self, status: &str) -> bool {
        !self.last(status).is_null()
    }

    /// The last alert it was told of in this state.
    pub(crate) fn last(&self, status: &str) -> Value {
        let heard = self.heard.lock().expect("not poisoned");
        heard.iter().rev().find(|a| a["status"] == status).cloned().unwrap_or_default()
    }
}

async fn hear(State(heard): State<Heard>, Json(body): Json<Value>) {
    let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
    heard.lock().expect("not poisoned").extend(alerts);
}

/// A running Alertmanager.
pub(crate) struct Alertmanager {
    pub(crate) url: String,
    pub(crate) process: Process,
    port: u16,
    dir: PathBuf,
}

fn binary() -> PathBuf {
    let names = ["prometheus-alertmanager", "alertmanager"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).flat_map(|d| names.map(|n| d.join(n))).find(|b| b.is_file());
    found.expect("an Alertmanager on the PATH: script/setup test gets one")
}

impl Alertmanager {
    pub(crate) async fn start(hook: &Webhook, dir: &Path) -> Self {
        let own = dir.join("alertmanager");
        std::fs::create_dir_all(&own).expect("a directory");
        let config = format!(
            "route: {{receiver: hook, group_by: [alertname, cluster], group_wait: 0s, group_interval: 1s}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: '{}', send_resolved: true}}]}}]\n",
            hook.url
        );
        std::fs::write(own.join("config.yml"), config).expect("a configuration");
        let port = free_port();
        let process = Self::spawn(&own, port, dir);
        let url = format!("http://127.0.0.1:{port}");
        let this = Self { url, process, port, dir: own };
        this.ready().await;
        this
    }

    fn spawn(own: &Path, port: u16, dir: &Path) -> Process {
        let mut command = Command::new(binary());
        command
            .arg(format!("--config.file={}", own.join("config.yml").display()))
            .arg(format!("--storage.path={}", own.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=");
        Process::start("alertmanager", command, dir)
    }

    pub(crate) async fn restart(&mut self, dir: &Path) {
        self.process = Self::spawn(&self.dir, self.port, dir);
        self.ready().await;
    }

    async fn ready(&self) {
        for _ in 0..300 {
            let answer = client().get(format!("{}/-/ready", self.url)).send().await;
            if answer.is_ok_and(|r| r.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("Alertmanager does not become ready:\n{}", self.process.last_words());
    }

    /// The alerts it holds.
    pub(crate) async fn alerts(&self) -> Vec<Value> {
        let answer = client().get(format!("{}/api/v2/alerts", self.url)).send().await;
        let body: Value = answer.expect("an answer").json().await.expect("JSON");
        body.as_array().cloned().unwrap_or_default()
    }
}
