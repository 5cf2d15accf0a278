//! Bytes of immutable files, block by block: from memory, from the disk, from the bucket.
//!
//! Every file is seen as blocks of [`BLOCK`] bytes, so that questions that look at different pages of a
//! file share what they fetch. What is missing is fetched in few requests: blocks that lie near each other
//! go together. A file that is small is fetched as a whole, because a second request costs more than its
//! bytes. What came over the network is checked for its length only; the readers of pages check the rest.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use moka::sync::Cache;
use periplus_bucket::{Bucket, BucketError, Key};
use tokio::sync::Semaphore;
use ulid::Ulid;

use super::disk::Disk;

/// Bytes of a block, but for a file's last one.
pub const BLOCK: u64 = 128 << 10;
/// Blocks this close to each other are fetched together, with what lies between.
const GAP_MAX: u64 = 2;
/// Blocks of one request.
const REQUEST_BLOCKS_MAX: u64 = 64;
/// Files up to this many bytes are fetched as a whole.
const WHOLE_MAX: u64 = 512 << 10;

/// Names a file for the caches: a part's ULID and which of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The part.
    pub part: Ulid,
    /// Which of its files.
    pub file: u8,
}

/// A file and how large it is.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name for the caches.
    pub id: FileId,
    /// Its name in the bucket.
    pub key: Key,
    /// Its size in bytes, as the catalog knows it.
    pub size: u64,
}

/// How blocks are kept and fetched.
#[derive(Clone, Copy, Debug)]
pub struct BlockLimits {
    /// Bytes kept in memory.
    pub memory_bytes: u64,
    /// Requests of all questions that run at once.
    pub requests: usize,
}

/// What was done, for metrics and for tests.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests sent to the bucket.
    pub requests: AtomicU64,
    /// Bytes that came of them.
    pub fetched_bytes: AtomicU64,
    /// Blocks found in memory.
    pub memory_hits: AtomicU64,
    /// Blocks found on the disk.
    pub disk_hits: AtomicU64,
}

/// Bytes of files, cached. Clones share everything.
#[derive(Clone, Debug)]
pub struct Blocks {
    bucket: Bucket,
    memory: Cache<(FileId, u64), Bytes>,
    disk: Option<Arc<Disk>>,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
}

/// Blocks of one file that are at hand.
#[derive(Clone, Debug, Default)]
pub struct AtHand {
    blocks: BTreeMap<u64, Bytes>,
}

impl AtHand {
    /// The bytes of a range; `None` where a part of it is not at hand.
    #[must_use]
    pub fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let (first, last) = (range.start / BLOCK, (range.end - 1) / BLOCK);
        let within = |block: u64, range: &Range<u64>| {
            let bytes = self.blocks.get(&block)?;
            let begin = range.start.saturating_sub(block * BLOCK);
            let end = (range.end - block * BLOCK).min(bytes.len() as u64);
            let whole = range.end <= block * BLOCK + bytes.len() as u64 || end == BLOCK;
            (whole && begin <= end).then(|| bytes.slice(begin as usize..end as usize))
        };
        if first == last {
            return within(first, &range);
        }
        let mut out = BytesMut::with_capacity((range.end - range.start) as usize);
        for block in first..=last {
            out.extend_from_slice(&within(block, &range)?);
        }
        Some(out.freeze())
    }

    /// Bytes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.values().map(Bytes::len).sum()
    }

    /// Whether nothing is at hand.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

