//! Classic histograms: cumulative counts by upper bound, a series each.

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span};
use crate::almost::almost_equal;

/// Differences between neighbouring counts below this (relative) are taken for rounding noise.
const NOISE: f64 = 1e-12;

/// A bucket of a classic histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassicBucket {
    /// The upper bound (label `le`), included. Not NaN.
    pub upper_bound: f64,
    /// Observations at or below the bound.
    pub count: f64,
}

/// Where counts had to be raised because a higher bucket held fewer observations than a lower one,
/// which can't be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForcedMonotonicity {
    /// The lowest bound changed.
    pub bucket_min: f64,
    /// The highest bound changed.
    pub bucket_max: f64,
    /// The largest difference.
    pub diff_max: f64,
}

/// The `q`-quantile of a classic histogram, linear within a bucket, and what had to be repaired.
/// Sorts and repairs `buckets` in place.
///
/// −Inf and +Inf for a `q` below 0 and above 1; NaN for a NaN `q`, without observations, without a
/// +Inf bucket or with fewer than two buckets. In the highest bucket the bound below it is the
/// answer; the lowest is taken to begin at 0 unless it ends at or below 0, when its end is the
/// answer.
#[must_use]
pub fn classic_quantile(
    q: f64,
    buckets: &mut Vec<ClassicBucket>,
) -> (f64, Option<ForcedMonotonicity>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !order(buckets) {
        return (f64::NAN, None);
    }
    let forced = force_monotonic(buckets);
    let [.., before_last, last] = buckets.as_slice() else { return (f64::NAN, forced) };
    if last.count == 0.0 {
        return (f64::NAN, forced);
    }
    let mut rank = q * last.count;
    let below_last = &buckets[..buckets.len() - 1];
    let at = below_last.partition_point(|b| b.count < rank || b.count.is_nan() || rank.is_nan());
    let Some(bucket) = below_last.get(at) else { return (before_last.upper_bound, forced) };
    let below = at.checked_sub(1).and_then(|i| below_last.get(i));
    if below.is_none() && bucket.upper_bound <= 0.0 {
        return (bucket.upper_bound, forced);
    }
    let (mut start, mut count) = (0.0, bucket.count);
    if let Some(below) = below {
        start = below.upper_bound;
        count -= below.count;
        rank -= below.count;
    }
    (start + (bucket.upper_bound - start) * (rank / count), forced)
}

/// The fraction of a classic histogram's observations between two bounds, linear within a bucket;
/// see [`FloatHistogram::fraction`]. Sorts `buckets` in place.
#[must_use]
pub fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !order(buckets) {
        return f64::NAN;
    }
    let count = buckets.last().map_or(0.0, |b| b.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut rank = 0.0;
    let mut start = match buckets.first() {
        Some(b) if b.upper_bound <= 0.0 => f64::NEG_INFINITY,
        _ => 0.0,
    };
    for b in buckets.iter() {
        let rank_of = |v: f64| {
            if start >= v {
                return Some(rank);
            }
            if !(start < v && b.upper_bound > v) {
                return None;
            }
            if start == f64::NEG_INFINITY {
                return Some(b.count);
            }
            Some(rank + (b.count - rank) * (v - start) / (b.upper_bound - start))
        };
        lower_rank = lower_rank.or_else(|| rank_of(lower));
        upper_rank = upper_rank.or_else(|| rank_of(upper));
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank = b.count;
        start = b.upper_bound;
    }
    let at_most = |r: Option<f64>| r.map_or(count, |r| if r > count { count } else { r });
    (at_most(upper_rank) - at_most(lower_rank)) / count
}

