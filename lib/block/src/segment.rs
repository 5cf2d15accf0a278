//! Chunk segments: the files that hold the chunks one after another.
//!
//! Eight bytes of header (magic number, version, padding), then each chunk as the length of its
//! payload, one byte of encoding, the payload, and the CRC-32C of encoding and payload. The index says
//! where each begins.

use bytes::{Buf, Bytes};

use crate::chunk::ChunkEncoding;
use crate::error::{BlockFile, FileError};
use crate::index::ChunkRef;
use crate::section;
use crate::source::{BlockFiles, NamedFile};

pub(crate) const MAGIC: u32 = 0x85BD_40DD;
pub(crate) const VERSION: u8 = 1;
pub(crate) const HEADER_LEN: u64 = 8;

const WHAT: &str = "a chunk";

/// Most chunks are shorter (Prometheus aims at 120 samples, a kilobyte for histograms); a longer one
/// costs a second read.
const GUESS: u64 = 2048;

/// A chunk as it is stored, its checksum verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// The byte that names its encoding; [`encoding`](Self::encoding) understands it.
    pub encoding_byte: u8,
    /// What [`decode`](crate::chunk::decode) reads.
    pub payload: Bytes,
    /// Where it was.
    pub reference: ChunkRef,
}

impl StoredChunk {
    /// How the payload is written.
    ///
    /// # Errors
    /// An encoding this version does not know; the error names the chunk.
    pub fn encoding(&self) -> Result<ChunkEncoding, FileError> {
        ChunkEncoding::from_byte(self.encoding_byte).map_err(|source| FileError::Chunk {
            file: self.reference.file(),
            offset: u64::from(self.reference.offset()),
            source,
        })
    }
}

/// A block's chunk segments, open. A bad one fails the chunks in it and no others.
pub struct Segments {
    files: Vec<Result<NamedFile, FileError>>,
}

impl Segments {
    /// Opens all segments of a block and reads their headers.
    ///
    /// # Errors
    /// The segments can't be listed; what is wrong with a single one is told when it is read.
    pub fn open(files: &dyn BlockFiles) -> Result<Self, FileError> {
        let count = files.segments().map_err(|e| FileError::io(BlockFile::Segment(0), e))?;
        Ok(Self { files: (0..count).map(|n| open_one(files, BlockFile::Segment(n))).collect() })
    }

    /// How many segments there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether the block has no segment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What is wrong with the segments that could not be opened.
    pub fn errors(&self) -> impl Iterator<Item = &FileError> {
        self.files.iter().filter_map(|f| f.as_ref().err())
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// A segment or offset that does not exist, a checksum that does not match.
    pub fn read(&self, reference: ChunkRef) -> Result<StoredChunk, FileError> {
        let file = reference.file();
        let offset = u64::from(reference.offset());
        let segment = usize::try_from(reference.segment())
            .ok()
            .and_then(|n| self.files.get(n))
            .ok_or_else(|| FileError::io(file, std::io::ErrorKind::NotFound.into()))?
            .as_ref()
            .map_err(FileError::clone)?;
        if offset < HEADER_LEN {
            return Err(FileError::corrupt(file, WHAT, offset, "it would lie in the header"));
        }
        // The length counts neither the byte of encoding nor the checksum.
        let mut bytes = section::read_varint_framed(segment, WHAT, offset, GUESS, 5)?;
        let stored = bytes.split_off(bytes.len().saturating_sub(4));
        section::verify(file, WHAT, offset, &bytes, &stored)?;
        let cut = || FileError::corrupt(file, WHAT, offset, "it is cut short");
        let encoding_byte = *bytes.first().ok_or_else(cut)?;
        bytes.advance(1);
        Ok(StoredChunk { encoding_byte, payload: bytes, reference })
    }
}

fn open_one(files: &dyn BlockFiles, file: BlockFile) -> Result<NamedFile, FileError> {
    let bytes = files
        .open(file)
        .and_then(|f| f.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
        .map_err(|e| FileError::io(file, e))?;
    let segment = NamedFile::new(file, bytes);
    check_header(&segment)?;
    Ok(segment)
}

fn check_header(segment: &NamedFile) -> Result<(), FileError> {
    const WHAT: &str = "the header";
    let header = segment.read(WHAT, 0, HEADER_LEN)?;
    let mut at = header.clone();
    let magic = at.get_u32();
    if magic != MAGIC {
        return Err(FileError::corrupt(
            segment.file,
            WHAT,
            0,
            format!("its first bytes are {magic:08x} instead of {MAGIC:08x}"),
        ));
    }
    let version = at.get_u8();
    if version != VERSION {
        return Err(FileError::Version {
            file: segment.file,
            version: u64::from(version),
            supported: "1",
        });
    }
    Ok(())
}
