//! What can be wrong with a block, and where.

use std::fmt;
use std::io;
use std::sync::Arc;

use periplus_model::Labels;

use crate::chunk::ChunkError;

/// One of a block's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockFile {
    /// `meta.json`
    Meta,
    /// `index`
    Index,
    /// `tombstones`
    Tombstones,
    /// `chunks/NNNNNN`, counted from 0 as chunk references do; the first one is `chunks/000001`.
    Segment(u32),
}

impl fmt::Display for BlockFile {
    /// The file's path inside the block's directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta.json"),
            Self::Index => f.write_str("index"),
            Self::Tombstones => f.write_str("tombstones"),
            Self::Segment(n) => write!(f, "chunks/{:06}", u64::from(*n) + 1),
        }
    }
}

/// What is wrong with a file's bytes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    /// The file is missing, unreadable, or too short for a header.
    #[error("{file}: {source}")]
    Io {
        /// Which file.
        file: BlockFile,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// A part lies, wholly or in part, beyond the end of the file.
    #[error("{file}: {what} at offset {offset} reaches beyond the end of the file ({len} bytes)")]
    BeyondEnd {
        /// Which file.
        file: BlockFile,
        /// Which part.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// The file's length.
        len: u64,
    },
    /// The bytes changed since they were written.
    #[error(
        "{file}: checksum of {what} at offset {offset} does not match: \
         stored {stored:08x}, computed {computed:08x}"
    )]
    Checksum {
        /// Which file.
        file: BlockFile,
        /// Which part.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// The checksum in the file.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The bytes are no such part.
    #[error("{file}: {what} at offset {offset} is corrupt: {reason}")]
    Corrupt {
        /// Which file.
        file: BlockFile,
        /// Which part.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// What is impossible about it.
        reason: String,
    },
    /// A version this reader does not know.
    #[error("{file}: format version {version} is not supported (supported: {supported})")]
    Version {
        /// Which file.
        file: BlockFile,
        /// The version found.
        version: u64,
        /// The versions this reader knows.
        supported: &'static str,
    },
    /// A chunk whose bytes are intact but can't be decoded.
    #[error("{file}: chunk at offset {offset}: {source}")]
    Chunk {
        /// Which segment.
        file: BlockFile,
        /// Where the chunk begins.
        offset: u64,
        /// Why; names the encoding.
        source: ChunkError,
    },
}

impl FileError {
    pub(crate) fn io(file: BlockFile, source: io::Error) -> Self {
        Self::Io { file, source: Arc::new(source) }
    }

    pub(crate) fn corrupt(
        file: BlockFile,
        what: &'static str,
        offset: u64,
        reason: impl Into<String>,
    ) -> Self {
        Self::Corrupt { file, what, offset, reason: reason.into() }
    }

    /// The file it is about.
    #[must_use]
    pub const fn file(&self) -> BlockFile {
        match self {
            Self::Io { file, .. }
            | Self::BeyondEnd { file, .. }
            | Self::Checksum { file, .. }
            | Self::Corrupt { file, .. }
            | Self::Version { file, .. }
            | Self::Chunk { file, .. } => *file,
        }
    }
}

/// A [`FileError`] with the block's name and, where it is about one, the series.
#[derive(Clone, Debug)]
pub struct BlockError {
    /// The block's name: its directory or its ULID.
    pub block: String,
    /// The series that was being read.
    pub series: Option<Labels>,
    /// What is wrong.
    pub source: FileError,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}: ", self.block)?;
        if let Some(series) = &self.series {
            write!(f, "series {series:?}: ")?;
        }
        self.source.fmt(f)
    }
}

impl std::error::Error for BlockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.source)
    }
}
