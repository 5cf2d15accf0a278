//! Reads blocks where they are: every checksum of index and chunks, and every sample.
//!
//! Nothing is copied to a disk. The check goes through a block nearly in the order of its files, so a few
//! windows of some MiB, read ahead, are all that is kept.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use parking_lot::Mutex;
use periplus_block::BlockFile;
use periplus_block::check::{Severity, check_files};
use periplus_block::source::{BlockFiles, RangedBytes};
use periplus_bucket::blocks::scan::Found;
use periplus_bucket::blocks::verify::Problem;
use periplus_bucket::{Bucket, BucketError, Key, Kind};
use tokio::runtime::Handle;
use ulid::Ulid;

/// Bytes that are read at once.
const WINDOW_BYTES: u64 = 4 << 20;
/// Windows that are kept of a block.
const WINDOWS: usize = 8;

/// What is wrong with what is in a block. One without a description that can be read has no contents.
///
/// # Errors
/// The store refuses or does not answer: that says nothing about the block.
pub(super) async fn check(bucket: &Bucket, found: &Found) -> anyhow::Result<Vec<Problem>> {
    if found.meta.is_err() {
        return Ok(Vec::new());
    }
    let block = found.id;
    let objects = found.objects.iter().filter_map(|o| {
        Some((o.key.within(&Key::block(block))?.to_owned(), (o.key.clone(), o.size)))
    });
    let files = Files {
        block,
        objects: objects.collect(),
        shared: Arc::new(Shared {
            bucket: bucket.clone(),
            runtime: Handle::current(),
            windows: Mutex::default(),
            failed: Mutex::default(),
        }),
    };
    let shared = Arc::clone(&files.shared);
    let checked = tokio::task::spawn_blocking(move || check_files(&files)).await;
    let report = checked.with_context(|| format!("checking {block}"))?;
    if let Some(error) = shared.failed.lock().take() {
        return Err(error.into());
    }
    // What the statistics in meta.json say loses nobody a sample, and Thanos counts differently.
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error);
    let problem = |details| Problem { block, kind: "contents", details };
    let mut problems: Vec<_> =
        errors.map(|f| problem(format!("{} ({})", f.what, f.advice))).collect();
    if report.omitted > 0 {
        problems.push(problem(format!("and {} more like these", report.omitted)));
    }
    Ok(problems)
}

/// The files of a block in a bucket, for a thread that may block.
struct Files {
    block: Ulid,
    /// By path in the block: key and size.
    objects: std::collections::BTreeMap<String, (Key, u64)>,
    shared: Arc<Shared>,
}

struct Shared {
    bucket: Bucket,
    runtime: Handle,
    /// Newest last: file, offset, bytes.
    windows: Mutex<Vec<(Key, u64, Bytes)>>,
    /// The first failure that is the store's and not the block's.
    failed: Mutex<Option<BucketError>>,
}

impl BlockFiles for Files {
    fn name(&self) -> String {
        self.block.to_string()
    }

    fn open(&self, file: BlockFile) -> io::Result<Option<Arc<dyn RangedBytes>>> {
        let Some((key, size)) = self.objects.get(&file.to_string()) else { return Ok(None) };
        Ok(Some(Arc::new(File { key: key.clone(), size: *size, shared: Arc::clone(&self.shared) })))
    }

    fn segments(&self) -> io::Result<u32> {
        let is_there = |n: &u32| self.objects.contains_key(&BlockFile::Segment(*n).to_string());
        Ok((0..u32::MAX).take_while(is_there).count() as u32)
    }
}

struct File {
    key: Key,
    size: u64,
    shared: Arc<Shared>,
}

impl File {
    fn get(&self, range: Range<u64>) -> io::Result<Bytes> {
        let wanted = range.end - range.start;
        let shared = &self.shared;
        let got = shared.runtime.block_on(shared.bucket.get_range(&self.key, range));
        match got {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => {
                let source = io::Error::other(error.to_string());
                if error.kind() != Kind::NotFound {
                    shared.failed.lock().get_or_insert(error);
                }
                Err(source)
            }
        }
    }
}

