//! Adding and subtracting histograms, plainly and with compensation.

use super::cells::{Cell, Cells, Places, Side, SideBuilder};
use super::{CounterResetHint, FloatHistogram, bounds, custom, layout};
use crate::kahan::kahan_add;

/// Two histograms of which one has exponential and one custom buckets can't be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("exponential and custom buckets can't be combined in one histogram operation")]
pub struct IncompatibleBuckets;

/// What had to be settled to combine two histograms; each is an annotation for the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// One side was marked as a counter reset, the other as none: the hint became unknown.
    pub counter_reset_collision: bool,
    /// The custom bounds differed: the result has only those both sides have.
    pub bounds: bool,
}

impl Reconciled {
    /// What either had to settle.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            counter_reset_collision: self.counter_reset_collision || other.counter_reset_collision,
            bounds: self.bounds || other.bounds,
        }
    }
}

/// The low bits a running sum of histograms has lost, laid out like the sum's own fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Compensation {
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) zero_count: f64,
    pub(super) positive_buckets: Vec<f64>,
    pub(super) negative_buckets: Vec<f64>,
}

impl Compensation {
    /// Nothing lost yet, for `h`.
    pub(super) fn new(h: &FloatHistogram) -> Self {
        Self {
            positive_buckets: vec![0.0; h.positive_buckets.len()],
            negative_buckets: vec![0.0; h.negative_buckets.len()],
            ..Self::default()
        }
    }

    /// Every number, for scaling.
    pub(super) fn for_each(&mut self, mut f: impl FnMut(&mut f64)) {
        f(&mut self.count);
        f(&mut self.sum);
        f(&mut self.zero_count);
        self.positive_buckets.iter_mut().for_each(&mut f);
        self.negative_buckets.iter_mut().for_each(f);
    }
}

impl FloatHistogram {
    /// Adds `other`, bucket by bucket.
    ///
    /// Different resolutions meet at the coarser one, different zero buckets at one that holds
    /// both, different custom bounds at those both have. Empty buckets may remain; see
    /// [`compact`](Self::compact).
    ///
    /// # Errors
    /// [`IncompatibleBuckets`]; this histogram is then unchanged.
    pub fn add(&mut self, other: &Self) -> Result<Reconciled, IncompatibleBuckets> {
        self.combine(other, 1.0)
    }

    /// Subtracts `other`; as [`add`](Self::add). What the hint of a difference should be is the
    /// caller's to say.
    ///
    /// # Errors
    /// [`IncompatibleBuckets`]; this histogram is then unchanged.
    pub fn sub(&mut self, other: &Self) -> Result<Reconciled, IncompatibleBuckets> {
        self.combine(other, -1.0)
    }

    /// Multiplies counts and sum by `factor`. A negative factor makes a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.for_each_number(|x| *x *= factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Divides counts and sum by `divisor`. Division by zero leaves no buckets and infinite or NaN
    /// counts; a negative divisor makes a gauge.
    pub fn div(&mut self, divisor: f64) {
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        }
        self.for_each_number(|x| *x /= divisor);
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Changes the sign of counts and sum, which makes a gauge.
    pub fn negate(&mut self) {
        self.mul(-1.0);
    }

    /// Whether any number is infinite.
    #[must_use]
    pub fn has_infinity(&self) -> bool {
        [self.zero_count, self.count, self.sum].iter().any(|x| x.is_infinite())
            || self.positive_buckets.iter().any(|x| x.is_infinite())
            || self.negative_buckets.iter().any(|x| x.is_infinite())
            || self.custom_values.iter().any(|x| x.is_infinite())
    }

    /// Every count and the sum; without the zero bucket where there can be none.
    pub(super) fn for_each_number(&mut self, mut f: impl FnMut(&mut f64)) {
        if !self.has_custom_buckets() {
            f(&mut self.zero_count);
        }
        f(&mut self.count);
        f(&mut self.sum);
        self.positive_buckets.iter_mut().for_each(&mut f);
        self.negative_buckets.iter_mut().for_each(f);
    }

