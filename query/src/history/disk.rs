//! Blocks kept on the disk, across restarts, in a directory of bounded size.
//!
//! A block is a file: eight bytes of checksum, over its name and its content, and the content. What does
//! not match its checksum is as good as not there, so nothing needs to be written with care: a process may
//! be killed at any time. The oldest use goes first when the directory is full.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use ulid::Ulid;
use xxhash_rust::xxh3::Xxh3;

use super::blocks::FileId;

/// Blocks that wait to be written; what comes while so many wait is not kept.
const WAITING_MAX: usize = 256;
/// Bytes before the content.
const HEAD: usize = 8;

type Name = (FileId, u64);

/// A directory of blocks.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    writer: SyncSender<(Name, Bytes)>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    bytes_max: u64,
    index: Mutex<Index>,
}

/// What there is, by name and by last use.
#[derive(Debug, Default)]
struct Index {
    by_name: HashMap<Name, (u64, u64)>,
    by_use: BTreeMap<u64, Name>,
    uses: u64,
    bytes: u64,
}

impl Index {
    fn touch(&mut self, name: Name, bytes: Option<u64>) {
        let known = self.by_name.get(&name).copied();
        let Some(len) = bytes.or(known.map(|(_, len)| len)) else { return };
        if let Some((was, old)) = known {
            self.by_use.remove(&was);
            self.bytes = self.bytes.saturating_sub(old);
        }
        self.uses += 1;
        self.by_use.insert(self.uses, name);
        self.by_name.insert(name, (self.uses, len));
        self.bytes += len;
    }

    fn forget(&mut self, name: &Name) {
        if let Some((used, len)) = self.by_name.remove(name) {
            self.by_use.remove(&used);
            self.bytes = self.bytes.saturating_sub(len);
        }
    }

    fn oldest(&self) -> Option<Name> {
        self.by_use.values().next().copied()
    }
}

impl Disk {
    /// Opens a directory, made where there is none, and finds what an earlier process kept.
    ///
    /// # Errors
    /// The directory can't be made or read, or the writing thread can't be started.
    pub fn open(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut found: Vec<(SystemTime, Name, u64)> = Vec::new();
        for below in fs::read_dir(dir)? {
            let below = below?;
            let Ok(part) = Ulid::from_string(&below.file_name().to_string_lossy()) else {
                continue;
            };
            for entry in fs::read_dir(below.path())? {
                let entry = entry?;
                let Some(name) = parse(part, &entry.file_name().to_string_lossy()) else {
                    // Left over from a write that was cut off.
                    let _ = fs::remove_file(entry.path());
                    continue;
                };
                let meta = entry.metadata()?;
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((used, name, meta.len()));
            }
        }
        found.sort_unstable_by_key(|(used, name, _)| (*used, *name));
        let mut index = Index::default();
        for (_, name, len) in found {
            index.touch(name, Some(len));
        }
        let shared = Arc::new(Shared { dir: dir.to_owned(), bytes_max, index: Mutex::new(index) });
        shared.shrink();
        let (writer, wanted) = sync_channel::<(Name, Bytes)>(WAITING_MAX);
        let own = Arc::clone(&shared);
        std::thread::Builder::new().name("history-disk".into()).spawn(move || {
            while let Ok((name, bytes)) = wanted.recv() {
                own.write(name, &bytes);
            }
        })?;
        Ok(Self { shared, writer })
    }

    /// A block as it was kept; `None` where it is not there or not whole.
    #[must_use]
    pub fn get(&self, file: FileId, block: u64) -> Option<Bytes> {
        let name = (file, block);
        if !self.shared.index.lock().by_name.contains_key(&name) {
            return None;
        }
        let read = fs::read(self.shared.path(&name)).ok();
        let whole = read.filter(|b| {
            let (head, content) = b.split_at(HEAD.min(b.len()));
            head == checksum(&name, content).as_slice()
        });
        let mut index = self.shared.index.lock();
        let Some(bytes) = whole else {
            index.forget(&name);
            return None;
        };
        index.touch(name, None);
        Some(Bytes::from(bytes).slice(HEAD..))
    }

