//! From pages of `samples.parquet` to columns of samples.
//!
//! Decoding goes page by page straight into the caller's buffers, without Arrow in between: a page's
//! times and values are decoded once, and what a series has of them is copied out. A reader keeps
//! the last page of each window, for series of one row group lie side by side within a window.

use std::ops::Range;
use std::sync::Arc;

use periplus_block::source::RangedBytes;
use periplus_model::{SampleBuffer, TimeRange};

use crate::Aggregate;
use crate::aggregate::AggregateSamples;
use crate::column::{Decoded, Limits};
use crate::error::{ColumnarError, Place, Result};
use crate::fetch;
use crate::footer::{Footer, has_starts};
use crate::page::PageReader;
use crate::part::WINDOWS;
use crate::schema::samples as column;
use crate::series::Window;

/// A page of which some columns are decoded.
#[derive(Default)]
struct Page {
    /// Row group and page in it.
    at: Option<(usize, usize)>,
    /// Its rows, counted from the file's first.
    rows: Range<u64>,
    ts: Vec<i64>,
    /// By column number.
    columns: [Option<Decoded>; 8],
}

/// Reads the samples of windows. One for each thread.
pub struct SampleReader {
    footer: Footer,
    bytes: Arc<dyn RangedBytes>,
    pages: PageReader,
    kept: [Page; WINDOWS],
}

impl SampleReader {
    /// A reader of a file's samples; `bytes` has at least the ranges that
    /// [`Footer::sample_ranges`] names for the windows that will be asked for.
    ///
    /// # Errors
    /// The footer is of another file; there is no memory for a decompressor.
    pub fn new(footer: &Footer, bytes: Arc<dyn RangedBytes>) -> Result<Self> {
        if footer.file() != crate::PartFile::Samples {
            return Err(ColumnarError::file(footer.name(), "it holds no samples"));
        }
        let (footer, pages) = (footer.clone(), PageReader::new()?);
        Ok(Self { footer, bytes, pages, kept: Default::default() })
    }

    /// Appends a window's raw samples inside `range`.
    ///
    /// Quick where windows are asked for in the order of their rows: each page is then decoded once.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where; nothing is appended of the page it is found in.
    pub fn append(
        &mut self,
        window: &Window,
        range: TimeRange,
        out: &mut SampleBuffer,
    ) -> Result<()> {
        let mut row = window.rows.start;
        while row < window.rows.end {
            let (page, rows) = self.page(window, row)?;
            let inside = inside(page, rows.clone(), range);
            let (at, wanted) = (page.at, !inside.is_empty());
            row = page.rows.start + rows.end as u64;
            if !wanted {
                continue;
            }
            let slot = slot(window);
            self.column(slot, column::VALUE)?;
            let starts = at.and_then(|(g, _)| self.footer.0.groups.get(g)).is_some_and(has_starts);
            if starts {
                self.column(slot, column::START)?;
            }
            let Some(page) = self.kept.get(slot) else { break };
            let floats = page.columns[column::VALUE].as_ref().map_or(&[][..], |c| &c.floats);
            let before = out.ts.len();
            out.ts.extend_from_slice(page.ts.get(inside.clone()).unwrap_or_default());
            out.values.extend_from_slice(floats.get(inside.clone()).unwrap_or_default());
            let starts = page.columns[column::START].as_ref().map_or(&[][..], |c| &c.ints);
            let starts = starts.get(inside).unwrap_or_default();
            if starts.iter().any(|s| *s != 0) {
                out.start_ts.resize(before, 0);
                out.start_ts.extend_from_slice(starts);
            } else if !out.start_ts.is_empty() {
                out.start_ts.resize(out.ts.len(), 0);
            }
        }
        Ok(())
    }

