//! A file's footer: what a reader has to know before it asks for rows.
//!
//! Small, shared and never changed, so that whoever asks often keeps them. It is read from the last
//! bytes of a file (the catalog knows how many), which hold Parquet's footer, the page locations and
//! the Bloom filters; everything in it is held against the file's length and against the schema of
//! this format before it is believed, and what is left afterwards can be indexed without surprises.

mod parse;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use periplus_model::{Matcher, TimeRange};

use crate::error::{ColumnarError, Place, Result};
use crate::part::{PartFile, PartSummary};
use crate::schema::{Column, Shape};

/// A larger tail is not believed.
const TAIL_BYTES_MAX: u64 = 256 << 20;
/// Rows of a page of `samples.parquet` at most.
pub(crate) const PAGE_ROWS_MAX: u64 = 1 << 18;

/// Where a page lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageAt {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// Smallest and largest value.
pub(crate) type Bounds = (Box<[u8]>, Box<[u8]>);

/// A column chunk.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// All its bytes, the dictionary first.
    pub(crate) range: Range<u64>,
    pub(crate) data_start: u64,
    /// Values and nulls.
    pub(crate) values: u64,
    /// Smallest and largest, as Parquet stores them.
    pub(crate) bounds: Option<Bounds>,
    pub(crate) nulls: Option<u64>,
    /// The Bloom filter's bits.
    pub(crate) bloom: Option<Bytes>,
    /// Empty for `series.parquet`, whose row groups are read whole.
    pub(crate) pages: Vec<PageAt>,
}

impl Chunk {
    fn int_bounds(&self) -> Option<(i64, i64)> {
        let (min, max) = self.bounds.as_ref()?;
        let int = |b: &[u8]| Some(i64::from_le_bytes(*b.first_chunk::<8>()?));
        Some((int(min)?, int(max)?))
    }
}

/// A row group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    pub(crate) chunks: Vec<Chunk>,
    /// The first row of each page, counted from the group's first; the same for all columns.
    pub(crate) page_rows: Vec<u64>,
}

impl Group {
    /// The rows of a page, counted from the group's first.
    pub(crate) fn page(&self, page: usize) -> Option<Range<u64>> {
        let start = *self.page_rows.get(page)?;
        Some(start..self.page_rows.get(page + 1).copied().unwrap_or(self.rows))
    }
}

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) file: PartFile,
    pub(crate) file_len: u64,
    pub(crate) summary: PartSummary,
    pub(crate) columns: Vec<Column>,
    pub(crate) groups: Vec<Group>,
    heap_bytes: usize,
}

/// The footer of one file of a part. Cheap to clone.
#[derive(Clone)]
pub struct Footer(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Footer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Footer({}, {} row groups)", self.0.name, self.0.groups.len())
    }
}

/// Columns of `samples.parquet` that somebody wants, besides the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Values, and start timestamps where there are any.
    Raw,
    /// These aggregates, told by their bits: `1 << (Aggregate as u8)`.
    Aggregates(u8),
}

impl Columns {
    /// All five aggregates.
    pub const ALL_AGGREGATES: Self = Self::Aggregates(31);

    /// These aggregates.
    #[must_use]
    pub fn of(aggregates: &[crate::Aggregate]) -> Self {
        Self::Aggregates(aggregates.iter().fold(0, |bits, a| bits | 1 << (*a as u8)))
    }
}

impl Footer {
    /// Reads a footer from the last bytes of a file of `file_len` bytes; `name` is what errors call
    /// the file.
    ///
    /// # Errors
    /// [`ColumnarError::TailTooShort`] where more of the file's end is needed;
    /// [`ColumnarError::Corrupt`] where it is no file of this format, or was altered.
    pub fn parse(name: &str, file_len: u64, tail: &Bytes) -> Result<Self> {
        parse::footer(name, file_len, tail).map(|inner| Self(Arc::new(inner)))
    }

    /// Reads the footer of a file that is at hand.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); what reading fails with.
    pub fn open(name: &str, bytes: &dyn periplus_block::source::RangedBytes) -> Result<Self> {
        let len = bytes.len();
        let mut want = len.min(64 << 10);
        loop {
            let tail = crate::fetch::read(bytes, &Place::file(name), len - want..len)?;
            match Self::parse(name, len, &tail) {
                Err(ColumnarError::TailTooShort { needed, .. })
                    if needed > want && needed <= len.min(TAIL_BYTES_MAX) =>
                {
                    want = needed;
                }
                done => return done,
            }
        }
    }

