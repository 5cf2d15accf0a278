//! The index: which series a block has, and where their chunks are.
//!
//! Read from the back: a table of contents names the sections. Opening reads two of them, the
//! symbols and the postings offset table, and keeps a sparse directory of each; everything else is
//! read when it is asked for. [`Index::select`] finds the series for matchers by their postings;
//! [`Index::series`] reads one.
//!
//! Versions 1 to 3 are read. In version 1 a symbol is named by its offset in the file instead of its
//! number, a series by its offset instead of a sixteenth of it, and the postings table is not
//! sorted. Versions 2 and 3 read the same.

mod offsets;
pub(crate) mod postings;
mod select;
mod series;
pub(crate) mod symbols;

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{BlockFile, FileError};
use crate::section::{self, Cursor};
use crate::source::{NamedFile, RangedBytes};

pub use postings::SeriesRef;
pub use series::{ChunkMeta, ChunkRef, Series};

use offsets::PostingsOffsets;
use symbols::Symbols;

pub(crate) const MAGIC: u32 = 0xBAAA_D700;
const HEADER_LEN: u64 = 5;
const TOC_LEN: u64 = 6 * 8 + 4;
/// Series lie at multiples of this, and their references count in it.
pub(crate) const SERIES_ALIGN: u64 = 16;

/// Where the sections are; 0 for one that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOfContents {
    /// The symbol table.
    pub symbols: u64,
    /// The first series.
    pub series: u64,
    /// The first label index (no reader uses them any more).
    pub label_indices: u64,
    /// The label offset table (no reader uses it any more).
    pub label_offset_table: u64,
    /// The first postings list.
    pub postings: u64,
    /// The postings offset table.
    pub postings_offset_table: u64,
}

impl TableOfContents {
    fn read(file: &NamedFile) -> Result<Self, FileError> {
        const WHAT: &str = "the table of contents";
        let offset =
            file.len().checked_sub(TOC_LEN).filter(|o| *o >= HEADER_LEN).ok_or_else(|| {
                FileError::corrupt(file.file, WHAT, 0, "the file is too short to have one")
            })?;
        let bytes = file.read(WHAT, offset, TOC_LEN)?;
        let Some((content, stored)) = bytes.split_last_chunk::<4>() else {
            return Err(FileError::corrupt(file.file, WHAT, offset, "it is cut short"));
        };
        section::verify(file.file, WHAT, offset, content, stored)?;
        let mut at = content
            .chunks_exact(8)
            .map(|c| u64::from_be_bytes(c.first_chunk::<8>().copied().unwrap_or_default()));
        let mut next = || {
            let at = at.next().unwrap_or_default();
            if at <= offset {
                return Ok(at);
            }
            Err(FileError::corrupt(
                file.file,
                WHAT,
                offset,
                format!("it names offset {at}, which lies behind it"),
            ))
        };
        Ok(Self {
            symbols: next()?,
            series: next()?,
            label_indices: next()?,
            label_offset_table: next()?,
            postings: next()?,
            postings_offset_table: next()?,
        })
    }
}

/// An open index.
pub struct Index {
    file: NamedFile,
    version: u8,
    toc: TableOfContents,
    symbols: Symbols,
    offsets: PostingsOffsets,
}

impl Index {
    /// Opens an index: reads and verifies table of contents, symbols and postings offset table.
    ///
    /// # Errors
    /// What of these is missing, cut short, altered or of another version.
    pub fn open(bytes: Arc<dyn RangedBytes>) -> Result<Self, FileError> {
        let file = NamedFile::new(BlockFile::Index, bytes);
        let header = file.read("the header", 0, HEADER_LEN)?;
        let mut cursor = Cursor(&header);
        let magic = cursor.u32().unwrap_or_default();
        if magic != MAGIC {
            return Err(FileError::corrupt(
                file.file,
                "the header",
                0,
                format!("its first bytes are {magic:08x} instead of {MAGIC:08x}"),
            ));
        }
        let version = cursor.0.first().copied().unwrap_or_default();
        if !(1..=3).contains(&version) {
            return Err(FileError::Version {
                file: file.file,
                version: u64::from(version),
                supported: "1 to 3",
            });
        }
        let toc = TableOfContents::read(&file)?;
        let symbols = Symbols::read(&file, version, toc.symbols)?;
        let offsets = PostingsOffsets::read(&file, version, toc.postings_offset_table)?;
        Ok(Self { file, version, toc, symbols, offsets })
    }

    /// Opens an index that is in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: Bytes) -> Result<Self, FileError> {
        Self::open(Arc::new(bytes))
    }

    /// The format's version, 1 to 3.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Where the sections are.
    #[must_use]
    pub fn toc(&self) -> &TableOfContents {
        &self.toc
    }

    /// The file's length.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file.len()
    }

    /// More series than this can't fit into the file.
    pub(crate) fn series_count_max(&self) -> u64 {
        // The shortest entry: its length, two counts, a checksum.
        self.file.len() / if self.version == 1 { 7 } else { SERIES_ALIGN }
    }

    /// Number of symbols: distinct label names and values.
    #[must_use]
    pub fn symbol_count(&self) -> usize {
        self.symbols.len()
    }

    /// All symbols in the order of the file, which is ascending in an intact index.
    ///
    /// # Errors
    /// A symbol that is no UTF-8.
    pub fn symbols(&self) -> impl Iterator<Item = Result<&str, FileError>> {
        self.symbols.iter()
    }

    /// The label names, ascending.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.offsets.names().filter(|n| !n.is_empty())
    }

    /// The values a label has, ascending; none where no series has the label.
    ///
    /// # Errors
    /// A value that is no UTF-8.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>, FileError> {
        let mut values = Vec::new();
        self.offsets.for_each_value(name, |value, _| {
            values.push(value.to_owned());
            Ok(())
        })?;
        Ok(values)
    }

    /// Every (label name, label value, offset of its postings list) in order of the table; the list
    /// of all series has both empty.
    ///
    /// # Errors
    /// A name or value that is no UTF-8; what `visit` fails with.
    pub fn for_each_postings<E: From<FileError>>(
        &self,
        visit: impl FnMut(&str, &str, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        self.offsets.for_each(visit)
    }

    /// The postings list at an offset: the series that have one label's value, ascending.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn postings_at(&self, offset: u64) -> Result<Vec<SeriesRef>, FileError> {
        postings::read(&self.file, offset)
    }
}
