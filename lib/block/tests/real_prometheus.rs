//! Blocks of ours in real Prometheus servers: `promtool` accepts them and their answers are the
//! samples that were written. Uses `prometheus` and `promtool` from the PATH, and the server that
//! PROMETHEUS3 names.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests skip aloud and fail loudly")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use periplus_block::chunk::{ChunkSamples, HistogramValue, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_block::{check, meta::Meta};
use periplus_model::{Histogram, Labels, Span, stale_nan};
use serde_json::Value;

const STEP_MS: i64 = 15_000;
const SAMPLES: i64 = 300;
/// Long ago, so that no server wants to compact or delete while the test runs.
const START_MS: i64 = 1_700_000_000_000 / 7_200_000 * 7_200_000;

fn floats(value: impl Fn(i64) -> f64) -> ChunkSamples {
    let mut s = ChunkSamples::new();
    (0..SAMPLES).for_each(|i| s.push(START_MS + i * STEP_MS, value(i), 0));
    s
}

fn histograms() -> ChunkSamples {
    let mut s = ChunkSamples::new();
    for i in 0..SAMPLES {
        // A reset in the middle, and a bucket more from the hundredth on.
        let n = if i < 150 { i } else { i - 150 };
        let wide = i >= 100;
        let h = Histogram {
            schema: 1,
            zero_threshold: 1e-128,
            zero_count: n as u64,
            count: (4 * n + if wide { 3 } else { 2 }) as u64,
            sum: n as f64 * 0.5,
            positive_spans: if wide {
                vec![Span { offset: -1, length: 2 }, Span { offset: 3, length: 1 }]
            } else {
                vec![Span { offset: -1, length: 2 }]
            },
            positive_buckets: if wide { vec![n + 1, n, -2 * n] } else { vec![n + 1, n] },
            ..Histogram::default()
        };
        s.push_histogram(START_MS + i * STEP_MS, HistogramValue::Integer(h), 0);
    }
    s
}