    /// What errors call the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Which file of a part it is.
    #[must_use]
    pub fn file(&self) -> PartFile {
        self.0.file
    }

    /// The file's length.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.0.file_len
    }

    /// The part's description.
    #[must_use]
    pub fn summary(&self) -> &PartSummary {
        &self.0.summary
    }

    /// Rows in the file.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.groups.iter().map(|g| g.rows).sum()
    }

    /// How many of the file's last bytes lie behind its rows: footer, page index and Bloom filters.
    #[must_use]
    pub fn tail_len(&self) -> u64 {
        let chunks = self.0.groups.iter().flat_map(|g| &g.chunks);
        let data_end = chunks.map(|c| c.range.end).max().unwrap_or(4);
        self.0.file_len.saturating_sub(data_end)
    }

    /// Memory it takes, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes
    }

    /// Number of row groups.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.0.groups.len()
    }

    /// All bytes of a row group; empty for a number that is too large.
    #[must_use]
    pub fn group_range(&self, group: usize) -> Range<u64> {
        let chunks = self.0.groups.get(group).map_or(&[][..], |g| &g.chunks);
        let start = chunks.iter().map(|c| c.range.start).min().unwrap_or(0);
        start..chunks.iter().map(|c| c.range.end).max().unwrap_or(0)
    }

    /// The row groups of `series.parquet` that may have series for these matchers (of their own
    /// labels: see [`split_matchers`]) with samples in this range: by the bounds of names, promoted
    /// labels and times, and by Bloom filters.
    #[must_use]
    pub fn series_groups(&self, matchers: &[Matcher], range: TimeRange) -> Vec<usize> {
        let takes = |g: &Group| self.may_overlap(g, range) && self.may_match(g, matchers);
        let groups = self.0.groups.iter().enumerate();
        groups.filter(|(_, g)| takes(g)).map(|(i, _)| i).collect()
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.0.columns.iter().position(|c| c.name == name)
    }

    fn may_overlap(&self, group: &Group, range: TimeRange) -> bool {
        let bounds = |name| group.chunks.get(self.column(name)?)?.int_bounds();
        match (bounds("t_min"), bounds("t_max")) {
            (Some((min, _)), Some((_, max))) => TimeRange::new(min, max).overlaps(&range),
            _ => true,
        }
    }

    fn may_match(&self, group: &Group, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|m| {
            let column = match &*m.name {
                periplus_model::METRIC_NAME => self.column(&m.name),
                label => self.column(&format!("label_{label}")),
            };
            let column = column.filter(|i| {
                self.0.columns.get(*i).is_some_and(|c| matches!(c.shape, Shape::One | Shape::Maybe))
            });
            column.and_then(|i| group.chunks.get(i)).is_none_or(|c| may_have(c, m))
        })
    }

    /// The bytes of the pages of `samples.parquet` that hold these rows, for these columns and the
    /// times: ascending, adjacent ones joined. To be fetched (after [`crate::coalesce`]) and given to
    /// a [`crate::SampleReader`].
    #[must_use]
    pub fn sample_ranges(
        &self,
        rows: impl IntoIterator<Item = Range<u64>>,
        columns: Columns,
    ) -> Vec<Range<u64>> {
        let mut pages: Vec<(usize, usize)> =
            rows.into_iter().flat_map(|r| self.pages_of(&r)).collect();
        pages.sort_unstable();
        pages.dedup();
        let mut out = Vec::new();
        for (group, page) in pages {
            let Some(g) = self.0.groups.get(group) else { continue };
            for column in self.wanted(g, columns) {
                if let Some(at) = g.chunks.get(column).and_then(|c| c.pages.get(page)) {
                    out.push(at.offset..at.offset + u64::from(at.len));
                }
            }
        }
        joined(out)
    }

    /// The bytes of the pages of `histograms.parquet` that hold these rows, with the dictionaries.
    #[must_use]
    pub fn histogram_ranges(&self, rows: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
        let mut pages: Vec<(usize, usize)> =
            rows.into_iter().flat_map(|r| self.pages_of(&r)).collect();
        pages.sort_unstable();
        pages.dedup();
        let mut out = Vec::new();
        for (group, page) in pages {
            for chunk in self.0.groups.get(group).map_or(&[][..], |g| &g.chunks) {
                out.push(chunk.range.start..chunk.data_start);
                if let Some(at) = chunk.pages.get(page) {
                    out.push(at.offset..at.offset + u64::from(at.len));
                }
            }
        }
        joined(out)
    }

    /// Column numbers of what is wanted of a row group of `samples.parquet`.
    fn wanted(&self, group: &Group, columns: Columns) -> Vec<usize> {
        use crate::schema::samples as column;
        let mut out = vec![column::TS];
        match columns {
            Columns::Raw => {
                out.push(column::VALUE);
                if has_starts(group) {
                    out.push(column::START);
                }
            }
            Columns::Aggregates(bits) => {
                out.extend((0..5).filter(|i| bits >> i & 1 == 1).map(|i| column::VALUE + i));
            }
        }
        out
    }

    /// Row group and page of each page that holds some of these rows.
    pub(crate) fn pages_of(&self, rows: &Range<u64>) -> Vec<(usize, usize)> {
        let mut out = Vec::new();
        let mut row = rows.start;
        while row < rows.end {
            let Some((group, page, range)) = self.locate(row) else { break };
            out.push((group, page));
            row = range.end;
        }
        out
    }

    /// Where a row lies: row group, page, and the rows of that page counted from the file's first.
    pub(crate) fn locate(&self, row: u64) -> Option<(usize, usize, Range<u64>)> {
        let group = self.0.groups.partition_point(|g| g.first_row <= row).checked_sub(1)?;
        let g = self.0.groups.get(group)?;
        let page = g.page_rows.partition_point(|p| *p <= row - g.first_row).checked_sub(1)?;
        let rows = g.page(page)?;
        let range = g.first_row + rows.start..g.first_row + rows.end;
        range.contains(&row).then_some((group, page, range))
    }

    /// The place of a column, for errors.
    pub(crate) fn place(&self, group: usize, column: usize) -> Place {
        let column = self.0.columns.get(column).map(Column::path);
        Place { file: self.0.name.clone(), row_group: Some(group), column }
    }
}

