//! Stores that break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use object_store::memory::InMemory;
use periplus_bucket::Kind;
use periplus_bucket::layer::fault::{Fault, FaultStore, Op};
use periplus_bucket::upload::UploadOptions;
use periplus_sidecar::ship::metrics::ShipMetrics;
use periplus_sidecar::ship::{BucketDestination, ShipConfig, ShipError, Shipper};

use crate::blocks::{
    assert_identical, assert_readable, bucket_over, labels, shipper, three_blocks,
};

/// How many calls a round of shipping makes of a store that works.
async fn calls_of_a_round() -> u64 {
    let dir = three_blocks();
    let store = FaultStore::new(Arc::new(InMemory::new()), |_| None);
    let bucket = bucket_over(Arc::new(store.clone()));
    let mut s = shipper(&bucket, ShipConfig::new(dir.path().into())).unwrap();
    let report = s.sync().await.unwrap();
    assert_eq!((report.shipped.len(), report.problems), (3, vec![]));
    let calls = store.calls();
    assert_identical(&bucket, dir.path()).await;

    // The next round asks nothing but for the lease, which is fresh.
    let before = store.calls();
    assert_eq!(s.sync().await.unwrap().shipped, []);
    assert_eq!(store.calls(), before);
    calls
}

/// One fault at the nth call, whatever it is, and what becomes of it.
async fn one_fault(fault: Fault, n: u64) {
    let dir = three_blocks();
    let memory = Arc::new(InMemory::new());
    let broken = fault.clone();
    let store = FaultStore::new(memory.clone(), move |c| (c.n == n).then(|| broken.clone()));
    let bucket = bucket_over(Arc::new(store));
    let mut s = shipper(&bucket, ShipConfig::new(dir.path().into())).unwrap();
    let first = s.sync().await;
    let healthy = bucket_over(memory);
    assert_readable(&healthy).await;
    // One fault is overcome where trying again can, and named where it can't.
    if let Err(error) = first {
        assert!(
            matches!(fault, Fault::Denied | Fault::Stall | Fault::FlipByte | Fault::WrongSize(_)),
            "{fault:?} at {n}: {error}"
        );
    }
    s.sync().await.unwrap_or_else(|e| panic!("{fault:?} at {n}: {e}"));
    assert_identical(&healthy, dir.path()).await;
}

#[tokio::test]
async fn one_fault_at_every_call() {
    let calls = calls_of_a_round().await;
    assert!(calls > 40, "{calls}");
    let kinds = [
        Fault::Unavailable,
        Fault::UnavailableButApplied,
        Fault::Reset,
        Fault::Stall,
        Fault::Denied,
        Fault::Full,
        Fault::WrongSize(-1),
        Fault::WrongSize(1),
        Fault::FlipByte,
    ];
    for fault in kinds {
        // Side by side: a stalled part has two seconds to end.
        let runs = (0..calls).map(|n| one_fault(fault.clone(), n));
        stream::iter(runs).buffer_unordered(16).collect::<()>().await;
    }
}

