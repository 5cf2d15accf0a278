//! Histograms laid out bucket by bucket, to see whether one may follow another in a chunk.

use std::collections::BTreeMap;

use periplus_model::{CounterResetHint, FloatHistogram, Histogram, Span, is_stale};

use super::layout::CUSTOM_BUCKETS;
use super::{ChunkEncoding, ChunkError};

// What a chunk's flags say of its first sample: nothing, no reset before it, a reset, a gauge.
pub(super) const UNKNOWN: u8 = 0;
pub(super) const NOT_RESET: u8 = 0x40;
pub(super) const RESET: u8 = 0x80;
pub(super) const GAUGE: u8 = 0xc0;

/// A histogram of either kind with absolute buckets by index.
pub(super) struct Flat<'a> {
    pub(super) hint: CounterResetHint,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) counts: Counts,
    pub(super) sum: f64,
    pub(super) positive: BTreeMap<i64, Count>,
    pub(super) negative: BTreeMap<i64, Count>,
    pub(super) custom_values: &'a [f64],
    pub(super) spans: [&'a [Span]; 2],
}

/// An absolute count of either kind.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) enum Count {
    Integer(i64),
    Float(f64),
}

impl Count {
    fn is_zero(self) -> bool {
        matches!(self, Self::Integer(0)) || self == Self::Float(0.0)
    }

    pub(super) fn integer(self) -> i64 {
        match self {
            Self::Integer(v) => v,
            Self::Float(_) => 0,
        }
    }

    pub(super) fn bits(self) -> u64 {
        match self {
            Self::Integer(v) => v.cast_unsigned(),
            Self::Float(v) => v.to_bits(),
        }
    }
}

/// Observations in all and in the zero bucket.
#[derive(Clone, Copy)]
pub(super) enum Counts {
    Integer(u64, u64),
    Float(f64, f64),
}

impl Counts {
    fn below(self, before: Self) -> (bool, bool) {
        match (self, before) {
            (Self::Integer(c, z), Self::Integer(bc, bz)) => (c < bc, z < bz),
            (Self::Float(c, z), Self::Float(bc, bz)) => (c < bc, z < bz),
            _ => (true, true),
        }
    }
}

const MISFIT: &str = "a histogram to encode whose buckets do not fit its spans";

/// Pairs each bucket with the index its spans give it.
fn index(
    spans: &[Span],
    buckets: impl ExactSizeIterator<Item = Count>,
    encoding: ChunkEncoding,
) -> Result<BTreeMap<i64, Count>, ChunkError> {
    let misfit = ChunkError::Corrupt { encoding, reason: MISFIT };
    let promised: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    if promised != buckets.len() as u64 {
        return Err(misfit);
    }
    let mut out = BTreeMap::new();
    let mut buckets = buckets;
    let mut at = 0i64;
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return Err(misfit);
        }
        at += i64::from(span.offset);
        for _ in 0..span.length {
            if let Some(b) = buckets.next() {
                out.insert(at, b);
            }
            at += 1;
        }
        if i32::try_from(at).is_err() {
            return Err(misfit);
        }
    }
    Ok(out)
}

fn absolute(deltas: &[i64]) -> impl ExactSizeIterator<Item = Count> {
    let mut at = 0i64;
    deltas.iter().map(move |d| {
        at = at.wrapping_add(*d);
        Count::Integer(at)
    })
}

impl<'a> Flat<'a> {
    pub(super) fn of_integer(h: &'a Histogram) -> Result<Self, ChunkError> {
        let e = ChunkEncoding::Histogram;
        Ok(Self {
            hint: h.counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            counts: Counts::Integer(h.count, h.zero_count),
            sum: h.sum,
            positive: index(&h.positive_spans, absolute(&h.positive_buckets), e)?,
            negative: index(&h.negative_spans, absolute(&h.negative_buckets), e)?,
            custom_values: &h.custom_values,
            spans: [&h.positive_spans, &h.negative_spans],
        })
    }

    pub(super) fn of_float(h: &'a FloatHistogram) -> Result<Self, ChunkError> {
        let e = ChunkEncoding::FloatHistogram;
        let floats = |b: &'a [f64]| b.iter().map(|v| Count::Float(*v));
        Ok(Self {
            hint: h.counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            counts: Counts::Float(h.count, h.zero_count),
            sum: h.sum,
            positive: index(&h.positive_spans, floats(&h.positive_buckets), e)?,
            negative: index(&h.negative_spans, floats(&h.negative_buckets), e)?,
            custom_values: &h.custom_values,
            spans: [&h.positive_spans, &h.negative_spans],
        })
    }

    /// A stale histogram carries its sum alone.
    pub(super) fn stale(kind: ChunkEncoding, sum: f64, hint: CounterResetHint) -> Self {
        let counts = match kind {
            ChunkEncoding::Histogram => Counts::Integer(0, 0),
            _ => Counts::Float(0.0, 0.0),
        };
        Self {
            hint,
            schema: 0,
            zero_threshold: 0.0,
            counts,
            sum,
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
            custom_values: &[],
            spans: [&[], &[]],
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    fn same_frame(&self, other: &Self) -> bool {
        self.schema == other.schema && self.zero_threshold == other.zero_threshold
    }

    fn same_bounds(&self, other: &Self) -> bool {
        let bits = |f: &Self| f.custom_values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        self.schema != CUSTOM_BUCKETS || bits(self) == bits(other)
    }

    /// Whether a bucket that was filled in `before` has less here.
    fn lost_bucket(&self, before: &Self) -> bool {
        let lost = |now: &BTreeMap<i64, Count>, before: &BTreeMap<i64, Count>| {
            before.iter().any(|(i, b)| match now.get(i) {
                Some(n) => n < b,
                None => !b.is_zero(),
            })
        };
        lost(&self.positive, &before.positive) || lost(&self.negative, &before.negative)
    }

    fn is_gauge(&self) -> bool {
        self.hint == CounterResetHint::Gauge
    }

    /// Whether this sample may stand behind `before` in one chunk; if not, what the new chunk's
    /// flags say of it.
    pub(super) fn follows(&self, before: &Self, gauge_chunk: bool) -> Result<(), u8> {
        if self.is_gauge() || gauge_chunk {
            let fits = self.is_gauge() == gauge_chunk
                && (self.is_stale()
                    || (!before.is_stale() && self.same_frame(before) && self.same_bounds(before)));
            let flags = if self.is_gauge() { GAUGE } else { UNKNOWN };
            return if fits { Ok(()) } else { Err(flags) };
        }
        if self.hint == CounterResetHint::Reset {
            return Err(RESET);
        }
        if self.is_stale() {
            return Ok(());
        }
        if before.is_stale() {
            return Err(UNKNOWN);
        }
        let (count_fell, zero_count_fell) = self.counts.below(before.counts);
        if count_fell {
            return Err(RESET);
        }
        if !self.same_frame(before) {
            return Err(UNKNOWN);
        }
        if !self.same_bounds(before) || zero_count_fell || self.lost_bucket(before) {
            return Err(RESET);
        }
        Ok(())
    }
}
