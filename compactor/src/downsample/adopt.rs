//! Thanos's aggregate chunks, as columns of one day.
//!
//! A chunk may span days, and a counter is told relative to its chunk: the first sample is the first raw
//! one, resets are added up from there, and the last sample stands twice, the second time as the raw
//! one was. So a day's first value may be one that an earlier day's chunk has grown to, and its last raw
//! value one that the chunk goes on from; the difference between the two days stays right either way.

use std::sync::Arc;

use periplus_block::chunk::{
    Aggregate, AggregateChunk, ChunkEncoding, ChunkError, ChunkSamples, HistogramValue,
};
use periplus_block::index::Series;
use periplus_block::{Block, BlockError};
use periplus_columnar::{AggregateHistogram, AggregateSamples, HistogramTotal, Resolution};
use periplus_model::{CounterResetHint, FloatHistogram, TimeRange};

/// The aggregates of a series of a downsampled block that lie in `day`.
///
/// A chunk of raw samples, which Thanos wrote into such blocks at times, is downsampled here.
///
/// # Errors
/// What is wrong with a chunk; names the series.
pub fn series(
    block: &Block,
    series: &Series,
    day: TimeRange,
    resolution: Resolution,
) -> Result<AggregateSamples, BlockError> {
    let mut adopted = Adopted::default();
    for chunk in series.chunks.iter().filter(|c| c.range.overlaps(&day)) {
        let stored = block.chunk(series, chunk)?;
        if stored.encoding_byte == ChunkEncoding::Aggregate.byte() {
            block.with_aggregate(series, chunk, |parts| adopted.chunk(parts, day))?;
        } else {
            let mut samples = ChunkSamples::new();
            block.decode(series, chunk, day, &mut samples)?;
            adopted.append(&super::raw(&samples, resolution));
        }
    }
    Ok(adopted.finish())
}

/// A series' aggregates, put together from several.
#[derive(Default)]
pub(crate) struct Adopted {
    out: AggregateSamples,
    /// Raw value and total of the counter at its last sample.
    counter: Option<(i64, f64, f64)>,
    /// The same of histograms.
    histogram: Option<(i64, FloatHistogram, FloatHistogram)>,
}

impl Adopted {
    fn chunk(&mut self, parts: &AggregateChunk<'_>, day: TimeRange) -> Result<(), ChunkError> {
        let decode = |aggregate, range| {
            let mut samples = ChunkSamples::new();
            match parts.get(aggregate) {
                Some(_) => parts.decode(aggregate, range, &mut samples).map(|()| samples),
                None => Ok(samples),
            }
        };
        let columns = [
            decode(Aggregate::Count, day)?,
            decode(Aggregate::Sum, day)?,
            decode(Aggregate::Min, day)?,
            decode(Aggregate::Max, day)?,
        ];
        // What lies before the day is where the counter comes from.
        let counter = decode(Aggregate::Counter, TimeRange::new(i64::MIN, day.max_t))?;
        if columns[1].histograms.is_empty() && counter.histograms.is_empty() {
            self.floats(&columns, &counter, day);
        } else {
            self.histograms(&columns, counter, day);
        }
        Ok(())
    }

    fn floats(&mut self, columns: &[ChunkSamples; 4], counter: &ChunkSamples, day: TimeRange) {
        let totals = self.count(counter, day);
        let after = self.out.ts.last().copied().unwrap_or(i64::MIN);
        // All four have the same times; any of them may be missing.
        let Some(longest) = columns.iter().max_by_key(|c| c.len()) else { return };
        let times = if longest.is_empty() {
            totals.iter().map(|(t, _)| *t).collect()
        } else {
            longest.ts.clone()
        };
        for t in times.into_iter().filter(|t| *t > after) {
            let rows = self.out.ts.len();
            self.out.ts.push(t);
            let at = |c: &ChunkSamples| {
                c.ts.binary_search(&t).ok().and_then(|i| c.values.get(i)).copied()
            };
            let total = totals.partition_point(|(at, _)| *at <= t).checked_sub(1);
            let total = total.and_then(|i| totals.get(i)).map(|(_, v)| *v);
            let [count, sum, min, max] = columns;
            let values = [at(count), at(sum), at(min), at(max), total];
            for (column, value) in self.out.columns_mut().into_iter().zip(values) {
                fill(column, rows, value);
            }
        }
    }

