//! The whole way of history with real processes: a Prometheus makes blocks, the sidecar ships them, the compactor
//! makes Parquet of them, and when that Prometheus is gone the query layer says what it said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ask::{Answer, When, ask, client, difference};
use super::data::Dataset;
use super::fleet::now_s;
use super::place::Place;
use super::product::{Query, Sidecar};
use super::prometheus::{Prometheus, flavours};

const MINUTE: i64 = 60_000;
/// What is asked of the Prometheus and, when it is gone, of the history; and whether an answer's series have
/// all their labels, to which the history adds the external ones.
const QUESTIONS: [(&str, bool); 12] = [
    ("temperature", true),
    ("odd", true),
    ("sparse", true),
    ("requests_total", true),
    ("count({__name__=~\".+\"})", false),
    ("sum by (job) (rate(requests_total[5m]))", false),
    ("topk(3, sum by (instance) (temperature))", false),
    ("increase(requests_total{code=~\"4..|5..\"}[10m])", true),
    ("histogram_quantile(0.9, sum by (le, job) (rate(latency_seconds_bucket[5m])))", false),
    (
        "max_over_time(temperature{room=\"a\"}[7m]) - min_over_time(temperature{room=\"a\"}[7m])",
        true,
    ),
    ("absent(sparse{instance=\"host-1:80\",job=\"db\"})", false),
    ("count by (version) (build_info)", false),
];

/// A block's `meta.json`.
fn meta(block: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(block.join("meta.json")).ok()?).ok()
}

/// The finished blocks in a directory.
fn blocks(dir: &Path) -> BTreeMap<PathBuf, Value> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    paths.filter_map(|p| meta(&p).map(|m| (p, m))).collect()
}

/// Runs our binary to its end; gives what it printed.
fn periplus(args: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_periplus")).args(args).output().expect("it starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        eprintln!("{args:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    (done.status.success(), said)
}

/// Adds the external labels to every series of an answer.
fn with_external(mut answer: Answer) -> Answer {
    for row in answer.body["data"]["result"].as_array_mut().into_iter().flatten() {
        row["metric"]["cluster"] = "madrid".into();
        row["metric"]["region"] = "europe".into();
    }
    answer
}

async fn answers(url: &str, when: When) -> Vec<Answer> {
    let mut all = Vec::new();
    for (expr, _) in QUESTIONS {
        all.push(ask(&client(), url, expr, when).await.unwrap_or_else(|e| panic!("{expr}: {e}")));
    }
    all
}

/// Waits for blocks of the Prometheus, and until the bucket has all of them; gives the time they reach to.
async fn shipped(prometheus: &Prometheus, bucket: &Path) -> i64 {
    let started = Instant::now();
    loop {
        let (made, there) = (blocks(&prometheus.tsdb()), blocks(bucket));
        if made.len() >= 2 && made.len() == there.len() {
            return there.values().filter_map(|m| m["maxTime"].as_i64()).max().unwrap_or(0);
        }
        let (made, there) = (made.len(), there.len());
        assert!(started.elapsed() < Duration::from_secs(120), "{made} blocks, {there} shipped");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Puts a copy of a block into the bucket, of another cluster and with some bytes of its chunks changed.
fn spoil_a_copy(bucket: &Path) -> String {
    let (of, mut meta) = blocks(bucket).pop_first().expect("a block");
    let id = "01M7Z93MDS9J4WQZYN95AFEATR";
    meta["ulid"] = id.into();
    meta["compaction"]["sources"] = serde_json::json!([id]);
    meta["thanos"]["labels"]["cluster"] = "broken".into();
    let to = bucket.join(id);
    std::fs::create_dir_all(to.join("chunks")).expect("a directory");
    std::fs::copy(of.join("index"), to.join("index")).expect("an index");
    let mut chunks = std::fs::read(of.join("chunks/000001")).expect("chunks");
    let middle = chunks.len() / 2;
    chunks[middle..middle + 64].iter_mut().for_each(|b| *b ^= 0x5a);
    std::fs::write(to.join("chunks/000001"), chunks).expect("chunks");
    std::fs::write(to.join("meta.json"), meta.to_string()).expect("meta.json");
    id.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_says_what_the_prometheus_said() {
    let dir = tempfile::tempdir().expect("a directory");
    for flavour in flavours() {
        let place = dir.path().join(flavour.name);
        let bucket = place.join("bucket");
        std::fs::create_dir_all(&bucket).expect("a directory");
        let url = format!("file://{}", bucket.display());
        // Ends on a whole minute, so that steps lie on whole seconds and no sample on a window's edge.
        let data = Dataset::new(6, now_s() / 60 * 60 - 60);
        let config = "global:\n  scrape_interval: 15s\n  external_labels:\n    \
                      cluster: madrid\n    region: europe\n";
        let short =
            ["--storage.tsdb.min-block-duration=20m", "--storage.tsdb.max-block-duration=20m"];
        let mut prometheus =
            Prometheus::start_with(&flavour, "source", config, &short, &place).await;
        prometheus.store(&data.clusters[1].series).await;
        let tsdb = prometheus.tsdb().display().to_string();
        let ships = ["--tsdb", &tsdb, "--bucket", &url, "--ship-interval", "1s"];
        let mut sidecar =
            Sidecar::start("ships", &prometheus.url, &ships, &Place::loopback(), &place).await;
        let until = shipped(&prometheus, &bucket).await;

        let range = When::Range { from: data.from_ms + 12 * MINUTE, to: until, step: 20_000 };
        let expected = answers(&prometheus.url, range).await;
        sidecar.process.kill();
        prometheus.process.kill();
        let broken = spoil_a_copy(&bucket);
        let (_, _) = periplus(&["compactor", "--bucket", &url, "--once"]);
        in_history(&url, &expected, range, &place).await;
        set_aside(&url, &broken);
    }
}

/// A query over the bucket alone gives the same answers.
async fn in_history(url: &str, expected: &[Answer], range: When, dir: &Path) {
    let query = Query::start("history", &[], &["--bucket", url], dir).await;
    let got = answers(&query.url, range).await;
    for (((expr, whole), expected), got) in QUESTIONS.into_iter().zip(expected).zip(got) {
        assert!(expected.is_success() && expected.rows() > 0, "{expr}: {}", expected.body);
        assert_eq!(got.warnings(), [""; 0], "{expr}: {}", got.body);
        let expected = if whole { with_external(expected.clone()) } else { expected.clone() };
        let why = difference(&expected, &got, 1e-9);
        assert!(why.is_none(), "{expr}: {why:?}");
    }
}

/// What could not be converted is listed with its reason, for scripts and for people.
fn set_aside(url: &str, broken: &str) {
    let inspect =
        |format: &str| periplus(&["bucket", "inspect", "--bucket", url, "--format", format]);
    let (succeeded, said) = inspect("json");
    assert!(succeeded, "{said}");
    let document: Value = serde_json::from_str(&said).expect("a document");
    let listed = document["quarantined"].as_array().expect("a list");
    assert!(!listed.is_empty(), "{said}");
    for one in listed {
        assert_eq!(one["id"], broken, "{said}");
        assert!(one["reason"].as_str().is_some_and(|r| r.contains("chunk")), "{said}");
        assert!(one["stream"].as_str().is_some_and(|s| s.contains("broken")), "{said}");
    }
    assert!(document["history"].as_array().is_some_and(|h| !h.is_empty()), "{said}");
    let (_, said) = inspect("table");
    assert!(said.contains("QUARANTINED") && said.contains(broken), "{said}");
}
