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