/// Sorts by bound and adds up buckets of one bound; false when the highest bucket is not +Inf.
fn order(buckets: &mut Vec<ClassicBucket>) -> bool {
    buckets.sort_by(|a, b| a.upper_bound.total_cmp(&b.upper_bound));
    if buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper_bound == kept.upper_bound;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

/// Raises counts that are lower than those of lower buckets. Differences that can only be rounding
/// are evened out silently.
fn force_monotonic(buckets: &mut [ClassicBucket]) -> Option<ForcedMonotonicity> {
    let mut forced: Option<ForcedMonotonicity> = None;
    let (first, rest) = buckets.split_first_mut()?;
    let mut highest = first.count;
    for b in rest {
        if b.count == highest {
            continue;
        }
        if almost_equal(highest, b.count, NOISE) {
            b.count = highest;
        } else if b.count < highest {
            let f = forced.get_or_insert(ForcedMonotonicity {
                bucket_min: f64::INFINITY,
                bucket_max: f64::NEG_INFINITY,
                diff_max: 0.0,
            });
            f.bucket_min = f.bucket_min.min(b.upper_bound);
            f.bucket_max = f.bucket_max.max(b.upper_bound);
            f.diff_max = f.diff_max.max(highest - b.count);
            b.count = highest;
        } else {
            highest = b.count;
        }
    }
    forced
}

/// Why classic series make no histogram.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ClassicError {
    /// A bound that is NaN.
    #[error("a bucket's upper bound is NaN")]
    NanBound,
    /// A count below zero.
    #[error("the count {0} is below zero")]
    Negative(f64),
    /// A bucket that holds fewer than a lower one.
    #[error("bucket counts are not cumulative: {higher} above {lower}")]
    NotCumulative {
        /// The count of the lower bucket.
        lower: f64,
        /// The count of the higher one.
        higher: f64,
    },
    /// `_count` is not the count of the +Inf bucket.
    #[error("the count {count} differs from the highest bucket's {bucket}")]
    CountMismatch {
        /// As `_count` says.
        count: f64,
        /// As the +Inf bucket says.
        bucket: f64,
    },
}

/// Builds a native histogram with custom buckets from cumulative buckets in any order (of one
/// bound, the first is kept), the count (`None`: that of the highest bucket) and the sum. Without
/// a +Inf bucket one is made of the count.
///
/// # Errors
/// [`ClassicError`], when the numbers contradict each other.
pub fn from_classic(
    buckets: &[ClassicBucket],
    count: Option<f64>,
    sum: f64,
) -> Result<FloatHistogram, ClassicError> {
    let mut sorted = buckets.to_vec();
    if sorted.iter().any(|b| b.upper_bound.is_nan()) {
        return Err(ClassicError::NanBound);
    }
    sorted.sort_by(|a, b| a.upper_bound.total_cmp(&b.upper_bound));
    sorted.dedup_by(|next, kept| next.upper_bound == kept.upper_bound);
    if let Some(b) = sorted.iter().find(|b| b.count < 0.0) {
        return Err(ClassicError::Negative(b.count));
    }
    if let Some(w) = sorted.windows(2).find(|w| w[1].count < w[0].count) {
        return Err(ClassicError::NotCumulative { lower: w[0].count, higher: w[1].count });
    }
    let count = count.unwrap_or_else(|| sorted.last().map_or(0.0, |b| b.count));
    if count < 0.0 {
        return Err(ClassicError::Negative(count));
    }
    if sorted.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
        sorted.push(ClassicBucket { upper_bound: f64::INFINITY, count });
    }
    let highest = sorted.last().map_or(0.0, |b| b.count);
    if count != highest {
        return Err(ClassicError::CountMismatch { count, bucket: highest });
    }
    let mut below = 0.0;
    let own_counts = sorted.iter().map(|b| b.count - std::mem::replace(&mut below, b.count));
    let positive_buckets: Vec<f64> = own_counts.collect();
    let mut out = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum,
        positive_spans: vec![Span { offset: 0, length: sorted.len() as u32 }],
        positive_buckets,
        custom_values: sorted[..sorted.len() - 1].iter().map(|b| b.upper_bound).collect(),
        ..FloatHistogram::default()
    };
    let whole = sorted.iter().all(|b| b.count == b.count.round());
    out.compact(if whole { 2 } else { 0 });
    Ok(out)
}
