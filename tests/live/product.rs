//! Our own processes: sidecars and queries, as a user starts them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::ask::client;
use super::place::Place;
use super::process::{Process, free_port};

fn periplus(role: &str, place: &Place) -> Command {
    let mut command = place.command(env!("CARGO_BIN_EXE_periplus"));
    command.arg(role);
    command
}

/// Another role: its process, once it is ready, and its `--admin` address.
pub(crate) async fn start(name: &str, args: &[&str], dir: &Path) -> (Process, String) {
    let admin = format!("127.0.0.1:{}", free_port());
    let mut command = Place::loopback().command(env!("CARGO_BIN_EXE_periplus"));
    command.args(args).args(["--admin", &admin]);
    let mut process = Process::start(name, command, dir);
    let admin = format!("http://{admin}");
    ready(&format!("{admin}/-/ready"), &mut process).await;
    (process, admin)
}

/// Waits until `url` answers with a success.
async fn ready(url: &str, process: &mut Process) {
    for _ in 0..300 {
        assert!(process.is_alive(), "{} ended:\n{}", process.name, process.last_words());
        if client().get(url).send().await.is_ok_and(|r| r.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} does not become ready:\n{}", process.name, process.last_words());
}

/// A sidecar beside one Prometheus.
pub(crate) struct Sidecar {
    /// Where it serves gRPC.
    pub(crate) grpc: String,
    pub(crate) admin: String,
    pub(crate) process: Process,
    args: Vec<String>,
    place: Place,
}

impl Sidecar {
    /// Starts one beside the Prometheus at `url` and waits until it is ready.
    pub(crate) async fn start(
        name: &str,
        url: &str,
        more: &[&str],
        place: &Place,
        dir: &Path,
    ) -> Self {
        let mut this = Self::start_unready(name, url, more, place, dir);
        ready(&format!("{}/-/ready", this.admin), &mut this.process).await;
        this
    }

    /// Starts one that may never become ready.
    pub(crate) fn start_unready(
        name: &str,
        url: &str,
        more: &[&str],
        place: &Place,
        dir: &Path,
    ) -> Self {
        let grpc = format!("{}:{}", place.host, free_port());
        let admin = format!("{}:{}", place.host, free_port());
        let mut args: Vec<String> =
            ["--prometheus", url, "--listen", &grpc, "--admin", &admin].map(str::to_owned).to_vec();
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let process = Self::spawn(name, &args, place, dir);
        let place = place.clone();
        Self { grpc, admin: format!("http://{admin}"), process, args, place }
    }

    fn spawn(name: &str, args: &[String], place: &Place, dir: &Path) -> Process {
        let mut command = periplus("sidecar", place);
        command.args(args);
        Process::start(name, command, dir)
    }

    /// Starts it again at the same addresses after it was killed.
    pub(crate) async fn restart(&mut self, dir: &Path) {
        let name = self.process.name.clone();
        self.process = Self::spawn(&name, &self.args, &self.place, dir);
        ready(&format!("{}/-/ready", self.admin), &mut self.process).await;
    }
}

/// A query process.
pub(crate) struct Query {
    pub(crate) url: String,
    pub(crate) grpc: String,
    pub(crate) admin: String,
    pub(crate) process: Process,
}

impl Query {
    /// Starts one over the given endpoints and waits until it is ready.
    pub(crate) async fn start(name: &str, endpoints: &[&str], more: &[&str], dir: &Path) -> Self {
        let (http, grpc) = (free_port(), free_port());
        let admin = format!("127.0.0.1:{}", free_port());
        let mut command = periplus("query", &Place::loopback());
        command
            .args(["--listen", &format!("127.0.0.1:{http}")])
            .args(["--grpc", &format!("127.0.0.1:{grpc}")])
            .args(["--admin", &admin])
            .args(["--replica-label", "replica"])
            // Tests ask the same again to see what has changed.
            .args(["--answer-ttl", "0s"]);
        for endpoint in endpoints {
            command.args(["--endpoint", endpoint]);
        }
        command.args(more);
        let mut process = Process::start(name, command, dir);
        let admin = format!("http://{admin}");
        ready(&format!("{admin}/-/ready"), &mut process).await;
        let (url, grpc) = (format!("http://127.0.0.1:{http}"), format!("127.0.0.1:{grpc}"));
        Self { url, grpc, admin, process }
    }
}
