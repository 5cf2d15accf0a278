//! What a query evaluates to, in columns.

use std::sync::Arc;

use periplus_model::{FloatHistogram, Labels, SampleBuffer};

/// The evaluation times of a query: `start_ms`, `start_ms + step_ms`, … up to `end_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepGrid {
    /// The first evaluation, in Unix milliseconds.
    pub start_ms: i64,
    /// The last evaluation lies at or before this.
    pub end_ms: i64,
    /// Distance between evaluations; at least 1 where there is more than one.
    pub step_ms: i64,
}

impl StepGrid {
    /// The grid of an instant query.
    #[must_use]
    pub const fn instant(t_ms: i64) -> Self {
        Self { start_ms: t_ms, end_ms: t_ms, step_ms: 1 }
    }

    /// Number of evaluations.
    #[must_use]
    pub fn steps(&self) -> usize {
        if self.end_ms < self.start_ms {
            return 0;
        }
        let span = self.end_ms.saturating_sub(self.start_ms);
        usize::try_from(span / self.step_ms.max(1)).map_or(usize::MAX, |n| n.saturating_add(1))
    }

    /// The time of evaluation `i`.
    #[must_use]
    pub fn time(&self, i: usize) -> i64 {
        self.start_ms.saturating_add((i as i64).saturating_mul(self.step_ms))
    }
}

/// One bit a step: whether there is a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// `len` bits, all as `value` says.
    #[must_use]
    pub fn new(len: usize, value: bool) -> Self {
        let mut words = vec![if value { u64::MAX } else { 0 }; len.div_ceil(64)];
        if value
            && !len.is_multiple_of(64)
            && let Some(last) = words.last_mut()
        {
            *last = (1u64 << (len % 64)) - 1;
        }
        Self { words, len }
    }

    /// Number of bits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bits at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bit `i`; false beyond the end.
    #[inline]
    #[must_use]
    pub fn get(&self, i: usize) -> bool {
        self.words.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1)
    }

    /// Sets bit `i`; nothing happens beyond the end.
    #[inline]
    pub fn set(&mut self, i: usize, value: bool) {
        if i >= self.len {
            return;
        }
        if let Some(w) = self.words.get_mut(i / 64) {
            if value {
                *w |= 1 << (i % 64);
            } else {
                *w &= !(1 << (i % 64));
            }
        }
    }

    /// Sets the bits from `from` up to before `to`; nothing happens beyond the end.
    pub fn set_range(&mut self, from: usize, to: usize) {
        let to = to.min(self.len);
        let mut at = from;
        while at < to {
            let n = (64 - at % 64).min(to - at);
            self.set_word(at / 64, u64::MAX >> (64 - n) << (at % 64));
            at += n;
        }
    }

    /// Number of set bits.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The set bits, ascending.
    pub fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            let mut w = *word;
            std::iter::from_fn(move || {
                (w != 0).then(|| {
                    let bit = w.trailing_zeros() as usize;
                    w &= w - 1;
                    i * 64 + bit
                })
            })
        })
    }

    /// Sets the bits that are set in `bits` among the 64 that begin at bit `64 * word`.
    #[inline]
    pub fn set_word(&mut self, word: usize, bits: u64) {
        let rest = self.len.saturating_sub(word * 64);
        let bits = if rest >= 64 { bits } else { bits & ((1 << rest) - 1) };
        if let Some(w) = self.words.get_mut(word) {
            *w |= bits;
        }
    }

    /// Makes this `len` bits, all unset, keeping the memory.
    pub fn reset(&mut self, len: usize) {
        self.words.clear();
        self.words.resize(len.div_ceil(64), 0);
        self.len = len;
    }

    /// Whether any bit is set.
    #[must_use]
    pub fn any(&self) -> bool {
        self.words.iter().any(|w| *w != 0)
    }

    /// Sets the bits that are set in `other`.
    pub fn union_with(&mut self, other: &Self) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a |= b;
        }
    }

    /// Unsets the bits that are not set in `other`.
    pub fn intersect_with(&mut self, other: &Self) {
        for (i, a) in self.words.iter_mut().enumerate() {
            *a &= other.words.get(i).copied().unwrap_or(0);
        }
    }

    /// Unsets the bits that are set in `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a &= !b;
        }
    }

    /// Whether the two have a bit in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    /// The words, 64 steps each, lowest bit first: the form on the wire.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Builds from words; bits beyond `len` are cleared, missing words are zero.
    #[must_use]
    pub fn from_words(mut words: Vec<u64>, len: usize) -> Self {
        words.resize(len.div_ceil(64), 0);
        if !len.is_multiple_of(64)
            && let Some(last) = words.last_mut()
        {
            *last &= (1u64 << (len % 64)) - 1;
        }
        Self { words, len }
    }
}

/// One series of results over a [`StepGrid`].
#[derive(Clone, Debug, PartialEq)]
pub struct StepSeries {
    /// Its labels; the metric name is already dropped where the expression drops it.
    pub labels: Labels,
    /// One value a step; meaningless where `present` is not set or a histogram stands.
    pub values: Vec<f64>,
    /// Whether there is a sample at a step.
    pub present: Bitmap,
    /// Histograms by step, ascending, for the steps that have one.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
}

impl StepSeries {
    /// The histogram at step `i`, `None` where there is none.
    #[must_use]
    pub fn histogram_at(&self, i: usize) -> Option<&Arc<FloatHistogram>> {
        let found = self.histograms.binary_search_by_key(&(i as u32), |(s, _)| *s).ok()?;
        self.histograms.get(found).map(|(_, h)| h)
    }
}

/// Results over a [`StepGrid`].
#[derive(Clone, Debug, PartialEq)]
pub struct StepMatrix {
    /// The evaluation times.
    pub grid: StepGrid,
    /// The series, each with as many values as the grid has steps. Sorted by labels for range
    /// queries; in the order of the expression (`sort`, `topk`) for instant ones.
    pub series: Vec<StepSeries>,
}

/// What a query evaluates to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number a step.
    Scalar {
        /// The evaluation times.
        grid: StepGrid,
        /// One value a step.
        values: Vec<f64>,
    },
    /// A string.
    String(String),
    /// An instant vector at each step.
    Vector(StepMatrix),
    /// The raw samples of a range selector or the points of a subquery (instant queries only).
    Range(Vec<(Labels, SampleBuffer)>),
}
