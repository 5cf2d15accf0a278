//! Processes that die: at every call to the store, before it and after it, for real (`abort`).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use periplus_bucket::layer::fault::{Fault, FaultStore};
use periplus_sidecar::ship::ShipConfig;

use crate::blocks::{assert_identical, assert_readable, bucket_over, shipper, three_blocks};

const TSDB: &str = "SHIP_VICTIM_TSDB";
const STORE: &str = "SHIP_VICTIM_STORE";
const DIES_AT: &str = "SHIP_VICTIM_DIES_AT";

fn store(directory: &Path) -> Arc<LocalFileSystem> {
    Arc::new(LocalFileSystem::new_with_prefix(directory).unwrap().with_automatic_cleanup(true))
}

/// Not a test of its own: what the other one starts and lets die.
#[tokio::test]
async fn victim() {
    let Some(tsdb) = std::env::var_os(TSDB) else { return };
    let directory = std::env::var_os(STORE).unwrap();
    let dies_at: u64 = std::env::var(DIES_AT).unwrap().parse().unwrap();
    let fault = FaultStore::new(store(Path::new(&directory)), move |call| {
        let is_it = call.n == dies_at / 2;
        let how = if dies_at.is_multiple_of(2) { Fault::AbortBefore } else { Fault::AbortAfter };
        is_it.then_some(how)
    });
    let bucket = bucket_over(Arc::new(fault));
    shipper(&bucket, ShipConfig::new(tsdb.into())).unwrap().sync().await.unwrap();
}

#[tokio::test]
async fn the_bucket_is_readable_after_every_death() {
    let mut deaths = 0;
    for dies_at in 0..1000 {
        let (dir, bucket_dir) = (three_blocks(), tempfile::tempdir().unwrap());
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::victim", "--test-threads=1"])
            .env(TSDB, dir.path())
            .env(STORE, bucket_dir.path())
            .env(DIES_AT, dies_at.to_string())
            .output()
            .unwrap()
            .status;
        let healthy = bucket_over(store(bucket_dir.path()));
        assert_readable(&healthy).await;
        // Started again over the same data it goes on at once: the lease knows it.
        shipper(&healthy, ShipConfig::new(dir.path().into())).unwrap().sync().await.unwrap();
        assert_identical(&healthy, dir.path()).await;
        if status.success() {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 40, "{deaths}");
    println!("died {deaths} times");
}
