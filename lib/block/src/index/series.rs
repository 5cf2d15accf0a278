//! One series: its labels and where its chunks are.

use periplus_model::{Labels, TimeRange};

use super::{Index, SERIES_ALIGN, SeriesRef};
use crate::error::{BlockFile, FileError};
use crate::section::{self, Cursor};

const WHAT: &str = "a series";

/// Most series entries are shorter; a longer one costs a second read.
const GUESS: u64 = 1024;

/// Where a chunk is: its segment, counted from 0, and its offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkRef(pub u64);

impl ChunkRef {
    /// The chunk at an offset of a segment, which is counted from 0.
    #[must_use]
    pub const fn new(segment: u32, offset: u32) -> Self {
        Self((segment as u64) << 32 | offset as u64)
    }

    /// The segment, counted from 0.
    #[must_use]
    pub const fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The offset in the segment.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// The segment's file.
    #[must_use]
    pub const fn file(self) -> BlockFile {
        BlockFile::Segment(self.segment())
    }
}

/// What the index says of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Times of its first and last sample.
    pub range: TimeRange,
    /// Where it is.
    pub reference: ChunkRef,
}

/// A series as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// What the index calls it.
    pub reference: SeriesRef,
    /// Its labels.
    pub labels: Labels,
    /// Its chunks, ascending in time in an intact block.
    pub chunks: Vec<ChunkMeta>,
}

impl Index {
    /// Where a series lies in the file.
    #[must_use]
    pub fn series_offset(&self, reference: SeriesRef) -> u64 {
        let scale = if self.version == 1 { 1 } else { SERIES_ALIGN };
        u64::from(reference) * scale
    }

    /// Reads a series.
    ///
    /// # Errors
    /// What is wrong with its entry, also a checksum that does not match.
    pub fn series(&self, reference: SeriesRef) -> Result<Series, FileError> {
        let offset = self.series_offset(reference);
        let bad = |reason: &str| FileError::corrupt(BlockFile::Index, WHAT, offset, reason);
        let cut = || bad("it is cut short");
        let bytes = section::read_varint_framed(&self.file, WHAT, offset, GUESS, 4)?;
        let (content, stored) = bytes.split_last_chunk::<4>().ok_or_else(cut)?;
        section::verify(BlockFile::Index, WHAT, offset, content, stored)?;

        let mut cursor = Cursor(content);
        let labels = self.labels(&mut cursor, offset)?;
        let chunks = chunks(&mut cursor).ok_or_else(|| bad("its chunks make no sense"))?;
        Ok(Series { reference, labels, chunks })
    }

    fn labels(&self, cursor: &mut Cursor<'_>, offset: u64) -> Result<Labels, FileError> {
        let bad = |reason: &str| FileError::corrupt(BlockFile::Index, WHAT, offset, reason);
        let count = cursor.uvarint().ok_or_else(|| bad("it has no label count"))?;
        // A label takes two bytes at least.
        if count > cursor.0.len() as u64 / 2 {
            return Err(bad("it claims more labels than it has bytes for"));
        }
        let mut pairs = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let mut symbol = || {
                let number = cursor.uvarint().ok_or_else(|| bad("a label is cut short"))?;
                let number = u32::try_from(number).map_err(|_| bad("a symbol beyond 32 bits"))?;
                self.symbols.get(number)
            };
            pairs.push((symbol()?, symbol()?));
        }
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(bad("its labels are not sorted by name, each once"));
        }
        Ok(Labels::from_pairs(pairs))
    }
}

/// Times and references are told as differences to the chunk before.
fn chunks(cursor: &mut Cursor<'_>) -> Option<Vec<ChunkMeta>> {
    let count = cursor.uvarint()?;
    // A chunk takes three bytes at least.
    if count > cursor.0.len() as u64 / 3 {
        return None;
    }
    let mut chunks = Vec::with_capacity(count as usize);
    let (mut before, mut reference) = (0i64, 0i64);
    for i in 0..count {
        let min_t = if i == 0 {
            cursor.varint()?
        } else {
            before.checked_add_unsigned(cursor.uvarint()?)?
        };
        let max_t = min_t.checked_add_unsigned(cursor.uvarint()?)?;
        reference = if i == 0 {
            i64::try_from(cursor.uvarint()?).ok()?
        } else {
            reference.checked_add(cursor.varint()?)?
        };
        let reference = ChunkRef(u64::try_from(reference).ok()?);
        chunks.push(ChunkMeta { range: TimeRange::new(min_t, max_t), reference });
        before = max_t;
    }
    Some(chunks)
}
