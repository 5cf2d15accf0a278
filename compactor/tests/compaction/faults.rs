//! Stores that break, at every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use periplus_bucket::layer::fault::{Fault, FaultStore, Op};
use tokio_util::sync::CancellationToken;

use crate::made_up::{bucket, compactor, once};
use crate::truth::{Truth, observe, of_blocks, of_parts, same};

pub(crate) async fn fork(of: &InMemory) -> Arc<InMemory> {
    Arc::new(of.fork())
}

async fn calls_of_a_run(of: &InMemory) -> u64 {
    let store = FaultStore::new(fork(of).await, |_| None);
    once(Arc::new(store.clone())).await;
    store.calls()
}

/// After anything: nothing wrong, and the next run makes it whole.
pub(crate) async fn converges(store: Arc<InMemory>, truth: &Truth, what: &str) {
    let store: Arc<dyn ObjectStore> = store;
    observe(&store, truth).await;
    let report = once(Arc::clone(&store)).await;
    assert_eq!(report.quarantined, [], "{what}");
    same(&of_parts(&store).await, truth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fault_at_every_call() {
    let whole = bucket().await;
    let truth = of_blocks(&(Arc::clone(&whole) as Arc<dyn ObjectStore>)).await;
    let calls = calls_of_a_run(&whole).await;
    assert!(calls > 50, "{calls}");
    let faults = [Fault::Unavailable, Fault::UnavailableButApplied, Fault::Reset, Fault::Denied];
    for (i, fault) in faults.into_iter().enumerate() {
        // All kinds hit all over the run.
        for n in (i as u64..calls).step_by(8) {
            let memory = fork(&whole).await;
            let broken = fault.clone();
            let store =
                FaultStore::new(memory.clone(), move |c| (c.n == n).then(|| broken.clone()));
            let done = compactor(Arc::new(store)).once(&CancellationToken::new()).await;
            if let Err(error) = &done {
                // Lists are repeated by the clients of stores, which are not under test here; where one
                // fails for good the round ends, and the next one goes on.
                let text = error.to_string();
                assert!(
                    fault == Fault::Denied || text.contains("list"),
                    "{fault:?} at {n}: {text}"
                );
            }
            converges(memory, &truth, &format!("{fault:?} at {n}")).await;
        }
    }
}

/// A store that does not answer, and one that tells sizes that are not so: once each, all over a run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalls_and_lies() {
    let whole = bucket().await;
    let truth = of_blocks(&(Arc::clone(&whole) as Arc<dyn ObjectStore>)).await;
    let calls = calls_of_a_run(&whole).await;
    // A stall costs its time limit each; lies cost nothing.
    let stalls = (0..calls).step_by(usize::try_from(calls / 8).unwrap()).map(|n| (n, Fault::Stall));
    let lies = (0..calls).step_by(5).map(|n| (n, [-1, 1, 70_000, i64::MIN][(n % 4) as usize]));
    let lies = lies.map(|(n, by)| (n, Fault::WrongSize(by)));
    for (n, fault) in stalls.chain(lies) {
        let memory = fork(&whole).await;
        let broken = fault.clone();
        let store = FaultStore::new(memory.clone(), move |c| (c.n == n).then(|| broken.clone()));
        let done = compactor(Arc::new(store)).once(&CancellationToken::new()).await;
        println!("{fault:?} at {n}: {:?}", done.map(|r| (r.steps(), r.quarantined)));
        converges(memory, &truth, &format!("{fault:?} at {n}")).await;
    }
}

/// A store whose lists are wrong for a while, and a byte of a block that changes on its way here: neither
/// is the block's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_block_is_not_set_aside_for_what_happened_on_the_way() {
    let whole = bucket().await;
    let truth = of_blocks(&(Arc::clone(&whole) as Arc<dyn ObjectStore>)).await;
    for of in ["index", "chunks/000001"] {
        let memory = fork(&whole).await;
        let first = AtomicBool::new(true);
        let store = FaultStore::new(memory.clone(), move |c| {
            let hit = c.op == Op::Get && c.key.ends_with(of);
            (hit && first.swap(false, Ordering::Relaxed)).then_some(Fault::FlipByte)
        });
        let report = compactor(Arc::new(store)).once(&CancellationToken::new()).await.unwrap();
        assert_eq!(report.quarantined, [], "{of}");
        converges(memory, &truth, of).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_that_changes_on_the_way_is_noticed() {
    let whole = bucket().await;
    let truth = of_blocks(&(Arc::clone(&whole) as Arc<dyn ObjectStore>)).await;
    let memory = fork(&whole).await;
    // Each part's first try arrives with another byte.
    let first = AtomicBool::new(true);
    let store = FaultStore::new(memory.clone(), move |c| {
        let hit = c.key.starts_with("history/") && c.op.is_write() && c.key.ends_with(".parquet");
        (hit && first.swap(false, Ordering::Relaxed)).then_some(Fault::FlipByte)
    });
    compactor(Arc::new(store)).once(&CancellationToken::new()).await.unwrap();
    converges(memory, &truth, "flipped").await;
}
