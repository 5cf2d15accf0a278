//! Shipping against a plain parallel copy of the same files to the same server, in the same run.
//!
//! Prints, for each, seconds, bytes a second, the process's own CPU seconds per GB and its peak memory;
//! then the ratio. Each runs in a process of its own, in turns, and the best of three counts: on a
//! shared machine the others measure the neighbours. `SHIP_BENCH_MIB` sets the size (default 768).

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails loudly")]

#[path = "../../lib/bucket/tests/weed/server.rs"]
mod weed;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use periplus_bucket::upload::UploadOptions;
use periplus_bucket::{Bucket, OpenOptions};
use periplus_sidecar::ship::metrics::ShipMetrics;
use periplus_sidecar::ship::{BucketDestination, ShipConfig, Shipper};
use ulid::Ulid;

const PARTS: usize = 4;
const PART_BYTES: usize = 6 << 20;

fn main() {
    let args: Vec<_> = std::env::args().collect();
    if let Some(at) = args.iter().position(|a| a == "--as") {
        return child(&args[at + 1..]);
    }
    let Some(server) = weed::Weed::start() else { return };
    let mib: u64 = std::env::var("SHIP_BENCH_MIB").ok().and_then(|v| v.parse().ok()).unwrap_or(768);
    let dir = tempfile::tempdir().unwrap();
    write_blocks(dir.path(), mib);
    println!("{mib} MiB in two blocks; {PARTS} parts of {} MiB at a time", PART_BYTES >> 20);
    let mut best: BTreeMap<&str, f64> = BTreeMap::new();
    for round in 0..3 {
        for what in ["copy", "ship"] {
            let bucket = format!("bench-{what}-{round}");
            assert!(server.make_bucket(&bucket));
            let location = format!("s3://{bucket}?endpoint={}", server.endpoint());
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--as", what, &location, dir.path().to_str().unwrap()])
                .env("AWS_ACCESS_KEY_ID", weed::WRITER.0)
                .env("AWS_SECRET_ACCESS_KEY", weed::WRITER.1)
                .env("AWS_ALLOW_HTTP", "true")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
            let mut fields = text.split_whitespace().map(|f| f.parse::<f64>().unwrap());
            let [seconds, cpu, peak] = [(); 3].map(|()| fields.next().unwrap());
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let size = mib as f64 / 1024.0;
            println!(
                "{what}: {seconds:.2} s, {:.0} MiB/s, {:.2} s CPU per GiB, peak memory {peak:.0} MiB",
                size * 1024.0 / seconds,
                cpu / size
            );
            best.entry(what).and_modify(|b| *b = b.min(seconds)).or_insert(seconds);
        }
    }
    println!("ship reaches {:.0} % of a plain parallel copy", 100.0 * best["copy"] / best["ship"]);
}

fn write_blocks(tsdb: &Path, mib: u64) {
    let mut noise = fs::File::open("/dev/urandom").unwrap();
    for n in 0..2 {
        let id = Ulid::generate();
        let directory = tsdb.join(id.to_string());
        fs::create_dir_all(directory.join("chunks")).unwrap();
        for (name, share) in [("chunks/000001", 5), ("chunks/000002", 2), ("index", 1)] {
            let mut file = fs::File::create(directory.join(name)).unwrap();
            let size = (mib << 20) / 2 * share / 8;
            std::io::copy(&mut noise.by_ref().take(size), &mut file).unwrap();
        }
        let meta = serde_json::json!({
            "ulid": id.to_string(), "minTime": n * 7_200_000, "maxTime": (n + 1) * 7_200_000,
            "stats": {"numSamples": 1, "numChunks": 1}, "version": 1,
            "compaction": {"level": 1, "sources": [id.to_string()]},
        });
        fs::write(directory.join("meta.json"), meta.to_string()).unwrap();
    }
}

/// Does one of the two and prints seconds, CPU seconds and peak MiB.
fn child(args: &[String]) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    periplus_daemon::tls::install_provider();
    let bucket = Bucket::open(&args[1].parse().unwrap(), &OpenOptions::default()).unwrap();
    let tsdb = PathBuf::from(&args[2]);
    let started = Instant::now();
    if args[0] == "ship" {
        runtime.block_on(ship(bucket, tsdb));
    } else {
        runtime.block_on(copy(bucket.object_store(), &tsdb));
    }
    println!("{} {} {}", started.elapsed().as_secs_f64(), cpu_seconds(), peak_mib());
}

async fn ship(bucket: Bucket, tsdb: PathBuf) {
    let to = BucketDestination::new(bucket, UploadOptions::default());
    let labels = || Some(BTreeMap::from([("cluster".to_owned(), "c".to_owned())]));
    // Each round has a bucket of its own.
    let _none = fs::remove_file(tsdb.join("thanos.shipper.json"));
    let config = ShipConfig::new(tsdb);
    let metrics = ShipMetrics::default();
    let mut s = Shipper::new(config, Arc::new(to), None, Box::new(labels), metrics).unwrap();
    assert_eq!(s.sync().await.unwrap().shipped.len(), 2);
}

/// As many parts at a time, nothing else: no hashes, no order, no second look.
async fn copy(store: Arc<dyn ObjectStore>, tsdb: &Path) {
    let mut files = Vec::new();
    for block in fs::read_dir(tsdb).unwrap() {
        let block = block.unwrap().path();
        if block.join("index").exists() {
            files.extend(["chunks/000001", "chunks/000002", "index"].map(|f| block.join(f)));
        }
    }
    let uploads = files.into_iter().map(|file| {
        let store = Arc::clone(&store);
        let key = file.strip_prefix(tsdb).unwrap().to_str().unwrap().to_owned();
        async move {
            let mut upload = store.put_multipart(&key.as_str().into()).await.unwrap();
            let mut source = tokio::fs::File::open(&file).await.unwrap();
            loop {
                use tokio::io::AsyncReadExt as _;
                let mut part = Vec::with_capacity(PART_BYTES);
                (&mut source).take(PART_BYTES as u64).read_to_end(&mut part).await.unwrap();
                if part.is_empty() {
                    break;
                }
                upload.put_part(PutPayload::from(part)).await.unwrap();
            }
            upload.complete().await.unwrap();
        }
    });
    stream::iter(uploads).buffer_unordered(PARTS).collect::<()>().await;
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let ticks = after.split_whitespace().skip(11).take(2).map(|t| t.parse::<f64>().unwrap());
    // Linux tells in hundredths of a second, whatever its own clock.
    ticks.sum::<f64>() / 100.0
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
