//! Histograms with custom bounds that are not the same.

use super::FloatHistogram;
use super::cells::{Cell, Cells, SideBuilder};
use super::sum::{Compensation, add_cells};
use crate::kahan::kahan_add;

/// Adds (or, with `sign` −1, subtracts) the buckets of two histograms with custom bounds; true when
/// the bounds differed, so that only the common ones remain.
pub(super) fn combine(
    ours: &mut FloatHistogram,
    theirs: &FloatHistogram,
    sign: f64,
    comp: Option<&mut Compensation>,
) -> bool {
    if ours.custom_values == theirs.custom_values {
        add_cells(
            (
                &mut ours.positive_spans,
                &mut ours.positive_buckets,
                comp.map(|c| &mut c.positive_buckets),
            ),
            theirs.positive_cells(),
            theirs.positive_spans.len(),
            sign,
        );
        return false;
    }
    let bounds = common(&ours.custom_values, &theirs.custom_values);
    let mut sums = vec![(0.0, 0.0); bounds.len() + 1];
    let own_comp = comp.as_ref().map_or(&[][..], |c| &c.positive_buckets[..]);
    let own = Cells::new(&ours.positive_spans, &ours.positive_buckets, own_comp);
    pour(own, &ours.custom_values, &bounds, 1.0, &mut sums);
    pour(theirs.positive_cells(), &theirs.custom_values, &bounds, sign, &mut sums);

    let kahan = comp.is_some();
    let mut out = SideBuilder::with_capacity(sums.len());
    for (index, (count, comp)) in (0i64..).zip(sums) {
        if count != 0.0 || comp != 0.0 {
            out.push(Cell { index, count, comp }, kahan);
        }
    }
    let (spans, buckets, new_comp) = out.finish();
    (ours.positive_spans, ours.positive_buckets) = (spans, buckets);
    ours.custom_values = bounds;
    if let Some(comp) = comp {
        comp.positive_buckets = new_comp;
    }
    true
}

/// Whether rolled up to the bounds both have, any count of `current` is lower than in `previous`.
pub(super) fn any_lower(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    let bounds = common(&current.custom_values, &previous.custom_values);
    let rolled_up = |h: &FloatHistogram| {
        let mut sums = vec![0.0; bounds.len() + 1];
        let mut at = Finder::new(&h.custom_values, &bounds);
        for cell in h.positive_cells() {
            if let Some(sum) = sums.get_mut(at.find(cell.index)) {
                *sum += cell.count;
            }
        }
        sums
    };
    rolled_up(current).iter().zip(rolled_up(previous)).any(|(now, before)| *now < before)
}

/// The bounds both have; both ascend.
fn common(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut rest = b.iter().peekable();
    let mut out = Vec::new();
    for bound in a {
        while rest.next_if(|x| **x < *bound).is_some() {}
        if rest.next_if(|x| **x == *bound).is_some() {
            out.push(*bound);
        }
    }
    out
}

/// Adds cells to the buckets between `bounds` that hold them.
fn pour(cells: Cells<'_>, own: &[f64], bounds: &[f64], sign: f64, sums: &mut [(f64, f64)]) {
    let mut at = Finder::new(own, bounds);
    for cell in cells {
        let Some(sum) = sums.get_mut(at.find(cell.index)) else { continue };
        *sum = kahan_add(sign * cell.count, sum.0, sum.1);
        *sum = kahan_add(sign * cell.comp, sum.0, sum.1);
    }
}

/// Finds for ascending bucket indices the bucket of the coarser bounds that holds them.
struct Finder<'a> {
    own: &'a [f64],
    coarse: &'a [f64],
    at: usize,
}

impl<'a> Finder<'a> {
    fn new(own: &'a [f64], coarse: &'a [f64]) -> Self {
        Self { own, coarse, at: 0 }
    }

    fn find(&mut self, index: i64) -> usize {
        let Some(upper) = usize::try_from(index).ok().and_then(|i| self.own.get(i)) else {
            return self.coarse.len();
        };
        while self.coarse.get(self.at).is_some_and(|bound| *bound < *upper) {
            self.at += 1;
        }
        self.at
    }
}
