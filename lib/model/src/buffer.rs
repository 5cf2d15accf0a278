//! A run of decoded samples in columns.

use std::sync::Arc;

use crate::{FloatHistogram, TimeRange};

/// Samples of one series, in order of time, in columns: what chunk decoders append to and what
/// range functions read.
///
/// Invariants: `ts` and `values` have the same length and `ts` ascends strictly within one series.
/// `histograms` holds `(index, histogram)` in ascending order of index for the samples that are
/// histograms; `values` at such an index is 0 and means nothing. `start_ts` is empty (no start
/// timestamp known for any sample) or as long as `ts`, 0 meaning "none".
///
/// Made to be reused: [`clear`](Self::clear) keeps the allocations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleBuffer {
    /// Unix milliseconds.
    pub ts: Vec<i64>,
    /// Float values, bits as stored (NaN payloads included).
    pub values: Vec<f64>,
    /// The samples that are histograms, by index into `ts`.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
    /// Start timestamps in Unix milliseconds, 0 for none; empty when no sample has one.
    pub start_ts: Vec<i64>,
}

impl SampleBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the samples and keeps the memory.
    pub fn clear(&mut self) {
        self.ts.clear();
        self.values.clear();
        self.histograms.clear();
        self.start_ts.clear();
    }

    /// Keeps the first `len` samples.
    pub fn truncate(&mut self, len: usize) {
        self.ts.truncate(len);
        self.values.truncate(len);
        self.start_ts.truncate(len);
        let keep = self.histograms.partition_point(|(i, _)| (*i as usize) < len);
        self.histograms.truncate(keep);
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Appends a float.
    #[inline]
    pub fn push(&mut self, t: i64, v: f64) {
        self.ts.push(t);
        self.values.push(v);
        if !self.start_ts.is_empty() {
            self.start_ts.push(0);
        }
    }

    /// Appends a histogram.
    pub fn push_histogram(&mut self, t: i64, h: Arc<FloatHistogram>) {
        self.histograms.push((self.ts.len() as u32, h));
        self.push(t, 0.0);
    }

    /// Sets the start timestamp of the last sample; the ones before it get "none".
    pub fn set_last_start(&mut self, start_ms: i64) {
        self.start_ts.resize(self.ts.len(), 0);
        if let Some(last) = self.start_ts.last_mut() {
            *last = start_ms;
        }
    }

    /// Appends the sample of `from` at `index` with all that is known of it; histograms are shared, not
    /// copied. Nothing happens where there is none.
    pub fn push_from(&mut self, from: &Self, index: usize) {
        let (Some(t), Some(v)) = (from.ts.get(index), from.values.get(index)) else { return };
        match from.histogram_at(index) {
            Some(h) => self.push_histogram(*t, Arc::clone(h)),
            None => self.push(*t, *v),
        }
        if let Some(start) = from.start_ts.get(index).filter(|start| **start != 0) {
            self.set_last_start(*start);
        }
    }

    /// Appends the samples of `from` that lie in `range`.
    pub fn extend_range(&mut self, from: &Self, range: TimeRange) {
        let lo = from.ts.partition_point(|t| *t < range.min_t);
        let hi = from.ts.partition_point(|t| *t <= range.max_t).max(lo);
        let base = self.ts.len();
        self.ts.extend_from_slice(from.ts.get(lo..hi).unwrap_or_default());
        self.values.extend_from_slice(from.values.get(lo..hi).unwrap_or_default());
        let starts = from.start_ts.get(lo..hi).unwrap_or_default();
        if !self.start_ts.is_empty() || starts.iter().any(|start| *start != 0) {
            self.start_ts.resize(base, 0);
            self.start_ts.extend_from_slice(starts);
            self.start_ts.resize(self.ts.len(), 0);
        }
        let first = from.histograms.partition_point(|(i, _)| (*i as usize) < lo);
        let inside = from.histograms.iter().skip(first).take_while(|(i, _)| (*i as usize) < hi);
        self.histograms
            .extend(inside.map(|(i, h)| ((*i as usize - lo + base) as u32, Arc::clone(h))));
    }

    /// The histogram at `index`, `None` where the sample is a float.
    #[must_use]
    pub fn histogram_at(&self, index: usize) -> Option<&Arc<FloatHistogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let found = self.histograms.binary_search_by_key(&index, |(i, _)| *i as usize).ok()?;
        self.histograms.get(found).map(|(_, h)| h)
    }

    /// The first and last time; empty when there are no samples.
    #[must_use]
    pub fn time_range(&self) -> TimeRange {
        match (self.ts.first(), self.ts.last()) {
            (Some(a), Some(b)) => TimeRange::new(*a, *b),
            _ => TimeRange::new(0, -1),
        }
    }

    /// Heap bytes in use, histograms not counted.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        (self.ts.capacity() + self.values.capacity() + self.start_ts.capacity()) * 8
            + self.histograms.capacity() * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(count: f64) -> Arc<FloatHistogram> {
        Arc::new(FloatHistogram { count, ..FloatHistogram::default() })
    }

    /// A float, a histogram, a float with a start, a histogram with one, a float.
    fn mixed() -> SampleBuffer {
        let mut all = SampleBuffer::new();
        all.push(10, 1.0);
        all.push_histogram(20, histogram(2.0));
        all.push(30, 3.0);
        all.set_last_start(25);
        all.push_histogram(40, histogram(4.0));
        all.set_last_start(35);
        all.push(50, 5.0);
        all
    }

    #[test]
    fn a_range_is_its_samples_one_by_one() {
        let from = mixed();
        for before in [0, 1, 4] {
            for (min, max) in [(0, 100), (10, 10), (15, 45), (30, 40), (41, 49), (60, 90), (40, 20)]
            {
                let range = TimeRange::new(min, max);
                let (mut at_once, mut singly) = (SampleBuffer::new(), SampleBuffer::new());
                for i in 0..before {
                    // What stands there already, with and without starts.
                    at_once.push_from(&from, i);
                    singly.push_from(&from, i);
                }
                at_once.extend_range(&from, range);
                (0..from.len())
                    .filter(|i| range.contains(from.ts[*i]))
                    .for_each(|i| singly.push_from(&from, i));
                assert_eq!(at_once, singly, "{range:?} behind {before}");
                assert_eq!(at_once.ts.len(), at_once.values.len());
                assert!(
                    at_once.start_ts.is_empty() || at_once.start_ts.len() == at_once.ts.len(),
                    "{range:?} behind {before}"
                );
            }
        }
        let mut whole = SampleBuffer::new();
        whole.extend_range(&from, TimeRange::ALL);
        assert_eq!(whole, from);
        whole.push_from(&from, 5);
        assert_eq!(whole, from, "there is no sixth sample");
    }

    #[test]
    fn what_is_cut_off_is_gone_from_every_column() {
        let mut all = mixed();
        all.truncate(3);
        assert_eq!(
            (all.ts.as_slice(), all.start_ts.as_slice()),
            (&[10, 20, 30][..], &[0, 0, 25][..])
        );
        assert_eq!((all.values.len(), all.histograms.len()), (3, 1));
        all.push(60, 6.0);
        assert_eq!(all.start_ts, [0, 0, 25, 0]);
    }
}