    /// Appends one aggregate of a window's intervals inside `range` as values; none where the series
    /// does not have it.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_aggregate(
        &mut self,
        window: &Window,
        range: TimeRange,
        aggregate: Aggregate,
        out: &mut SampleBuffer,
    ) -> Result<()> {
        let mut row = window.rows.start;
        while row < window.rows.end {
            let (page, rows) = self.page(window, row)?;
            let inside = inside(page, rows.clone(), range);
            row = page.rows.start + rows.end as u64;
            if inside.is_empty() {
                continue;
            }
            let (slot, number) = (slot(window), column::VALUE + aggregate as usize);
            self.column(slot, number)?;
            let Some(page) = self.kept.get(slot) else { break };
            let Some(Some(column)) = page.columns.get(number) else { break };
            let (present, values) = present(column, inside.clone());
            for (t, value) in page.ts.get(inside).unwrap_or_default().iter().zip(present) {
                if *value == 1 {
                    out.ts.push(*t);
                }
            }
            out.values.extend_from_slice(values);
        }
        Ok(())
    }

    /// Appends all aggregates of a window.
    ///
    /// # Errors
    /// As [`append`](Self::append); also where a series has an aggregate for some of its intervals
    /// only.
    pub fn append_aggregates(&mut self, window: &Window, out: &mut AggregateSamples) -> Result<()> {
        let mut row = window.rows.start;
        while row < window.rows.end {
            let (page, rows) = self.page(window, row)?;
            let at = page.at;
            let before = out.ts.len();
            out.ts.extend_from_slice(page.ts.get(rows.clone()).unwrap_or_default());
            row = page.rows.start + rows.end as u64;
            let slot = slot(window);
            for (number, to) in (column::VALUE..).zip(out.columns_mut()) {
                self.column(slot, number)?;
                let page = self.kept.get(slot);
                let Some(Some(column)) = page.and_then(|p| p.columns.get(number)) else { break };
                let (present, values) = present(column, rows.clone());
                let has_gap = present.contains(&0) && present.contains(&1);
                if has_gap || (!values.is_empty() && to.len() != before) {
                    let place = self.footer.place(at.map_or(0, |(g, _)| g), number);
                    let reason = "a series has this aggregate for some of its intervals only";
                    return Err(ColumnarError::corrupt(&place, reason));
                }
                to.extend_from_slice(values);
            }
        }
        Ok(())
    }

    /// Makes the page that holds a row the window's kept one; also says which of its rows, counted
    /// from its first, are the window's.
    fn page(&mut self, window: &Window, row: u64) -> Result<(&Page, Range<usize>)> {
        let footer = &self.footer;
        let (group, page, rows) = footer.locate(row).ok_or_else(|| {
            let reason = format!("a series is said to have row {row}, there are {}", footer.rows());
            ColumnarError::file(footer.name(), reason)
        })?;
        let slot = slot(window);
        let Some(kept) = self.kept.get_mut(slot) else {
            return Err(ColumnarError::file(footer.name(), "a window beyond the day"));
        };
        if kept.at != Some((group, page)) {
            kept.at = None;
            kept.columns = Default::default();
            kept.rows = rows.clone();
            let decoded = decode(
                footer,
                &*self.bytes,
                &mut self.pages,
                (group, page, column::TS),
                std::mem::take(&mut kept.ts),
                Vec::new(),
            )?;
            kept.ts = decoded.ints;
            kept.at = Some((group, page));
        }
        let of = |n: u64| (n.clamp(rows.start, rows.end) - rows.start) as usize;
        Ok((kept, of(row)..of(window.rows.end)))
    }

    /// Decodes a column of the kept page.
    fn column(&mut self, slot: usize, number: usize) -> Result<()> {
        let Some(kept) = self.kept.get_mut(slot) else { return Ok(()) };
        let (Some((group, page)), Some(column)) = (kept.at, kept.columns.get_mut(number)) else {
            return Ok(());
        };
        if column.is_none() {
            let at = (group, page, number);
            let rows = (kept.rows.end - kept.rows.start) as usize;
            let floats = Vec::with_capacity(rows);
            let decoded =
                decode(&self.footer, &*self.bytes, &mut self.pages, at, Vec::new(), floats)?;
            *column = Some(decoded);
        }
        Ok(())
    }
}

/// A page of the window 0, 1 or 2 is kept in a place of its own.
fn slot(window: &Window) -> usize {
    usize::from(window.window) % WINDOWS
}

/// Which of these rows of a page lie in a range of time.
fn inside(page: &Page, rows: Range<usize>, range: TimeRange) -> Range<usize> {
    let ts = page.ts.get(rows.clone()).unwrap_or_default();
    if let (Some(first), Some(last)) = (ts.first(), ts.last())
        && range.contains(*first)
        && range.contains(*last)
    {
        return rows;
    }
    let from = ts.partition_point(|t| *t < range.min_t);
    let to = ts.partition_point(|t| *t <= range.max_t);
    rows.start + from..rows.start + to.max(from)
}

/// Of these rows which have a value, and the values.
fn present(column: &Decoded, rows: Range<usize>) -> (&[u32], &[f64]) {
    let count =
        |of: Range<usize>| column.def.get(of).unwrap_or_default().iter().sum::<u32>() as usize;
    let skipped = count(0..rows.start);
    let many = count(rows.clone());
    let values = column.floats.get(skipped..skipped + many).unwrap_or_default();
    (column.def.get(rows).unwrap_or_default(), values)
}

fn decode(
    footer: &Footer,
    bytes: &dyn RangedBytes,
    pages: &mut PageReader,
    (group, page, number): (usize, usize, usize),
    mut ints: Vec<i64>,
    floats: Vec<f64>,
) -> Result<Decoded> {
    let found = footer.0.groups.get(group).and_then(|g| {
        let rows = g.page(page)?;
        let at = g.chunks.get(number)?.pages.get(page)?;
        Some(((rows.end - rows.start) as usize, *at, footer.0.columns.get(number)?))
    });
    let Some((rows, at, described)) = found else {
        return Err(ColumnarError::file(footer.name(), "a page that is not there"));
    };
    let at_range = at.offset..at.offset + u64::from(at.len);
    // Making the place for errors allocates: only where one is to be told.
    let told = |e: ColumnarError| match e {
        ColumnarError::Corrupt { reason, .. } => {
            ColumnarError::Corrupt { place: footer.place(group, number), reason }
        }
        other => other,
    };
    let place = Place::default();
    let packed = fetch::read(bytes, &place, at_range.clone()).map_err(|e| match e {
        ColumnarError::Io { start, end, source, .. } => {
            ColumnarError::Io { place: footer.place(group, number), start, end, source }
        }
        other => other,
    })?;
    ints.clear();
    let mut out = Decoded { ints, floats, ..Decoded::default() };
    let limits = Limits { values: rows, body: rows * 10 + 4096 };
    let (_, values) = out.page(pages, &place, described, &packed, limits).map_err(told)?;
    if values != rows {
        let reason = format!("a page has {values} values for {rows} rows");
        return Err(ColumnarError::corrupt(&footer.place(group, number), reason));
    }
    Ok(out)
}