impl RangedBytes for File {
    fn len(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        // Without the store every further read would wait for it in vain.
        if self.shared.failed.lock().is_some() {
            return Err(io::Error::other("the store does not answer"));
        }
        if range.start >= range.end || range.end > self.size {
            return if range.start == range.end {
                Ok(Bytes::new())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        if range.end - range.start > WINDOW_BYTES {
            return self.get(range);
        }
        let slice = |from: u64, bytes: &Bytes| {
            let at = usize::try_from(range.start.checked_sub(from)?).ok()?;
            let end = at + usize::try_from(range.end - range.start).ok()?;
            (end <= bytes.len()).then(|| bytes.slice(at..end))
        };
        {
            let mut windows = self.shared.windows.lock();
            let found = windows
                .iter()
                .position(|(key, from, bytes)| *key == self.key && slice(*from, bytes).is_some());
            if let Some(n) = found {
                let window = windows.remove(n);
                let bytes = slice(window.1, &window.2);
                windows.push(window);
                return Ok(bytes.unwrap_or_default());
            }
        }
        let from = range.start;
        let bytes = self.get(from..self.size.min(from + WINDOW_BYTES))?;
        let mut windows = self.shared.windows.lock();
        if windows.len() >= WINDOWS {
            windows.remove(0);
        }
        windows.push((self.key.clone(), from, bytes.clone()));
        slice(from, &bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use periplus_bucket::blocks::{scan, verify};
    use periplus_bucket::layer::fault::{Fault, FaultStore, Op};
    use periplus_bucket::{Location, OpenOptions};

    use super::*;

    /// A bucket with the first blocks of the shared one of Thanos's; `None` says that the test is skipped,
    /// which CI does not allow.
    async fn thanos(name: &str, take: usize) -> Option<Bucket> {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/thanos-bucket/bucket");
        let Ok(shared) = shared.canonicalize() else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the shared bucket is missing");
            println!("skipped: no shared bucket beside this checkout");
            return None;
        };
        let at = Location::parse(&format!("file://{}", shared.display())).unwrap();
        let from = Bucket::open(&at, &OpenOptions::default()).unwrap();
        let at = Location::parse(&format!("memory://{name}")).unwrap();
        let to = Bucket::open(&at, &OpenOptions::default()).unwrap();
        for id in scan::names(&from).await.unwrap().into_iter().take(take) {
            for entry in from.list_all(&Key::block(id)).await.unwrap() {
                let (bytes, _) = from.get(&entry.key, 1 << 30).await.unwrap().unwrap();
                to.put(&entry.key, bytes).await.unwrap();
            }
        }
        Some(to)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_block_of_thanos_s_is_whole() {
        let Some(bucket) = thanos("contents-whole", 45).await else { return };
        let all = scan::blocks(&bucket).await.unwrap();
        assert_eq!(all.len(), 45);
        for found in &all {
            assert_eq!(check(&bucket, found).await.unwrap(), [], "{}", found.id);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bit_in_a_chunk_and_one_in_the_index_are_found() {
        let Some(bucket) = thanos("contents-bits", 1).await else { return };
        let id = scan::names(&bucket).await.unwrap()[0];
        for path in ["chunks/000001", "index"] {
            let key = Key::block_file(id, path).unwrap();
            let (whole, _) = bucket.get(&key, 1 << 30).await.unwrap().unwrap();
            let mut altered = whole.to_vec();
            let middle = altered.len() / 2;
            altered[middle] ^= 4;
            bucket.put(&key, altered.into()).await.unwrap();
            let found = scan::block(&bucket, id).await.unwrap();
            // Sizes are right, and Thanos writes no hashes: nothing else sees it.
            assert_eq!(verify::block(&bucket, &found, true).await.unwrap(), [], "{path}");
            let problems = check(&bucket, &found).await.unwrap();
            assert!(!problems.is_empty(), "{path}");
            assert!(problems.iter().all(|p| p.block == id && p.kind == "contents"));
            assert!(problems.iter().any(|p| p.details.contains(path)), "{problems:?}");
            bucket.put(&key, whole).await.unwrap();
        }
        let found = scan::block(&bucket, id).await.unwrap();
        assert_eq!(check(&bucket, &found).await.unwrap(), []);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_is_away_is_no_bad_block() {
        let Some(bucket) = thanos("contents-away", 1).await else { return };
        let id = scan::names(&bucket).await.unwrap()[0];
        let found = scan::block(&bucket, id).await.unwrap();
        let broken = FaultStore::new(bucket.object_store(), |call| {
            (call.op == Op::Get && call.key.contains("chunks")).then_some(Fault::Denied)
        });
        let broken = Bucket::from_store(Arc::new(broken), "broken", &OpenOptions::default());
        let error = check(&broken, &found).await.unwrap_err();
        assert!(error.to_string().contains("chunks/000001"), "{error}");
    }
}
