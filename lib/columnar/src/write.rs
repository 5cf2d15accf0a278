//! Writing a part: series in, files out.
//!
//! Series come in order of their labels, each with all it has of the day. Its float samples wait by
//! window until there are enough for a row group of `samples.parquet`, which then has the first
//! window of all its series, then the second, then the third: a question about some hours reads only
//! their pages, and a question about one series a handful of pages close to each other. What waits
//! is bounded (a row group of each file) whatever the day has.

mod chunk;
mod file;
mod histograms;
mod samples;
mod series;
mod sinks;

use std::collections::BTreeSet;

use periplus_block::chunk::{ChunkSamples, HistogramValue};
use periplus_model::{Labels, TimeRange};
use serde::{Deserialize, Serialize};

use crate::aggregate::AggregateSamples;
use crate::checksum::Checksum;
use crate::error::{ColumnarError, Result};
use crate::names::NameFilter;
use crate::part::{
    Day, FORMAT_VERSION, PartFile, PartMeta, PartSummary, Resolution, WINDOW_MS, WINDOWS,
};

use chunk::Codec;
use file::FileWriter;
use histograms::{BUCKETS_MAX, HistogramRows, Holds, Item};
use samples::{Placed, SampleRows, ValueColumn};
use series::{Row, SeriesRows};

pub(crate) use file::META_KEY;
pub(crate) use histograms::{FORMS, Holds as HistogramHolds, exact};
pub(crate) use series::{GROUP_LABELS, GROUP_ROWS};
pub use sinks::{DirSinks, MemorySinks, Sinks};

/// Rows of `series.parquet` in a part at most: so many numbers an `sid` has below the part's own.
const SERIES_ROWS_MAX: i64 = 1 << 24;

/// How a part is written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// Rows of a page of `samples.parquet`, about: pages end where a series does.
    pub page_rows: usize,
    /// Rows of a row group of `samples.parquet`, about: so many wait in memory, 16 to 24 bytes each
    /// (48 for aggregates).
    pub group_rows: usize,
    /// Zstandard's level.
    pub zstd_level: i32,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { page_rows: 16_384, group_rows: 1 << 20, zstd_level: 3 }
    }
}

/// What a footer holds under [`META_KEY`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) version: u32,
    pub(crate) file: PartFile,
    #[serde(flatten)]
    pub(crate) summary: PartSummary,
}

/// A series that waits for the row group its samples are gathered for.
struct Waiting {
    labels: Labels,
    windows: Vec<(usize, Row, Placed)>,
}

/// Writes one part.
///
/// Dropped before [`finish`](Self::finish), the files have no footer and nobody can read them.
pub struct PartWriter {
    summary: PartSummary,
    options: WriteOptions,
    sinks: Box<dyn Sinks>,
    codec: Codec,
    series_file: FileWriter,
    series: SeriesRows,
    samples_file: Option<FileWriter>,
    samples: SampleRows,
    histograms_file: Option<FileWriter>,
    histograms: HistogramRows,
    waiting: Vec<Waiting>,
    /// The float samples of a series that has histograms too.
    floats: ChunkSamples,
    next_sid: i64,
    sid_base: i64,
    last: Option<Labels>,
    names: BTreeSet<String>,
}

impl PartWriter {
    /// Begins a part; `series.parquet` is created at once, the others when they get a row.
    ///
    /// # Errors
    /// The file can't be created.
    pub fn new(meta: PartMeta, options: WriteOptions, mut sinks: Box<dyn Sinks>) -> Result<Self> {
        let series_file = FileWriter::create(&mut *sinks, PartFile::Series, &meta)?;
        let codec = Codec::new(options.zstd_level)
            .map_err(|e| file::failed(PartFile::Series)(&format!("no compressor: {e}")))?;
        let low_bits = meta.part.random() as u64 & ((1 << 39) - 1);
        let is_raw = meta.resolution == Resolution::Raw;
        Ok(Self {
            options,
            sinks,
            codec,
            series_file,
            series: SeriesRows::new(&meta),
            samples_file: None,
            samples: SampleRows::new(is_raw, options.page_rows.clamp(1, 1 << 20)),
            histograms_file: None,
            histograms: HistogramRows::default(),
            waiting: Vec::new(),
            floats: ChunkSamples::new(),
            next_sid: 0,
            sid_base: (low_bits << 24).cast_signed(),
            last: None,
            names: BTreeSet::new(),
            summary: PartSummary {
                meta,
                range: None,
                series: 0,
                samples: 0,
                histograms: 0,
                names: NameFilter::default(),
                files: Vec::new(),
            },
        })
    }

