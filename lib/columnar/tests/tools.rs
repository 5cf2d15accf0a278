//! What is written is read by tools that others wrote: DuckDB, pyarrow and pandas, from PyPI.
//!
//! They are taken from the virtual environment that `script/setup test` makes in `target/tools/venv`
//! (or that PERIPLUS_PYTHON names).

#![expect(clippy::print_stderr, reason = "tests fail loudly and skip aloud")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use periplus_block::chunk::{ChunkSamples, HistogramValue};
use periplus_columnar::{Day, DirSinks, PartMeta, PartWriter, Resolution, WriteOptions};
use periplus_model::{FloatHistogram, Labels, Span};
use ulid::Ulid;

const DAY: Day = Day(20_000);

fn python() -> Option<PathBuf> {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/venv/bin/python3");
    let named = std::env::var_os("PERIPLUS_PYTHON").map_or_else(|| tools.into(), PathBuf::from);
    let has = |python: &PathBuf| {
        let import = ["-c", "import duckdb, pyarrow, pandas"];
        Command::new(python).args(import).output().is_ok_and(|o| o.status.success())
    };
    if has(&named) {
        return Some(named);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{} lacks duckdb, pyarrow or pandas: run script/setup test",
        named.display()
    );
    eprintln!("skipped: no Python with duckdb, pyarrow and pandas; script/setup test gets them");
    None
}

#[test]
fn other_tools_read_it() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let meta = PartMeta {
        part: Ulid::generate(),
        external: BTreeMap::from([("cluster".to_owned(), "c1".to_owned())]),
        replica_labels: vec![],
        day: DAY,
        resolution: Resolution::Raw,
        sources: vec![],
        inputs: vec![],
        promoted: vec!["pod".to_owned()],
    };
    let sinks = Box::new(DirSinks(dir.path().to_owned()));
    let mut writer = PartWriter::new(meta, WriteOptions::default(), sinks).unwrap();
    let mut total = 0.0;
    for pod in ["a", "b"] {
        let mut samples = ChunkSamples::new();
        for n in 0..2880 {
            samples.push(DAY.start_ms() + n * 30_000, n as f64, 0);
            total += n as f64;
        }
        let labels = Labels::from_pairs([("__name__", "counter_total"), ("pod", pod)]);
        writer.push(&labels, &samples).unwrap();
    }
    let mut samples = ChunkSamples::new();
    for n in 0..100 {
        let histogram = FloatHistogram {
            schema: 1,
            count: 3.0,
            sum: 1.5,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        samples.push_histogram(DAY.start_ms() + n * 60_000, HistogramValue::Float(histogram), 0);
    }
    writer.push(&Labels::from_pairs([("__name__", "latency_seconds")]), &samples).unwrap();
    writer.finish().unwrap();

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools.py");
    let ran = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let found: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let row = |pod: &str| serde_json::json!([pod, pod, "c1", 2880, total / 2.0, DAY.start_ms()]);
    assert_eq!(found["duckdb"], serde_json::json!([row("a"), row("b")]));
    assert_eq!(found["histograms"], serde_json::json!([100.0, 300.0, 300.0]));
    assert_eq!(found["pandas_rows"], 2 * 2880);
    assert_eq!(found["pandas_sum"], total);
    assert_eq!(found["pyarrow_runs"], 1);
    assert_eq!(found["labels"], serde_json::json!([["__name__", "counter_total"], ["pod", "a"]]));
    assert_eq!(found["day"], 20_000);
}