    fn combine(&mut self, other: &Self, sign: f64) -> Result<Reconciled, IncompatibleBuckets> {
        if self.has_custom_buckets() != other.has_custom_buckets() {
            return Err(IncompatibleBuckets);
        }
        let mut reconciled =
            Reconciled { counter_reset_collision: self.adopt_hint(other), bounds: false };
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if self.has_custom_buckets() {
            reconciled.bounds = custom::combine(self, other, sign, None);
            return Ok(reconciled);
        }
        let (zero_count, _) = self.reconcile_zero(other, None);
        self.zero_count += sign * zero_count;
        let schema = self.schema.min(other.schema);
        if schema < self.schema {
            let positive = layout::coarsen(self.positive_cells(), self.schema, schema, false);
            (self.positive_spans, self.positive_buckets, _) = positive;
            let negative = layout::coarsen(self.negative_cells(), self.schema, schema, false);
            (self.negative_spans, self.negative_buckets, _) = negative;
            self.schema = schema;
        }
        let coarse;
        let other = if schema < other.schema {
            coarse = coarse_buckets(other, schema, false);
            &coarse.0
        } else {
            other
        };
        let threshold = self.zero_threshold;
        let theirs = beyond(other.positive_cells(), schema, threshold);
        if alike((&self.positive_spans, &self.positive_buckets), other, threshold) {
            for (ours, theirs) in self.positive_buckets.iter_mut().zip(&other.positive_buckets) {
                *ours += sign * theirs;
            }
        } else {
            add_cells(
                (&mut self.positive_spans, &mut self.positive_buckets, None),
                theirs,
                other.positive_spans.len(),
                sign,
            );
        }
        let theirs = beyond(other.negative_cells(), schema, threshold);
        add_cells(
            (&mut self.negative_spans, &mut self.negative_buckets, None),
            theirs,
            other.negative_spans.len(),
            sign,
        );
        Ok(reconciled)
    }

    /// As [`add`](Self::add), keeping in `comp` what rounding loses.
    pub(super) fn add_compensated(
        &mut self,
        other: &Self,
        comp: &mut Compensation,
    ) -> Result<Reconciled, IncompatibleBuckets> {
        if self.has_custom_buckets() != other.has_custom_buckets() {
            return Err(IncompatibleBuckets);
        }
        let mut reconciled =
            Reconciled { counter_reset_collision: self.adopt_hint(other), bounds: false };
        (self.count, comp.count) = kahan_add(other.count, self.count, comp.count);
        (self.sum, comp.sum) = kahan_add(other.sum, self.sum, comp.sum);
        if self.has_custom_buckets() {
            reconciled.bounds = custom::combine(self, other, 1.0, Some(comp));
            return Ok(reconciled);
        }
        let (zero, zero_comp) = self.reconcile_zero(other, Some(comp));
        (self.zero_count, comp.zero_count) = kahan_add(zero, self.zero_count, comp.zero_count);
        (self.zero_count, comp.zero_count) = kahan_add(zero_comp, self.zero_count, comp.zero_count);
        let schema = self.schema.min(other.schema);
        if schema < self.schema {
            let cells =
                Cells::new(&self.positive_spans, &self.positive_buckets, &comp.positive_buckets);
            (self.positive_spans, self.positive_buckets, comp.positive_buckets) =
                layout::coarsen(cells, self.schema, schema, true);
            let cells =
                Cells::new(&self.negative_spans, &self.negative_buckets, &comp.negative_buckets);
            (self.negative_spans, self.negative_buckets, comp.negative_buckets) =
                layout::coarsen(cells, self.schema, schema, true);
            self.schema = schema;
        }
        let coarse;
        let (other, positive_comp, negative_comp) = if schema < other.schema {
            coarse = coarse_buckets(other, schema, true);
            (&coarse.0, &coarse.1[..], &coarse.2[..])
        } else {
            (other, &[][..], &[][..])
        };
        let threshold = self.zero_threshold;
        let theirs = Cells::new(&other.positive_spans, &other.positive_buckets, positive_comp);
        if positive_comp.is_empty()
            && comp.positive_buckets.len() == self.positive_buckets.len()
            && alike((&self.positive_spans, &self.positive_buckets), other, threshold)
        {
            let ours = self.positive_buckets.iter_mut().zip(&mut comp.positive_buckets);
            for ((count, c), theirs) in ours.zip(&other.positive_buckets) {
                (*count, *c) = kahan_add(*theirs, *count, *c);
            }
        } else {
            add_cells(
                (
                    &mut self.positive_spans,
                    &mut self.positive_buckets,
                    Some(&mut comp.positive_buckets),
                ),
                beyond(theirs, schema, threshold),
                other.positive_spans.len(),
                1.0,
            );
        }
        let theirs = Cells::new(&other.negative_spans, &other.negative_buckets, negative_comp);
        add_cells(
            (
                &mut self.negative_spans,
                &mut self.negative_buckets,
                Some(&mut comp.negative_buckets),
            ),
            beyond(theirs, schema, threshold),
            other.negative_spans.len(),
            1.0,
        );
        Ok(reconciled)
    }

    /// Settles the hint of a sum or difference; true when the two contradict each other. A gauge
    /// makes a gauge, an unknown an unknown.
    pub(super) fn adopt_hint(&mut self, other: &Self) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        let (ours, theirs) = (self.counter_reset_hint, other.counter_reset_hint);
        if ours == theirs {
            return false;
        }
        if ours == Gauge || theirs == Gauge {
            self.counter_reset_hint = Gauge;
            return false;
        }
        self.counter_reset_hint = Unknown;
        ours != Unknown && theirs != Unknown
    }
}

