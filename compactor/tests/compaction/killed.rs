//! Processes that die: what they leave is right at any moment, and whole after the next run.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use periplus_bucket::layer::fault::{Fault, FaultStore};
use tokio_util::sync::CancellationToken;

use crate::faults::{converges, fork};
use crate::made_up::{bucket, compactor, id, once, upload, write_block};
use crate::truth::{observe, of_blocks, of_parts, same};

const STORE: &str = "COMPACT_VICTIM_STORE";
const DIES_AT: &str = "COMPACT_VICTIM_DIES_AT";

/// From some call on nothing reaches the store any more: for the bucket the same as a death, at every
/// call that writes, before it and after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_every_write() {
    let whole = bucket().await;
    let truth = of_blocks(&(Arc::clone(&whole) as Arc<dyn ObjectStore>)).await;
    let mut deaths = 0;
    for at in 0..10_000 {
        let memory = fork(&whole).await;
        let (writes, died) = (AtomicU64::new(0), AtomicBool::new(false));
        let dead = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&dead);
        let store = FaultStore::new(memory.clone(), move |c| {
            if died.load(Ordering::Relaxed) {
                return Some(Fault::Denied);
            }
            if !c.op.is_write() {
                return None;
            }
            let is_it = writes.fetch_add(1, Ordering::Relaxed) == at / 2;
            died.store(is_it, Ordering::Relaxed);
            told.fetch_or(is_it, Ordering::Relaxed);
            let how = if at % 2 == 0 { Fault::Denied } else { Fault::UnavailableButApplied };
            is_it.then_some(how)
        });
        let _dies = compactor(Arc::new(store)).once(&CancellationToken::new()).await;
        converges(memory, &truth, &format!("death {at}")).await;
        if !dead.load(Ordering::Relaxed) {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 40, "{deaths}");
    println!("died {deaths} times");
}

/// A reader looks all the time while blocks arrive and are compacted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_it() {
    let store: Arc<dyn ObjectStore> = bucket().await;
    let truth = of_blocks(&store).await;
    let done = Arc::new(AtomicBool::new(false));
    let (reading, is_done, expect) = (Arc::clone(&store), Arc::clone(&done), truth.clone());
    let reader = tokio::spawn(async move {
        let mut looks = 0;
        while !is_done.load(Ordering::Relaxed) || looks == 0 {
            observe(&reading, &expect).await;
            looks += 1;
        }
        looks
    });
    let report = once(Arc::clone(&store)).await;
    done.store(true, Ordering::Relaxed);
    let looks = reader.await.unwrap();
    println!("{looks} looks beside {} steps", report.steps());
    same(&of_parts(&store).await, &truth);
}

fn local(directory: &Path) -> Arc<LocalFileSystem> {
    Arc::new(LocalFileSystem::new_with_prefix(directory).unwrap().with_automatic_cleanup(true))
}

/// Not a test of its own: what the other one starts and lets die.
#[tokio::test]
async fn victim() {
    let Some(directory) = std::env::var_os(STORE) else { return };
    let dies_at: u64 = std::env::var(DIES_AT).unwrap().parse().unwrap();
    let writes = AtomicU64::new(0);
    let store = FaultStore::new(local(Path::new(&directory)), move |call| {
        let is_it = call.op.is_write() && writes.fetch_add(1, Ordering::Relaxed) == dies_at / 2;
        let how = if dies_at.is_multiple_of(2) { Fault::AbortBefore } else { Fault::AbortAfter };
        is_it.then_some(how)
    });
    once(Arc::new(store)).await;
}

/// The same for real (`abort`), over a directory, at some of the points.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_deaths() {
    let mut deaths = 0;
    for dies_at in (5..400).step_by(13) {
        let dir = tempfile::tempdir().unwrap();
        for (n, hours) in [(1, (20, 24)), (2, (24, 28))] {
            let blocks = tempfile::tempdir().unwrap();
            write_block(blocks.path(), n, "a", hours, &[n]);
            upload(local(dir.path()).as_ref(), blocks.path(), n).await;
        }
        let store: Arc<dyn ObjectStore> = local(dir.path());
        let truth = of_blocks(&store).await;
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::victim", "--test-threads=1"])
            .env(STORE, dir.path())
            .env(DIES_AT, dies_at.to_string())
            .output()
            .unwrap()
            .status;
        observe(&store, &truth).await;
        if status.success() {
            break;
        }
        deaths += 1;
        once(Arc::clone(&store)).await;
        same(&of_parts(&store).await, &truth);
    }
    assert!(deaths > 3, "{deaths}");
    println!("died {deaths} times; the last block was {}", id(2));
}
