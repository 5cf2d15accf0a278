//! Data directories with small blocks, and what must be true of a bucket.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use periplus_bucket::blocks::scan::{self, Found};
use periplus_bucket::blocks::verify;
use periplus_bucket::upload::UploadOptions;
use periplus_bucket::{Bucket, Key, OpenOptions};
use periplus_sidecar::ship::metrics::ShipMetrics;
use periplus_sidecar::ship::{BucketDestination, ShipConfig, ShipError, Shipper};
use ulid::Ulid;

pub(crate) const HOUR: i64 = 3_600_000;

/// Bytes that look like nothing.
fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut x = seed | 1;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()[3]
        })
        .collect()
}

pub(crate) fn id(n: u128) -> Ulid {
    // Made in 2024: old enough that a compactor may have seen it.
    Ulid::from((1_710_000_000_000_u128 << 80) + n)
}

/// Writes a block that looks like Prometheus's, for hours `from..until`.
pub(crate) fn write_block(tsdb: &Path, n: u128, hours: (i64, i64), level: u32, sources: &[u128]) {
    let directory = tsdb.join(id(n).to_string());
    fs::create_dir_all(directory.join("chunks")).unwrap();
    let seed = u64::try_from(n).unwrap() * 7919;
    fs::write(directory.join("chunks/000001"), noise(seed, 3000)).unwrap();
    fs::write(directory.join("chunks/000002"), noise(seed + 1, 70)).unwrap();
    fs::write(directory.join("index"), noise(seed + 2, 900)).unwrap();
    fs::write(directory.join("tombstones"), [0; 9]).unwrap();
    let sources: Vec<_> = sources.iter().map(|s| id(*s).to_string()).collect();
    let meta = serde_json::json!({
        "ulid": id(n).to_string(), "minTime": hours.0 * HOUR, "maxTime": hours.1 * HOUR,
        "stats": {"numSamples": 100, "numSeries": 5, "numChunks": 5}, "version": 1,
        "compaction": {"level": level, "sources": sources},
    });
    fs::write(directory.join("meta.json"), serde_json::to_vec_pretty(&meta).unwrap()).unwrap();
}

/// A data directory with three blocks from the head.
pub(crate) fn three_blocks() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=3 {
        let from = 2 * i64::try_from(n).unwrap();
        write_block(dir.path(), n, (from, from + 2), 1, &[n]);
    }
    dir
}

pub(crate) fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("cluster".into(), "c1".into()), ("replica".into(), "a".into())])
}

/// Limits that make tests quick.
pub(crate) fn quick() -> OpenOptions {
    OpenOptions {
        request_timeout: Duration::from_millis(250),
        operation_timeout: Duration::from_secs(2),
        retries_max: 2,
        backoff_max: Duration::from_millis(20),
        ..OpenOptions::default()
    }
}

pub(crate) fn bucket_over(store: Arc<dyn ObjectStore>) -> Bucket {
    Bucket::from_store(store, "test", &quick())
}

/// Parts so small that the larger one of a block's chunk files goes in four of them, the others whole.
pub(crate) fn small_parts() -> UploadOptions {
    UploadOptions { part_bytes: 900, ..UploadOptions::default() }
}

pub(crate) fn shipper(bucket: &Bucket, config: ShipConfig) -> Result<Shipper, ShipError> {
    let to = Arc::new(BucketDestination::new(bucket.clone(), small_parts()));
    Shipper::new(config, to, None, Box::new(|| Some(labels())), ShipMetrics::default())
}

/// What must be true at any moment: every block that has a `meta.json` is whole and intact.
pub(crate) async fn assert_readable(bucket: &Bucket) -> Vec<Found> {
    let found = scan::blocks(bucket).await.unwrap();
    for block in found.iter().filter(|b| b.meta.is_ok()) {
        assert_eq!(verify::block(bucket, block, true).await.unwrap(), [], "{}", block.id);
    }
    found
}

/// Every local block is there byte for byte, once, and nothing else is.
pub(crate) async fn assert_identical(bucket: &Bucket, tsdb: &Path) {
    let found = assert_readable(bucket).await;
    let mut local = Vec::new();
    for entry in fs::read_dir(tsdb).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Ok(id) = name.parse::<Ulid>() {
            local.push(id);
        }
    }
    local.sort_unstable();
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), local);
    assert_eq!(verify::between(&found), []);
    for block in &found {
        let directory = tsdb.join(block.id.to_string());
        let meta = block.meta.as_ref().unwrap();
        assert_eq!(meta.thanos.labels, labels());
        assert_eq!(
            (meta.thanos.source.as_str(), meta.thanos.downsample.resolution),
            ("sidecar", 0)
        );
        let paths: Vec<_> = meta.thanos.files.iter().map(|f| f.rel_path.as_str()).collect();
        assert!(paths.is_sorted(), "{paths:?}");
        assert_eq!(block.objects.len(), paths.len());
        for path in paths.iter().filter(|p| **p != "meta.json") {
            let key = Key::block_file(block.id, path).unwrap();
            let there = bucket.get(&key, 1 << 30).await.unwrap().unwrap().0;
            assert!(there == fs::read(directory.join(path)).unwrap(), "{key}");
        }
        let segments = fs::read_dir(directory.join("chunks")).unwrap().count();
        assert_eq!(paths.len(), segments + 2);
    }
    assert!(!tsdb.join("periplus/upload").read_dir().is_ok_and(|mut d| d.next().is_some()));
}
