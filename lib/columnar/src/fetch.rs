//! Bytes that were fetched, found again by where they lie.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use periplus_block::source::RangedBytes;

use crate::error::{ColumnarError, Place, Result};

/// Ranges of one file that somebody fetched; reading inside one of them copies nothing.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Ascending by offset.
    ranges: Vec<(u64, Bytes)>,
    len: u64,
}

impl Fetched {
    /// Of a file of that length nothing yet.
    #[must_use]
    pub const fn new(file_len: u64) -> Self {
        Self { ranges: Vec::new(), len: file_len }
    }

    /// Adds the bytes that lie at an offset.
    pub fn insert(&mut self, offset: u64, bytes: Bytes) {
        let at = self.ranges.partition_point(|(o, _)| *o <= offset);
        self.ranges.insert(at, (offset, bytes));
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ranges.iter().map(|(_, b)| b.len()).sum()
    }
}

impl RangedBytes for Fetched {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "these bytes were not fetched");
        // The last range that begins at or before it; an earlier, longer one may hold it instead.
        let at = self.ranges.partition_point(|(o, _)| *o <= range.start);
        for (offset, bytes) in self.ranges.get(..at).unwrap_or_default().iter().rev().take(4) {
            let (start, end) = (range.start - offset, range.end.saturating_sub(*offset));
            if end <= bytes.len() as u64 && start <= end {
                return Ok(bytes.slice(start as usize..end as usize));
            }
        }
        Err(missing())
    }
}

/// Joins sorted ranges whose gaps are at most `gap_max` bytes, into ranges of at most `len_max` bytes
/// (a single longer one stays as it is): fewer requests for some bytes more.
#[must_use]
pub fn coalesce(ranges: &[Range<u64>], gap_max: u64, len_max: u64) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last)
                if range.start <= last.end.saturating_add(gap_max)
                    && range.end.saturating_sub(last.start) <= len_max =>
            {
                last.end = last.end.max(range.end);
            }
            _ => out.push(range.clone()),
        }
    }
    out
}

/// Reads, naming the place where that fails.
pub(crate) fn read(bytes: &dyn RangedBytes, place: &Place, range: Range<u64>) -> Result<Bytes> {
    let failed = |source| ColumnarError::Io {
        place: place.clone(),
        start: range.start,
        end: range.end,
        source,
    };
    if range.end > bytes.len() || range.start > range.end {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    let found = bytes.read(range.clone()).map_err(failed)?;
    if found.len() as u64 != range.end - range.start {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(found)
}

/// The files of one part, to be read.
pub trait PartSource {
    /// What errors call the part.
    fn name(&self) -> String;

    /// Opens a file; `None` where the part has none of this kind.
    ///
    /// # Errors
    /// What opening fails with, other than that the file is missing.
    fn open(&self, file: crate::part::PartFile) -> io::Result<Option<Arc<dyn RangedBytes>>>;
}

/// A part whose files are in a directory; they are read by range, and nothing is mapped.
#[derive(Clone, Debug)]
pub struct PartDir(pub std::path::PathBuf);

impl PartSource for PartDir {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn open(&self, file: crate::part::PartFile) -> io::Result<Option<Arc<dyn RangedBytes>>> {
        match std::fs::File::open(self.0.join(file.name())) {
            Ok(file) => {
                let len = file.metadata()?.len();
                Ok(Some(Arc::new(LocalFile { file, len })))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[derive(Debug)]
struct LocalFile {
    file: std::fs::File,
    len: u64,
}

impl RangedBytes for LocalFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        use std::os::unix::fs::FileExt as _;
        let len = range.end.min(self.len).saturating_sub(range.start);
        let mut out = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut out, range.start)?;
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_within_limits() {
        let joined = |gap, len| coalesce(&[0..10, 10..20, 25..30, 100..110], gap, len);
        assert_eq!(joined(0, 1000), [0..20, 25..30, 100..110]);
        assert_eq!(joined(5, 1000), [0..30, 100..110]);
        assert_eq!(joined(1000, 40), [0..30, 100..110]);
    }

    #[test]
    fn only_what_was_fetched_is_there() {
        let mut fetched = Fetched::new(100);
        fetched.insert(50, Bytes::from_static(b"klmno"));
        fetched.insert(10, Bytes::from_static(b"abcde"));
        assert_eq!(fetched.read(11..14).unwrap(), "bcd");
        assert_eq!(fetched.read(50..55).unwrap(), "klmno");
        assert!(fetched.read(14..16).is_err() && fetched.read(9..11).is_err());
        assert!(fetched.read(54..56).is_err());
    }
}
