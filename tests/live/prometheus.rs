//! Real Prometheus servers: without anything to scrape, filled by remote write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use periplus_model::Labels;
use periplus_simfleet::remote_write;

use super::ask::client;
use super::place::Place;
use super::process::{Process, free_port};

/// A Prometheus binary to test with.
#[derive(Clone, Debug)]
pub(crate) struct Flavour {
    pub(crate) name: &'static str,
    pub(crate) binary: PathBuf,
    /// Whether it is of version 3, whose semantics are ours.
    pub(crate) v3: bool,
}

/// Debian's Prometheus, always, and the 3.x that PROMETHEUS3 names, where it names one.
pub(crate) fn flavours() -> Vec<Flavour> {
    let on_path = std::env::var_os("PATH")
        .and_then(|p| std::env::split_paths(&p).map(|d| d.join("prometheus")).find(|b| b.is_file()))
        .expect("a prometheus on the PATH: script/setup test gets one");
    let mut all = vec![Flavour { name: "path", binary: on_path, v3: false }];
    match std::env::var_os("PROMETHEUS3").map(PathBuf::from) {
        Some(binary) => {
            assert!(binary.is_file(), "PROMETHEUS3 names no file: {}", binary.display());
            all.push(Flavour { name: "prometheus3", binary, v3: true });
        }
        None => {
            eprintln!("PROMETHEUS3 names no binary: tested with the prometheus of the PATH only")
        }
    }
    all
}

/// Samples of one series in order of time: milliseconds and value.
pub(crate) type SeriesData = (Labels, Vec<(i64, f64)>);

/// A running Prometheus.
pub(crate) struct Prometheus {
    pub(crate) url: String,
    pub(crate) process: Process,
    flavour: Flavour,
    dir: PathBuf,
    place: Place,
    port: u16,
    name: String,
    more: Vec<String>,
}

impl Prometheus {
    /// Starts one on loopback with the given external labels and waits until it is ready.
    pub(crate) async fn start(
        flavour: &Flavour,
        name: &str,
        external: &[(&str, &str)],
        dir: &Path,
    ) -> Self {
        Self::start_at(flavour, name, external, &Place::loopback(), dir).await
    }

    /// As [`Self::start`], elsewhere.
    pub(crate) async fn start_at(
        flavour: &Flavour,
        name: &str,
        external: &[(&str, &str)],
        place: &Place,
        dir: &Path,
    ) -> Self {
        let mut config = String::from("global:\n  scrape_interval: 15s\n  external_labels:\n");
        for (n, v) in external {
            config.push_str(&format!("    {n}: \"{v}\"\n"));
        }
        if external.is_empty() {
            config = "global:\n  scrape_interval: 15s\n".into();
        }
        Self::start_in(flavour, name, &config, &[], place, dir).await
    }

    /// Starts one on loopback with a whole configuration and more flags.
    pub(crate) async fn start_with(
        flavour: &Flavour,
        name: &str,
        config: &str,
        more: &[&str],
        dir: &Path,
    ) -> Self {
        Self::start_in(flavour, name, config, more, &Place::loopback(), dir).await
    }

    async fn start_in(
        flavour: &Flavour,
        name: &str,
        config: &str,
        more: &[&str],
        place: &Place,
        dir: &Path,
    ) -> Self {
        let own = dir.join(name);
        std::fs::create_dir_all(&own).expect("a directory");
        std::fs::write(own.join("prometheus.yml"), config).expect("a configuration");
        let port = free_port();
        let more: Vec<String> = more.iter().map(|m| (*m).to_owned()).collect();
        let process = Self::spawn(flavour, name, &own, place, port, &more);
        let url = format!("http://{}:{port}", place.host);
        let (flavour, name, place) = (flavour.clone(), name.to_owned(), place.clone());
        let mut this = Self { url, process, flavour, dir: own, place, port, name, more };
        this.ready().await;
        this
    }

    fn spawn(
        flavour: &Flavour,
        name: &str,
        own: &Path,
        place: &Place,
        port: u16,
        more: &[String],
    ) -> Process {
        let mut command = place.command(&flavour.binary);
        command
            .arg(format!("--config.file={}", own.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", own.join("data").display()))
            .arg(format!("--web.listen-address={}:{port}", place.host))
            .args(["--web.enable-remote-write-receiver", "--web.enable-lifecycle"])
            .args(more);
        Process::start(name, command, own)
    }

    /// The directory of its TSDB.
    pub(crate) fn tsdb(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts it again, on the same port and over the same data, after it was killed.
    pub(crate) async fn restart(&mut self) {
        let (place, more) = (&self.place, &self.more);
        self.process = Self::spawn(&self.flavour, &self.name, &self.dir, place, self.port, more);
        self.ready().await;
    }

    async fn ready(&mut self) {
        for _ in 0..600 {
            assert!(self.process.is_alive(), "{}:\n{}", self.name, self.process.last_words());
            let answer = client().get(format!("{}/-/ready", self.url)).send().await;
            if answer.is_ok_and(|r| r.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} does not become ready:\n{}", self.name, self.process.last_words());
    }

    /// Stores series. In slices of time for all of them at once, since it takes no sample that is
    /// much older than its newest.
    pub(crate) async fn store(&self, series: &[SeriesData]) {
        const SLICE_MS: i64 = 20 * 60_000;
        let times = || series.iter().flat_map(|(_, samples)| samples.iter().map(|s| s.0));
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return };
        let client = client();
        let mut at = first;
        while at <= last {
            for some in series.chunks(2000) {
                let mut request = remote_write::Request::default();
                for (labels, samples) in some {
                    let from = samples.partition_point(|s| s.0 < at);
                    let until = samples.partition_point(|s| s.0 < at + SLICE_MS);
                    request.add(labels, &samples[from..until]);
                }
                if let Some(body) = request.body() {
                    self.send(&client, body).await;
                }
            }
            at += SLICE_MS;
        }
    }

    async fn send(&self, client: &reqwest::Client, body: Vec<u8>) {
        let mut post = client.post(format!("{}/api/v1/write", self.url)).body(body);
        for (name, value) in remote_write::HEADERS {
            post = post.header(name, value);
        }
        let answer = post.send().await.expect("an answer to a write");
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
    }
}
