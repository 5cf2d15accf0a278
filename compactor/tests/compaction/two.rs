//! Several compactors on one bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_store::ObjectStore;
use periplus_bucket::layer::fault::{Fault, FaultStore};
use periplus_compactor::config::Config;
use tokio_util::sync::CancellationToken;

use crate::made_up::{bucket, compactor_with, config, once};
use crate::truth::{observe, of_blocks, of_parts, parts, same};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_share_and_never_double() {
    let store: Arc<dyn ObjectStore> = bucket().await;
    let truth = of_blocks(&store).await;
    let run = |store: Arc<dyn ObjectStore>| {
        tokio::spawn(async move {
            let mut one = compactor_with(store, Config { owner: None, ..config() });
            one.once(&CancellationToken::new()).await.unwrap()
        })
    };
    let both = [run(Arc::clone(&store)), run(Arc::clone(&store))];
    for one in both {
        let report = one.await.unwrap();
        println!("{:?}, not free: {}", report.done, report.theirs.len());
    }
    observe(&store, &truth).await;
    settled(&store).await;
    same(&of_parts(&store).await, &truth);
    assert_eq!(once(store).await.steps(), 0);
}

/// One can't reach the store for longer than its lease, the other one takes over; when the first comes
/// back it commits nothing on top.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lost_midway() {
    let memory = bucket().await;
    let store: Arc<dyn ObjectStore> = memory.clone();
    let truth = of_blocks(&store).await;
    let (away, was_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_away, sets) = (Arc::clone(&away), Arc::clone(&was_away));
    let first = FaultStore::new(memory.clone(), move |c| {
        // It goes away when it has sent its first files.
        if c.key.ends_with("samples.parquet") && !sets.swap(true, Ordering::Relaxed) {
            is_away.store(true, Ordering::Relaxed);
        }
        is_away.load(Ordering::Relaxed).then_some(Fault::Unavailable)
    });
    let short = Config { lease: Duration::from_secs(1), owner: None, ..config() };
    let first = {
        let short = short.clone();
        tokio::spawn(async move {
            let mut first = compactor_with(Arc::new(first), short);
            first.once(&CancellationToken::new()).await
        })
    };
    while !was_away.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut second = compactor_with(Arc::clone(&store), short);
    let mut tries = 0;
    loop {
        let report = second.once(&CancellationToken::new()).await.unwrap();
        if report.theirs.is_empty() {
            break;
        }
        tries += 1;
        assert!(tries < 200, "{report:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    away.store(false, Ordering::Relaxed);
    println!("the first ended with {:?}", first.await.unwrap().map(|r| r.steps()));
    same(&of_parts(&store).await, &truth);
    let days: Vec<_> = parts(&store)
        .await
        .iter()
        .map(|p| (p.external.clone(), p.day, p.resolution.clone()))
        .collect();
    let mut once_each = days.clone();
    once_each.sort();
    once_each.dedup();
    assert_eq!(once_each.len(), days.len());
}

/// Runs until no lease of a compactor that is gone is in the way.
async fn settled(store: &Arc<dyn ObjectStore>) {
    for _ in 0..200 {
        if once(Arc::clone(store)).await.theirs.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a lease does not end");
}
