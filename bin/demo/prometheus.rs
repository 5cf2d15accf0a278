//! The real Prometheus servers of the demo: found, configured, filled with a past, made to scrape.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use periplus_simfleet::{Fleet, ScrapeConfig, remote_write};
use tokio::process::Command;

use super::exporter::{self, now_ms};
use super::process::Process;

/// What to say where there is no Prometheus.
const HOW_TO_GET: &str = "no `prometheus` was found on the PATH. The demo runs real Prometheus \
servers. Get one by:
  sudo apt-get install --no-install-recommends prometheus     (Debian, Ubuntu; `make demo` does it)
  or from https://prometheus.io/download, then: periplus demo --prometheus-bin PATH
(On Debian the package also starts a service on port 9090: `sudo systemctl disable --now prometheus`, \
or give the demo another port: --listen 127.0.0.1:9091.)";

/// The binary to run: the one given, else what PROMETHEUS3 names, else the first on the PATH.
pub(crate) fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        if !path.is_file() {
            bail!("--prometheus-bin {}: there is no such file", path.display());
        }
        return Ok(path.to_owned());
    }
    let named = std::env::var_os("PROMETHEUS3").map(PathBuf::from).filter(|p| p.is_file());
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|d| d.join("prometheus")).find(|p| p.is_file())
    };
    named.or_else(on_path).context(HOW_TO_GET)
}

/// One Prometheus of the demo.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) process: Process,
    dir: PathBuf,
    cluster: usize,
    replica: u64,
}

impl Server {
    /// Where it keeps its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }
}

/// What all servers share.
pub(crate) struct Setup<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) fleet: &'a Fleet,
    pub(crate) exporter: SocketAddr,
    /// Where the product tells of itself; the servers of the first cluster scrape it.
    pub(crate) admin: SocketAddr,
    pub(crate) interval: Duration,
    pub(crate) dir: &'a Path,
    pub(crate) http: &'a reqwest::Client,
}

impl Setup<'_> {
    /// Starts the Prometheus of a cluster, scraping nothing yet, and waits until it is ready.
    pub(crate) async fn start(&self, cluster: usize, replica: u64) -> anyhow::Result<Server> {
        let name = self.name(cluster, replica);
        let dir = self.dir.join(&name);
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        std::fs::write(dir.join("prometheus.yml"), self.config(cluster, replica, false))?;
        // A port that was free a moment ago may be taken by the time it is used.
        let mut last = String::new();
        for _ in 0..3 {
            let port = free_port()?;
            let url = format!("http://127.0.0.1:{port}");
            let mut command = Command::new(self.binary);
            command
                .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .args(["--web.enable-remote-write-receiver", "--web.enable-lifecycle"])
                .arg("--log.level=warn");
            let mut process = Process::start(&name, command, self.dir)?;
            match self.ready(&url, &mut process).await {
                Ok(()) => return Ok(Server { url, process, dir, cluster, replica }),
                Err(why) => last = why,
            }
            process.stop().await;
        }
        bail!("{name} does not become ready: {last}")
    }

    async fn ready(&self, url: &str, process: &mut Process) -> Result<(), String> {
        for _ in 0..300 {
            if let Some(words) = process.died() {
                return Err(words);
            }
            let answer = self.http.get(format!("{url}/-/ready")).send().await;
            if answer.is_ok_and(|r| r.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("it did not answer within 30 seconds".into())
    }

    /// Stores the simulated past, then has the server scrape the present.
    pub(crate) async fn begin(&self, server: &Server, history: Duration) -> anyhow::Result<()> {
        let until = now_ms();
        let from = until - history.as_millis() as i64;
        if from < until {
            self.store_past(server, from, until).await?;
        }
        let config = self.config(server.cluster, server.replica, true);
        std::fs::write(server.dir.join("prometheus.yml"), config)?;
        let url = format!("{}/-/reload", server.url);
        self.http.post(&url).send().await?.error_for_status()?;
        Ok(())
    }

    async fn store_past(&self, server: &Server, from: i64, until: i64) -> anyhow::Result<()> {
        let scrape = ScrapeConfig {
            interval_ms: (self.interval.as_millis() as i64).max(15_000),
            replica: server.replica,
        };
        let cluster = &self.fleet.clusters()[server.cluster];
        // In order of time for all series at once: a Prometheus takes no sample that is an hour
        // older than its newest.
        let slice_ms = 20 * 60_000;
        let mut at = from;
        while at < until {
            let end = (at + slice_ms).min(until);
            for series in cluster.scraped(at, end, scrape).chunks(500) {
                let mut request = remote_write::Request::default();
                for s in series {
                    let samples: Vec<(i64, f64)> =
                        s.samples().filter(|(t, _)| !in_gap(server.replica, *t, until)).collect();
                    request.add(&s.labels, &samples);
                }
                self.send(server, &request).await?;
            }
            at = end;
        }
        Ok(())
    }

    async fn send(&self, server: &Server, request: &remote_write::Request) -> anyhow::Result<()> {
        let Some(body) = request.body() else { return Ok(()) };
        let mut post = self.http.post(format!("{}/api/v1/write", server.url)).body(body);
        for (name, value) in remote_write::HEADERS {
            post = post.header(name, value);
        }
        let answer = post.send().await.context("storing the simulated past")?;
        if !answer.status().is_success() {
            let status = answer.status();
            bail!("storing the simulated past: {status}: {}", answer.text().await?);
        }
        Ok(())
    }

    fn name(&self, cluster: usize, replica: u64) -> String {
        let letter = replica_name(replica);
        format!("prometheus-{}-{letter}", self.fleet.clusters()[cluster].name())
    }

    /// The configuration file, with or without anything to scrape.
    fn config(&self, cluster: usize, replica: u64, scraping: bool) -> String {
        let c = &self.fleet.clusters()[cluster];
        let interval_ms = self.interval.as_millis();
        let mut out = format!(
            "global:\n  scrape_interval: {interval_ms}ms\n  scrape_timeout: {interval_ms}ms\n  \
             external_labels:\n    replica: {}\n",
            replica_name(replica)
        );
        for (name, value) in &c.external_labels() {
            let _ = writeln!(out, "    {name}: \"{value}\"");
        }
        if !scraping {
            return out;
        }
        out.push_str(
            "scrape_configs:\n- job_name: simulated\n  honor_labels: true\n  static_configs:\n",
        );
        // Every target states its own job, so one scrape job is enough.
        for target in c.targets() {
            let path = exporter::path(self.fleet, cluster, target);
            let _ = writeln!(out, "  - targets: [\"{}\"]\n    labels:", self.exporter);
            let _ = writeln!(out, "      __metrics_path__: \"{path}\"");
            for (name, value) in &c.target_labels(target) {
                let _ = writeln!(out, "      {name}: \"{value}\"");
            }
        }
        if cluster == 0 {
            let admin = self.admin;
            let _ = writeln!(out, "- job_name: periplus\n  static_configs:");
            let _ = writeln!(out, "  - targets: [\"{admin}\"]");
        }
        out
    }
}

/// `a`, `b` and so on.
fn replica_name(replica: u64) -> char {
    char::from(b'a' + (replica % 26) as u8)
}

/// The second replica was away for some minutes of the past, so that there is something to fill.
fn in_gap(replica: u64, t_ms: i64, until_ms: i64) -> bool {
    replica > 0 && (until_ms - 25 * 60_000..until_ms - 18 * 60_000).contains(&t_ms)
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener =
        std::net::TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
