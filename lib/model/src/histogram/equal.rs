//! When two histograms are the same.

use super::{FloatHistogram, Span};
use crate::almost::almost_equal;

impl FloatHistogram {
    /// Whether the two hold the same numbers, bit for bit, in the same buckets: what the operator
    /// `==` asks. The hints don't matter, nor does how spans are cut.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.matches(other, |a, b| a.to_bits() == b.to_bits())
    }

    /// Whether the two hold the same numbers up to a relative error, in the same buckets: how
    /// tests compare results. Compact both first. The hints don't matter.
    #[must_use]
    pub fn almost_same_as(&self, other: &Self, epsilon: f64) -> bool {
        self.matches(other, |a, b| almost_equal(a, b, epsilon))
    }

    fn matches(&self, other: &Self, same: impl Fn(f64, f64) -> bool) -> bool {
        let all =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(*a, *b));
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && (!self.has_custom_buckets() || self.custom_values == other.custom_values)
            && self.zero_threshold == other.zero_threshold
            && same(self.zero_count, other.zero_count)
            && all(&self.negative_buckets, &other.negative_buckets)
            && all(&self.positive_buckets, &other.positive_buckets)
            && same_layout(&self.negative_spans, &other.negative_spans)
            && same_layout(&self.positive_spans, &other.positive_spans)
    }
}

/// Whether two lists of spans put buckets in the same places.
fn same_layout(a: &[Span], b: &[Span]) -> bool {
    runs(a).eq(runs(b))
}

/// The first index and the length of each run of buckets; spans without a gap between them are one.
fn runs(spans: &[Span]) -> impl Iterator<Item = (i64, u64)> + '_ {
    let mut spans = spans.iter();
    let mut end = 0i64;
    let mut run: Option<(i64, u64)> = None;
    std::iter::from_fn(move || {
        for span in spans.by_ref() {
            let start = end + i64::from(span.offset);
            end = start + i64::from(span.length);
            if span.length == 0 {
                continue;
            }
            match &mut run {
                Some((first, length)) if *first + *length as i64 == start => {
                    *length += u64::from(span.length);
                }
                _ => {
                    let done = run.replace((start, u64::from(span.length)));
                    if done.is_some() {
                        return done;
                    }
                }
            }
        }
        run.take()
    })
}
