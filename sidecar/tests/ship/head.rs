//! Snapshots of the head, with a Prometheus that makes them by script.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::memory::InMemory;
use periplus_bucket::blocks::marks::MarkKind;
use periplus_bucket::blocks::scan;
use periplus_sidecar::ship::metrics::ShipMetrics;
use periplus_sidecar::ship::prometheus::Upstream;
use periplus_sidecar::ship::{BucketDestination, ShipConfig, ShipError, Shipper};

use crate::blocks::{assert_readable, bucket_over, id, labels, three_blocks, write_block};

#[derive(Debug)]
struct Scripted {
    tsdb: PathBuf,
    made: AtomicU64,
}

#[async_trait::async_trait]
impl Upstream for Scripted {
    async fn flags(&self) -> Result<BTreeMap<String, String>, ShipError> {
        Ok(BTreeMap::new())
    }

    async fn snapshot(&self) -> Result<String, ShipError> {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("20261121T170000Z-{n:016x}");
        let directory = self.tsdb.join("snapshots").join(&name);
        // The blocks, and the head as one more.
        write_block(&directory, 1, (2, 4), 1, &[1]);
        write_block(&directory, 100 + u128::from(n), (8, 9), 1, &[100 + u128::from(n)]);
        Ok(name)
    }
}

#[tokio::test]
async fn a_head_is_replaced_by_the_next_and_by_its_block() {
    let dir = three_blocks();
    let bucket = bucket_over(Arc::new(InMemory::new()));
    let upstream = Arc::new(Scripted { tsdb: dir.path().into(), made: AtomicU64::new(0) });
    let open = || {
        let to = Arc::new(BucketDestination::new(bucket.clone(), Default::default()));
        let config = ShipConfig::new(dir.path().into());
        let labels = Box::new(|| Some(labels()));
        Shipper::new(config, to, Some(upstream.clone()), labels, ShipMetrics::default()).unwrap()
    };
    let mut s = open();
    s.sync().await.unwrap();
    assert_eq!(s.ship_head().await.unwrap(), Some(id(100)));
    let head = scan::block(&bucket, id(100)).await.unwrap();
    assert!(head.meta.as_ref().unwrap().is_head_snapshot());
    assert!(head.marks.contains_key(&MarkKind::NoCompact));
    assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);

    // The next one: the first is marked, then gone; also over a restart.
    assert_eq!(s.ship_head().await.unwrap(), Some(id(101)));
    let first = scan::block(&bucket, id(100)).await.unwrap();
    assert!(first.marks.contains_key(&MarkKind::Deletion));
    drop(s);
    let mut s = open();
    s.sync().await.unwrap();
    assert_eq!(s.ship_head().await.unwrap(), Some(id(102)));
    assert!(scan::block(&bucket, id(100)).await.unwrap().objects.is_empty());

    // Its block arrives.
    write_block(dir.path(), 4, (8, 10), 1, &[4]);
    s.sync().await.unwrap();
    s.retire_heads().await.unwrap();
    s.retire_heads().await.unwrap();
    let found = assert_readable(&bucket).await;
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), [1, 2, 3, 4].map(id));
}
