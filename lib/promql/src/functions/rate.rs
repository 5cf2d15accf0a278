//! `rate`, `increase`, `delta`: the change over a window, extrapolated to its ends.

use std::sync::Arc;

use periplus_model::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram};

use super::{Cx, Point, Win, extended, is_gauge};
use crate::annotations::HistogramOperation::{Addition, Subtraction};

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Counters: resets are made good.
    pub(crate) counter: bool,
    /// Per second rather than over the window.
    pub(crate) per_second: bool,
}

impl Kind {
    pub(crate) const RATE: Self = Self { counter: true, per_second: true };
    pub(crate) const INCREASE: Self = Self { counter: true, per_second: false };
    pub(crate) const DELTA: Self = Self { counter: false, per_second: false };
}

/// Whether a start timestamp tells that the counter began anew between two samples. One that
/// equals the previous sample's time does so only where that sample's own start is known, which is
/// how deltas look.
pub(crate) fn is_start_reset(prev_start: i64, prev_t: i64, start: i64, t: i64) -> bool {
    if start == 0 || start >= t || start < prev_t {
        return false;
    }
    if start > prev_t {
        return true;
    }
    prev_start <= prev_t && prev_start != 0 && prev_start != prev_t
}

fn overlaps(prev_start: i64, prev_t: i64, start: i64) -> bool {
    start != 0 && start < prev_t && start != prev_start
}

/// Start timestamps `(i - 1, i)`, when both are known.
fn starts(all: &[i64], i: usize) -> Option<(i64, i64)> {
    Some((*all.get(i.checked_sub(1)?)?, *all.get(i)?))
}

pub(crate) fn extrapolated(w: &Win<'_>, kind: Kind, cx: &mut Cx<'_>) -> Option<Point> {
    if w.is_mixed() {
        cx.mixed_floats_histograms();
        return None;
    }
    if w.anchored || w.smoothed {
        return extended::rate(w, kind, cx);
    }
    if !w.hv.is_empty() {
        return histograms(w, kind, cx);
    }
    if w.fv.is_empty() {
        return None;
    }
    let last = w.fv.len() - 1;
    let mut result = w.fv[last] - w.fv[0];
    if kind.counter {
        result = with_resets(result, w, cx);
    }
    float_result(w, kind, result)
}

/// The result for floats whose change, resets made good, is `change`. At least one sample.
pub(crate) fn float_result(w: &Win<'_>, kind: Kind, change: f64) -> Option<Point> {
    let last = w.fv.len() - 1;
    let first_start = if kind.counter { w.fst.first().copied().unwrap_or(0) } else { 0 };
    let e = Extrapolation {
        first_t: w.ft[0],
        last_t: w.ft[last],
        count: w.fv.len(),
        first_start,
        start: w.start,
        end: w.end,
    };
    let (change, zero) = if e.begins_inside() {
        (change + w.fv[0], None)
    } else if kind.counter && change > 0.0 && w.fv[0] >= 0.0 {
        (change, Some(w.fv[0] / change))
    } else {
        (change, None)
    };
    let factor = e.factor(zero)?;
    Some(Point::Float(change * per_second(factor, w, kind)))
}

/// Remembers the factor of the last window: windows over regular samples are all alike, and then
/// nothing has to be divided.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FactorCache {
    /// Samples in the window, and milliseconds from its start to the first, from the first to the
    /// last, from the last to its end.
    alike: (usize, i64, i64, i64),
    factor: f64,
    sampled_s: f64,
    /// A counter that would have been zero further than this many seconds before the first sample
    /// does not change the factor.
    to_start_s: f64,
}

/// What [`FactorCache::result`] has to know of a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// Range, exclusive and inclusive.
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) range_ms: i64,
    /// Number of samples, at least two, and the times of the first and the last.
    pub(crate) count: usize,
    pub(crate) first_t: i64,
    pub(crate) last_t: i64,
}

