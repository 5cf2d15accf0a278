//! `samples.parquet`: rows wait until there are enough for a row group, by window.

use parquet::basic::Type as Physical;
use parquet::file::statistics::Statistics;

use super::chunk::{ChunkWriter, Codec, Levels};
use super::file::{Chunk, FileWriter};
use crate::error::Result;
use crate::part::WINDOWS;
use crate::schema::samples as column;

/// The rows of a series in one window.
struct Segment {
    sid: i64,
    rows: usize,
}

/// Rows of one window of the row group that is being gathered.
#[derive(Default)]
struct Window {
    segments: Vec<Segment>,
    ts: Vec<i64>,
    /// Raw: one column. Aggregated: five.
    values: Vec<Vec<f64>>,
    /// Aggregated: 1 where a row has a value, for each column; empty for raw.
    present: Vec<Vec<u32>>,
    /// Raw: start timestamps, shorter than `ts` where none came since.
    start: Vec<i64>,
}

/// A value column of a series: `None` where it is not known.
pub(super) type ValueColumn<'a> = Option<&'a [f64]>;

/// Where rows came to lie: to be added to by where their window begins in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// The row's number within its window of the row group.
    pub(super) row: u64,
    pub(super) rows: u64,
}

pub(super) struct SampleRows {
    windows: [Window; WINDOWS],
    is_raw: bool,
    rows: usize,
    page_rows: usize,
    /// Rows in row groups that are written.
    written: u64,
}

impl SampleRows {
    pub(super) fn new(is_raw: bool, page_rows: usize) -> Self {
        let window = || Window {
            values: vec![Vec::new(); if is_raw { 1 } else { 5 }],
            present: vec![Vec::new(); if is_raw { 0 } else { 5 }],
            ..Window::default()
        };
        let windows = [window(), window(), window()];
        Self { windows, is_raw, rows: 0, page_rows, written: 0 }
    }

    /// Rows waiting.
    pub(super) fn waiting(&self) -> usize {
        self.rows
    }

    /// Takes a series' rows of one window.
    pub(super) fn push(
        &mut self,
        window: usize,
        sid: i64,
        ts: &[i64],
        values: &[ValueColumn<'_>],
        start: &[i64],
    ) -> Placed {
        let placed = |row: usize| Placed { row: row as u64, rows: ts.len() as u64 };
        let Some(to) = self.windows.get_mut(window) else { return placed(0) };
        let row = to.ts.len();
        to.segments.push(Segment { sid, rows: ts.len() });
        to.ts.extend_from_slice(ts);
        for (i, (column, given)) in to.values.iter_mut().zip(values).enumerate() {
            match given {
                Some(given) => column.extend_from_slice(given),
                None => column.resize(row + ts.len(), 0.0),
            }
            if let Some(present) = to.present.get_mut(i) {
                present.resize(row + ts.len(), u32::from(given.is_some()));
            }
        }
        if !start.is_empty() {
            to.start.resize(row, 0);
            to.start.extend_from_slice(start);
        }
        self.rows += ts.len();
        placed(row)
    }

    /// Where each window's first row will lie in the file, once [`Self::flush`] was called.
    pub(super) fn window_starts(&self) -> [u64; WINDOWS] {
        let mut at = self.written;
        std::array::from_fn(|w| {
            let start = at;
            at += self.windows.get(w).map_or(0, |w| w.ts.len() as u64);
            start
        })
    }

    /// Writes what waits as a row group.
    pub(super) fn flush(&mut self, file: &mut FileWriter, codec: &mut Codec) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let pages: Vec<Vec<Page>> =
            self.windows.iter().map(|w| pages(&w.segments, self.page_rows)).collect();
        for window in &mut self.windows {
            if self.is_raw {
                window.start.resize(window.ts.len(), 0);
            }
        }
        let (windows, is_raw) = (&self.windows, self.is_raw);
        file.group(|number, _| {
            let cut = || {
                windows.iter().zip(&pages).flat_map(|(w, pages)| pages.iter().map(move |p| (w, p)))
            };
            match number {
                column::SID => sids(codec, cut()),
                column::TS => times(codec, cut().map(|(w, p)| slice(&w.ts, p))),
                column::START if is_raw => starts(codec, cut().map(|(w, p)| slice(&w.start, p))),
                _ if is_raw => {
                    let mut chunk = ChunkWriter::new(None);
                    for (w, p) in cut() {
                        let values = w.values.first().map_or(&[][..], |v| slice(v, p));
                        chunk.f64_page(codec, p.rows, Levels::default(), values)?;
                    }
                    Ok(chunk.into())
                }
                _ => aggregates(codec, number - column::VALUE, cut()),
            }
        })?;
        self.written += self.rows as u64;
        self.rows = 0;
        for window in &mut self.windows {
            window.segments.clear();
            window.ts.clear();
            window.start.clear();
            window.values.iter_mut().for_each(Vec::clear);
            window.present.iter_mut().for_each(Vec::clear);
        }
        Ok(())
    }
}

/// Rows of one window that make a page.
struct Page {
    row: usize,
    rows: usize,
    /// Segments it touches: the first, and how many of its rows lie in an earlier page.
    segment: usize,
    skip: usize,
}

