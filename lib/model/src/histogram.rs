//! Native histograms, in both forms Prometheus has: integer ([`Histogram`], as scraped and stored)
//! and float ([`FloatHistogram`], as queries compute with).
//!
//! Field meanings follow Prometheus's `model/histogram`. A bucket's index `i` at schema `s` (−4..=8)
//! covers `(2^((i-1)·2^-s), 2^(i·2^-s)]`; schema −53 has custom bounds in `custom_values`.
//!
//! The operations are exact to Prometheus 3.14. Each walks the buckets of a side as cells (index
//! and count; `cells`) and packs its result into spans anew, so that none has to edit spans in
//! place, and each costs what there are bucket values, whatever the spans claim:
//! - [`FloatHistogram::add`], [`sub`](FloatHistogram::sub) (`sum`), which meet at one resolution
//!   (`layout`), one zero bucket (`zero`), one set of custom bounds (`custom`);
//! - [`HistogramSum`] and [`HistogramMean`] (`running`), which keep what rounding loses;
//! - [`FloatHistogram::detect_reset`] (`reset`), [`trim`](FloatHistogram::trim) (`trim`);
//! - estimates (`quantile`), and those of classic histograms (`classic`);
//! - buckets with bounds (`iter`, `bounds`), texts and JSON (`text`), checks (`validate`, `equal`).

mod bounds;
mod cells;
mod classic;
mod custom;
mod equal;
mod iter;
mod layout;
mod quantile;
mod reset;
mod running;
mod sum;
mod text;
mod trim;
mod validate;
mod zero;

#[cfg(test)]
mod tests;

pub use classic::{
    ClassicBucket, ClassicError, ForcedMonotonicity, classic_fraction, classic_quantile,
    from_classic,
};
pub use iter::Bucket;
pub use quantile::NanObservations;
pub use running::{HistogramMean, HistogramSum};
pub use sum::{IncompatibleBuckets, Reconciled};
pub use trim::Trim;
pub use validate::InvalidHistogram;

/// The coarsest exponential schema.
pub const EXPONENTIAL_SCHEMA_MIN: i32 = -4;

/// The finest exponential schema.
pub const EXPONENTIAL_SCHEMA_MAX: i32 = 8;

/// The coarsest exponential schema that may be stored.
pub const EXPONENTIAL_SCHEMA_RESERVED_MIN: i32 = -9;

/// The finest exponential schema that may be stored: one above [`EXPONENTIAL_SCHEMA_MAX`] is brought
/// down to it on reading.
pub const EXPONENTIAL_SCHEMA_RESERVED_MAX: i32 = 52;

/// The schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// What is known about a counter reset between a histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterResetHint {
    /// Nothing is known: compare the two.
    #[default]
    Unknown,
    /// A reset happened: this one starts anew.
    Reset,
    /// No reset happened.
    NotReset,
    /// A gauge histogram: resets mean nothing.
    Gauge,
}

/// A run of consecutive buckets: how many empty ones lie before it, and how many it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Gap to the end of the span before (to index 0 for the first, where it may be negative).
    pub offset: i32,
    /// Consecutive buckets in the span.
    pub length: u32,
}

/// A native histogram with integer counts; `positive_buckets` and `negative_buckets` hold deltas to
/// the bucket before, as stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// What is known about a reset before this sample.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution (−4..=8), or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of all observations; the stale marker here makes the sample stale.
    pub sum: f64,
    /// Where positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Positive bucket counts as deltas.
    pub positive_buckets: Vec<i64>,
    /// Negative bucket counts as deltas.
    pub negative_buckets: Vec<i64>,
    /// Upper bounds for custom buckets, ascending, without +Inf.
    pub custom_values: Vec<f64>,
}

/// A native histogram with float counts; bucket values are absolute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    /// What is known about a reset before this sample.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution (−4..=8), or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; the stale marker here makes the sample stale.
    pub sum: f64,
    /// Where positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Positive bucket counts, absolute.
    pub positive_buckets: Vec<f64>,
    /// Negative bucket counts, absolute.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds for custom buckets, ascending, without +Inf.
    pub custom_values: Vec<f64>,
}

impl Histogram {
    /// The same histogram with float, absolute counts.
    #[must_use]
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_buckets),
            negative_buckets: absolute(&self.negative_buckets),
            custom_values: self.custom_values.clone(),
        }
    }

    /// As [`to_float`](Self::to_float), in the memory there is.
    #[must_use]
    pub fn into_float(self) -> FloatHistogram {
        // What is collected has the size of what it is collected from, and takes its place.
        let absolute = |deltas: Vec<i64>| -> Vec<f64> {
            let mut count = 0i64;
            let step = |delta| {
                count = count.wrapping_add(delta);
                count as f64
            };
            deltas.into_iter().map(step).collect()
        };
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans,
            negative_spans: self.negative_spans,
            positive_buckets: absolute(self.positive_buckets),
            negative_buckets: absolute(self.negative_buckets),
            custom_values: self.custom_values,
        }
    }
}

impl FloatHistogram {
    /// Bytes the histogram occupies, heap included: for memory accounting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + (self.positive_spans.capacity() + self.negative_spans.capacity()) * size_of::<Span>()
            + (self.positive_buckets.capacity()
                + self.negative_buckets.capacity()
                + self.custom_values.capacity())
                * size_of::<f64>()
    }

    /// The size Prometheus counts for a histogram, in bytes: a fixed part and the contents. Limits
    /// on samples are in units of 16 of these.
    #[must_use]
    pub fn prometheus_size(&self) -> usize {
        let elements = self.positive_spans.len()
            + self.negative_spans.len()
            + self.positive_buckets.len()
            + self.negative_buckets.len()
            + self.custom_values.len();
        168 + 8 * elements
    }
}

fn absolute(deltas: &[i64]) -> Vec<f64> {
    let mut current = 0i64;
    deltas
        .iter()
        .map(|d| {
            current = current.wrapping_add(*d);
            current as f64
        })
        .collect()
}
