//! The two processes that answer.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::http::Client;
use super::serve::ROLE;

/// A process with an HTTP API on a loopback port; ended when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    /// A Prometheus over the blocks in `data`, with nothing to scrape.
    pub(crate) fn prometheus(binary: &Path, data: &Path, dir: &Path) -> Self {
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").expect("a configuration");
        let log = std::fs::File::create(dir.join("prometheus.log")).expect("a log");
        let port = free_port();
        let child = Command::new(binary)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--query.max-samples=1000000000", "--query.timeout=30m"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{} starts: {e}", binary.display()));
        let mut this = Self { port, child };
        for _ in 0..1200 {
            let alive = matches!(this.child.try_wait(), Ok(None));
            let words = || std::fs::read_to_string(dir.join("prometheus.log")).unwrap_or_default();
            assert!(alive, "{} ended:\n{}", binary.display(), words());
            let up = TcpStream::connect(("127.0.0.1", port)).is_ok();
            if up && Client::connect(port).get("/-/ready").ends_with(b"is Ready.\n") {
                return this;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} does not become ready", binary.display());
    }

    /// This program once more, serving the block.
    pub(crate) fn ours(block: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg(ROLE)
            .arg(block)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let said = child.stdout.take().expect("its output");
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).expect("a line from it");
        Self { port: line.trim().parse().expect("a port"), child }
    }

    /// The most memory it ever held, in KiB, mapped files included.
    pub(crate) fn peak_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    /// CPU time of the threads it has.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let ns = tasks.into_iter().flatten().flatten().filter_map(|task| {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(ns.sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A loopback port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}