impl Ends {
    fn extrapolation(&self) -> Extrapolation {
        Extrapolation {
            first_t: self.first_t,
            last_t: self.last_t,
            count: self.count,
            first_start: 0,
            start: self.start,
            end: self.end,
        }
    }

    /// The factor; `zero` as for [`Extrapolation::factor`].
    #[cold]
    fn factor(&self, kind: Kind, zero: Option<f64>) -> f64 {
        let f = self.extrapolation().factor(zero).unwrap_or(f64::NAN);
        if kind.per_second { f / (self.range_ms as f64 / 1000.0) } else { f }
    }
}

impl FactorCache {
    /// As [`float_result`], for floats without start timestamps: the change times the factor.
    #[inline]
    pub(crate) fn result(&mut self, w: &Ends, kind: Kind, first_value: f64, change: f64) -> f64 {
        let alike = (w.count, w.first_t - w.start, w.last_t - w.first_t, w.end - w.last_t);
        if alike != self.alike {
            self.alike = alike;
            self.factor = w.factor(kind, None);
            self.sampled_s = alike.2 as f64 / 1000.0;
            self.to_start_s = alike.1 as f64 / 1000.0;
        }
        if self.is_usual(kind, first_value, change) {
            return change * self.factor;
        }
        change * w.factor(kind, Some(first_value / change))
    }

    /// The usual case: the counter's zero lies clearly before what is extrapolated to. The margin
    /// leaves out what rounding could decide.
    #[inline(always)]
    fn is_usual(&self, kind: Kind, first_value: f64, change: f64) -> bool {
        let from_zero = kind.counter & (change > 0.0) & (first_value >= 0.0);
        !from_zero | (first_value * self.sampled_s > self.to_start_s * change * (1.0 + 1e-9))
    }

    /// The results of windows that are all like the last one, whose first and last values lie
    /// `stride` apart. False where one is not the usual case, and what was written is no result.
    #[inline]
    pub(crate) fn products(
        &self,
        values: &mut [f64],
        (firsts, lasts): (&[f64], &[f64]),
        stride: usize,
        kind: Kind,
    ) -> bool {
        match stride {
            1 => self.strided::<1>(values, firsts, lasts, kind),
            2 => self.strided::<2>(values, firsts, lasts, kind),
            4 => self.strided::<4>(values, firsts, lasts, kind),
            _ => {
                let each = firsts.iter().step_by(stride).zip(lasts.iter().step_by(stride));
                self.each(values, each, kind)
            }
        }
    }

    /// [`Self::products`] with a stride that the compiler knows.
    #[inline(always)]
    fn strided<const N: usize>(
        &self,
        values: &mut [f64],
        firsts: &[f64],
        lasts: &[f64],
        kind: Kind,
    ) -> bool {
        // The last of each stands alone, behind whole strides.
        let Some((value, most)) = values.split_last_mut() else { return true };
        let (Some(first), Some(last)) = (firsts.last(), lasts.last()) else { return true };
        let (firsts, lasts) = (firsts.as_chunks::<N>().0, lasts.as_chunks::<N>().0);
        let each = firsts.iter().zip(lasts).map(|(a, b)| (&a[0], &b[0]));
        let most = self.each(most, each, kind);
        most & self.each(std::slice::from_mut(value), std::iter::once((first, last)), kind)
    }

    #[inline(always)]
    fn each<'v>(
        &self,
        values: &mut [f64],
        ends: impl Iterator<Item = (&'v f64, &'v f64)>,
        kind: Kind,
    ) -> bool {
        let mut usual = true;
        for (value, (first, last)) in values.iter_mut().zip(ends) {
            let change = *last - *first;
            usual &= self.is_usual(kind, *first, change);
            *value = change * self.factor;
        }
        usual
    }
}

fn per_second(factor: f64, w: &Win<'_>, kind: Kind) -> f64 {
    if kind.per_second { factor / (w.range_ms as f64 / 1000.0) } else { factor }
}

