//! A small bucket: two replicas, three blocks each over two days, one of them compacted, one late.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use periplus_block::chunk::{ChunkSamples, HistogramValue, encode};
use periplus_block::meta::{Compaction, Meta, Thanos};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_bucket::blocks::Silent;
use periplus_bucket::{Bucket, OpenOptions};
use periplus_compactor::config::Config;
use periplus_compactor::metrics::Metrics;
use periplus_compactor::plan::Policy;
use periplus_compactor::service::{Compactor, Report};
use periplus_model::{Histogram, Labels, Span, TimeRange};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

pub(crate) const HOUR: i64 = 3_600_000;
pub(crate) const DAY: i64 = 24 * HOUR;
/// 2026-03-01
pub(crate) const START: i64 = 20_513 * DAY;

/// Limits that make tests quick.
pub(crate) fn quick() -> OpenOptions {
    OpenOptions {
        request_timeout: Duration::from_secs(2),
        operation_timeout: Duration::from_secs(20),
        retries_max: 3,
        backoff_max: Duration::from_millis(20),
        ..OpenOptions::default()
    }
}

pub(crate) fn id(n: u128) -> Ulid {
    Ulid::from((1_772_323_200_000_u128 << 80) + n)
}

/// A series' samples in a range: a counter with a reset, odd values, histograms.
fn samples(series: usize, range: TimeRange, shift: i64) -> ChunkSamples {
    let mut out = ChunkSamples::new();
    let step = 10 * 60_000;
    let mut t = range.min_t - range.min_t.rem_euclid(step) + shift;
    while t <= range.max_t {
        let n = t / step;
        if t >= range.min_t {
            match series {
                0 => out.push(t, (n % 100) as f64, 0),
                1 => out.push(t, [f64::NAN, -0.0, f64::INFINITY, 5e-324, 1.5][(n % 5) as usize], 0),
                2 => out.push(t, f64::from_bits(0x7ff8_0000_dead_0000 + n as u64), t - 1000),
                _ => {
                    let count = (n % 50) as u64 + 1;
                    let h = Histogram {
                        schema: 1,
                        count,
                        sum: count as f64,
                        positive_spans: vec![Span { offset: 0, length: 1 }],
                        positive_buckets: vec![count as i64],
                        ..Histogram::default()
                    };
                    out.push_histogram(t, HistogramValue::Integer(h), 0);
                }
            }
        }
        t += step;
    }
    out
}

/// Writes a block of a replica for hours since [`START`].
pub(crate) fn write_block(
    to: &Path,
    n: u128,
    replica: &str,
    hours: (i64, i64),
    sources: &[u128],
) -> Meta {
    let range = TimeRange::new(START + hours.0 * HOUR, START + hours.1 * HOUR - 1);
    let mut writer = BlockWriter::create(to, id(n)).unwrap();
    let names = ["reads_total", "odd", "started", "latency"];
    let mut all: Vec<(Labels, usize)> = names
        .iter()
        .enumerate()
        .map(|(i, name)| (Labels::from_pairs([("__name__", *name), ("pod", "p-1")]), i))
        .collect();
    all.sort();
    for (labels, i) in all {
        let shift = if replica == "b" { 7000 } else { 0 };
        writer.add(&labels, &encode(&samples(i, range, shift)).unwrap()).unwrap();
    }
    let labels = BTreeMap::from([
        ("cluster".to_owned(), "c1".to_owned()),
        ("replica".to_owned(), replica.to_owned()),
    ]);
    let sources: Vec<Ulid> = sources.iter().map(|s| id(*s)).collect();
    let thanos = Thanos { version: 1, labels, source: "sidecar".to_owned(), ..Thanos::default() };
    let level = if sources.len() > 1 { 2 } else { 1 };
    let compaction = Compaction { level, sources, ..Compaction::default() };
    let info = BlockInfo { range: Some(range), compaction, thanos: Some(thanos) };
    writer.finish(info).unwrap()
}

/// Puts a block into a store, `meta.json` last.
pub(crate) async fn upload(store: &dyn ObjectStore, directory: &Path, n: u128) {
    let block = directory.join(id(n).to_string());
    let mut files = vec!["index".to_owned(), "tombstones".to_owned()];
    for entry in std::fs::read_dir(block.join("chunks")).unwrap() {
        files.push(format!("chunks/{}", entry.unwrap().file_name().to_str().unwrap()));
    }
    files.push("meta.json".to_owned());
    for file in files {
        let bytes = std::fs::read(block.join(&file)).unwrap();
        let key = object_store::path::Path::from(format!("{}/{file}", id(n)));
        store.put(&key, PutPayload::from(bytes)).await.unwrap();
    }
}

/// Two days of two replicas: a compacted block over the first day's end, its sources still there, and a
/// late one that lies within it.
pub(crate) async fn bucket() -> Arc<InMemory> {
    let (store, dir) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    for (n, replica, hours, sources) in [
        (1, "a", (18, 22), &[1][..]),
        (2, "a", (22, 26), &[2]),
        (3, "a", (18, 26), &[1, 2]),
        (4, "a", (26, 30), &[4]),
        (5, "b", (19, 25), &[5]),
    ] {
        write_block(dir.path(), n, replica, hours, sources);
        upload(store.as_ref(), dir.path(), n).await;
    }
    store
}

/// Three days after it all.
pub(crate) fn config() -> Config {
    Config {
        policy: Policy { replica_labels: vec!["replica".into()], ..Policy::default() },
        lease: Duration::from_secs(2),
        owner: Some("test".into()),
        now_ms: Some(START + 5 * DAY),
        concurrency: 1,
        ..Config::default()
    }
}

pub(crate) fn compactor_with(store: Arc<dyn ObjectStore>, config: Config) -> Compactor {
    let bucket = Bucket::from_store(store, "test", &quick());
    Compactor::new(bucket, config, Metrics::default(), Box::new(Silent)).unwrap()
}

pub(crate) fn compactor(store: Arc<dyn ObjectStore>) -> Compactor {
    compactor_with(store, config())
}

pub(crate) async fn once(store: Arc<dyn ObjectStore>) -> Report {
    compactor(store).once(&CancellationToken::new()).await.unwrap()
}