/// Whether any sample of a row group of raw samples has a start timestamp.
pub(crate) fn has_starts(group: &Group) -> bool {
    let starts = group.chunks.get(crate::schema::samples::START);
    starts.is_some_and(|c| c.int_bounds() != Some((0, 0)))
}

fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|r| r.start < r.end);
    ranges.sort_unstable_by_key(|r| r.start);
    ranges.dedup();
    crate::fetch::coalesce(&ranges, 0, u64::MAX)
}

/// Whether a text column may have a value that passes.
fn may_have(chunk: &Chunk, matcher: &Matcher) -> bool {
    if chunk.nulls != Some(0) && matcher.matches_empty() {
        return true;
    }
    let Some(literals) = matcher.literal_values() else {
        let prefix = matcher.literal_prefix().as_bytes();
        return chunk.bounds.as_ref().is_none_or(|(min, max)| {
            &**max >= prefix && (min.get(..prefix.len()).unwrap_or(min) <= prefix)
        });
    };
    literals.iter().any(|literal| {
        let bytes = literal.as_bytes();
        literal.is_empty()
            || (chunk.bounds.as_ref().is_none_or(|(min, max)| **min <= *bytes && *bytes <= **max)
                && chunk.bloom.as_ref().is_none_or(|bits| bloom_may_have(bits, bytes)))
    })
}

/// Asks a split-block Bloom filter as Parquet has it.
fn bloom_may_have(bits: &[u8], value: &[u8]) -> bool {
    const SALT: [u32; 8] = [
        0x47b6_137b,
        0x4497_4d91,
        0x8824_ad5b,
        0xa2b7_289d,
        0x7054_95c7,
        0x2df1_424b,
        0x9efc_4947,
        0x5c6b_fb31,
    ];
    let hash = xxhash_rust::xxh64::xxh64(value, 0);
    let blocks = (bits.len() / 32) as u64;
    let block = (((hash >> 32) * blocks) >> 32) as usize;
    let Some(words) = bits.get(block * 32..block * 32 + 32) else { return true };
    words.chunks_exact(4).zip(SALT).all(|(word, salt)| {
        let word = word.first_chunk::<4>().map_or(0, |w| u32::from_le_bytes(*w));
        let bit = (hash as u32).wrapping_mul(salt) >> 27;
        word >> bit & 1 == 1
    })
}

/// Takes the matchers on external labels out: `None` where one of them does not pass, so that no
/// series of the part can; else those left, which are about the series' own labels.
#[must_use]
pub fn split_matchers(
    matchers: &[Matcher],
    external: &std::collections::BTreeMap<String, String>,
) -> Option<Vec<Matcher>> {
    let mut own = Vec::new();
    for matcher in matchers {
        match external.get(&*matcher.name) {
            Some(value) if matcher.matches(value) => {}
            Some(_) => return None,
            None => own.push(matcher.clone()),
        }
    }
    Some(own)
}