impl Blocks {
    /// Reads files of `bucket`.
    #[must_use]
    pub fn new(bucket: Bucket, limits: BlockLimits, disk: Option<Disk>) -> Self {
        let weigh = |_: &(FileId, u64), b: &Bytes| u32::try_from(b.len() + 96).unwrap_or(u32::MAX);
        Self {
            bucket,
            memory: Cache::builder().max_capacity(limits.memory_bytes).weigher(weigh).build(),
            disk: disk.map(Arc::new),
            places: Arc::new(Semaphore::new(limits.requests.max(1))),
            counts: Arc::default(),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The blocks that `ranges` lie in. Ranges beyond the file's end are cut off.
    ///
    /// # Errors
    /// The bucket does not answer, or has another file under this name.
    pub async fn get(
        &self,
        file: &File,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<AtHand, BucketError> {
        let blocks_of_file = file.size.div_ceil(BLOCK);
        let mut wanted: Vec<u64> = Vec::new();
        for r in ranges {
            let r = r.start.min(file.size)..r.end.min(file.size);
            if !r.is_empty() {
                wanted.extend(r.start / BLOCK..=(r.end - 1) / BLOCK);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut at_hand = AtHand::default();
        let mut missing: Vec<u64> = Vec::new();
        for block in wanted {
            match self.memory.get(&(file.id, block)) {
                Some(bytes) => _ = at_hand.blocks.insert(block, bytes),
                None => missing.push(block),
            }
        }
        self.counts.memory_hits.fetch_add(at_hand.blocks.len() as u64, Ordering::Relaxed);
        if missing.is_empty() {
            return Ok(at_hand);
        }
        if file.size <= WHOLE_MAX {
            missing = (0..blocks_of_file).filter(|b| !at_hand.blocks.contains_key(b)).collect();
        }
        let missing = self.read_disk(file, missing, &mut at_hand).await;
        let requests = stream::iter(runs(&missing).into_iter().map(|run| self.request(file, run)));
        let mut answers = requests.buffer_unordered(8);
        while let Some(answer) = answers.next().await {
            let (run, bytes) = answer?;
            for block in run.clone() {
                let begin = ((block - run.start) * BLOCK) as usize;
                let end = (begin + BLOCK as usize).min(bytes.len());
                // A copy: a slice would keep the whole answer in memory as long as any block of it.
                let own = Bytes::copy_from_slice(bytes.get(begin..end).unwrap_or_default());
                self.memory.insert((file.id, block), own.clone());
                if let Some(disk) = &self.disk {
                    disk.keep(file.id, block, own.clone());
                }
                at_hand.blocks.insert(block, own);
            }
        }
        Ok(at_hand)
    }

    async fn read_disk(&self, file: &File, blocks: Vec<u64>, at_hand: &mut AtHand) -> Vec<u64> {
        let Some(disk) = self.disk.clone() else { return blocks };
        let (id, asked) = (file.id, blocks.clone());
        let read = tokio::task::spawn_blocking(move || {
            asked.into_iter().map(|b| (b, disk.get(id, b))).collect::<Vec<_>>()
        });
        let Ok(found) = read.await else { return blocks };
        let mut missing = Vec::new();
        for (block, bytes) in found {
            let len = (file.size - block * BLOCK).min(BLOCK);
            match bytes.filter(|b| b.len() as u64 == len) {
                Some(bytes) => {
                    self.counts.disk_hits.fetch_add(1, Ordering::Relaxed);
                    self.memory.insert((file.id, block), bytes.clone());
                    at_hand.blocks.insert(block, bytes);
                }
                None => missing.push(block),
            }
        }
        missing
    }

    async fn request(
        &self,
        file: &File,
        run: Range<u64>,
    ) -> Result<(Range<u64>, Bytes), BucketError> {
        let _place = self.places.acquire().await;
        let range = run.start * BLOCK..(run.end * BLOCK).min(file.size);
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bucket.get_range(&file.key, range.clone()).await?;
        self.counts.fetched_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() as u64 != range.end - range.start {
            let why = format!(
                "bytes {} to {} were asked for and {} came: the file is not the one the catalog names",
                range.start,
                range.end,
                bytes.len()
            );
            return Err(self.bucket.malformed(&file.key, why));
        }
        Ok((run, bytes))
    }
}

/// Runs of blocks, ascending, each fetched by one request.
fn runs(blocks: &[u64]) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for b in blocks {
        match out.last_mut() {
            Some(r) if *b <= r.end + GAP_MAX && b - r.start < REQUEST_BLOCKS_MAX => r.end = b + 1,
            _ => out.push(*b..b + 1),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use periplus_bucket::{Location, OpenOptions};

    use super::*;

    #[test]
    fn near_blocks_go_together() {
        assert_eq!(runs(&[0, 1, 2, 9]), [0..3, 9..10]);
        assert_eq!(runs(&[0, 3, 6]), vec![0..7]);
        assert_eq!(runs(&(0..65).collect::<Vec<_>>()), [0..64, 64..65]);
        assert_eq!(runs(&[]), []);
    }

    #[tokio::test]
    async fn blocks_are_fetched_once_and_give_any_range() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = Location::parse(&format!("file://{}", dir.path().display())).expect("a location");
        let bucket = Bucket::open(&at, &OpenOptions::default()).expect("a bucket");
        let content: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let key = Key::parse("a/file").expect("a key");
        bucket.put(&key, Bytes::from(content.clone())).await.expect("put");
        let kept = tempfile::tempdir().expect("a directory");
        let limits = BlockLimits { memory_bytes: 8 << 20, requests: 4 };
        let id = FileId { part: Ulid::nil(), file: 1 };
        let file = File { id, key, size: content.len() as u64 };
        let open = || Disk::open(kept.path(), 16 << 20).expect("a cache");
        let blocks = Blocks::new(bucket.clone(), limits, Some(open()));
        for range in [0..10, 131_000..131_100, 900_000..1_000_000, 5..700_000] {
            let got = blocks.get(&file, [range.clone()]).await.expect("bytes");
            let (a, b) = (range.start as usize, range.end as usize);
            assert_eq!(got.bytes(range).expect("at hand"), content[a..b]);
        }
        let asked = blocks.counts().requests.load(Ordering::Relaxed);
        let again = blocks.get(&file, std::iter::once(0..700_000)).await.expect("bytes");
        assert_eq!(again.bytes(10..20).expect("at hand"), content[10..20]);
        assert_eq!(again.bytes(999_999..1_000_001), None);
        assert_eq!(blocks.counts().requests.load(Ordering::Relaxed), asked);
        // Another process finds them on the disk, once they are written.
        let on_disk = || blocks.disk.as_ref().map_or(0, |d| d.bytes());
        for _ in 0..1000 {
            if on_disk() >= content.len() as u64 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        drop(blocks);
        let blocks = Blocks::new(bucket, limits, Some(open()));
        let got = blocks.get(&file, std::iter::once(0..1_000_000)).await.expect("bytes");
        assert_eq!(got.bytes(0..1_000_000).expect("at hand"), content);
        assert_eq!(blocks.counts().requests.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_file_of_another_size_is_named() {
        let at = Location::parse("memory://").expect("a location");
        let bucket = Bucket::open(&at, &OpenOptions::default()).expect("a bucket");
        let key = Key::parse("short").expect("a key");
        bucket.put(&key, Bytes::from_static(b"abc")).await.expect("put");
        let limits = BlockLimits { memory_bytes: 1 << 20, requests: 1 };
        let blocks = Blocks::new(bucket, limits, None);
        let file = File { id: FileId { part: Ulid::nil(), file: 0 }, key, size: 1000 };
        let error = blocks.get(&file, std::iter::once(0..1000)).await.expect_err("too short");
        assert!(error.to_string().contains("short"), "{error}");
    }
}