/// A change and what counter resets within the window took away, added one by one: the order of
/// additions is part of the result.
fn with_resets(mut change: f64, w: &Win<'_>, cx: &mut Cx<'_>) -> f64 {
    let mut warned = false;
    for i in 1..w.fv.len() {
        let (prev, current) = (w.fv[i - 1], w.fv[i]);
        let mut reset = current < prev;
        if let Some((ps, s)) = starts(w.fst, i) {
            if !warned && overlaps(ps, w.ft[i - 1], s) {
                cx.start_time_overlap();
                warned = true;
            }
            reset |= is_start_reset(ps, w.ft[i - 1], s, w.ft[i]);
        }
        if reset {
            change += prev;
        }
    }
    change
}

/// How far a change seen between the first and the last sample is stretched.
struct Extrapolation {
    first_t: i64,
    last_t: i64,
    count: usize,
    /// The first sample's start timestamp, 0 when unknown or of no use.
    first_start: i64,
    start: i64,
    end: i64,
}

impl Extrapolation {
    /// Whether the counter is known to have begun within the window, so that nothing has to be
    /// guessed about the time before the first sample.
    #[inline]
    fn begins_inside(&self) -> bool {
        let s = self.first_start;
        s != 0 && s > self.start && s < self.first_t
    }

    /// The factor; `zero` is how many sampled intervals before the first sample a counter would
    /// have been zero. None when one sample is all there is.
    #[inline]
    fn factor(&self, zero: Option<f64>) -> Option<f64> {
        let between = (self.count - 1) as f64;
        let mut sampled = (self.last_t - self.first_t) as f64 / 1000.0;
        let average = if self.count > 1 { sampled / between } else { 0.0 };
        let threshold = average * 1.1;
        let mut to_start = (self.first_t - self.start) as f64 / 1000.0;
        let mut to_end = (self.end - self.last_t) as f64 / 1000.0;
        if self.begins_inside() {
            to_start = 0.0;
            sampled = (self.last_t - self.first_start) as f64 / 1000.0;
        } else if self.count == 1 {
            return None;
        } else {
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if let Some(zero) = zero {
                let to_zero = sampled * zero;
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        if sampled == 0.0 {
            return Some(1.0);
        }
        Some((sampled + to_start + to_end) / sampled)
    }
}

fn histograms(w: &Win<'_>, kind: Kind, cx: &mut Cx<'_>) -> Option<Point> {
    let last = w.hv.len() - 1;
    let change = if w.hv.len() > 1 { Some(histogram_change(w, kind, cx)?) } else { None };
    let first_start = if kind.counter { w.hst.first().copied().unwrap_or(0) } else { 0 };
    let e = Extrapolation {
        first_t: w.ht[0],
        last_t: w.ht[last],
        count: w.hv.len(),
        first_start,
        start: w.start,
        end: w.end,
    };
    let first = &w.hv[0];
    let mut zero = None;
    let mut result = match change {
        Some(mut h) if e.begins_inside() => {
            add(&mut h, first, cx)?;
            h
        }
        None if e.begins_inside() => FloatHistogram::clone(first),
        Some(h) => {
            if kind.counter && h.count > 0.0 && first.count >= 0.0 {
                zero = Some(first.count / h.count);
            }
            h
        }
        None => return None,
    };
    let factor = e.factor(zero)?;
    result.mul(per_second(factor, w, kind));
    Some(Point::Hist(Arc::new(result)))
}

/// Adds with annotations; None when it can't be done.
pub(super) fn add(to: &mut FloatHistogram, h: &FloatHistogram, cx: &mut Cx<'_>) -> Option<()> {
    match to.add(h) {
        Ok(r) => {
            if r.bounds {
                cx.mismatched_bounds(Addition);
            }
            Some(())
        }
        Err(_) => {
            cx.mixed_exponential_custom();
            None
        }
    }
}

/// Subtracts with annotations; None when it can't be done.
pub(super) fn sub(from: &mut FloatHistogram, h: &FloatHistogram, cx: &mut Cx<'_>) -> Option<()> {
    match from.sub(h) {
        Ok(r) => {
            if r.bounds {
                cx.mismatched_bounds(Subtraction);
            }
            Some(())
        }
        Err(_) => {
            cx.mixed_exponential_custom();
            None
        }
    }
}

/// Whether histogram `i` (from 1) begins anew, by start timestamps or by its buckets.
fn is_reset(w: &Win<'_>, i: usize, prev: &FloatHistogram) -> bool {
    starts(w.hst, i).is_some_and(|(ps, s)| is_start_reset(ps, w.ht[i - 1], s, w.ht[i]))
        || w.hv[i].detect_reset(prev)
}

/// The change from the first to the last of at least two histograms, resets made good; a gauge.
fn histogram_change(w: &Win<'_>, kind: Kind, cx: &mut Cx<'_>) -> Option<FloatHistogram> {
    let (first, last) = (&w.hv[0], &w.hv[w.hv.len() - 1]);
    if kind.counter && (is_gauge(first) || is_gauge(last)) {
        cx.not_counter();
    }
    if w.calm && kind.counter {
        let mut result = FloatHistogram::clone(last);
        sub(&mut result, first, cx)?;
        result.counter_reset_hint = periplus_model::CounterResetHint::Gauge;
        result.compact(0);
        return Some(result);
    }
    // A first sample before a reset does not matter, whatever its buckets.
    let empty;
    let mut prev: &FloatHistogram = first;
    if kind.counter && is_reset(w, 1, first) {
        let second = &w.hv[1];
        empty = FloatHistogram {
            schema: second.schema,
            custom_values: second.custom_values.clone(),
            ..FloatHistogram::default()
        };
        prev = &empty;
    }
    let custom = prev.has_custom_buckets();
    if last.has_custom_buckets() != custom {
        cx.mixed_exponential_custom();
        return None;
    }
    let mut schema = last.schema.min(prev.schema);
    if kind.counter {
        for h in &w.hv[1..w.hv.len() - 1] {
            if is_gauge(h) {
                cx.not_counter();
            }
            schema = schema.min(h.schema);
            if h.has_custom_buckets() != custom {
                cx.mixed_exponential_custom();
                return None;
            }
        }
    }
    let mut result = at_schema(last, schema);
    sub(&mut result, prev, cx)?;
    if kind.counter {
        let mut warned = false;
        for i in 1..w.hv.len() {
            if let Some((ps, s)) = starts(w.hst, i)
                && !warned
                && overlaps(ps, w.ht[i - 1], s)
            {
                cx.start_time_overlap();
                warned = true;
            }
            if is_reset(w, i, prev) {
                add(&mut result, prev, cx)?;
            }
            prev = &w.hv[i];
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        cx.not_gauge();
    }
    result.counter_reset_hint = periplus_model::CounterResetHint::Gauge;
    result.compact(0);
    Some(result)
}

fn at_schema(h: &FloatHistogram, schema: i32) -> FloatHistogram {
    if h.schema == schema || h.schema == CUSTOM_BUCKETS_SCHEMA {
        return h.clone();
    }
    h.to_schema(schema).unwrap_or_else(|| h.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_timestamps_tell_resets() {
        // A cumulative counter keeps its start.
        assert!(!is_start_reset(5, 10, 5, 20));
        // It began after the previous sample.
        assert!(is_start_reset(5, 10, 11, 20));
        // Deltas: each begins where the last ended.
        assert!(is_start_reset(5, 10, 10, 20));
        // Unknown starts, written as the sample's own time.
        assert!(!is_start_reset(10, 10, 10, 20));
        assert!(!is_start_reset(5, 10, 20, 20));
        assert!(!is_start_reset(5, 10, 0, 20));
    }
}
