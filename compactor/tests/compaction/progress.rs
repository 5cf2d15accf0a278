//! What a compactor tells of how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::ObjectStore;
use periplus_bucket::Bucket;
use periplus_bucket::blocks::{Progress, Silent};
use periplus_bucket::layer::fault::{Fault, FaultStore};
use periplus_compactor::metrics::Metrics;
use periplus_compactor::service::Compactor;
use tokio_util::sync::CancellationToken;

use crate::made_up::{DAY, HOUR, START, bucket, config, quick};

/// Counts what a bar on a terminal is told.
#[derive(Clone, Default)]
struct Counted(Arc<(AtomicU64, AtomicU64)>);

impl Progress for Counted {
    fn more(&mut self, steps: u64) {
        self.0.0.fetch_add(steps, Ordering::Relaxed);
    }

    fn step(&mut self, what: &str) {
        assert!(!what.is_empty());
        self.0.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backlog_is_told_and_shrinks() {
    let store: Arc<dyn ObjectStore> = bucket().await;
    let new = |store: Arc<dyn ObjectStore>, metrics: &Metrics, bar: Box<dyn Progress>| {
        let bucket = Bucket::from_store(store, "test", &quick());
        Compactor::new(bucket, config(), metrics.clone(), bar).unwrap()
    };
    // A compactor that may not write: nothing is done, but what there is to do is known.
    let readonly =
        FaultStore::new(Arc::clone(&store), |c| c.op.is_write().then_some(Fault::Denied));
    let metrics = Metrics::default();
    let mut stuck = new(Arc::new(readonly), &metrics, Box::new(Silent));
    stuck.once(&CancellationToken::new()).await.unwrap_err();
    // Blocks 3, 4 and 5: 1 and 2 are in 3.
    assert_eq!(metrics.backlog_blocks.get(), 3);
    assert!(metrics.backlog_bytes.get() > 1000);
    // The oldest of them, 5, ends an hour into the second day.
    let minutes = (START + 5 * DAY - (START + 25 * HOUR)) as f64 / 6e4;
    assert!((metrics.backlog_minutes.get() - minutes).abs() < 1.0, "{:?}", metrics.backlog_minutes);
    assert!(metrics.waiting.get() > 0);

    let (metrics, bar) = (Metrics::default(), Counted::default());
    let mut able = new(Arc::clone(&store), &metrics, Box::new(bar.clone()));
    let report = able.once(&CancellationToken::new()).await.unwrap();
    assert_eq!((metrics.backlog_blocks.get(), metrics.backlog_bytes.get()), (0, 0));
    assert_eq!((metrics.backlog_minutes.get(), metrics.waiting.get()), (0.0, 0));
    let (told, done) = (bar.0.0.load(Ordering::Relaxed), bar.0.1.load(Ordering::Relaxed));
    assert_eq!((told, done), (report.steps() as u64, report.steps() as u64));
    assert_eq!(metrics.samples.get(), report.samples);
}
