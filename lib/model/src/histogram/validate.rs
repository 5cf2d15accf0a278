//! Is it a histogram at all?

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span, bounds};

/// Why the parts of a histogram don't fit together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidHistogram {
    /// Neither exponential nor custom.
    #[error("histogram schema {0} is neither in -4..=8 nor -53 (custom buckets)")]
    Schema(i32),
    /// A span after the first lies before the end of the one before it.
    #[error("span {number} has the negative offset {offset}")]
    SpanOffset {
        /// Which span, from 1.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// Spans and values don't agree.
    #[error("spans describe {described} buckets, but there are {present}")]
    BucketCount {
        /// Buckets the spans describe.
        described: u64,
        /// Buckets there are.
        present: usize,
    },
    /// A count below zero.
    #[error("{what} is {value}, below zero")]
    Negative {
        /// Which count.
        what: &'static str,
        /// The count.
        value: f64,
    },
    /// The count is not what the buckets add up to.
    #[error("the count is {count}, but the buckets hold {buckets} observations")]
    CountMismatch {
        /// All observations, as stated.
        count: u64,
        /// Observations in the buckets.
        buckets: u64,
    },
    /// Custom bounds that are NaN, infinite or not in strictly ascending order.
    #[error("custom bounds must ascend strictly and be finite: {bound} follows {before}")]
    Bounds {
        /// The offending bound.
        bound: f64,
        /// The one before it, −Inf for the first.
        before: f64,
    },
    /// More buckets than custom bounds make.
    #[error("{bounds} custom bounds don't make {buckets} buckets")]
    TooFewBounds {
        /// Bounds there are.
        bounds: usize,
        /// Buckets the spans reach to.
        buckets: u64,
    },
    /// A field that the kind of buckets doesn't have.
    #[error("a histogram with {kind} buckets has no {field}")]
    Unexpected {
        /// "custom" or "exponential".
        kind: &'static str,
        /// The field that should be empty.
        field: &'static str,
    },
}

impl FloatHistogram {
    /// Checks that spans, values, bounds and schema fit together and no count is negative. That the
    /// buckets add up to the count is not checked, since float counts need not.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        if self.has_custom_buckets() {
            let width = self.positive_buckets.len();
            check_custom(&self.custom_values, &self.positive_spans, width)?;
            let zero = self.zero_count == 0.0 && self.zero_threshold == 0.0;
            let negative = self.negative_spans.is_empty() && self.negative_buckets.is_empty();
            check_custom_only(zero, negative)?;
        } else {
            check_exponential(self.schema, &self.custom_values)?;
            check_spans(&self.positive_spans, self.positive_buckets.len())?;
            check_spans(&self.negative_spans, self.negative_buckets.len())?;
        }
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        for value in buckets.chain([&self.zero_count]) {
            if *value < 0.0 {
                return Err(InvalidHistogram::Negative { what: "a bucket count", value: *value });
            }
        }
        if self.count < 0.0 {
            return Err(InvalidHistogram::Negative { what: "the count", value: self.count });
        }
        Ok(())
    }
}

impl Histogram {
    /// As [`FloatHistogram::validate`], and that the buckets add up to the count (with NaN
    /// observations, which are in no bucket, to at most the count).
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            let width = self.positive_buckets.len();
            check_custom(&self.custom_values, &self.positive_spans, width)?;
            let zero = self.zero_count == 0 && self.zero_threshold == 0.0;
            let negative = self.negative_spans.is_empty() && self.negative_buckets.is_empty();
            check_custom_only(zero, negative)?;
        } else {
            check_exponential(self.schema, &self.custom_values)?;
            check_spans(&self.positive_spans, self.positive_buckets.len())?;
            check_spans(&self.negative_spans, self.negative_buckets.len())?;
        }
        let mut total = u128::from(self.zero_count);
        for side in [&self.positive_buckets, &self.negative_buckets] {
            let mut current = 0i64;
            for delta in side {
                current = current.wrapping_add(*delta);
                total += u128::from(u64::try_from(current).map_err(|_| {
                    InvalidHistogram::Negative { what: "a bucket count", value: current as f64 }
                })?);
            }
        }
        let count = u128::from(self.count);
        if total > count || (total != count && !self.sum.is_nan()) {
            let buckets = u64::try_from(total).unwrap_or(u64::MAX);
            return Err(InvalidHistogram::CountMismatch { count: self.count, buckets });
        }
        Ok(())
    }
}

fn check_exponential(schema: i32, custom_values: &[f64]) -> Result<(), InvalidHistogram> {
    if !bounds::is_exponential(schema) {
        return Err(InvalidHistogram::Schema(schema));
    }
    if !custom_values.is_empty() {
        return Err(InvalidHistogram::Unexpected { kind: "exponential", field: "custom bounds" });
    }
    Ok(())
}

fn check_custom_only(zero_empty: bool, negative_empty: bool) -> Result<(), InvalidHistogram> {
    let field = match (zero_empty, negative_empty) {
        (true, true) => return Ok(()),
        (false, _) => "zero bucket",
        (true, false) => "negative buckets",
    };
    Err(InvalidHistogram::Unexpected { kind: "custom", field })
}

fn check_spans(spans: &[Span], present: usize) -> Result<(), InvalidHistogram> {
    for (i, span) in spans.iter().enumerate().skip(1) {
        if span.offset < 0 {
            return Err(InvalidHistogram::SpanOffset { number: i + 1, offset: span.offset });
        }
    }
    let described = spans.iter().map(|s| u64::from(s.length)).sum();
    if described != present as u64 {
        return Err(InvalidHistogram::BucketCount { described, present });
    }
    Ok(())
}

fn check_custom(values: &[f64], spans: &[Span], present: usize) -> Result<(), InvalidHistogram> {
    let mut before = f64::NEG_INFINITY;
    for (i, bound) in values.iter().enumerate() {
        if bound.is_nan() || (i > 0 && *bound <= before) || *bound == f64::INFINITY {
            return Err(InvalidHistogram::Bounds { bound: *bound, before });
        }
        before = *bound;
    }
    if let Some(first) = spans.first().filter(|s| s.offset < 0) {
        return Err(InvalidHistogram::SpanOffset { number: 1, offset: first.offset });
    }
    check_spans(spans, present)?;
    let reach: u64 =
        spans.iter().map(|s| u64::from(s.length) + u64::from(s.offset.unsigned_abs())).sum();
    if (values.len() as u64) + 1 < reach {
        return Err(InvalidHistogram::TooFewBounds { bounds: values.len(), buckets: reach });
    }
    Ok(())
}