/// Only the buckets of `h` at a coarser schema, with the compensations of both sides.
fn coarse_buckets(
    h: &FloatHistogram,
    schema: i32,
    kahan: bool,
) -> (FloatHistogram, Vec<f64>, Vec<f64>) {
    let mut out = FloatHistogram { schema, ..FloatHistogram::default() };
    let (spans, buckets, positive) = layout::coarsen(h.positive_cells(), h.schema, schema, kahan);
    (out.positive_spans, out.positive_buckets) = (spans, buckets);
    let (spans, buckets, negative) = layout::coarsen(h.negative_cells(), h.schema, schema, kahan);
    (out.negative_spans, out.negative_buckets) = (spans, buckets);
    (out, positive, negative)
}

/// The cells beyond the zero bucket: the first ones that end within it already count there.
fn beyond(cells: Cells<'_>, schema: i32, threshold: f64) -> impl Iterator<Item = Cell> + Clone {
    let exponential = bounds::is_exponential(schema);
    cells.skip_while(move |c| exponential && bounds::exponential(c.index, schema) <= threshold)
}

/// Whether the positive side of `other`, at the same schema, has the layout of this one with all of
/// its buckets beyond the zero bucket: then they can be added one by one.
fn alike(
    (spans, buckets): (&[super::Span], &[f64]),
    other: &FloatHistogram,
    threshold: f64,
) -> bool {
    let promised = || spans.iter().map(|s| u64::from(s.length)).sum::<u64>();
    let first = |index| bounds::exponential(index, other.schema);
    spans == other.positive_spans
        && buckets.len() == other.positive_buckets.len()
        && promised() == buckets.len() as u64
        && spans.first().is_some_and(|s| s.length > 0 && first(i64::from(s.offset)) > threshold)
}

/// One side of a sum: spans, counts, and compensations where they are kept.
type SideMut<'a> = (&'a mut Vec<super::Span>, &'a mut Vec<f64>, Option<&'a mut Vec<f64>>);

/// Adds `theirs` to a side: in place up to the first of their buckets that is not there, which for
/// neighbouring samples of one series is all of them.
pub(super) fn add_cells(
    (spans, buckets, mut comp): SideMut<'_>,
    theirs: impl Iterator<Item = Cell> + Clone,
    their_spans: usize,
    sign: f64,
) {
    let kahan = comp.is_some();
    if theirs.clone().next().is_none() {
        return;
    }
    if let Some(comp) = &mut comp {
        comp.resize(buckets.len(), 0.0);
    }
    let mut theirs = theirs.peekable();
    let mut places = Places::new(spans, buckets.len());
    while let Some(cell) = theirs.peek() {
        let Some((at, _)) = places
            .find(|(_, index)| *index >= cell.index)
            .filter(|(_, index)| *index == cell.index)
        else {
            break;
        };
        let Some(count) = buckets.get_mut(at) else { break };
        match comp.as_mut().and_then(|c| c.get_mut(at)) {
            Some(c) => (*count, *c) = add_counts((*count, *c), *cell, sign),
            None => *count += sign * cell.count,
        }
        theirs.next();
    }
    // The rest has buckets that are not there yet.
    if theirs.peek().is_none() {
        return;
    }
    let own = Cells::new(spans, buckets, comp.as_deref().map_or(&[][..], |c| c));
    let (new_spans, new_buckets, new_comp) =
        merge(own, theirs, sign, kahan, buckets.len() + their_spans);
    (*spans, *buckets) = (new_spans, new_buckets);
    if let Some(comp) = comp {
        *comp = new_comp;
    }
}

fn add_counts((count, comp): (f64, f64), cell: Cell, sign: f64) -> (f64, f64) {
    let sum = kahan_add(sign * cell.count, count, comp);
    if cell.comp == 0.0 { sum } else { kahan_add(sign * cell.comp, sum.0, sum.1) }
}

/// Both runs of cells in one, those of the same index added.
fn merge(
    ours: Cells<'_>,
    theirs: impl Iterator<Item = Cell>,
    sign: f64,
    kahan: bool,
    capacity: usize,
) -> Side {
    let mut out = SideBuilder::with_capacity(capacity);
    let (mut ours, mut theirs) = (ours.peekable(), theirs.peekable());
    loop {
        let take_ours = match (ours.peek(), theirs.peek()) {
            (Some(a), Some(b)) if a.index == b.index => {
                if let (Some(mut a), Some(b)) = (ours.next(), theirs.next()) {
                    if kahan {
                        (a.count, a.comp) = add_counts((a.count, a.comp), b, sign);
                    } else {
                        a.count += sign * b.count;
                    }
                    out.push(a, kahan);
                }
                continue;
            }
            (Some(a), Some(b)) => a.index < b.index,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out.finish(),
        };
        let cell = if take_ours {
            ours.next()
        } else {
            theirs.next().map(|b| Cell { count: sign * b.count, comp: sign * b.comp, ..b })
        };
        if let Some(cell) = cell {
            out.push(cell, kahan);
        }
    }
}