    /// Goes on counting: times and totals in the day.
    fn count(&mut self, part: &ChunkSamples, day: TimeRange) -> Vec<(i64, f64)> {
        let mut totals = Vec::new();
        // A chunk that began before the day is counted from what it had grown to.
        for (&t, &v) in part.ts.iter().zip(&part.values) {
            if v.is_nan() || t < day.min_t {
                continue;
            }
            match &mut self.counter {
                None => {
                    self.counter = Some((t, v, v));
                    self.out.counter_first = Some((t, v));
                    totals.push((t, v));
                }
                Some((last_t, raw, total)) if t > *last_t => {
                    *total += if v >= *raw { v - *raw } else { v };
                    (*last_t, *raw) = (t, v);
                    totals.push((t, *total));
                }
                Some((last_t, raw, _)) if t == *last_t => *raw = v,
                Some(_) => {}
            }
        }
        self.out.counter_last = self.counter.map(|(_, raw, _)| raw).or(self.out.counter_last);
        totals
    }

    fn histograms(&mut self, columns: &[ChunkSamples; 4], counter: ChunkSamples, day: TimeRange) {
        let [count, sum, ..] = columns;
        let after = self.out.histograms.last().map_or(i64::MIN, |h| h.ts);
        let mut counters = self.count_histograms(floats_of(counter), day).into_iter().peekable();
        let mut sums = floats_of(sum.clone()).into_iter().peekable();
        let times = if count.is_empty() { sum.ts.clone() } else { count.ts.clone() };
        for t in times.into_iter().filter(|t| *t > after && day.contains(*t)) {
            let at = |from: &mut std::iter::Peekable<std::vec::IntoIter<(i64, FloatHistogram)>>| {
                while from.next_if(|(at, _)| *at < t).is_some() {}
                from.next_if(|(at, _)| *at == t).map(|(_, h)| h)
            };
            let observations =
                count.ts.binary_search(&t).ok().and_then(|i| count.values.get(i)).copied();
            let sum = at(&mut sums).map(|mut h| {
                h.counter_reset_hint = CounterResetHint::Gauge;
                Arc::new(h)
            });
            self.out.histograms.push(AggregateHistogram {
                ts: t,
                observations: observations.unwrap_or(f64::NAN),
                sum,
                counter: at(&mut counters).map(Arc::new),
            });
        }
    }

    /// [`count`](Self::count) of histograms: times in the day, and what they stand at.
    fn count_histograms(
        &mut self,
        part: Vec<(i64, FloatHistogram)>,
        day: TimeRange,
    ) -> Vec<(i64, FloatHistogram)> {
        let (mut totals, mut offset, mut has_begun) = (Vec::new(), None, false);
        for (t, mut h) in part.into_iter().filter(|(t, _)| day.contains(*t)) {
            if h.counter_reset_hint == CounterResetHint::Gauge {
                totals.push((t, h));
                continue;
            }
            match &mut self.histogram {
                Some((last_t, raw, _)) if t == *last_t => {
                    *raw = h;
                    continue;
                }
                Some((last_t, ..)) if t < *last_t => continue,
                _ => {}
            }
            if !has_begun {
                has_begun = true;
                offset = self.offset(&h);
                if self.histogram.is_none() {
                    self.out.histogram_first = Some((t, Arc::new(h.clone())));
                }
            }
            let raw = h.clone();
            if let Some(offset) = &offset {
                HistogramTotal::shift(&mut h, offset);
            }
            self.histogram = Some((t, raw, h.clone()));
            totals.push((t, h));
        }
        totals
    }