#[tokio::test]
async fn stores_that_stay_broken() {
    type Broken = fn(Op, &str) -> Option<Fault>;
    let cases: [(&str, Broken, Option<Kind>); 6] = [
        ("down", |_, _| Some(Fault::Unavailable), Some(Kind::Unavailable)),
        ("silent", |_, _| Some(Fault::Stall), Some(Kind::Timeout)),
        ("read-only", |op, _| op.is_write().then_some(Fault::Denied), Some(Kind::Denied)),
        ("strange keys", |_, _| Some(Fault::Denied), Some(Kind::Denied)),
        (
            "full",
            |op, key| (op.is_write() && key.ends_with("000002")).then_some(Fault::Full),
            Some(Kind::Unavailable),
        ),
        // Sizes are about one block each, so the round ends well and names them.
        (
            "lying about sizes",
            |op, key| (op == Op::Head && key.contains("chunks")).then_some(Fault::WrongSize(5)),
            None,
        ),
    ];
    for (name, broken, kind) in cases {
        let dir = three_blocks();
        let memory = Arc::new(InMemory::new());
        let is_broken = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&is_broken);
        let store = FaultStore::new(memory.clone(), move |c| {
            if switch.load(Ordering::Relaxed) { broken(c.op, &c.key) } else { None }
        });
        let bucket = bucket_over(Arc::new(store));
        let mut s = shipper(&bucket, ShipConfig::new(dir.path().into())).unwrap();
        match (s.sync().await, kind) {
            (Err(ShipError::Destination(error)), Some(kind)) => {
                assert_eq!(error.kind(), kind, "{name}: {error}")
            }
            (Ok(report), None) => assert_eq!((report.shipped.len(), report.problems.len()), (0, 3)),
            other => panic!("{name}: {other:?}"),
        }
        let healthy = bucket_over(memory);
        let found = assert_readable(&healthy).await;
        assert!(found.iter().all(|f| f.meta.is_err()), "{name}");
        is_broken.store(false, Ordering::Relaxed);
        s.sync().await.unwrap();
        assert_identical(&healthy, dir.path()).await;
    }
}

#[tokio::test]
async fn credentials_that_expire_midway() {
    let calls = calls_of_a_round().await;
    let dir = three_blocks();
    let memory = Arc::new(InMemory::new());
    for until in (0..calls).step_by(3) {
        let store =
            FaultStore::new(memory.clone(), move |c| (c.n >= until).then_some(Fault::Denied));
        let mut s =
            shipper(&bucket_over(Arc::new(store)), ShipConfig::new(dir.path().into())).unwrap();
        let _either = s.sync().await;
        assert_readable(&bucket_over(memory.clone())).await;
    }
    let healthy = bucket_over(memory);
    shipper(&healthy, ShipConfig::new(dir.path().into())).unwrap().sync().await.unwrap();
    assert_identical(&healthy, dir.path()).await;
}

#[tokio::test]
async fn what_was_sent_is_not_sent_again() {
    let dir = three_blocks();
    let memory = Arc::new(InMemory::new());
    // It breaks at the last file: the description of the third block.
    let store = FaultStore::new(memory.clone(), |c| {
        (c.op == Op::Put && c.key.ends_with("3/meta.json")).then_some(Fault::Denied)
    });
    let mut s = shipper(&bucket_over(Arc::new(store)), ShipConfig::new(dir.path().into())).unwrap();
    s.sync().await.unwrap_err();
    drop(s);
    let healthy = bucket_over(memory);
    std::fs::remove_file(dir.path().join("thanos.shipper.json")).unwrap();
    let mut again = shipper(&healthy, ShipConfig::new(dir.path().into())).unwrap();
    let before = healthy.counters().operations("put");
    let report = again.sync().await.unwrap();
    assert_eq!((report.shipped.len(), report.there.len()), (1, 2));
    // The description, the lease, and what finds out about conditional puts; no chunks, no index.
    assert!(healthy.counters().operations("put") - before <= 7);
    assert!(report.bytes < 3000, "{report:?}");
    assert_identical(&healthy, dir.path()).await;
}

#[tokio::test]
async fn bandwidth_is_kept() {
    let dir = three_blocks();
    let bucket = bucket_over(Arc::new(InMemory::new()));
    let options = UploadOptions { bytes_per_second: 12_000, ..UploadOptions::default() };
    let to = Arc::new(BucketDestination::new(bucket.clone(), options));
    let labels = Box::new(|| Some(labels()));
    let config = ShipConfig::new(dir.path().into());
    let mut s = Shipper::new(config, to, None, labels, ShipMetrics::default()).unwrap();
    let started = std::time::Instant::now();
    s.sync().await.unwrap();
    // 3 x 3970 bytes at 12,000 a second; what was sent last need not be waited for.
    assert!(started.elapsed() > Duration::from_millis(850), "{:?}", started.elapsed());
    assert_identical(&bucket, dir.path()).await;
}
