//! From pages of `histograms.parquet` to native histograms.

use std::ops::Range;
use std::sync::Arc;

use periplus_block::chunk::HistogramValue;
use periplus_block::source::RangedBytes;
use periplus_model::{FloatHistogram, Histogram, SampleBuffer, Span, TimeRange};

use crate::checksum::hint_of;
use crate::column::{Decoded, Limits};
use crate::error::{ColumnarError, Result};
use crate::fetch;
use crate::footer::{Footer, PAGE_ROWS_MAX};
use crate::page::PageReader;
use crate::schema::histograms as column;
use crate::series::Window;
use crate::write::{FORMS, HistogramHolds};

/// Numbers in a list column of a page at most, and bytes of a page: histograms of a million buckets,
/// four of them.
const VALUES_MAX: usize = 1 << 22;
const BODY_MAX: usize = (VALUES_MAX + (1 << 16)) * 9;

/// What of a window's histograms is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramColumn {
    /// Of a raw part: they.
    Raw,
    /// Of aggregates: the sum of each interval.
    Sum,
    /// Of aggregates: the last of each interval, resets added up.
    Counter,
    /// Of aggregates: the sum of each interval, divided by how many samples it had.
    Average,
    /// Of aggregates: how many samples each interval had, as floats.
    Observations,
    /// Of aggregates: the part's first histogram as it was scraped; in the first window that has any.
    First,
    /// Of aggregates: the last one; in the last window that has any.
    Last,
}

impl HistogramColumn {
    /// What is stored under which name.
    const fn name(self) -> &'static str {
        let holds = match self {
            Self::Raw => HistogramHolds::Raw,
            Self::Sum | Self::Average | Self::Observations => HistogramHolds::Sum,
            Self::Counter => HistogramHolds::Counter,
            Self::First => HistogramHolds::First,
            Self::Last => HistogramHolds::Last,
        };
        HistogramHolds::NAMES[holds as usize]
    }
}

/// One histogram as it was stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) ts: i64,
    pub(crate) start: i64,
    /// Raw samples it stands for; 0 in raw parts.
    pub(crate) observations: f64,
    pub(crate) histogram: FloatHistogram,
    pub(crate) integer: bool,
}

impl Stored {
    /// In the form it was given in.
    pub(crate) fn value(self) -> HistogramValue {
        if !self.integer {
            return HistogramValue::Float(self.histogram);
        }
        let deltas = |counts: &[f64]| {
            let mut before = 0i64;
            let delta = |count: &f64| {
                let count = *count as i64;
                let delta = count.wrapping_sub(before);
                before = count;
                delta
            };
            counts.iter().map(delta).collect()
        };
        let h = self.histogram;
        HistogramValue::Integer(Histogram {
            counter_reset_hint: h.counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: h.zero_count as u64,
            count: h.count as u64,
            sum: h.sum,
            positive_buckets: deltas(&h.positive_buckets),
            negative_buckets: deltas(&h.negative_buckets),
            positive_spans: h.positive_spans,
            negative_spans: h.negative_spans,
            custom_values: h.custom_values,
        })
    }
}

/// A page, all of its columns.
struct Page {
    at: (usize, usize),
    columns: Vec<Decoded>,
    /// For each list column: where each row's list ends.
    ends: Vec<Vec<usize>>,
}

/// Reads the histograms of windows. One for each thread.
pub struct HistogramReader {
    footer: Footer,
    bytes: Arc<dyn RangedBytes>,
    pages: PageReader,
    kept: Option<Page>,
}

impl HistogramReader {
    /// A reader of a file's histograms; `bytes` has at least the ranges that
    /// [`Footer::histogram_ranges`] names for the windows that will be asked for.
    ///
    /// # Errors
    /// The footer is of another file; there is no memory for a decompressor.
    pub fn new(footer: &Footer, bytes: Arc<dyn RangedBytes>) -> Result<Self> {
        if footer.file() != crate::PartFile::Histograms {
            return Err(ColumnarError::file(footer.name(), "it holds no histograms"));
        }
        Ok(Self { footer: footer.clone(), bytes, pages: PageReader::new()?, kept: None })
    }

