//! A real S3 server, two compactors on it, and both of them dying again and again.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use object_store::ObjectStore;
use periplus_bucket::layer::fault::{Fault, FaultStore};
use periplus_bucket::{Bucket, Location, OpenOptions};
use periplus_compactor::config::Config;
use tokio_util::sync::CancellationToken;

use crate::made_up::{compactor_with, config, upload, write_block};
use crate::truth::{Truth, observe, of_blocks, of_parts, parts, same};
use crate::weed::{WRITER, Weed};

const URL: &str = "COMPACT_S3_URL";
const DIES_AT: &str = "COMPACT_S3_DIES_AT";

fn store_at(url: &str) -> Arc<dyn ObjectStore> {
    let at = Location::parse(url).unwrap();
    Bucket::open(&at, &OpenOptions::default()).unwrap().object_store()
}

/// Not a test of its own: a compactor that works until there is nothing left, or dies at its nth write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(url) = std::env::var_os(URL) else { return };
    let dies_at: u64 = std::env::var(DIES_AT).unwrap().parse().unwrap();
    let writes = AtomicU64::new(0);
    let store = FaultStore::new(store_at(url.to_str().unwrap()), move |call| {
        let is_it = call.op.is_write() && writes.fetch_add(1, Ordering::Relaxed) == dies_at / 2;
        let how = if dies_at.is_multiple_of(2) { Fault::AbortBefore } else { Fault::AbortAfter };
        is_it.then_some(how)
    });
    let mut one = compactor_with(Arc::new(store), Config { owner: None, ..config() });
    while !one.once(&CancellationToken::new()).await.unwrap().theirs.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Victim(Child);

impl Victim {
    fn start(url: &str, dies_at: u64) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "s3::victim", "--test-threads=1"])
            .env(URL, url)
            .env("AWS_ACCESS_KEY_ID", WRITER.0)
            .env("AWS_SECRET_ACCESS_KEY", WRITER.1)
            .env(DIES_AT, dies_at.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Two at a time, both die at some write; others take over, until two come through. What a reader sees
/// is the whole truth all along.
async fn until_done(url: &str, store: &Arc<dyn ObjectStore>, truth: &Truth) -> usize {
    let (started, mut deaths, mut dies_at) = (Instant::now(), 0, 7);
    loop {
        let mut both = [Victim::start(url, dies_at), Victim::start(url, dies_at + 16)];
        let mut ended = [None, None];
        while ended.iter().any(Option::is_none) {
            for (one, end) in both.iter_mut().zip(&mut ended) {
                *end = one.0.try_wait().unwrap().map(|status| status.success());
            }
            observe(store, truth).await;
        }
        deaths += ended.iter().filter(|e| **e == Some(false)).count();
        if ended == [Some(true); 2] {
            return deaths;
        }
        dies_at += 11;
        assert!(started.elapsed() < Duration::from_secs(300), "{deaths} deaths and no end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactors_die_on_a_real_server() {
    let Some(server) = Weed::start() else { return };
    let bucket = server.bucket("compaction");
    let store = bucket.object_store();
    let dir = tempfile::tempdir().unwrap();
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
    let truth = of_blocks(&store).await;
    let url = format!("s3://compaction?endpoint={}&region=us-east-1", server.endpoint());
    let deaths = until_done(&url, &store, &truth).await;
    assert!(deaths >= 4, "{deaths}");
    same(&of_parts(&store).await, &truth);
    // One part for each stream, day and resolution: nothing was made twice and kept.
    let all = parts(&store).await;
    let mut places: Vec<_> =
        all.iter().map(|p| (p.external.clone(), p.day, p.resolution.clone())).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), all.len());
    println!("{deaths} deaths, {} parts", all.len());
}
