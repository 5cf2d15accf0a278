//! Real Prometheus servers for tests: started in a directory of their own, filled by remote write.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use periplus_model::Labels;
use periplus_proto::convert::labels_to_prometheus;
use periplus_proto::prometheus::{Sample, TimeSeries, WriteRequest};
use prost::Message;

/// A series to load: labels and samples (Unix milliseconds, value).
pub(crate) type Loaded = (Labels, Vec<(i64, f64)>);

/// The binaries to test with: the one on the path always, a 3.x where `PROMETHEUS3` names it.
pub(crate) fn binaries() -> Vec<PathBuf> {
    let mut all = Vec::new();
    if Command::new("prometheus").arg("--version").output().is_ok() {
        all.push(PathBuf::from("prometheus"));
    } else {
        skip("no prometheus on the path");
    }
    all.extend(three());
    all
}

/// A Prometheus 3.x.
pub(crate) fn three() -> Option<PathBuf> {
    match std::env::var_os("PROMETHEUS3") {
        Some(path) => Some(PathBuf::from(path)),
        None => {
            eprintln!("skipping what needs Prometheus 3.x: PROMETHEUS3 names none");
            None
        }
    }
}

fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    eprintln!("skipping: {reason}");
}

pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A running Prometheus; killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    binary: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    flags: Vec<String>,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    pub(crate) fn start(binary: &Path, external: &Labels, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let flags: Vec<String> = flags.iter().map(|s| (*s).to_owned()).collect();
        write_config(directory.path(), external, None);
        let child = spawn(binary, directory.path(), port, &flags);
        let me = Self { child, binary: binary.to_owned(), directory, port, flags };
        me.wait();
        me
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.binary, self.directory.path(), self.port, &self.flags);
        self.wait();
    }

    /// New external labels, or a target to scrape; read by a running server.
    pub(crate) fn reconfigure(&self, external: &Labels, scrape: Option<&str>) {
        write_config(self.directory.path(), external, scrape);
        let (status, _) = http("POST", &format!("{}/-/reload", self.url()), "", b"");
        assert_eq!(status, 200);
    }

    fn wait(&self) {
        let begun = Instant::now();
        while http_try("GET", &format!("{}/-/ready", self.url()), "", b"")
            .is_none_or(|r| r.0 != 200)
        {
            assert!(begun.elapsed() < Duration::from_secs(60), "Prometheus does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn load(&self, series: &[Loaded]) {
        for part in series.chunks(2_000) {
            let timeseries = part
                .iter()
                .map(|(labels, samples)| TimeSeries {
                    labels: labels_to_prometheus(labels),
                    samples: samples
                        .iter()
                        .map(|(t, v)| Sample { timestamp: *t, value: *v })
                        .collect(),
                    ..TimeSeries::default()
                })
                .collect();
            self.write(timeseries);
        }
    }

    /// One remote write.
    pub(crate) fn write(&self, timeseries: Vec<TimeSeries>) {
        let body = WriteRequest { timeseries }.encode_to_vec();
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        let headers = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
                       X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
        let (status, text) = http("POST", &format!("{}/api/v1/write", self.url()), headers, &body);
        assert!((200..300).contains(&status), "{status}: {text}");
    }

    /// A query by the API: the whole answer.
    pub(crate) fn api(&self, path: &str, form: &[(&str, String)]) -> serde_json::Value {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        let (_, text) =
            http("POST", &format!("{}/api/v1/{path}", self.url()), headers, body.as_bytes());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

fn write_config(directory: &Path, external: &Labels, scrape: Option<&str>) {
    let mut text = String::from("global:\n  scrape_interval: 1s\n  evaluation_interval: 1m\n");
    if !external.is_empty() {
        text.push_str("  external_labels:\n");
        for (name, value) in external {
            text.push_str(&format!("    {name}: {value:?}\n"));
        }
    }
    if let Some(target) = scrape {
        text.push_str(&format!(
            "scrape_configs:\n- job_name: t\n  static_configs:\n  - targets: [{target:?}]\n"
        ));
    }
    std::fs::write(directory.join("prometheus.yml"), text).unwrap();
}

fn spawn(binary: &Path, directory: &Path, port: u16, flags: &[String]) -> Child {
    let mut child = Command::new(binary)
        .current_dir(directory)
        .args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.enable-lifecycle",
        ])
        .arg("--web.enable-remote-write-receiver")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    // Shown only when it fails; read so that it never blocks.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if line.contains("level=error") || line.contains("level=ERROR") {
                eprintln!("{line}");
            }
        }
    });
    child
}

/// One request on a connection of its own.
pub(crate) fn http(method: &str, url: &str, headers: &str, body: &[u8]) -> (u16, String) {
    http_try(method, url, headers, body).unwrap_or_else(|| panic!("{method} {url}"))
}

fn http_try(method: &str, url: &str, headers: &str, body: &[u8]) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = std::net::TcpStream::connect(host).ok()?;
    let head = format!(
        "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
