//! The working directory: blocks and parts under way, fetched once however many days are made of them.

mod window;

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use periplus_block::Block;
use periplus_block::source::RangedBytes;
use periplus_bucket::{Bucket, BucketError, Key};
use periplus_columnar::{PartDir, PartFile, PartSource};
use ulid::Ulid;

/// Bytes of a request.
const PIECE_BYTES: u64 = 8 << 20;

/// Why something is not here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store refuses, does not answer, or no longer has it.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The working directory can't be used.
    #[error("{}: {source}; --work-dir needs room for the blocks of a stream", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The block is bad.
    #[error(transparent)]
    Block(#[from] periplus_block::BlockError),
}

fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> FetchError + use<> {
    let path = path.to_owned();
    move |source| FetchError::Disk { path, source }
}

/// The directory, with what is in it. Dropped, it is empty.
#[derive(Debug)]
pub struct WorkDir {
    root: tempfile::TempDir,
    blocks: Mutex<HashMap<Ulid, Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Steps that are still to use it.
    uses: Mutex<usize>,
    fetched: tokio::sync::Mutex<bool>,
}

impl WorkDir {
    /// A directory of its own below `parent`, or in the system's place for temporary files.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new(parent: Option<&Path>) -> Result<Self, FetchError> {
        let builder = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("periplus-compactor-");
            builder
        };
        let root = match parent {
            Some(parent) => {
                fs::create_dir_all(parent).map_err(disk(parent))?;
                builder().tempdir_in(parent).map_err(disk(parent))?
            }
            None => builder().tempdir().map_err(disk(&std::env::temp_dir()))?,
        };
        Ok(Self { root, blocks: Mutex::default() })
    }

    /// An empty directory for something under way; it goes when it is dropped.
    ///
    /// # Errors
    /// It can't be made.
    pub fn scratch(&self) -> Result<tempfile::TempDir, FetchError> {
        tempfile::tempdir_in(self.root.path()).map_err(disk(self.root.path()))
    }

    /// Says that a block will be used so many times more.
    pub fn expect(&self, block: Ulid, times: usize) {
        *self.blocks.lock().entry(block).or_default().uses.lock() += times;
    }

    /// Says that one expected use is over; after the last the block's files go.
    pub fn done(&self, block: Ulid) {
        let mut blocks = self.blocks.lock();
        let Some(slot) = blocks.get(&block) else { return };
        let left = {
            let mut uses = slot.uses.lock();
            *uses = uses.saturating_sub(1);
            *uses
        };
        if left == 0 {
            blocks.remove(&block);
            let _ = fs::remove_dir_all(self.directory(block));
        }
    }

    /// Lets a block be fetched anew by who needs it next; who has it open keeps what it has.
    pub async fn forget(&self, block: Ulid) {
        let slot = self.blocks.lock().get(&block).cloned();
        if let Some(slot) = slot {
            *slot.fetched.lock().await = false;
        }
    }

    /// Forgets all blocks.
    pub fn clear(&self) {
        let all: Vec<Ulid> = self.blocks.lock().drain().map(|(id, _)| id).collect();
        for id in all {
            let _ = fs::remove_dir_all(self.directory(id));
        }
    }

    fn directory(&self, block: Ulid) -> PathBuf {
        self.root.path().join(block.to_string())
    }

    /// A block, fetched where it is not here yet.
    ///
    /// # Errors
    /// It can't be fetched, or what was fetched is no block.
    pub async fn block(&self, bucket: &Bucket, id: Ulid) -> Result<Arc<Block>, FetchError> {
        let slot = Arc::clone(self.blocks.lock().entry(id).or_default());
        let directory = self.directory(id);
        let mut fetched = slot.fetched.lock().await;
        if !*fetched {
            let _ = fs::remove_dir_all(&directory);
            for entry in bucket.list_all(&Key::block(id)).await? {
                let Some(path) = entry.key.within(&Key::block(id)) else { continue };
                if !path.ends_with("-mark.json") && !path.is_empty() {
                    fetch(bucket, &entry.key, entry.size, &directory.join(path)).await?;
                }
            }
            *fetched = true;
        }
        drop(fetched);
        Ok(Arc::new(open(&directory)?))
    }
}

/// Opens a block in a directory for going through it: in memory that does not grow with it.
///
/// # Errors
/// As [`Block::open`].
pub fn open(directory: &Path) -> Result<Block, periplus_block::BlockError> {
    Block::from_files(&window::WindowedBlock::new(directory))
}

/// Fetches an object into a file.
///
/// # Errors
/// The store refuses, does not answer or has fewer bytes; the file can't be written.
pub async fn fetch(bucket: &Bucket, key: &Key, size: u64, to: &Path) -> Result<(), FetchError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(disk(parent))?;
    }
    let mut file = fs::File::create(to).map_err(disk(to))?;
    let mut at = 0;
    while at < size {
        let end = size.min(at + PIECE_BYTES);
        let bytes = bucket.get_range(key, at..end).await?;
        if bytes.len() as u64 != end - at {
            let reason = format!("it ends before byte {end}, the store said it has {size}");
            return Err(bucket.malformed(key, reason).into());
        }
        file.write_all(&bytes).map_err(disk(to))?;
        at = end;
    }
    Ok(())
}

/// A part's files in a directory, called by the part's own name.
#[derive(Clone, Debug)]
pub struct PartFiles {
    name: String,
    directory: PartDir,
}

impl PartFiles {
    /// The files of the part of that name.
    #[must_use]
    pub fn new(name: &str, directory: &Path) -> Self {
        Self { name: name.to_owned(), directory: PartDir(directory.to_owned()) }
    }
}

impl PartSource for PartFiles {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn open(&self, file: PartFile) -> std::io::Result<Option<Arc<dyn RangedBytes>>> {
        self.directory.open(file)
    }
}
