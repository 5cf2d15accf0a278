//! Estimates from buckets: quantiles, fractions, mean and spread.

use super::{Bucket, FloatHistogram, bounds};
use crate::kahan::kahan_add;

/// What NaN observations did to an estimate; each is an annotation for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanObservations {
    /// The quantile lies above all buckets, so the result is NaN.
    ResultNan,
    /// They were taken to be above all others, so the quantile is skewed upwards.
    Skewed,
    /// They were left out of every fraction.
    Excluded,
}

impl FloatHistogram {
    /// The `q`-quantile, interpolated: linearly in custom buckets and the zero bucket, else
    /// exponentially. −Inf and +Inf for a `q` below 0 and above 1, NaN for a NaN `q` or without
    /// observations.
    #[must_use]
    pub fn quantile(&self, q: f64) -> (f64, Option<NanObservations>) {
        if q < 0.0 {
            return (f64::NEG_INFINITY, None);
        }
        if q > 1.0 {
            return (f64::INFINITY, None);
        }
        if self.count == 0.0 || q.is_nan() {
            return (f64::NAN, None);
        }
        // NaN observations are in the count but in no bucket, so ranks hold only from below.
        let from_below = self.sum.is_nan() || q < 0.5;
        if from_below {
            self.quantile_at(q * self.count, self.iter_all(), true)
        } else {
            self.quantile_at((1.0 - q) * self.count, self.iter_all_reversed(), false)
        }
    }

    fn quantile_at(
        &self,
        mut rank: f64,
        mut buckets: impl Iterator<Item = Bucket>,
        from_below: bool,
    ) -> (f64, Option<NanObservations>) {
        let mut count = 0.0;
        let mut bucket = Bucket {
            lower: 0.0,
            upper: 0.0,
            lower_inclusive: false,
            upper_inclusive: false,
            count: 0.0,
        };
        for b in buckets.by_ref() {
            bucket = b;
            if b.count == 0.0 {
                continue;
            }
            count += b.count;
            if count >= rank {
                break;
            }
        }
        if self.has_custom_buckets() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return (bucket.upper, None);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return (bucket.lower, None);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            self.one_sided_zero(&mut bucket);
        }
        // The buckets may add up to a little more than the count.
        count = if count > self.count { self.count } else { count };
        if count < rank {
            return if self.sum.is_nan() {
                (f64::NAN, Some(NanObservations::ResultNan))
            } else {
                (bucket.upper, None)
            };
        }
        let mut note = None;
        if from_below {
            rank -= count - bucket.count;
        } else {
            rank = count - rank;
        }
        if self.sum.is_nan() {
            // Prometheus looks at the rest of the buckets through the same variable, so the bucket
            // interpolated in becomes the last one. Kept, since results are compared.
            for b in buckets {
                bucket = b;
                count += b.count;
            }
            if count < self.count {
                note = Some(NanObservations::Skewed);
            }
        }
        (interpolate(&bucket, rank / bucket.count, self.has_custom_buckets()), note)
    }

    /// With buckets on one side only, observations in the zero bucket are taken to be on it too.
    fn one_sided_zero(&self, zero: &mut Bucket) {
        if self.negative_buckets.is_empty() && !self.positive_buckets.is_empty() {
            zero.lower = 0.0;
        } else if self.positive_buckets.is_empty() && !self.negative_buckets.is_empty() {
            zero.upper = 0.0;
        }
    }

    /// The fraction of observations between `lower` and `upper`, interpolated as
    /// [`quantile`](Self::quantile) does. NaN without observations or with a NaN bound; 0 where
    /// the bounds are not in order.
    #[must_use]
    pub fn fraction(&self, lower: f64, upper: f64) -> (f64, Option<NanObservations>) {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, None);
        }
        if lower >= upper {
            return (0.0, None);
        }
        let (mut lower_rank, mut upper_rank) = (None, None);
        let (mut rank, mut seen) = (0.0, 0.0);
        let mut buckets = self.iter_all();
        for mut b in buckets.by_ref() {
            seen += b.count;
            let is_zero = b.lower <= 0.0 && b.upper >= 0.0;
            if is_zero {
                self.one_sided_zero(&mut b);
            }
            let linear = self.has_custom_buckets() || is_zero;
            lower_rank = lower_rank.or_else(|| rank_in(&b, lower, rank, linear));
            upper_rank = upper_rank.or_else(|| rank_in(&b, upper, rank, linear));
            if lower_rank.is_some() && upper_rank.is_some() {
                break;
            }
            rank += b.count;
        }
        let mut note = None;
        let count = if self.sum.is_nan() {
            let all = buckets.fold(seen, |n, b| n + b.count);
            if all < self.count {
                note = Some(NanObservations::Excluded);
            }
            all
        } else {
            self.count
        };
        let at_most = |r: Option<f64>| r.map_or(count, |r| if r > count { count } else { r });
        ((at_most(upper_rank) - at_most(lower_rank)) / self.count, note)
    }

    /// The mean of the observations.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The variance of the observations, taking each to lie in the middle of its bucket:
    /// geometrically, arithmetically in custom buckets, at zero in the zero bucket.
    #[must_use]
    pub fn variance(&self) -> f64 {
        let mean = self.mean();
        let mut sum = (0.0, 0.0);
        for b in self.iter_all().filter(|b| b.count != 0.0) {
            let middle = if self.has_custom_buckets() {
                (b.upper + b.lower) / 2.0
            } else if b.lower <= 0.0 && b.upper >= 0.0 {
                0.0
            } else {
                let middle = (b.upper * b.lower).sqrt();
                if b.upper < 0.0 { -middle } else { middle }
            };
            let delta = middle - mean;
            sum = kahan_add(b.count * delta * delta, sum.0, sum.1);
        }
        (sum.0 + sum.1) / self.count
    }

    /// The square root of [`variance`](Self::variance).
    #[must_use]
    pub fn standard_deviation(&self) -> f64 {
        self.variance().sqrt()
    }
}

/// The value at `fraction` of a bucket's width.
fn interpolate(b: &Bucket, fraction: f64, custom: bool) -> f64 {
    if custom || (b.lower <= 0.0 && b.upper >= 0.0) {
        return b.lower + (b.upper - b.lower) * fraction;
    }
    let (lower, upper) = (bounds::log2(b.lower.abs()), bounds::log2(b.upper.abs()));
    if b.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// How many observations lie below `v`, where that is decided in this bucket; `rank` lie below the
/// bucket.
fn rank_in(b: &Bucket, v: f64, rank: f64, linear: bool) -> Option<f64> {
    if b.lower >= v {
        return Some(rank);
    }
    if !(b.lower < v && b.upper > v) {
        return None;
    }
    if linear && b.lower == f64::NEG_INFINITY {
        // No width to interpolate in; the observations are taken to lie below.
        return Some(b.count);
    }
    Some(rank + b.count * b.fraction_below(v, linear))
}