    /// Keeps a block, some time soon. While too many wait to be written, it is not kept.
    pub fn keep(&self, file: FileId, block: u64, bytes: Bytes) {
        let _ = self.writer.try_send(((file, block), bytes));
    }

    /// Bytes there are now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.index.lock().bytes
    }
}

impl Shared {
    fn path(&self, (file, block): &Name) -> PathBuf {
        self.dir.join(file.part.to_string()).join(format!("{}-{block}", file.file))
    }

    fn write(&self, name: Name, bytes: &Bytes) {
        let len = (bytes.len() + HEAD) as u64;
        if len > self.bytes_max {
            return;
        }
        let at = self.path(&name);
        let mut content = Vec::with_capacity(bytes.len() + HEAD);
        content.extend_from_slice(&checksum(&name, bytes));
        content.extend_from_slice(bytes);
        let dir = at.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = dir.and_then(|()| fs::write(&at, &content)) {
            tracing::warn!(path = %at.display(), %error, "a block of history can't be kept on the disk");
            let _ = fs::remove_file(&at);
            return;
        }
        self.index.lock().touch(name, Some(len));
        self.shrink();
    }

    fn shrink(&self) {
        loop {
            let oldest = {
                let mut index = self.index.lock();
                if index.bytes <= self.bytes_max {
                    return;
                }
                let Some(name) = index.oldest() else { return };
                index.forget(&name);
                name
            };
            let at = self.path(&oldest);
            let _ = fs::remove_file(&at);
            // Goes only when it is empty.
            let _ = at.parent().map(fs::remove_dir);
        }
    }
}

fn checksum((file, block): &Name, content: &[u8]) -> [u8; HEAD] {
    let mut hash = Xxh3::new();
    hash.update(&file.part.to_bytes());
    hash.update(&[file.file]);
    hash.update(&block.to_le_bytes());
    hash.update(content);
    hash.digest().to_le_bytes()
}

fn parse(part: Ulid, name: &str) -> Option<Name> {
    let (file, block) = name.split_once('-')?;
    Some((FileId { part, file: file.parse().ok()? }, block.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn id(n: u128) -> FileId {
        FileId { part: Ulid::from(n), file: 2 }
    }

    fn until(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it never came");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn it_is_bounded_and_forgets_the_oldest_use() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(dir.path(), 5_000).expect("a cache");
        for n in 0..4 {
            disk.keep(id(n), 7, Bytes::from(vec![n as u8; 1_000]));
            until(|| disk.get(id(n), 7).is_some());
        }
        assert!(disk.get(id(0), 7).is_some());
        disk.keep(id(9), 7, Bytes::from(vec![9; 1_000]));
        until(|| disk.get(id(9), 7).is_some());
        assert!(disk.bytes() <= 5_000);
        assert!(disk.get(id(1), 7).is_none(), "used longest ago");
        assert_eq!(disk.get(id(0), 7).expect("kept"), vec![0; 1_000]);
        drop(disk);
        let disk = Disk::open(dir.path(), 5_000).expect("a cache");
        assert_eq!(disk.get(id(9), 7).expect("kept"), vec![9; 1_000]);
    }

    #[test]
    fn broken_blocks_are_not_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(dir.path(), 1 << 20).expect("a cache");
        disk.keep(id(1), 0, Bytes::from_static(b"content"));
        until(|| disk.get(id(1), 0).is_some());
        let at = dir.path().join(Ulid::from(1).to_string()).join("2-0");
        let mut bytes = fs::read(&at).expect("the file");
        bytes[10] ^= 1;
        fs::write(&at, &bytes).expect("written");
        assert!(disk.get(id(1), 0).is_none());
        fs::write(&at, b"sh").expect("written");
        drop(disk);
        let disk = Disk::open(dir.path(), 1 << 20).expect("a cache");
        assert!(disk.get(id(1), 0).is_none());
    }
}
