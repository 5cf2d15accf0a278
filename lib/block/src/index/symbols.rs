//! The symbol table: every label name and value once, ascending.

use bytes::Bytes;

use crate::error::{BlockFile, FileError};
use crate::section::{self, Cursor};
use crate::source::NamedFile;

const WHAT: &str = "the symbol table";

/// How many symbols share an entry in the directory: finding one skips half as many on average.
const STRIDE: usize = 8;

/// The table's bytes and where every eighth symbol begins.
pub(crate) struct Symbols {
    content: Bytes,
    /// Positions in `content`.
    starts: Vec<u32>,
    count: usize,
    /// Offset of `content` in the file: in version 1 symbols are named by theirs.
    content_at: u64,
    by_offset: bool,
}

impl Symbols {
    pub(super) fn read(file: &NamedFile, version: u8, offset: u64) -> Result<Self, FileError> {
        let bad = |reason: String| FileError::corrupt(file.file, WHAT, offset, reason);
        let content = section::read(file, WHAT, offset)?;
        let mut cursor = Cursor(&content);
        let count = cursor.u32().ok_or_else(|| bad("it has no count".into()))? as usize;
        // A symbol takes a byte at least.
        if count > cursor.0.len() {
            return Err(bad(format!("it claims {count} symbols in {} bytes", cursor.0.len())));
        }
        let mut starts = Vec::with_capacity(count.div_ceil(STRIDE));
        for i in 0..count {
            if i % STRIDE == 0 {
                // The section's length has four bytes, so this fits.
                starts.push((content.len() - cursor.0.len()) as u32);
            }
            cursor.prefixed().ok_or_else(|| bad(format!("symbol {i} is cut short")))?;
        }
        let by_offset = version == 1;
        Ok(Self { content, starts, count, content_at: offset + 4, by_offset })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The symbol a series names by this number.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Result<&str, FileError> {
        let found = if self.by_offset { self.at_offset(number) } else { self.numbered(number) };
        match found.map(std::str::from_utf8) {
            Some(Ok(symbol)) => Ok(symbol),
            Some(Err(_)) => Err(self.bad(format!("symbol {number} is no UTF-8"))),
            None => Err(self.bad(format!("there is no symbol {number}"))),
        }
    }

    #[inline]
    fn numbered(&self, number: u32) -> Option<&[u8]> {
        let number = number as usize;
        if number >= self.count {
            return None;
        }
        let start = *self.starts.get(number / STRIDE)? as usize;
        let mut cursor = Cursor(self.content.get(start..)?);
        for _ in 0..number % STRIDE {
            cursor.prefixed()?;
        }
        cursor.prefixed()
    }

    fn at_offset(&self, offset: u32) -> Option<&[u8]> {
        let at = usize::try_from(u64::from(offset).checked_sub(self.content_at)?).ok()?;
        // The first four bytes are the count.
        Cursor(self.content.get(at.max(4)..)?).prefixed()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Result<&str, FileError>> {
        let mut cursor = Cursor(self.content.get(4..).unwrap_or_default());
        (0..self.count).map_while(move |i| {
            let symbol = cursor.prefixed()?;
            Some(
                std::str::from_utf8(symbol)
                    .map_err(|_| self.bad(format!("symbol {i} is no UTF-8"))),
            )
        })
    }

    fn bad(&self, reason: String) -> FileError {
        FileError::corrupt(BlockFile::Index, WHAT, self.content_at.saturating_sub(4), reason)
    }
}
