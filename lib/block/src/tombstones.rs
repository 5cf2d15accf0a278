//! Tombstones: times of single series that were deleted but are still in the chunks.
//!
//! A magic number and a version byte; then series reference, first and last millisecond as varints,
//! again and again; at the end the CRC-32C of all of these.

use std::collections::BTreeMap;

use periplus_model::TimeRange;

use crate::error::{BlockFile, FileError};
use crate::section::{self, Cursor};
use crate::source::NamedFile;
use crate::varint;

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
const FILE: BlockFile = BlockFile::Tombstones;
const WHAT: &str = "the list of deletions";

/// A larger file is refused: it would take several times its size in memory, and real ones have
/// kilobytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What was deleted, by series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    series: BTreeMap<u64, Vec<TimeRange>>,
}

impl Tombstones {
    /// Reads a `tombstones` file.
    ///
    /// # Errors
    /// A file that is altered, cut short, of another version or absurdly large.
    pub(crate) fn read(file: &NamedFile) -> Result<Self, FileError> {
        let len = file.len();
        if len > FILE_BYTES_MAX {
            return Err(FileError::corrupt(
                FILE,
                WHAT,
                0,
                format!("{len} bytes are more than the limit of {FILE_BYTES_MAX}"),
            ));
        }
        Self::parse(&file.read(WHAT, 0, len)?)
    }

    /// Reads the bytes of a `tombstones` file.
    ///
    /// # Errors
    /// As [`FileError`] says.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        let cut = || FileError::corrupt(FILE, WHAT, 0, "the file is cut short");
        let (head, rest) = bytes.split_first_chunk::<5>().ok_or_else(cut)?;
        let (magic, version) = (&head[..4], head[4]);
        if magic != MAGIC.to_be_bytes() {
            return Err(FileError::corrupt(FILE, "the header", 0, "it is no tombstones file"));
        }
        if version != VERSION {
            let version = u64::from(version);
            return Err(FileError::Version { file: FILE, version, supported: "1" });
        }
        let (content, stored) = rest.split_last_chunk::<4>().ok_or_else(cut)?;
        section::verify(FILE, WHAT, 5, content, stored)?;
        let mut this = Self::default();
        let mut cursor = Cursor(content);
        while !cursor.0.is_empty() {
            let mut next = || Some((cursor.uvarint()?, cursor.varint()?, cursor.varint()?));
            let (series, min_t, max_t) = next().ok_or_else(cut)?;
            this.series.entry(series).or_default().push(TimeRange::new(min_t, max_t));
        }
        this.series.values_mut().for_each(merge);
        Ok(this)
    }

    /// Adds a deletion.
    pub fn add(&mut self, series: u64, range: TimeRange) {
        let ranges = self.series.entry(series).or_default();
        ranges.push(range);
        merge(ranges);
    }

    /// The bytes of a `tombstones` file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut content = Vec::new();
        for (series, range) in self.iter() {
            varint::put_uvarint(&mut content, series);
            varint::put_varint(&mut content, range.min_t);
            varint::put_varint(&mut content, range.max_t);
        }
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        out.extend_from_slice(&content);
        out.extend_from_slice(&crc32c::crc32c(&content).to_be_bytes());
        out
    }

    /// What of a series was deleted: ascending, apart from each other.
    #[must_use]
    pub fn of(&self, series: u64) -> &[TimeRange] {
        self.series.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Every deletion, by series and time.
    pub fn iter(&self) -> impl Iterator<Item = (u64, TimeRange)> {
        self.series.iter().flat_map(|(s, ranges)| ranges.iter().map(|r| (*s, *r)))
    }

    /// How many deletions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.values().map(Vec::len).sum()
    }

    /// Whether nothing was deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

/// Sorts ranges and joins those that touch.
fn merge(ranges: &mut Vec<TimeRange>) {
    ranges.sort_unstable_by_key(|r| (r.min_t, r.max_t));
    ranges.dedup_by(|next, kept| {
        let touches = next.min_t <= kept.max_t.saturating_add(1);
        if touches {
            kept.max_t = kept.max_t.max(next.max_t);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_merged() {
        let mut t = Tombstones::default();
        t.add(7, TimeRange::new(10, 20));
        t.add(7, TimeRange::new(-5, 3));
        t.add(7, TimeRange::new(21, 30));
        t.add(2, TimeRange::new(i64::MIN, i64::MAX));
        assert_eq!(t.of(7), [TimeRange::new(-5, 3), TimeRange::new(10, 30)]);
        assert_eq!(Tombstones::parse(&t.to_bytes()).unwrap(), t);
        assert_eq!((t.len(), t.of(9).len()), (3, 0));
    }

    #[test]
    fn no_truncation_and_no_flip_passes() {
        let mut t = Tombstones::default();
        t.add(7, TimeRange::new(10, 20));
        let bytes = t.to_bytes();
        for len in 0..bytes.len() {
            assert!(Tombstones::parse(&bytes[..len]).is_err(), "length {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut b = bytes.clone();
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(Tombstones::parse(&b).is_err(), "bit {bit}");
        }
    }
}
