//! SQL over the shared bucket's samples: right numbers, nothing but reading, limits that hold.

use std::collections::BTreeMap;
use std::time::Duration;

use periplus_daemon::drain::Drain;
use periplus_model::TimeRange;
use periplus_query::history::resolution::MaxResolution;
use periplus_query::sql::format::{Format, write};
use periplus_query::sql::{SqlAnswer, SqlError, SqlLimits, run};
use serde_json::Value;

use super::blocks::{Stream, streams};
use super::convert::{Converted, convert};
use super::raw::{answerer, config};

fn limits() -> SqlLimits {
    let (rows, memory_bytes) = (100_000, 256 << 20);
    SqlLimits { rows, memory_bytes, time: Duration::from_secs(60), workers: 2 }
}

async fn ask(bucket: &Converted, text: &str, limits: &SqlLimits) -> Result<SqlAnswer, SqlError> {
    let answerer = answerer(&config(bucket), &Drain::new()).await;
    let reading = answerer.history.as_ref().unwrap().reading(MaxResolution::default());
    run(&reading, &[], text, limits).await
}

async fn rows(bucket: &Converted, text: &str) -> Vec<Value> {
    let answer = ask(bucket, text, &limits()).await.unwrap_or_else(|e| panic!("{text}: {e}"));
    let json = write(&answer, Format::Json).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["status"], "success");
    json["data"]["rows"].as_array().unwrap().clone()
}

