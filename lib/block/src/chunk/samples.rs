//! Where decoded samples go.

use periplus_model::replicas::Run;
use periplus_model::{FloatHistogram, Histogram, TimeRange, is_stale};

/// A native histogram as its chunk held it.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramValue {
    /// From an integer histogram chunk; buckets are deltas.
    Integer(Histogram),
    /// From a float histogram chunk; buckets are absolute.
    Float(FloatHistogram),
}

impl HistogramValue {
    /// The histogram as queries compute with it.
    #[must_use]
    pub fn into_float(self) -> FloatHistogram {
        match self {
            Self::Integer(h) => h.into_float(),
            Self::Float(h) => h,
        }
    }

    /// [`into_float`](Self::into_float) of a copy.
    #[must_use]
    pub fn to_float(&self) -> FloatHistogram {
        match self {
            Self::Integer(h) => h.to_float(),
            Self::Float(h) => h.clone(),
        }
    }

    /// The sum of observations; the stale marker makes the sample stale.
    #[must_use]
    pub fn sum(&self) -> f64 {
        match self {
            Self::Integer(h) => h.sum,
            Self::Float(h) => h.sum,
        }
    }
}

/// Samples in columns, to be reused from chunk to chunk: decoding appends.
///
/// `ts` and `values` are equally long. Samples that are histograms appear in `histograms` too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChunkSamples {
    /// Unix milliseconds, ascending within a chunk.
    pub ts: Vec<i64>,
    /// Values, every bit as stored: NaN payloads, −0 and stale markers are kept. Where the sample
    /// is a histogram this is the histogram's sum, so that a stale histogram is stale here as well.
    pub values: Vec<f64>,
    /// The samples that are histograms, ascending: (index into `ts`, histogram).
    pub histograms: Vec<(u32, HistogramValue)>,
    /// Start timestamps, Unix milliseconds, 0 for unknown: empty, or as long as `ts`.
    pub start_ts: Vec<i64>,
}

impl ChunkSamples {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether no sample is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Removes all samples and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// The histogram at `index`; `None` where the sample is a float.
    #[must_use]
    pub fn histogram_at(&self, index: usize) -> Option<&HistogramValue> {
        if self.histograms.is_empty() {
            return None;
        }
        let found = self.histograms.binary_search_by_key(&index, |(i, _)| *i as usize).ok()?;
        self.histograms.get(found).map(|(_, h)| h)
    }

    /// Appends a sample of another buffer as it is; nothing where there is none at `index`.
    pub fn push_from(&mut self, from: &Self, index: usize) {
        let (Some(t), Some(v)) = (from.ts.get(index), from.values.get(index)) else { return };
        let start = from.start_ts.get(index).copied().unwrap_or(0);
        match from.histogram_at(index) {
            Some(h) => self.push_histogram(*t, h.clone(), start),
            None => self.push(*t, *v, start),
        }
    }

    /// Keeps the first `len` samples.
    pub fn truncate(&mut self, len: usize) {
        self.ts.truncate(len);
        self.values.truncate(len);
        self.start_ts.truncate(len);
        let keep = self.histograms.partition_point(|(i, _)| (*i as usize) < len);
        self.histograms.truncate(keep);
    }

    /// Appends a float sample; `start` is 0 where unknown.
    #[inline]
    pub fn push(&mut self, t: i64, v: f64, start: i64) {
        self.ts.push(t);
        self.values.push(v);
        self.push_start(start);
    }

    /// Appends a histogram sample; `start` is 0 where unknown.
    pub fn push_histogram(&mut self, t: i64, h: HistogramValue, start: i64) {
        let index = u32::try_from(self.ts.len()).unwrap_or(u32::MAX);
        self.ts.push(t);
        self.values.push(h.sum());
        self.histograms.push((index, h));
        self.push_start(start);
    }

    #[inline]
    fn push_start(&mut self, start: i64) {
        if start == 0 && self.start_ts.is_empty() {
            return;
        }
        self.start_ts.resize(self.ts.len() - 1, 0);
        self.start_ts.push(start);
    }

    /// Room for `more` samples; `started` when they carry start timestamps.
    pub(super) fn reserve(&mut self, more: usize, started: bool) {
        self.ts.reserve(more);
        self.values.reserve(more);
        if started {
            self.start_ts.reserve(self.ts.len() - self.start_ts.len() + more);
        }
    }

    /// After a decoder that knows nothing of start timestamps: makes that column whole again.
    pub(super) fn pad_starts(&mut self) {
        if !self.start_ts.is_empty() {
            self.start_ts.resize(self.ts.len(), 0);
        }
    }

    /// Removes the samples from index `from` on that lie in any of the ranges, which ascend.
    pub(crate) fn delete(&mut self, from: usize, ranges: &[TimeRange]) {
        for range in ranges {
            // A chunk's times ascend, so what a range covers lies side by side.
            let new = self.ts.get(from..).unwrap_or_default();
            let at = new.iter().take_while(|t| **t < range.min_t).count();
            let hit = new.iter().skip(at).take_while(|t| range.contains(**t)).count();
            self.remove(from + at, hit);
        }
    }

    /// Removes `drop` samples from index `at` on.
    pub(super) fn remove(&mut self, at: usize, drop: usize) {
        if drop == 0 {
            return;
        }
        self.ts.drain(at..at + drop);
        self.values.drain(at..at + drop);
        if !self.start_ts.is_empty() {
            self.start_ts.drain(at..at + drop);
        }
        self.histograms.retain_mut(|(i, _)| {
            let index = *i as usize;
            if index < at {
                return true;
            }
            if index < at + drop {
                return false;
            }
            *i = u32::try_from(index - drop).unwrap_or(u32::MAX);
            true
        });
    }
}

/// Replicas merged without a change to any sample: integer histograms stay what they are.
impl Run for ChunkSamples {
    fn times(&self) -> &[i64] {
        &self.ts
    }

    fn float(&self, index: usize) -> Option<f64> {
        if self.histogram_at(index).is_some() {
            return None;
        }
        self.values.get(index).copied()
    }

    fn is_stale(&self, index: usize) -> bool {
        // A histogram's sum stands here as well.
        self.values.get(index).copied().is_some_and(is_stale)
    }

    fn append(&mut self, from: &Self, index: usize) {
        self.push_from(from, index);
    }
}