    /// Adds a window's histograms inside `range` to samples that may hold the window's floats
    /// already: they come to lie where their times are.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn append(
        &mut self,
        window: &Window,
        range: TimeRange,
        holds: HistogramColumn,
        out: &mut SampleBuffer,
    ) -> Result<()> {
        let mut found = self.stored(window, holds)?;
        if holds == HistogramColumn::Average {
            found.iter_mut().for_each(|s| s.histogram.div(s.observations));
        }
        let mut found = found.into_iter().filter(|s| range.contains(s.ts)).peekable();
        let Some(first) = found.peek() else { return Ok(()) };
        // Floats behind the first histogram are taken off and put back in order.
        let from = out.ts.partition_point(|t| *t < first.ts);
        let floats: Vec<(i64, f64, i64)> = (from..out.ts.len())
            .map(|i| {
                let at = |v: &[i64]| v.get(i).copied().unwrap_or(0);
                (at(&out.ts), out.values.get(i).copied().unwrap_or(0.0), at(&out.start_ts))
            })
            .collect();
        out.ts.truncate(from);
        out.values.truncate(from);
        out.start_ts.truncate(from);
        let mut floats = floats.into_iter().peekable();
        for stored in found {
            while let Some((t, v, start)) = floats.next_if(|(t, ..)| *t < stored.ts) {
                push_float(out, t, v, start);
            }
            if holds == HistogramColumn::Observations {
                out.push(stored.ts, stored.observations);
                continue;
            }
            out.push_histogram(stored.ts, Arc::new(stored.histogram));
            if stored.start != 0 {
                out.set_last_start(stored.start);
            }
        }
        for (t, v, start) in floats {
            push_float(out, t, v, start);
        }
        Ok(())
    }

    /// The part's first and last histogram as they were scraped, where the window has them.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn ends(&mut self, window: &Window) -> Result<[Option<FloatHistogram>; 2]> {
        let first = self.stored(window, HistogramColumn::First)?.into_iter().next();
        let last = self.stored(window, HistogramColumn::Last)?.into_iter().next();
        Ok([first, last].map(|end| end.map(|stored| stored.histogram)))
    }

    /// A window's histograms of one kind, ascending in time.
    pub(crate) fn stored(
        &mut self,
        window: &Window,
        holds: HistogramColumn,
    ) -> Result<Vec<Stored>> {
        let mut out = Vec::new();
        let mut row = window.histogram_rows.start;
        while row < window.histogram_rows.end {
            let (group, page, rows) = self.footer.locate(row).ok_or_else(|| {
                let reason = format!("a series is said to have row {row}, which is not there");
                ColumnarError::file(self.footer.name(), reason)
            })?;
            if self.kept.as_ref().is_none_or(|p| p.at != (group, page)) {
                self.kept = None;
                self.kept = Some(self.decode(group, page, &rows)?);
            }
            let end = window.histogram_rows.end.min(rows.end);
            if let Some(kept) = &self.kept {
                for i in row - rows.start..end - rows.start {
                    let made = kept.row(i as usize, holds, &mut out);
                    made.ok_or_else(|| {
                        let mut place = self.footer.place(group, column::POSITIVE);
                        place.column = None;
                        ColumnarError::corrupt(&place, "a row's lists don't fit each other")
                    })?;
                }
            }
            row = end;
        }
        if !out.is_sorted_by(|a, b| a.ts < b.ts) {
            let reason = "a series' histograms do not ascend in time";
            return Err(ColumnarError::file(self.footer.name(), reason));
        }
        Ok(out)
    }

    fn decode(&mut self, group: usize, page: usize, rows: &Range<u64>) -> Result<Page> {
        let footer = &self.footer;
        let missing = || ColumnarError::file(footer.name(), "a page that is not there");
        let described = footer.0.groups.get(group).ok_or_else(missing)?;
        let rows = (rows.end - rows.start).min(PAGE_ROWS_MAX) as usize;
        let mut out = Page { at: (group, page), columns: Vec::new(), ends: Vec::new() };
        for (number, (of, chunk)) in footer.0.columns.iter().zip(&described.chunks).enumerate() {
            let place = footer.place(group, number);
            let mut decoded = Decoded::default();
            let limits = Limits { values: VALUES_MAX, body: BODY_MAX };
            if chunk.range.start < chunk.data_start {
                let range = chunk.range.start..chunk.data_start;
                let bytes = fetch::read(&*self.bytes, &place, range)?;
                decoded.page(&mut self.pages, &place, of, &bytes, limits)?;
            }
            let at = chunk.pages.get(page).ok_or_else(missing)?;
            let range = at.offset..at.offset + u64::from(at.len);
            let bytes = fetch::read(&*self.bytes, &place, range)?;
            let (_, values) = decoded.page(&mut self.pages, &place, of, &bytes, limits)?;
            let ends = if of.shape.repeats() { list_ends(&decoded) } else { vec![0; values] };
            if ends.len() != rows {
                let reason = format!("a page has {} rows instead of {rows}", ends.len());
                return Err(ColumnarError::corrupt(&place, reason));
            }
            out.columns.push(decoded);
            out.ends.push(ends);
        }
        Ok(out)
    }
}