    /// Samples and histograms taken so far.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.summary.samples + self.summary.histograms
    }

    /// Takes a series of a raw part: its own labels, without the external ones, and its samples of
    /// the day. One without samples is left out.
    ///
    /// # Errors
    /// Labels that do not sort after those before; times that do not ascend or lie outside the day;
    /// a part of another resolution; a full disk. After an error nothing more can be written.
    pub fn push(&mut self, labels: &Labels, samples: &ChunkSamples) -> Result<()> {
        if self.summary.meta.resolution != Resolution::Raw {
            return Err(refused(labels, "raw samples can't go into a part of aggregates"));
        }
        let range = self.check(labels, &samples.ts)?;
        let Some(range) = range else { return Ok(()) };
        if samples.values.len() != samples.ts.len()
            || !(samples.start_ts.is_empty() || samples.start_ts.len() == samples.ts.len())
        {
            return Err(refused(labels, "its columns have different lengths"));
        }
        let mut taken = std::mem::take(&mut self.floats);
        let floats = if samples.histograms.is_empty() {
            samples
        } else {
            only_floats(samples, &mut taken);
            &taken
        };
        let day = self.summary.meta.day;
        let mut windows = Vec::with_capacity(WINDOWS);
        for window in 0..WINDOWS {
            let of = day.window_range(window);
            let (a, b) = bounds(&floats.ts, of);
            let (ha, hb) = histogram_bounds(samples, of);
            if a == b && ha == hb {
                continue;
            }
            let sid = self.sid(labels)?;
            let mut row = Row { sid, window: window as i32, ..Row::default() };
            let start = floats.start_ts.get(a..b).unwrap_or_default();
            let start = if start.iter().any(|s| *s != 0) { start } else { &[] };
            let ts = floats.ts.get(a..b).unwrap_or_default();
            let values = floats.values.get(a..b).unwrap_or_default();
            let placed = self.samples.push(window, row.sid, ts, &[Some(values)], start);
            let mut sum = Checksum::new();
            if !ts.is_empty() {
                sum.ints(ts);
                sum.floats(values);
                sum.ints(start);
                row.numbers[7] = sum.finish();
            }
            let many = samples.histograms.get(ha..hb).unwrap_or_default();
            let mut t = TimeRange::new(i64::MAX, i64::MIN);
            if let (Some(first), Some(last)) = (ts.first(), ts.last()) {
                t = TimeRange::new(*first, *last);
            }
            if !many.is_empty() {
                let spanned = self.raw_histograms(labels, &mut row, samples, many)?;
                t = t.union(&spanned);
            }
            finish_row(&mut row, t, &placed, many.len(), false);
            windows.push((window, row, placed));
        }
        self.floats = taken;
        let count = (floats_len(samples), samples.histograms.len());
        self.queue(labels, range, windows, count)
    }

    fn raw_histograms(
        &mut self,
        labels: &Labels,
        row: &mut Row,
        samples: &ChunkSamples,
        many: &[(u32, HistogramValue)],
    ) -> Result<TimeRange> {
        let mut sum = Checksum::new();
        let from = self.histograms.next_row();
        let mut items = Vec::with_capacity(many.len());
        for (index, histogram) in many {
            let at = *index as usize;
            let ts = samples.ts.get(at).copied().unwrap_or_default();
            let start = samples.start_ts.get(at).copied().unwrap_or_default();
            let integer = exact(histogram);
            sum.histogram(ts, start, integer, histogram);
            items.push((ts, start, integer, histogram.to_float()));
        }
        if items.iter().any(|(_, _, _, h)| is_huge(h)) {
            return Err(refused(labels, "a histogram has more than a million buckets"));
        }
        let written = items.iter().map(|(ts, start, integer, histogram)| Item {
            ts: *ts,
            start: *start,
            observations: None,
            histogram,
            integer: *integer,
        });
        self.histograms.push(row.sid, Holds::Raw, written);
        row.numbers[4] = from.cast_signed();
        row.numbers[5] = (self.histograms.next_row() - from).cast_signed();
        row.numbers[8] = sum.finish();
        let ends = (items.first().map(|i| i.0), items.last().map(|i| i.0));
        Ok(TimeRange::new(ends.0.unwrap_or(i64::MAX), ends.1.unwrap_or(i64::MIN)))
    }

    /// Takes a series of a part of aggregates; one without any is left out.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_aggregates(&mut self, labels: &Labels, samples: &AggregateSamples) -> Result<()> {
        if self.summary.meta.resolution == Resolution::Raw {
            return Err(refused(labels, "aggregates can't go into a raw part"));
        }
        let times: Vec<i64> = samples.histograms.iter().map(|h| h.ts).collect();
        let whole = |c: &&Vec<f64>| c.is_empty() || c.len() == samples.ts.len();
        if !samples.columns().iter().all(whole) {
            return Err(refused(labels, "its columns have different lengths"));
        }
        let range = match (self.check(labels, &samples.ts)?, self.check(labels, &times)?) {
            (Some(a), Some(b)) => a.union(&b),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(()),
        };
        let day = self.summary.meta.day;
        let mut windows = Vec::with_capacity(WINDOWS);
        for window in 0..WINDOWS {
            let of = day.window_range(window);
            let (a, b) = bounds(&samples.ts, of);
            let (ha, hb) = bounds(&times, of);
            if a == b && ha == hb {
                continue;
            }
            let sid = self.sid(labels)?;
            let mut row = Row { sid, window: window as i32, ..Row::default() };
            let ts = samples.ts.get(a..b).unwrap_or_default();
            let columns = samples.columns().map(|c| c.get(a..b).filter(|c| !c.is_empty()));
            let placed = self.samples.push(window, row.sid, ts, &columns, &[]);
            if !ts.is_empty() {
                row.numbers[7] = aggregate_checksum(ts, &columns);
            }
            row.counter_first = samples.counter_first;
            row.counter_last = samples.counter_last;
            let mut t = TimeRange::new(i64::MAX, i64::MIN);
            if let (Some(first), Some(last)) = (ts.first(), ts.last()) {
                t = TimeRange::new(*first, *last);
            }
            if let (Some(first), Some(last)) =
                (times.get(ha..hb).and_then(<[_]>::first), times.get(ha..hb).and_then(<[_]>::last))
            {
                self.aggregate_histograms(labels, &mut row, samples, ha..hb)?;
                t = t.union(&TimeRange::new(*first, *last));
            }
            finish_row(&mut row, t, &placed, hb - ha, true);
            windows.push((window, row, placed));
        }
        self.queue(labels, range, windows, (samples.ts.len(), samples.histograms.len()))
    }

    fn aggregate_histograms(
        &mut self,
        labels: &Labels,
        row: &mut Row,
        samples: &AggregateSamples,
        of: std::ops::Range<usize>,
    ) -> Result<()> {
        let many = samples.histograms.get(of.clone()).unwrap_or_default();
        let from = self.histograms.next_row();
        let mut sum = Checksum::new();
        for (holds, of) in [(Holds::Sum, 0), (Holds::Counter, 1)] {
            let part = |h: &'_ crate::AggregateHistogram| {
                if of == 0 { h.sum.clone() } else { h.counter.clone() }
            };
            let there: Vec<_> =
                many.iter().filter_map(|h| Some((h.ts, h.observations, part(h)?))).collect();
            if there.iter().any(|(_, _, h)| is_huge(h)) {
                return Err(refused(labels, "a histogram has more than a million buckets"));
            }
            sum.word(there.len() as u64);
            for (ts, observations, histogram) in &there {
                sum.ints(&[*ts]);
                sum.floats(&[*observations]);
                sum.float_histogram(histogram);
            }
            let items = there.iter().map(|(ts, observations, histogram)| Item {
                ts: *ts,
                start: 0,
                observations: Some(*observations),
                histogram,
                integer: false,
            });
            self.histograms.push(row.sid, holds, items);
        }
        let ends = [
            (Holds::First, &samples.histogram_first, of.start == 0),
            (Holds::Last, &samples.histogram_last, of.end == samples.histograms.len()),
        ];
        for (holds, end, is_here) in ends {
            let Some((ts, histogram)) = end.as_ref().filter(|_| is_here) else { continue };
            if is_huge(histogram) {
                return Err(refused(labels, "a histogram has more than a million buckets"));
            }
            sum.word(holds as u64);
            sum.ints(&[*ts]);
            sum.float_histogram(histogram);
            let item = Item { ts: *ts, start: 0, observations: None, histogram, integer: false };
            self.histograms.push(row.sid, holds, std::iter::once(item));
        }
        if many.iter().any(|h| h.sum.is_none() && h.counter.is_none()) {
            return Err(refused(labels, "an aggregated histogram has neither sum nor counter"));
        }
        row.numbers[4] = from.cast_signed();
        row.numbers[5] = (self.histograms.next_row() - from).cast_signed();
        row.numbers[8] = sum.finish();
        Ok(())
    }

    /// Labels and times are in order; says what the times span.
    fn check(&self, labels: &Labels, ts: &[i64]) -> Result<Option<TimeRange>> {
        if let Some(last) = self.last.as_ref().filter(|last| *last >= labels) {
            return Err(refused(labels, format!("it must sort after the one before, {last:?}")));
        }
        let (Some(first), Some(last)) = (ts.first(), ts.last()) else { return Ok(None) };
        if !ts.is_sorted_by(|a, b| a < b) {
            return Err(refused(labels, "its times do not ascend"));
        }
        let day: Day = self.summary.meta.day;
        let range = TimeRange::new(*first, *last);
        if !day.range().contains(*first) || !day.range().contains(*last) {
            return Err(refused(labels, format!("it has samples outside of {day}")));
        }
        Ok(Some(range))
    }

    fn sid(&mut self, labels: &Labels) -> Result<i64> {
        if self.next_sid >= SERIES_ROWS_MAX {
            return Err(refused(labels, "a part has at most 16,777,216 series times windows"));
        }
        self.next_sid += 1;
        Ok(self.sid_base + self.next_sid - 1)
    }

    /// Counts a series and lets it wait for its row group; writes row groups that are full.
    fn queue(
        &mut self,
        labels: &Labels,
        range: TimeRange,
        windows: Vec<(usize, Row, Placed)>,
        (floats, histograms): (usize, usize),
    ) -> Result<()> {
        let summary = &mut self.summary;
        summary.series += 1;
        summary.samples += floats as u64;
        summary.histograms += histograms as u64;
        let before = summary.range.map_or(range, |(a, b)| TimeRange::new(a, b));
        let all = before.union(&range);
        summary.range = Some((all.min_t, all.max_t));
        if let Some(name) = labels.metric_name()
            && !self.names.contains(name)
        {
            self.names.insert(name.to_owned());
        }
        self.waiting.push(Waiting { labels: labels.clone(), windows });
        self.last = Some(labels.clone());
        if self.samples.waiting() >= self.options.group_rows || self.waiting.len() >= GROUP_ROWS {
            self.flush_samples()?;
        }
        if self.histograms.is_full() {
            self.flush_histograms()?;
        }
        Ok(())
    }

    fn flush_samples(&mut self) -> Result<()> {
        let starts = self.samples.window_starts();
        if self.samples.waiting() > 0 {
            if self.samples_file.is_none() {
                let meta = &self.summary.meta;
                let file = FileWriter::create(&mut *self.sinks, PartFile::Samples, meta)?;
                self.samples_file = Some(file);
            }
            if let Some(file) = &mut self.samples_file {
                self.samples.flush(file, &mut self.codec)?;
            }
        }
        for waiting in std::mem::take(&mut self.waiting) {
            for (window, mut row, placed) in waiting.windows {
                if placed.rows > 0 {
                    let start = starts.get(window).copied().unwrap_or_default();
                    row.numbers[2] = (start + placed.row).cast_signed();
                }
                self.series.push(&waiting.labels, row);
            }
            if self.series.is_full() {
                self.series.flush(&mut self.series_file, &mut self.codec)?;
            }
        }
        Ok(())
    }

    fn flush_histograms(&mut self) -> Result<()> {
        if self.histograms_file.is_none() {
            let meta = &self.summary.meta;
            let file = FileWriter::create(&mut *self.sinks, PartFile::Histograms, meta)?;
            self.histograms_file = Some(file);
        }
        if let Some(file) = &mut self.histograms_file {
            self.histograms.flush(file, &mut self.codec)?;
        }
        Ok(())
    }

    /// Writes what waits and the footers.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(mut self) -> Result<PartSummary> {
        self.flush_samples()?;
        self.series.flush(&mut self.series_file, &mut self.codec)?;
        if self.summary.histograms > 0 {
            self.flush_histograms()?;
        }
        let mut files = Vec::new();
        let names = NameFilter::new(self.names.iter().map(String::as_str));
        for (file, writer) in [
            (PartFile::Series, Some(self.series_file)),
            (PartFile::Samples, self.samples_file),
            (PartFile::Histograms, self.histograms_file),
        ] {
            let Some(writer) = writer else { continue };
            let mut summary = self.summary.clone();
            if file == PartFile::Series {
                summary.names = names.clone();
            }
            let description = Description { version: FORMAT_VERSION, file, summary };
            let text = serde_json::to_string(&description).map_err(|e| file::failed(file)(&e))?;
            files.push(writer.finish(text)?);
        }
        Ok(PartSummary { names, files, ..self.summary })
    }
}

