//! VictoriaMetrics, single node, with the same samples.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use periplus_simfleet::remote_write::{HEADERS, Request};
use serde_json::Value;

use crate::generate::{Shape, samples};
use crate::questions::Question;

/// Samples of one request.
const REQUEST_SAMPLES: usize = 400_000;

/// A running server; ends with this.
pub(crate) struct Victoria {
    child: Child,
    url: String,
    data: PathBuf,
    client: reqwest::Client,
}

impl Drop for Victoria {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> Option<PathBuf> {
    let unpacked = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/tools/victoria-metrics/usr/bin/victoria-metrics"
    );
    let named = std::env::var_os("VICTORIA_METRICS").map(PathBuf::from);
    [named, Some(PathBuf::from(unpacked)), Some(PathBuf::from("/usr/bin/victoria-metrics"))]
        .into_iter()
        .flatten()
        .find(|p| p.is_file())
}

impl Victoria {
    /// Starts it; `None` where it is not there.
    pub(crate) async fn start(dir: &Path) -> Option<Self> {
        let Some(binary) = binary() else {
            println!("no victoria-metrics (script/setup bench gets it): measured alone");
            return None;
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        drop(listener);
        let data = dir.join("victoria");
        let child = Command::new(binary)
            .arg(format!("-storageDataPath={}", data.display()))
            .arg(format!("-httpListenAddr={at}"))
            .args(["-retentionPeriod=10y", "-search.latencyOffset=0s", "-loggerLevel=ERROR"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("victoria-metrics");
        let url = format!("http://{at}");
        let this = Self { child, url, data, client: reqwest::Client::new() };
        let begun = Instant::now();
        while this.client.get(format!("{}/health", this.url)).send().await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "victoria-metrics does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(this)
    }

    /// Sends it all samples; their number.
    pub(crate) async fn import(&self, shape: &Shape) -> u64 {
        let mut sent = 0;
        for cluster in shape.fleet().clusters() {
            let external = cluster.external_labels();
            for day in 0..shape.days {
                let mut request = Request::default();
                for s in shape.day(cluster, day) {
                    let mut labels = s.labels.to_builder();
                    external.iter().for_each(|(n, v)| _ = labels.set(n, v));
                    let own = samples(&s);
                    let pairs: Vec<(i64, f64)> =
                        own.ts.iter().copied().zip(own.values.iter().copied()).collect();
                    request.add(&labels.build(), &pairs);
                    if request.samples() >= REQUEST_SAMPLES {
                        sent += self.send(std::mem::take(&mut request)).await;
                    }
                }
                sent += self.send(request).await;
            }
        }
        self.client.get(format!("{}/internal/force_flush", self.url)).send().await.unwrap();
        sent
    }

    async fn send(&self, request: Request) -> u64 {
        let Some(body) = request.body() else { return 0 };
        let mut post = self.client.post(format!("{}/api/v1/write", self.url)).body(body);
        for (name, value) in HEADERS {
            post = post.header(name, value);
        }
        let status = post.send().await.unwrap().status();
        assert!(status.is_success(), "victoria-metrics answers {status}");
        request.samples() as u64
    }

    /// Bytes on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        let (mut left, mut bytes) = (vec![self.data.clone()], 0);
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(m) if m.is_dir() => left.push(entry.path()),
                    Ok(m) => bytes += m.len(),
                    Err(_) => {}
                }
            }
        }
        bytes
    }

    pub(crate) async fn ask(&self, q: &Question) -> Value {
        let asked = self.client.get(format!("{}{}", self.url, q.path)).query(&q.params);
        // Its cache of answers would be asked otherwise.
        let answer = asked.query(&[("nocache", "1")]).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{}: {answer}", q.name);
        answer
    }
}