fn slice<'a, T>(all: &'a [T], page: &Page) -> &'a [T] {
    all.get(page.row..page.row + page.rows).unwrap_or_default()
}

/// Cuts pages at the ends of series; within one only where it is longer than two pages.
fn pages(segments: &[Segment], page_rows: usize) -> Vec<Page> {
    let (mut out, mut row) = (Vec::new(), 0);
    let mut page = Page { row: 0, rows: 0, segment: 0, skip: 0 };
    for (i, segment) in segments.iter().enumerate() {
        let (mut left, mut skip) = (segment.rows, 0);
        while left > 0 {
            if page.rows == 0 {
                page = Page { row, rows: 0, segment: i, skip };
            }
            let take = if left > 2 * page_rows { page_rows } else { left };
            page.rows += take;
            row += take;
            left -= take;
            skip += take;
            if page.rows >= page_rows {
                out.push(std::mem::replace(&mut page, Page { row, rows: 0, segment: i, skip }));
            }
        }
    }
    if page.rows > 0 {
        out.push(page);
    }
    out
}

fn sids<'a>(
    codec: &mut Codec,
    cut: impl Iterator<Item = (&'a Window, &'a Page)>,
) -> std::io::Result<Chunk> {
    let mut chunk = ChunkWriter::new(Some(Physical::INT64));
    let (mut sids, mut bounds) = (Vec::new(), None);
    for (window, page) in cut {
        sids.clear();
        let mut skip = page.skip;
        for segment in window.segments.get(page.segment..).unwrap_or_default() {
            let n = (segment.rows - skip).min(page.rows - sids.len());
            skip = 0;
            sids.resize(sids.len() + n, segment.sid);
            if sids.len() == page.rows {
                break;
            }
        }
        widen(&mut bounds, &sids);
        chunk.delta_page(codec, page.rows, Levels::default(), &sids)?;
    }
    Ok(Chunk { statistics: statistics(bounds), ..chunk.into() })
}

fn times<'a>(codec: &mut Codec, cut: impl Iterator<Item = &'a [i64]>) -> std::io::Result<Chunk> {
    let (mut chunk, mut bounds) = (ChunkWriter::new(Some(Physical::INT64)), None);
    for ts in cut {
        widen(&mut bounds, ts);
        chunk.delta_page(codec, ts.len(), Levels::default(), ts)?;
    }
    Ok(Chunk { statistics: statistics(bounds), ..chunk.into() })
}

/// Start timestamps; their bounds tell a reader where there are none but zeros.
fn starts<'a>(codec: &mut Codec, cut: impl Iterator<Item = &'a [i64]>) -> std::io::Result<Chunk> {
    let (mut chunk, mut bounds) = (ChunkWriter::new(Some(Physical::INT64)), None);
    for start in cut {
        widen(&mut bounds, start);
        chunk.delta_page(codec, start.len(), Levels::default(), start)?;
    }
    Ok(Chunk { statistics: statistics(bounds), ..chunk.into() })
}

fn aggregates<'a>(
    codec: &mut Codec,
    column: usize,
    cut: impl Iterator<Item = (&'a Window, &'a Page)>,
) -> std::io::Result<Chunk> {
    let (mut chunk, mut values) = (ChunkWriter::new(None), Vec::new());
    for (window, page) in cut {
        let all = window.values.get(column).map_or(&[][..], |v| slice(v, page));
        let present = window.present.get(column).map_or(&[][..], |v| slice(v, page));
        values.clear();
        values.extend(all.iter().zip(present).filter(|(_, p)| **p == 1).map(|(v, _)| *v));
        let levels = Levels { rep: None, def: Some(present) };
        chunk.f64_page(codec, page.rows, levels, &values)?;
    }
    Ok(chunk.into())
}

pub(super) fn widen(bounds: &mut Option<(i64, i64)>, values: &[i64]) {
    for value in values {
        *bounds = Some(bounds.map_or((*value, *value), |(a, b)| (a.min(*value), b.max(*value))));
    }
}

pub(super) fn statistics(bounds: Option<(i64, i64)>) -> Option<Statistics> {
    bounds.map(|(min, max)| Statistics::int64(Some(min), Some(max), None, Some(0), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(rows: &[usize]) -> Vec<(usize, usize, usize, usize)> {
        let segments: Vec<Segment> = rows.iter().map(|r| Segment { sid: 0, rows: *r }).collect();
        pages(&segments, 10).iter().map(|p| (p.row, p.rows, p.segment, p.skip)).collect()
    }

    #[test]
    fn pages_end_with_series() {
        assert_eq!(cut(&[4, 4, 4, 4]), [(0, 12, 0, 0), (12, 4, 3, 0)]);
        assert_eq!(cut(&[10, 19]), [(0, 10, 0, 0), (10, 19, 1, 0)]);
        // Only a series longer than two pages is split.
        assert_eq!(
            cut(&[3, 35, 2]),
            [(0, 13, 0, 0), (13, 10, 1, 10), (23, 15, 1, 20), (38, 2, 2, 0)]
        );
        assert_eq!(cut(&[]), []);
    }
}
