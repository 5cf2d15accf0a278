//! Native histograms, in both forms Prometheus has: integer ([`Histogram`], as scraped and stored)
//! and float ([`FloatHistogram`], as queries compute with).
//!
//! Field meanings follow Prometheus's `model/histogram`. A bucket's index `i` at schema `s` (−4..=8)
//! covers `(2^((i-1)·2^-s), 2^(i·2^-s)]`; schema −53 has custom bounds in `custom_values`.

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
