//! The postings offset table: for each label name and value, where its list of series is.

use std::cmp::Ordering;
use std::str::from_utf8;

use bytes::Bytes;

use crate::error::{BlockFile, FileError};
use crate::section::{self, Cursor};
use crate::source::NamedFile;

const WHAT: &str = "the postings offset table";

/// How many values of a label share an entry in the directory.
const STRIDE: usize = 32;

/// The table's bytes and a directory into them.
pub(super) struct PostingsOffsets {
    content: Bytes,
    at: u64,
    /// Ascending by name.
    names: Vec<Name>,
    /// Positions in `content`, ascending by value within a name: of every 32nd entry, or of each one
    /// where the table itself is not sorted.
    starts: Vec<u32>,
    stride: usize,
}

/// One label name's part of the table.
struct Name {
    name: String,
    /// The name's first in `starts`.
    first: usize,
    /// How many values it has.
    values: usize,
}

/// One entry of the table.
struct Entry<'a> {
    name: &'a [u8],
    value: &'a [u8],
    offset: u64,
}

fn entry<'a>(cursor: &mut Cursor<'a>) -> Option<Entry<'a>> {
    if cursor.uvarint()? != 2 {
        return None;
    }
    Some(Entry { name: cursor.prefixed()?, value: cursor.prefixed()?, offset: cursor.uvarint()? })
}

impl PostingsOffsets {
    pub(super) fn read(file: &NamedFile, version: u8, offset: u64) -> Result<Self, FileError> {
        let mut this = Self {
            content: Bytes::new(),
            at: offset,
            names: Vec::new(),
            starts: Vec::new(),
            stride: STRIDE,
        };
        if offset == 0 {
            return Ok(this);
        }
        this.content = section::read(file, WHAT, offset)?;
        if version == 1 {
            this.stride = 1;
            this.sort()?;
        } else {
            this.walk()?;
        }
        Ok(this)
    }

    /// The count, checked: an entry takes four bytes at least.
    fn count<'a>(&self, cursor: &mut Cursor<'a>) -> Result<usize, FileError> {
        let count = cursor.u32().ok_or_else(|| self.bad("it has no count"))? as usize;
        if count > cursor.0.len() / 4 {
            return Err(self.bad("it claims more entries than it has bytes for"));
        }
        Ok(count)
    }

    /// Builds the directory of a table sorted by name and value.
    fn walk(&mut self) -> Result<(), FileError> {
        let content = self.content.clone();
        let mut cursor = Cursor(&content);
        let count = self.count(&mut cursor)?;
        let mut last: &[u8] = &[];
        for i in 0..count {
            // A section has less than 4 GiB.
            let start = (content.len() - cursor.0.len()) as u32;
            let e = entry(&mut cursor).ok_or_else(|| self.bad("an entry is cut short"))?;
            if i == 0 || e.name != last {
                let name = from_utf8(e.name).map_err(|_| self.bad("a name is no UTF-8"))?;
                if i > 0 && e.name < last {
                    return Err(self.bad("its label names are not sorted"));
                }
                let first = self.starts.len();
                self.names.push(Name { name: name.to_owned(), first, values: 0 });
                last = e.name;
            }
            if let Some(name) = self.names.last_mut() {
                if name.values.is_multiple_of(STRIDE) {
                    self.starts.push(start);
                }
                name.values += 1;
            }
        }
        Ok(())
    }

    /// Builds the directory of a table in any order.
    fn sort(&mut self) -> Result<(), FileError> {
        let content = self.content.clone();
        let mut cursor = Cursor(&content);
        let count = self.count(&mut cursor)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let start = (content.len() - cursor.0.len()) as u32;
            let e = entry(&mut cursor).ok_or_else(|| self.bad("an entry is cut short"))?;
            entries.push((e.name, e.value, start));
        }
        entries.sort_unstable();
        for (name, _, start) in entries {
            if self.names.last().is_none_or(|n| n.name.as_bytes() != name) {
                let name = from_utf8(name).map_err(|_| self.bad("a name is no UTF-8"))?;
                let first = self.starts.len();
                self.names.push(Name { name: name.to_owned(), first, values: 0 });
            }
            if let Some(name) = self.names.last_mut() {
                name.values += 1;
            }
            self.starts.push(start);
        }
        Ok(())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|n| n.name.as_str())
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let at = self.names.binary_search_by(|n| n.name.as_str().cmp(name)).ok()?;
        self.names.get(at)
    }

    pub(super) fn value_count(&self, name: &str) -> usize {
        self.name(name).map_or(0, |n| n.values)
    }

    fn starts_of(&self, name: &Name) -> &[u32] {
        let len = name.values.div_ceil(self.stride);
        self.starts.get(name.first..name.first + len).unwrap_or_default()
    }

    fn entry_at(&self, start: u32) -> Option<(Entry<'_>, Cursor<'_>)> {
        let mut cursor = Cursor(self.content.get(start as usize..)?);
        Some((entry(&mut cursor)?, cursor))
    }

    /// The offset of one value's postings; `None` where no series has it.
    pub(super) fn find(&self, name: &str, value: &str) -> Option<u64> {
        let name = self.name(name)?;
        let starts = self.starts_of(name);
        let above = starts.partition_point(|s| {
            self.entry_at(*s).is_some_and(|(e, _)| e.value <= value.as_bytes())
        });
        let group = above.checked_sub(1)?;
        let (mut e, mut cursor) = self.entry_at(*starts.get(group)?)?;
        let left = (name.values - group * self.stride).min(self.stride);
        for i in 0..left {
            match e.value.cmp(value.as_bytes()) {
                Ordering::Equal => return Some(e.offset),
                Ordering::Greater => return None,
                Ordering::Less if i + 1 < left => e = entry(&mut cursor)?,
                Ordering::Less => return None,
            }
        }
        None
    }

    /// Visits a name's values with the offsets of their postings, in the directory's order.
    pub(super) fn for_each_value(
        &self,
        name: &str,
        mut visit: impl FnMut(&str, u64) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let Some(name) = self.name(name) else { return Ok(()) };
        self.each(name, &mut |e| {
            visit(from_utf8(e.value).map_err(|_| self.bad("a value is no UTF-8"))?, e.offset)
        })
    }

    fn each<E: From<FileError>>(
        &self,
        name: &Name,
        visit: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = name.values;
        for start in self.starts_of(name) {
            let cut = || E::from(self.bad("an entry is cut short"));
            let (first, mut cursor) = self.entry_at(*start).ok_or_else(cut)?;
            visit(first)?;
            let more = left.min(self.stride) - 1;
            for _ in 0..more {
                visit(entry(&mut cursor).ok_or_else(cut)?)?;
            }
            left -= more + 1;
        }
        Ok(())
    }

    pub(super) fn for_each<E: From<FileError>>(
        &self,
        mut visit: impl FnMut(&str, &str, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        for name in &self.names {
            self.each(name, &mut |e| {
                let value = from_utf8(e.value).map_err(|_| self.bad("a value is no UTF-8"))?;
                visit(&name.name, value, e.offset)
            })?;
        }
        Ok(())
    }

    fn bad(&self, reason: &str) -> FileError {
        FileError::corrupt(BlockFile::Index, WHAT, self.at, reason)
    }
}
