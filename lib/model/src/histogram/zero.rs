//! Bringing the zero buckets of two histograms to one width.

use super::cells::{Cells, Side};
use super::sum::Compensation;
use super::{FloatHistogram, bounds, layout};
use crate::kahan::kahan_add;

/// What the zero bucket would hold were it wider.
#[derive(Clone, Copy, Debug)]
pub(super) struct WiderZero {
    /// Its count.
    pub(super) count: f64,
    /// The compensation of the count.
    pub(super) comp: f64,
    /// The width, which may have grown to the end of a populated bucket it would have cut.
    pub(super) threshold: f64,
}

impl FloatHistogram {
    /// The zero bucket as it would be with the larger `threshold`. A threshold within a populated
    /// bucket moves up to that bucket's end, because a bucket can't be split.
    pub(super) fn zero_at(&self, mut threshold: f64, comp: Option<&Compensation>) -> WiderZero {
        let comp_zero = comp.map_or(0.0, |c| c.zero_count);
        if threshold <= self.zero_threshold || threshold.is_nan() {
            return WiderZero { count: self.zero_count, comp: comp_zero, threshold };
        }
        let comp_of = |side: fn(&Compensation) -> &[f64]| comp.map_or(&[][..], side);
        loop {
            let mut zero = (self.zero_count, comp_zero);
            let positive = Cells::new(
                &self.positive_spans,
                &self.positive_buckets,
                comp_of(|c| &c.positive_buckets),
            );
            absorb(positive, self.schema, &mut threshold, &mut zero);
            let before = threshold;
            let negative = Cells::new(
                &self.negative_spans,
                &self.negative_buckets,
                comp_of(|c| &c.negative_buckets),
            );
            absorb(negative, self.schema, &mut threshold, &mut zero);
            // A negative bucket moved the threshold: the positive side has to be looked at again.
            if threshold == before {
                return WiderZero { count: zero.0, comp: zero.1, threshold };
            }
        }
    }

    /// Widens zero buckets until both histograms have the same one: this histogram is changed,
    /// what the other's would hold is returned (count and compensation).
    pub(super) fn reconcile_zero(
        &mut self,
        other: &Self,
        mut comp: Option<&mut Compensation>,
    ) -> (f64, f64) {
        let mut theirs =
            WiderZero { count: other.zero_count, comp: 0.0, threshold: other.zero_threshold };
        while theirs.threshold != self.zero_threshold {
            if self.zero_threshold > theirs.threshold {
                theirs = other.zero_at(self.zero_threshold, None);
            }
            if theirs.threshold > self.zero_threshold {
                let ours = self.zero_at(theirs.threshold, comp.as_deref());
                self.zero_count = ours.count;
                self.zero_threshold = ours.threshold;
                if let Some(c) = comp.as_deref_mut() {
                    c.zero_count = ours.comp;
                }
                self.drop_buckets_in_zero(comp.as_deref_mut());
            } else if theirs.threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        (theirs.count, theirs.comp)
    }

    /// Takes out the buckets the zero bucket has swallowed.
    fn drop_buckets_in_zero(&mut self, comp: Option<&mut Compensation>) {
        let kahan = comp.is_some();
        let mut none = Compensation::default();
        let comp = comp.unwrap_or(&mut none);
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let outside = |cells: Cells<'_>| -> Side {
            let kept = cells.skip_while(|c| bounds::exponential(c.index - 1, schema) < threshold);
            layout::compact(kept, 0, kahan)
        };
        let cells =
            Cells::new(&self.positive_spans, &self.positive_buckets, &comp.positive_buckets);
        (self.positive_spans, self.positive_buckets, comp.positive_buckets) = outside(cells);
        let cells =
            Cells::new(&self.negative_spans, &self.negative_buckets, &comp.negative_buckets);
        (self.negative_spans, self.negative_buckets, comp.negative_buckets) = outside(cells);
    }
}

/// Adds the buckets below `threshold` to `zero`, and moves the threshold to the end of the one it
/// would cut, if that is populated.
fn absorb(cells: Cells<'_>, schema: i32, threshold: &mut f64, zero: &mut (f64, f64)) {
    for cell in cells {
        if bounds::exponential(cell.index - 1, schema) >= *threshold {
            return;
        }
        *zero = kahan_add(cell.count, zero.0, zero.1);
        *zero = kahan_add(cell.comp, zero.0, zero.1);
        let end = bounds::exponential(cell.index, schema);
        if end > *threshold {
            if cell.count != 0.0 {
                *threshold = end;
            }
            return;
        }
    }
}