fn push_float(out: &mut SampleBuffer, t: i64, v: f64, start: i64) {
    out.push(t, v);
    if start != 0 {
        out.set_last_start(start);
    }
}

/// Where each row's list ends among the elements.
fn list_ends(column: &Decoded) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 0);
    for (rep, def) in column.rep.iter().zip(&column.def) {
        if *rep == 0 {
            ends.push(at);
        }
        at += *def as usize;
        if let Some(end) = ends.last_mut() {
            *end = at;
        }
    }
    ends
}

impl Page {
    fn list<'a, T>(
        &'a self,
        number: usize,
        row: usize,
        of: impl Fn(&'a Decoded) -> &'a Vec<T>,
    ) -> Option<&'a [T]> {
        let ends = self.ends.get(number)?;
        let start = row.checked_sub(1).map_or(Some(0), |r| ends.get(r).copied())?;
        of(self.columns.get(number)?).get(start..*ends.get(row)?)
    }

    fn floats(&self, number: usize, row: usize) -> Option<&[f64]> {
        self.list(number, row, |c| &c.floats)
    }

    fn spans(&self, number: usize, row: usize) -> Option<Vec<Span>> {
        let offsets = self.list(number, row, |c| &c.shorts)?;
        let lengths = self.list(number + 1, row, |c| &c.shorts)?;
        if offsets.len() != lengths.len() {
            return None;
        }
        let span = |(o, l): (&i32, &i32)| Span { offset: *o, length: l.cast_unsigned() };
        Some(offsets.iter().zip(lengths).map(span).collect())
    }

    fn text(&self, number: usize, row: usize) -> Option<&str> {
        let column = self.columns.get(number)?;
        Some(column.texts.get(*column.indexes.get(row)?))
    }

    /// Appends the histograms of a row, if it holds what is wanted; `None` where its columns
    /// contradict each other.
    fn row(&self, row: usize, holds: HistogramColumn, out: &mut Vec<Stored>) -> Option<()> {
        if self.text(column::AGGREGATE, row)? != holds.name() {
            return Some(());
        }
        let integer = self.text(column::FORM, row)? == FORMS[1];
        let ts = self.list(column::TS, row, |c| &c.ints)?;
        let start = self.list(column::START, row, |c| &c.ints)?;
        let hint = self.list(column::HINT, row, |c| &c.shorts)?;
        let (count, sum) = (self.floats(column::COUNT, row)?, self.floats(column::SUM, row)?);
        let zero = self.floats(column::ZERO_COUNT, row)?;
        let positive = self.floats(column::POSITIVE, row)?;
        let negative = self.floats(column::NEGATIVE, row)?;
        let observations = self.floats(column::OBSERVATIONS, row)?;
        let n = ts.len();
        let is_whole = |len: usize| len == n;
        let is_whole_or_none = |len: usize| len == n || len == 0;
        let fits = is_whole(hint.len())
            && [count, sum, zero].iter().all(|l| is_whole(l.len()))
            && is_whole_or_none(start.len())
            && is_whole_or_none(observations.len())
            && n > 0
            && positive.len().is_multiple_of(n)
            && negative.len().is_multiple_of(n);
        if !fits {
            return None;
        }
        let layout = FloatHistogram {
            schema: *self.columns.get(column::SCHEMA)?.shorts.get(row)?,
            zero_threshold: *self.columns.get(column::ZERO_THRESHOLD)?.floats.get(row)?,
            positive_spans: self.spans(column::SPANS, row)?,
            negative_spans: self.spans(column::SPANS + 2, row)?,
            custom_values: self.floats(column::CUSTOM, row)?.to_vec(),
            ..FloatHistogram::default()
        };
        let buckets = |spans: &[Span]| spans.iter().map(|s| u64::from(s.length)).sum::<u64>();
        if buckets(&layout.positive_spans) != (positive.len() / n) as u64
            || buckets(&layout.negative_spans) != (negative.len() / n) as u64
        {
            return None;
        }
        let at = |i: usize, of: &[f64]| of.iter().skip(i).step_by(n).copied().collect::<Vec<_>>();
        for i in 0..n {
            out.push(Stored {
                ts: *ts.get(i)?,
                start: start.get(i).copied().unwrap_or(0),
                observations: observations.get(i).copied().unwrap_or(0.0),
                integer,
                histogram: FloatHistogram {
                    counter_reset_hint: hint_of(*hint.get(i)?)?,
                    count: *count.get(i)?,
                    sum: *sum.get(i)?,
                    zero_count: *zero.get(i)?,
                    positive_buckets: at(i, positive),
                    negative_buckets: at(i, negative),
                    ..layout.clone()
                },
            });
        }
        Some(())
    }
}