async fn bucket() -> Option<(Vec<Stream>, Converted)> {
    let streams = streams();
    if streams.is_empty() {
        return None;
    }
    let bucket = convert(&streams, TimeRange::ALL).await;
    Some((streams, bucket))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_are_those_of_the_blocks() {
    let Some((streams, bucket)) = bucket().await else { return };
    let floats =
        |s: &Stream| -> usize { s.series.values().map(|c| c.len() - c.histograms.len()).sum() };
    let all: usize = streams.iter().map(floats).sum();
    let got = rows(&bucket, "SELECT count(*) AS n FROM samples").await;
    assert_eq!(got[0]["n"].as_u64(), Some(all as u64));
    let got = rows(
        &bucket,
        "SELECT external_cluster AS c, count(*) AS n FROM metrics GROUP BY 1 ORDER BY 1",
    )
    .await;
    let mut expect: BTreeMap<&str, usize> = BTreeMap::new();
    for s in &streams {
        *expect.entry(s.external["cluster"].as_str()).or_default() += floats(s);
    }
    let got: BTreeMap<&str, usize> =
        got.iter().map(|r| (r["c"].as_str().unwrap(), r["n"].as_u64().unwrap() as usize)).collect();
    assert_eq!(got, expect);
    let name = "container_memory_working_set_bytes";
    let text = format!(
        "SELECT label_pod AS pod, max(v) AS most FROM metrics \
         WHERE __name__ = '{name}' AND external_replica = 'b' AND NOT isnan(v) GROUP BY 1 ORDER BY 1"
    );
    let got = rows(&bucket, &text).await;
    let b = streams.iter().find(|s| s.external["replica"] == "b").unwrap();
    let mut expect: BTreeMap<&str, f64> = BTreeMap::new();
    for (labels, samples) in b.series.iter().filter(|(l, _)| l.value("__name__") == name) {
        let most = samples.values.iter().copied().filter(|v| !v.is_nan()).fold(f64::MIN, f64::max);
        let known = expect.entry(labels.value("pod")).or_insert(most);
        *known = known.max(most);
    }
    for (pod, most) in expect {
        let row = got.iter().find(|r| r["pod"] == pod).unwrap_or_else(|| panic!("{pod}"));
        assert_eq!(row["most"].as_f64(), Some(most), "{pod}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_reading_is_allowed() {
    let Some((_, bucket)) = bucket().await else { return };
    let secret = bucket.dir.path().join("secret.csv");
    std::fs::write(&secret, "a\n1\n").unwrap();
    let secret = secret.display();
    for text in [
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "RESET datafusion.execution.batch_size".into(),
        "SHOW TABLES".into(),
        "SHOW ALL".into(),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{secret}'"),
        "CREATE TABLE t AS SELECT 1".into(),
        "CREATE VIEW w AS SELECT 1".into(),
        "CREATE FUNCTION f() RETURNS INT RETURN 1".into(),
        "DROP TABLE samples".into(),
        "DROP VIEW metrics".into(),
        "INSERT INTO samples SELECT * FROM samples".into(),
        "DELETE FROM samples".into(),
        "UPDATE samples SET v = 1".into(),
        format!("COPY (SELECT 1) TO '{secret}.out'"),
        format!("EXPLAIN COPY (SELECT 1) TO '{secret}.out'"),
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM read_csv('{secret}')"),
        "SELECT * FROM information_schema.tables".into(),
        "PREPARE p AS SELECT 1".into(),
        "BEGIN".into(),
        "SELECT 1; DROP TABLE samples".into(),
        "not SQL".into(),
        String::new(),
    ] {
        let answer = ask(&bucket, &text, &limits()).await;
        assert!(matches!(answer, Err(SqlError::Refused(_))), "{text}: {answer:?}");
    }
    let out = std::fs::read_dir(bucket.dir.path()).unwrap();
    assert!(out.flatten().all(|e| !e.file_name().to_string_lossy().ends_with(".out")));
    let plan = rows(&bucket, "EXPLAIN SELECT * FROM metrics WHERE __name__ = 'up'").await;
    assert!(!plan.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold() {
    let Some((_, bucket)) = bucket().await else { return };
    let few = SqlLimits { rows: 10, ..limits() };
    let answer = ask(&bucket, "SELECT * FROM samples", &few).await;
    assert!(matches!(answer, Err(SqlError::Limit(_))), "{answer:?}");
    let little = SqlLimits { memory_bytes: 100_000, ..limits() };
    let sorted = "SELECT * FROM samples ORDER BY v DESC LIMIT 90000";
    let answer = ask(&bucket, sorted, &little).await;
    assert!(matches!(answer, Err(SqlError::Limit(_))), "{answer:?}");
    let endless = "SELECT count(*) FROM samples a, samples b, samples c WHERE a.v < b.v + c.v";
    let soon = SqlLimits { time: Duration::from_millis(300), ..limits() };
    let answer = ask(&bucket, endless, &soon).await;
    assert!(matches!(answer, Err(SqlError::Timeout(_) | SqlError::Limit(_))), "{answer:?}");
    // Nesting is refused before it takes the stack.
    for deep in [
        format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("SELECT 1{}", "+1".repeat(100_000)),
        format!("SELECT {}1", "NOT ".repeat(100_000)),
    ] {
        let answer = ask(&bucket, &deep, &limits()).await;
        assert!(matches!(answer, Err(SqlError::Limit(_))), "{answer:?}");
    }
    // As deep as is taken.
    let deep = format!("SELECT 1{}", "+1".repeat(390));
    let answer = ask(&bucket, &deep, &limits()).await.unwrap();
    assert_eq!(answer.batches.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_is_written() {
    let Some((_, bucket)) = bucket().await else { return };
    let text = "SELECT ts, v FROM samples ORDER BY ts, v LIMIT 3";
    let answer = ask(&bucket, text, &limits()).await.unwrap();
    let csv = String::from_utf8(write(&answer, Format::Csv).unwrap()).unwrap();
    assert_eq!(csv.lines().next(), Some("ts,v"));
    assert_eq!(csv.lines().count(), 4);
    let arrow = write(&answer, Format::Arrow).unwrap();
    let reader = arrow::ipc::reader::StreamReader::try_new(arrow.as_slice(), None).unwrap();
    let rows: usize = reader.map(|b| b.unwrap().num_rows()).sum();
    assert_eq!(rows, 3);
    let none = ask(&bucket, "SELECT ts FROM samples WHERE v < v", &limits()).await.unwrap();
    let csv = String::from_utf8(write(&none, Format::Csv).unwrap()).unwrap();
    assert_eq!(csv, "ts\n");
    let json: Value = serde_json::from_slice(&write(&none, Format::Json).unwrap()).unwrap();
    assert_eq!(json["data"]["rows"], serde_json::json!([]));
}
