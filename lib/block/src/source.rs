//! Where a block's bytes come from.
//!
//! Readers ask for byte ranges and get [`Bytes`], which may point into a mapped file (nothing is
//! copied, the kernel pages it in and out) or hold what a bucket sent. A block is a handful of such
//! files, found by what they are and never by a path that some file contains.

mod mapped;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{BlockFile, FileError};

/// One file's bytes, read by range.
///
/// The length is fixed; reading the same range again gives the same bytes. Readers ask for no range
/// beyond the length, and tell large reads (a symbol table) from small ones (a chunk) only by size.
pub trait RangedBytes: Send + Sync {
    /// The file's length.
    fn len(&self) -> u64;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range that lies inside the length; all of them or an error.
    ///
    /// # Errors
    /// What reading fails with.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;
}

impl RangedBytes for Bytes {
    fn len(&self) -> u64 {
        Bytes::len(self) as u64
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let at = |n: u64| usize::try_from(n).ok().filter(|n| *n <= Bytes::len(self));
        match (at(range.start), at(range.end)) {
            (Some(start), Some(end)) if start <= end => Ok(self.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The files of one block.
pub trait BlockFiles {
    /// What errors call the block.
    fn name(&self) -> String;

    /// Opens a file; `None` where the block has none of this kind.
    ///
    /// # Errors
    /// What opening fails with, other than that the file is missing.
    fn open(&self, file: BlockFile) -> io::Result<Option<Arc<dyn RangedBytes>>>;

    /// How many chunk segments there are.
    ///
    /// # Errors
    /// What listing fails with.
    fn segments(&self) -> io::Result<u32>;
}

/// A block in a directory, its files mapped into memory.
#[derive(Clone, Debug)]
pub struct BlockDir {
    dir: PathBuf,
}

impl BlockDir {
    /// The block in `dir`; nothing is opened yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl BlockFiles for BlockDir {
    fn name(&self) -> String {
        self.dir.file_name().unwrap_or(self.dir.as_os_str()).to_string_lossy().into_owned()
    }

    fn open(&self, file: BlockFile) -> io::Result<Option<Arc<dyn RangedBytes>>> {
        match mapped::open(&self.dir.join(file.to_string())) {
            Ok(bytes) => Ok(Some(Arc::new(bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Segments are numbered without gaps from 1; a gap ends them, and what refers beyond it fails
    /// by name.
    fn segments(&self) -> io::Result<u32> {
        let mut numbers: Vec<u32> = match std::fs::read_dir(self.dir.join("chunks")) {
            Ok(entries) => {
                entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        numbers.sort_unstable();
        let gapless = numbers.iter().zip(1u32..).take_while(|(n, want)| **n == *want).count();
        Ok(gapless as u32)
    }
}

/// A file with its name for errors: every read is checked against the length first.
#[derive(Clone)]
pub(crate) struct NamedFile {
    pub(crate) file: BlockFile,
    bytes: Arc<dyn RangedBytes>,
}

impl NamedFile {
    pub(crate) fn new(file: BlockFile, bytes: Arc<dyn RangedBytes>) -> Self {
        Self { file, bytes }
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len()
    }

    /// The `len` bytes at `offset`, which `what` is made of.
    pub(crate) fn read(
        &self,
        what: &'static str,
        offset: u64,
        len: u64,
    ) -> Result<Bytes, FileError> {
        let total = self.bytes.len();
        let end = offset
            .checked_add(len)
            .filter(|end| *end <= total)
            .ok_or(FileError::BeyondEnd { file: self.file, what, offset, len: total })?;
        self.bytes.read(offset..end).map_err(|e| FileError::io(self.file, e))
    }

    /// Up to `len` bytes at `offset`, fewer where the file ends.
    pub(crate) fn read_up_to(
        &self,
        what: &'static str,
        offset: u64,
        len: u64,
    ) -> Result<Bytes, FileError> {
        let len = len.min(self.bytes.len().saturating_sub(offset));
        self.read(what, offset, len)
    }
}
