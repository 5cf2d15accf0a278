//! Buckets with their bounds, in order.

use super::cells::{Cells, CellsReversed};
use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, bounds};

/// A bucket: how many observations lie between two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether an observation equal to the lower bound counts here.
    pub lower_inclusive: bool,
    /// Whether an observation equal to the upper bound counts here.
    pub upper_inclusive: bool,
    /// Observations, absolute.
    pub count: f64,
}

impl Bucket {
    /// How much of the bucket's width lies below `v`, 0..=1: linearly, or on a logarithmic scale
    /// where exponential bounds are equally far apart. `v` must lie within finite bounds.
    #[must_use]
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper) = (bounds::log2(self.lower.abs()), bounds::log2(self.upper.abs()));
        let at = bounds::log2(v.abs());
        if v > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }
}

impl FloatHistogram {
    /// Whether the bounds are custom ones rather than exponential.
    #[must_use]
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Positive buckets, from the one next to zero upwards.
    pub fn iter_positive(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.positive_cells().map(|c| self.positive_bucket(c.index, c.count))
    }

    /// Positive buckets, from the highest down to zero.
    pub fn iter_positive_reversed(&self) -> impl Iterator<Item = Bucket> + '_ {
        CellsReversed::new(&self.positive_spans, &self.positive_buckets)
            .map(|(index, count)| self.positive_bucket(index, count))
    }

    /// Negative buckets, from the one next to zero downwards.
    pub fn iter_negative(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.negative_cells().map(|c| self.negative_bucket(c.index, c.count))
    }

    /// Negative buckets, from the lowest up to zero.
    pub fn iter_negative_reversed(&self) -> impl Iterator<Item = Bucket> + '_ {
        CellsReversed::new(&self.negative_spans, &self.negative_buckets)
            .map(|(index, count)| self.negative_bucket(index, count))
    }

    /// All buckets in ascending order. The zero bucket is left out when it is empty; buckets that
    /// reach into it are cut off at its threshold.
    pub fn iter_all(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.iter_negative_reversed()
            .map(|b| self.outside_zero(b))
            .chain(self.zero_bucket().filter(|b| b.count > 0.0))
            .chain(self.iter_positive().map(|b| self.outside_zero(b)))
    }

    /// All buckets in descending order; see [`iter_all`](Self::iter_all).
    pub fn iter_all_reversed(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.iter_positive_reversed()
            .map(|b| self.outside_zero(b))
            .chain(self.zero_bucket().filter(|b| b.count > 0.0))
            .chain(self.iter_negative().map(|b| self.outside_zero(b)))
    }

    /// The zero bucket, empty or not; `None` with custom buckets, which have none.
    #[must_use]
    pub fn zero_bucket(&self) -> Option<Bucket> {
        (!self.has_custom_buckets()).then_some(Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        })
    }

    pub(crate) fn positive_cells(&self) -> Cells<'_> {
        Cells::new(&self.positive_spans, &self.positive_buckets, &[])
    }

    pub(crate) fn negative_cells(&self) -> Cells<'_> {
        Cells::new(&self.negative_spans, &self.negative_buckets, &[])
    }

    fn positive_bucket(&self, index: i64, count: f64) -> Bucket {
        let upper = bounds::upper(index, self.schema, &self.custom_values);
        let lower = bounds::upper(index - 1, self.schema, &self.custom_values);
        self.bucket(index, lower, upper, count)
    }

    fn negative_bucket(&self, index: i64, count: f64) -> Bucket {
        let lower = -bounds::upper(index, self.schema, &[]);
        let upper = -bounds::upper(index - 1, self.schema, &[]);
        self.bucket(index, lower, upper, count)
    }

    fn bucket(&self, index: i64, lower: f64, upper: f64, count: f64) -> Bucket {
        let (lower_inclusive, upper_inclusive) =
            if self.has_custom_buckets() { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count }
    }

    fn outside_zero(&self, mut b: Bucket) -> Bucket {
        if b.lower > 0.0 && b.lower < self.zero_threshold {
            b.lower = self.zero_threshold;
        } else if b.upper < 0.0 && b.upper > -self.zero_threshold {
            b.upper = -self.zero_threshold;
        }
        b
    }
}