    /// What the counters of a run that begins with `first` are to be moved by.
    fn offset(&self, first: &FloatHistogram) -> Option<FloatHistogram> {
        let (_, raw, total) = self.histogram.as_ref()?;
        let mut so_far = HistogramTotal::default();
        so_far.ended(raw.clone(), total.clone());
        so_far.offset(first)
    }

    /// What was put together.
    pub(crate) fn finish(mut self) -> AggregateSamples {
        self.out.histogram_last = self.histogram.map(|(t, raw, _)| (t, Arc::new(raw)));
        if self.out.histograms.is_empty() {
            (self.out.histogram_first, self.out.histogram_last) = (None, None);
        }
        self.out
    }

    /// Appends what follows, or overlaps and reaches further.
    pub(crate) fn append(&mut self, more: &AggregateSamples) {
        let after = self.out.ts.last().copied().unwrap_or(i64::MIN);
        let skip = more.ts.partition_point(|t| *t <= after);
        let mut shift = 0.0;
        if let (Some((first_t, first)), Some(last)) = (more.counter_first, more.counter_last) {
            match &mut self.counter {
                None => self.out.counter_first = Some((first_t, first)),
                Some((_, raw, total)) => {
                    *total += if first >= *raw { first - *raw } else { first };
                    shift = *total - first;
                }
            }
            let total = more.counter.last().copied().unwrap_or(first) + shift;
            let last_t = more.ts.last().copied().unwrap_or(first_t);
            self.counter = Some((last_t, last, total));
            self.out.counter_last = Some(last);
        }
        let rows = self.out.ts.len();
        for (i, t) in more.ts.iter().enumerate().skip(skip) {
            self.out.ts.push(*t);
            let shifts = [0.0, 0.0, 0.0, 0.0, shift];
            let from = more.columns();
            for ((to, from), by) in self.out.columns_mut().into_iter().zip(from).zip(shifts) {
                fill(to, rows + i - skip, from.get(i).map(|v| *v + by));
            }
        }
        self.append_histograms(more);
    }

    fn append_histograms(&mut self, more: &AggregateSamples) {
        let mut offset = None;
        if let (Some((_, first)), Some((t, last))) = (&more.histogram_first, &more.histogram_last) {
            offset = self.offset(first);
            if self.histogram.is_none() {
                self.out.histogram_first = more.histogram_first.clone();
            }
            let counter = more.histograms.iter().rev().find_map(|h| h.counter.as_deref());
            let mut total = counter.unwrap_or(last).clone();
            if let Some(offset) = &offset {
                HistogramTotal::shift(&mut total, offset);
            }
            self.histogram = Some((*t, FloatHistogram::clone(last), total));
        }
        let after = self.out.histograms.last().map_or(i64::MIN, |h| h.ts);
        for h in more.histograms.iter().filter(|h| h.ts > after) {
            let mut h = h.clone();
            if let (Some(offset), Some(counter)) = (&offset, &mut h.counter) {
                HistogramTotal::shift(Arc::make_mut(counter), offset);
            }
            self.out.histograms.push(h);
        }
    }
}

/// Puts a value at the end of a column that is to have `rows` before it. What is missing in a column
/// that others' chunks have is NaN; a column that no chunk has stays empty.
fn fill(column: &mut Vec<f64>, rows: usize, value: Option<f64>) {
    match value {
        Some(value) => {
            column.resize(rows, f64::NAN);
            column.push(value);
        }
        None if column.is_empty() => {}
        None => column.push(f64::NAN),
    }
}

fn floats_of(samples: ChunkSamples) -> Vec<(i64, FloatHistogram)> {
    let ts = samples.ts;
    let time = |i: u32| ts.get(i as usize).copied().unwrap_or(i64::MIN);
    let floats = |h: HistogramValue| h.into_float();
    samples.histograms.into_iter().map(|(i, h)| (time(i), floats(h))).collect()
}