fn series() -> Vec<(Labels, ChunkSamples)> {
    let mut all = vec![
        (Labels::from_pairs([("__name__", "steady"), ("ünï", "\"välue\"\n")]), floats(|_| 1.0)),
        (
            Labels::from_pairs([("__name__", "counter_total"), ("pod", "a")]),
            floats(|i| (i * 7 % 5 + i * 10) as f64),
        ),
        (
            Labels::from_pairs([("__name__", "odd"), ("pod", "a")]),
            floats(|i| match i % 4 {
                0 => -0.0,
                1 => f64::INFINITY,
                2 => 5e-324,
                _ => 0.1 * i as f64,
            }),
        ),
        (
            Labels::from_pairs([("__name__", "ends")]),
            floats(|i| if i < SAMPLES - 1 { i as f64 } else { stale_nan() }),
        ),
        (Labels::from_pairs([("__name__", "native"), ("pod", "a")]), histograms()),
    ];
    for i in 0..200 {
        let labels =
            Labels::from_pairs([("__name__", "many".to_owned()), ("pod", format!("p{i}"))]);
        all.push((labels, floats(|k| (i + k) as f64)));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn write(dir: &Path) -> Meta {
    let mut writer = BlockWriter::create(dir, ulid::Ulid::generate()).unwrap();
    for (labels, samples) in series() {
        writer.add(&labels, &encode(&samples).unwrap()).unwrap();
    }
    let meta = writer.finish(BlockInfo::default()).unwrap();
    let report = check::check(dir.join(meta.ulid.to_string()));
    assert!(report.findings.is_empty(), "{report}");
    meta
}

/// A server over a directory, stopped when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(binary: &str, dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::write(dir.join("prometheus.yml"), "").unwrap();
        let child = Command::new(binary)
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.retention.time=100y", "--log.level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { child, port };
        let give_up = Instant::now() + Duration::from_secs(90);
        while this.get("/-/ready").is_none_or(|(status, _)| status != 200) {
            assert!(Instant::now() < give_up, "{binary} does not become ready");
            std::thread::sleep(Duration::from_millis(200));
        }
        this
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut to = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        to.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        write!(to, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        to.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    fn query(&self, query: &str, at_ms: i64) -> Value {
        let encoded: String =
            query.bytes().map(|b| format!("%{b:02x}")).collect::<Vec<_>>().concat();
        let path = format!("/api/v1/query?query={encoded}&time={}", at_ms as f64 / 1000.0);
        let (status, body) = self.get(&path).unwrap();
        assert_eq!(status, 200, "{query}: {body}");
        serde_json::from_str::<Value>(&body).unwrap()["data"]["result"].clone()
    }
}

fn serves(binary: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    write(&dir.path().join("data"));
    let server = Server::start(binary, dir.path());
    let end = START_MS + (SAMPLES - 1) * STEP_MS;
    // Every float sample of every series, by the text Prometheus prints for it.
    for (labels, samples) in series().iter().filter(|(_, s)| s.histograms.is_empty()) {
        let selector: Vec<String> =
            labels.iter().skip(1).map(|(n, v)| format!("{n}={v:?}")).collect();
        let name = labels.metric_name().unwrap();
        // Quoted label names are new in 3.x; a selector by name alone finds this one as well.
        let selector = if name == "steady" { String::new() } else { selector.join(",") };
        let result = server.query(&format!("{name}{{{selector}}}[3h]"), end + 1);
        assert_eq!(result.as_array().unwrap().len(), 1, "{binary}: {labels:?}");
        let metric: Labels = result[0]["metric"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(metric, *labels);
        let got = result[0]["values"].as_array().unwrap();
        let want: Vec<(i64, f64)> = samples
            .ts
            .iter()
            .copied()
            .zip(samples.values.iter().copied())
            .filter(|(_, v)| !v.is_nan())
            .collect();
        assert_eq!(got.len(), want.len(), "{binary}: {labels:?}");
        for (got, (t, v)) in got.iter().zip(want) {
            let text = got[1].as_str().unwrap();
            let value: f64 = text.replace("Inf", "inf").parse().unwrap();
            assert_eq!(value.to_bits(), v.to_bits(), "{binary}: {labels:?} at {t}: {text}");
            assert_eq!((got[0].as_f64().unwrap() * 1000.0).round() as i64, t);
        }
    }
    // Histograms by what the server computes of them, before the reset and after it.
    for i in [50, 120, 299] {
        let (n, wide) = (if i < 150 { i } else { i - 150 }, i >= 100);
        let at = START_MS + i * STEP_MS;
        let ask = |f: &str| {
            let result = server.query(&format!("{f}(native)"), at);
            result[0]["value"][1].as_str().unwrap().parse::<f64>().unwrap()
        };
        assert_eq!(ask("histogram_count"), (4 * n + if wide { 3 } else { 2 }) as f64, "{binary}");
        assert_eq!(ask("histogram_sum"), n as f64 * 0.5, "{binary}");
    }
    // Prometheus 2.42 can't count resets of histograms yet.
    let resets = server.query("resets(native[2h])", end)[0]["value"][1].clone();
    let version = server.get("/api/v1/status/buildinfo").unwrap().1;
    assert!(resets == "1" || version.contains("\"version\":\"2."), "{binary}: {resets}");
    println!("{binary}: all samples as written");
}

fn on_path(name: &str) -> bool {
    let there = Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !there {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{name} is not on the PATH");
        println!("skipped: {name} is not on the PATH");
    }
    there
}

#[test]
fn prometheus_on_the_path_serves_our_block() {
    if on_path("prometheus") {
        serves("prometheus");
    }
}

#[test]
fn prometheus_3_serves_our_block() {
    match std::env::var("PROMETHEUS3") {
        Ok(binary) => serves(&binary),
        Err(_) => println!("skipped: PROMETHEUS3 names no server"),
    }
}

#[test]
fn promtool_analyzes_our_block() {
    if !on_path("promtool") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path());
    let out = Command::new("promtool")
        .args(["tsdb", "analyze"])
        .arg(dir.path())
        .arg(meta.ulid.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("Series: 205\n"), "{text}");
}
