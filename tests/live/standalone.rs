//! Every role in one process: what a Prometheus has on its disk is shipped, made history of, and answered
//! from when that Prometheus is gone.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use periplus_block::chunk::{ChunkSamples, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_model::Labels;
use ulid::Ulid;

use super::ask::{Answer, When, ask, client};
use super::process::{Process, free_port};
use super::prometheus::{Prometheus, flavours};

const HOUR_MS: i64 = 3_600_000;
const QUESTION: &str = "sum by (series) (rate(work_total[10m]))";

/// A block as Prometheus makes it of two hours of its head.
fn write_block(tsdb: &Path, from_ms: i64) {
    std::fs::create_dir_all(tsdb).expect("a data directory");
    let mut writer = BlockWriter::create(tsdb, Ulid::generate()).expect("a writer");
    for n in 0..5_u32 {
        let mut samples = ChunkSamples::new();
        for i in 0..240_u32 {
            // Never on the edge of a window, where Prometheus 2 counts otherwise.
            samples.push(from_ms + 7_000 + i64::from(i) * 30_000, f64::from(i * (n + 1)) / 7.0, 0);
        }
        let name = format!("s{n}");
        let labels = Labels::from_pairs([("__name__", "work_total"), ("series", name.as_str())]);
        writer.add(&labels, &encode(&samples).expect("chunks")).expect("a series");
    }
    writer.finish(BlockInfo::default()).expect("a block");
}

/// By series, the value to twelve digits.
fn values(answer: &Answer) -> BTreeMap<String, String> {
    let rows = answer.result().as_array().cloned().unwrap_or_default();
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    let number = |v: &serde_json::Value| match text(v).parse::<f64>() {
        Ok(number) => format!("{number:.11e}"),
        Err(_) => text(v),
    };
    rows.iter().map(|r| (text(&r["metric"]["series"]), number(&r["value"][1]))).collect()
}

fn parts_of_history(bucket: &Path) -> usize {
    let output = Command::new(env!("CARGO_BIN_EXE_periplus"))
        .args(["bucket", "inspect", "--format", "json", "--bucket"])
        .arg(format!("file://{}", bucket.display()))
        .output()
        .expect("periplus runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    found["history"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shipped_answers_when_prometheus_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = jiff::Timestamp::now().as_millisecond();
    let from_ms = (now - 8 * HOUR_MS) / (2 * HOUR_MS) * (2 * HOUR_MS);
    write_block(&dir.path().join("one/data"), from_ms);
    let external = [("cluster", "paris"), ("replica", "a")];
    let flavour = &flavours()[0];
    let mut prometheus = Prometheus::start(flavour, "one", &external, dir.path()).await;
    let (http, when) = (client(), When::Instant(from_ms + HOUR_MS));
    let truth = values(&ask(&http, &prometheus.url, QUESTION, when).await.expect("an answer"));
    assert_eq!(truth.len(), 5, "{truth:?}");

    let data = dir.path().join("kept");
    let [listen, grpc, admin] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command
        .args(["standalone", "--ship", "--prometheus", &prometheus.url])
        .args(["--listen", &listen, "--grpc", &grpc, "--admin", &admin])
        .args(["--catalog-refresh", "1s", "--events-listen", "127.0.0.1:0"])
        .arg("--tsdb")
        .arg(prometheus.tsdb())
        .arg("--data")
        .arg(&data);
    let mut standalone = Process::start("standalone", command, dir.path());
    let begun = Instant::now();
    while parts_of_history(&data.join("bucket")) == 0 {
        assert!(standalone.is_alive(), "{}", standalone.last_words());
        assert!(begun.elapsed() < Duration::from_secs(240), "{}", standalone.last_words());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let url = format!("http://{listen}");
    assert_eq!(values(&ask(&http, &url, QUESTION, when).await.expect("an answer")), truth);

    prometheus.process.kill();
    let begun = Instant::now();
    loop {
        let answer = ask(&http, &url, QUESTION, when).await.expect("an answer");
        if values(&answer) == truth {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", answer.body);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // All of it is as it was on the disk.
    let verified = Command::new(env!("CARGO_BIN_EXE_periplus"))
        .args(["bucket", "verify", "--hashes", "--chunks", "--bucket"])
        .arg(format!("file://{}", data.join("bucket").display()))
        .output()
        .expect("periplus runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
