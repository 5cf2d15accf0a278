//! `rate` and its like over `anchored` and `smoothed` ranges: the value at the range's ends is taken
//! from the samples around it (the last one before, or a line through both neighbours), so nothing
//! is extrapolated.

use std::sync::Arc;

use periplus_model::{CounterResetHint, FloatHistogram};

use super::rate::{Kind, add, sub};
use super::{Cx, Point, Win, is_gauge};
use crate::annotations::HistogramOperation::{Addition, Subtraction};

/// The value at `t` on the line through two samples. A counter that fell began at zero.
pub(crate) fn interpolate(p1: (i64, f64), p2: (i64, f64), t: i64, counter: bool) -> f64 {
    let y1 = if counter && p2.1 < p1.1 { 0.0 } else { p1.1 };
    y1 + (p2.1 - y1) * (t - p1.0) as f64 / (p2.0 - p1.0) as f64
}

/// Which samples matter: the last at or before the start (or the first of all), and the first at
/// or after the end (smoothed) or the last of all. None when there is nothing within.
pub(crate) fn bounds(times: &[i64], w: &Win<'_>) -> Option<(usize, usize)> {
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last].partition_point(|t| *t <= w.start).saturating_sub(1);
    if w.smoothed {
        last = times[..last].partition_point(|t| *t < w.end);
    }
    if times[last] <= w.start || (w.smoothed && times[first] > w.end) {
        return None;
    }
    Some((first, last))
}

pub(crate) fn rate(w: &Win<'_>, kind: Kind, cx: &mut Cx<'_>) -> Option<Point> {
    if !w.hv.is_empty() {
        return histogram_rate(w, kind, cx);
    }
    let (first, last) = bounds(w.ft, w)?;
    let (left, right) = float_ends(w, first, last, kind.counter);
    let mut result = right - left;
    if kind.counter {
        let from = if w.ft[first] <= w.start { first + 1 } else { first };
        let to = if w.ft[last] >= w.end { last } else { last + 1 };
        result += lost_by_resets(left, right, w.fv.get(from..to).unwrap_or(&[]));
    }
    if kind.per_second {
        result /= w.range_ms as f64 / 1000.0;
    }
    Some(Point::Float(result))
}

/// The values at the range's start and end.
pub(crate) fn float_ends(w: &Win<'_>, first: usize, last: usize, counter: bool) -> (f64, f64) {
    let at = |i: usize| (w.ft[i], w.fv[i]);
    let left = if w.smoothed && w.ft[first] < w.start && first + 1 < w.ft.len() {
        interpolate(at(first), at(first + 1), w.start, counter)
    } else {
        w.fv[first]
    };
    let right = if w.smoothed && last > 0 && w.ft[last] > w.end {
        interpolate(at(last - 1), at(last), w.end, counter)
    } else {
        w.fv[last]
    };
    (left, right)
}

fn lost_by_resets(left: f64, right: f64, between: &[f64]) -> f64 {
    let mut lost = 0.0;
    let mut prev = left;
    for v in between {
        if *v < prev {
            lost += prev;
        }
        prev = *v;
    }
    if right < prev {
        lost += prev;
    }
    lost
}

/// The histogram at `t` between two. A counter that was reset in between began at zero.
pub(crate) fn interpolate_histograms(
    (t1, h1): (i64, &FloatHistogram),
    (t2, h2): (i64, &FloatHistogram),
    t: i64,
    counter: bool,
    cx: &mut Cx<'_>,
) -> Option<FloatHistogram> {
    if t == t1 {
        return Some(h1.clone());
    }
    let mut result = h2.clone();
    if t == t2 {
        return Some(result);
    }
    let fraction = (t - t1) as f64 / (t2 - t1) as f64;
    if counter && h2.detect_reset(h1) {
        result.mul(fraction);
        return Some(result);
    }
    for (step, op) in [(true, Subtraction), (false, Addition)] {
        let done = if step { result.sub(h1) } else { result.add(h1) };
        match done {
            Ok(r) if r.bounds => cx.mismatched_bounds(op),
            Ok(_) => {}
            Err(_) => {
                cx.mixed_exponential_custom();
                return None;
            }
        }
        if step {
            result.mul(fraction);
        }
    }
    Some(result)
}

fn histogram_rate(w: &Win<'_>, kind: Kind, cx: &mut Cx<'_>) -> Option<Point> {
    let (first, last) = bounds(w.ht, w)?;
    let used = w.hv.get(first..=last)?;
    let custom = used.first()?.has_custom_buckets();
    for h in used {
        if h.has_custom_buckets() != custom {
            cx.mixed_exponential_custom();
            return None;
        }
        if kind.counter && is_gauge(h) {
            cx.not_counter();
        }
    }
    let at = |i: usize| (w.ht[i], &*w.hv[i]);
    let left = if w.smoothed && w.ht[first] < w.start && first + 1 < w.ht.len() {
        interpolate_histograms(at(first), at(first + 1), w.start, kind.counter, cx)?
    } else {
        FloatHistogram::clone(&w.hv[first])
    };
    let right = if w.smoothed && last > 0 && w.ht[last] > w.end {
        interpolate_histograms(at(last - 1), at(last), w.end, kind.counter, cx)?
    } else {
        FloatHistogram::clone(&w.hv[last])
    };
    if !(kind.counter || is_gauge(&left) && is_gauge(&right)) {
        cx.not_gauge();
    }
    let mut result = right.clone();
    sub(&mut result, &left, cx)?;
    if kind.counter
        && let Some(lost) = histogram_lost(w, (first, last), (&left, &right), cx)?
    {
        add(&mut result, &lost, cx)?;
    }
    if kind.per_second {
        result.div(w.range_ms as f64 / 1000.0);
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    result.compact(0);
    Some(Point::Hist(Arc::new(result)))
}

/// What resets took away between the two ends. A reset that an end's interpolation already spans
/// is not counted again. The outer None: it can't be computed.
fn histogram_lost(
    w: &Win<'_>,
    (first, last): (usize, usize),
    (left, right): (&FloatHistogram, &FloatHistogram),
    cx: &mut Cx<'_>,
) -> Option<Option<FloatHistogram>> {
    let mut from = first + 1;
    let mut prev = left;
    if w.smoothed
        && w.ht[first] < w.start
        && let Some(next) = w.hv.get(first + 1)
        && next.detect_reset(&w.hv[first])
    {
        prev = next;
        from += 1;
    }
    // The sample at the end is `right` itself (or what it was interpolated to).
    if from > last {
        return Some(None);
    }
    let mut lost: Option<FloatHistogram> = None;
    let between = w.hv.get(from..last)?.iter().map(|h| &**h);
    for h in between.chain([right]) {
        if h.detect_reset(prev) {
            match &mut lost {
                None => lost = Some(prev.clone()),
                Some(sum) => add(sum, prev, cx)?,
            }
        }
        prev = h;
    }
    Some(lost)
}
