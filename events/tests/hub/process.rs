//! A hub in a process of its own: this test's own binary, told by its environment to be one.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_events::hub::{self, Config};

/// Names the directory of a hub's data.
const DATA: &str = "PERIPLUS_TEST_HUB_DATA";
/// Begins the line that names the address.
const MARK: &str = "hub listens on ";

/// A hub; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) url: String,
    /// Where its gRPC service is.
    pub(crate) grpc: String,
}

impl Process {
    /// Starts one over `data` and waits until it listens.
    pub(crate) async fn start(data: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DATA, data)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let (tx, rx) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut tx = Some(tx);
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once(MARK)
                    && let Some(tx) = tx.take()
                {
                    let _ = tx.send(address.trim().to_owned());
                }
            }
        });
        let mut process = Self { child, url: String::new(), grpc: String::new() };
        let addresses = tokio::time::timeout(Duration::from_secs(120), rx).await;
        let addresses = addresses.expect("in time").expect("addresses");
        let (http, grpc) = addresses.split_once(' ').expect("two addresses");
        (process.url, process.grpc) = (format!("http://{http}"), format!("http://{grpc}"));
        process
    }

    /// SIGKILL, and wait for the end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Bytes in memory.
    pub(crate) fn resident_bytes(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Is a hub until it is killed, where the environment says so.
pub(crate) fn child() {
    let Some(data) = std::env::var_os(DATA) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let (admin, drain) = (Admin::new("test", "0", ""), Drain::new());
        let config = Config {
            listen: Some("127.0.0.1:0".into()),
            grpc: Some("127.0.0.1:0".into()),
            data: data.into(),
            // Everything moves on while it is killed.
            settle: Duration::from_millis(50),
            memory: 200_000,
            upkeep_interval: Duration::from_millis(150),
            region: vec!["c1=north".into()],
            ..Config::defaults()
        };
        let bound = hub::build(config, &admin, &drain).await.unwrap();
        println!("\n{MARK}{} {}", bound.address().unwrap(), bound.grpc_address().unwrap());
        hub::run(bound, &drain).await.unwrap();
    });
}