/// The floats of samples that have histograms too.
fn only_floats(samples: &ChunkSamples, out: &mut ChunkSamples) {
    out.clear();
    let mut histograms = samples.histograms.iter().map(|(i, _)| *i as usize).peekable();
    for (i, (t, v)) in samples.ts.iter().zip(&samples.values).enumerate() {
        if histograms.next_if_eq(&i).is_none() {
            out.push(*t, *v, samples.start_ts.get(i).copied().unwrap_or(0));
        }
    }
}

fn floats_len(samples: &ChunkSamples) -> usize {
    samples.ts.len() - samples.histograms.len()
}

/// Where the times inside a range begin and end.
fn bounds(ts: &[i64], of: TimeRange) -> (usize, usize) {
    let from = ts.partition_point(|t| *t < of.min_t);
    (from, ts.partition_point(|t| *t <= of.max_t))
}

fn histogram_bounds(samples: &ChunkSamples, of: TimeRange) -> (usize, usize) {
    let t = |i: &u32| samples.ts.get(*i as usize).copied().unwrap_or(i64::MAX);
    let from = samples.histograms.partition_point(|(i, _)| t(i) < of.min_t);
    (from, samples.histograms.partition_point(|(i, _)| t(i) <= of.max_t))
}

fn is_huge(h: &periplus_model::FloatHistogram) -> bool {
    let spans = h.positive_spans.len() + h.negative_spans.len();
    let buckets = h.positive_buckets.len() + h.negative_buckets.len();
    spans + buckets + h.custom_values.len() > BUCKETS_MAX
}

/// The checksum of aggregated rows.
pub(crate) fn aggregate_checksum(ts: &[i64], columns: &[ValueColumn<'_>; 5]) -> i64 {
    let mut sum = Checksum::new();
    sum.ints(ts);
    for column in columns {
        sum.floats(column.unwrap_or_default());
    }
    sum.finish()
}

/// What of a row is known only when all of its window was taken.
fn finish_row(row: &mut Row, t: TimeRange, placed: &Placed, histograms: usize, aggregate: bool) {
    row.numbers[0] = t.min_t;
    row.numbers[1] = t.max_t;
    row.numbers[3] = placed.rows.cast_signed();
    row.numbers[6] = histograms as i64;
    row.kind = match (aggregate, placed.rows > 0, histograms > 0) {
        (true, ..) => "aggregate",
        (false, true, false) => "float",
        (false, false, true) => "histogram",
        _ => "mixed",
    };
}

fn refused(labels: &Labels, reason: impl Into<String>) -> ColumnarError {
    ColumnarError::Refused { series: format!("{labels:?}"), reason: reason.into() }
}

const _: () = assert!(WINDOW_MS * WINDOWS as i64 == crate::part::DAY_MS);
