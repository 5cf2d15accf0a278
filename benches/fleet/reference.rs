//! Other systems over the same Prometheus servers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::ask::{When, client};
use super::endpoint::Proxy;
use super::measure;
use super::process::{Process, free_port};
use super::prometheus::Prometheus;

async fn ready(url: &str, process: &mut Process) {
    for _ in 0..400 {
        assert!(process.is_alive(), "{}:\n{}", process.name, process.last_words());
        if client().get(url).send().await.is_ok_and(|r| r.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} does not become ready:\n{}", process.name, process.last_words());
}

/// promxy, one server group for each cluster.
pub(crate) struct Promxy {
    pub(crate) url: String,
    _process: Process,
}

impl Promxy {
    pub(crate) async fn start(binary: &Path, servers: &[Prometheus], dir: &Path) -> Self {
        let mut config = String::from("promxy:\n  server_groups:\n");
        for (i, p) in servers.iter().enumerate() {
            let host = p.url.trim_start_matches("http://");
            config.push_str(&format!(
                "  - static_configs:\n    - targets: [\"{host}\"]\n    labels:\n      cluster: c{i}\n    \
                 anti_affinity: 10s\n"
            ));
        }
        let path = dir.join("promxy.yml");
        std::fs::write(&path, config).expect("a configuration");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(binary);
        command.arg(format!("--config={}", path.display())).arg(format!("--bind-addr={address}"));
        let mut process = Process::start("promxy", command, dir);
        let url = format!("http://{address}");
        ready(&format!("{url}/-/ready"), &mut process).await;
        Self { url, _process: process }
    }
}

/// A Thanos sidecar beside each Prometheus, and a Thanos query over them.
pub(crate) struct Thanos {
    pub(crate) url: String,
    query: Process,
    counted: String,
    proxies: Vec<Proxy>,
    _counted: Process,
    _sidecars: Vec<Process>,
}

impl Thanos {
    pub(crate) async fn start(binary: &Path, servers: &[Prometheus], dir: &Path) -> Self {
        let (mut sidecars, mut endpoints, mut proxies) = (Vec::new(), Vec::new(), Vec::new());
        for (i, p) in servers.iter().enumerate() {
            let grpc = format!("127.0.0.1:{}", free_port());
            let http = format!("127.0.0.1:{}", free_port());
            let mut command = Command::new(binary);
            command
                .arg("sidecar")
                .arg(format!("--prometheus.url={}", p.url))
                .arg(format!("--tsdb.path={}", p.tsdb().display()))
                .arg(format!("--grpc-address={grpc}"))
                .arg(format!("--http-address={http}"));
            let mut process = Process::start(&format!("thanos-sidecar-{i}"), command, dir);
            ready(&format!("http://{http}/-/ready"), &mut process).await;
            proxies.push(Proxy::start(&grpc).await);
            endpoints.push(grpc);
            sidecars.push(process);
        }
        let (url, query) = Self::query(binary, "thanos-query", &endpoints, dir).await;
        let through: Vec<String> = proxies.iter().map(|p| p.address.clone()).collect();
        let (counted, process) = Self::query(binary, "thanos-query-counted", &through, dir).await;
        Self { url, query, counted, proxies, _counted: process, _sidecars: sidecars }
    }

    async fn query(
        binary: &Path,
        name: &str,
        endpoints: &[String],
        dir: &Path,
    ) -> (String, Process) {
        let http = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(binary);
        command
            .arg("query")
            .arg(format!("--http-address={http}"))
            .arg(format!("--grpc-address=127.0.0.1:{}", free_port()))
            .arg("--query.replica-label=replica");
        for endpoint in endpoints {
            command.arg(format!("--endpoint={endpoint}"));
        }
        let mut process = Process::start(name, command, dir);
        let url = format!("http://{http}");
        ready(&format!("{url}/-/ready"), &mut process).await;
        // It finds its endpoints some time after it says that it is ready.
        for _ in 0..100 {
            let stores = client().get(format!("{url}/api/v1/stores")).send().await;
            let text = match stores {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            };
            if text.matches("\"name\"").count() >= endpoints.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        (url, process)
    }

    /// Bytes that one question moves, and from how many sidecars.
    pub(crate) async fn moved(&self, expr: &str, when: When) -> (u64, usize) {
        (measure::moved(&self.proxies, &self.counted, expr, when).await, self.proxies.len())
    }

    pub(crate) fn peak_kib(&self) -> u64 {
        self.query.peak_kib()
    }
}
