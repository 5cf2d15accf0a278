//! `deriv`, `predict_linear`, `double_exponential_smoothing`: lines through samples.

use std::cell::RefCell;

use super::{Cx, Point, Win};
use crate::engine::QueryError;

/// What a line through samples needs of their times, kept from window to window: over regular samples
/// the windows are all alike, and then half of the sums are known.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Milliseconds from the reference time, and the same in seconds.
    ms: Vec<i64>,
    x: Vec<f64>,
    /// The sums of x and of its squares.
    sum_x: f64,
    sum_xx: f64,
}

impl Times {
    /// Makes this that of the samples at `ts`, seen from `at_ms`.
    fn of(&mut self, ts: &[i64], at_ms: i64) {
        let from = |t: &i64| t.saturating_sub(at_ms);
        if ts.len() == self.ms.len() && ts.iter().zip(&self.ms).all(|(t, ms)| from(t) == *ms) {
            return;
        }
        self.ms.clear();
        self.ms.extend(ts.iter().map(from));
        self.x.clear();
        self.x.extend(self.ms.iter().map(|ms| *ms as f64 / 1e3));
        let (mut sums, mut lost) = ([0.0; 2], [0.0; 2]);
        self.x.iter().for_each(|x| add_two([*x, x * x], &mut sums, &mut lost));
        (self.sum_x, self.sum_xx) = (sums[0] + lost[0], sums[1] + lost[1]);
    }
}

/// The line that fits floats best, as (slope per second, value at `at_ms`).
fn regression(w: &Win<'_>, at_ms: i64, times: &mut Times) -> (f64, f64) {
    let first = w.fv[0];
    if w.fv.iter().all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = w.fv.len() as f64;
    times.of(w.ft, at_ms);
    // Sums of y and xy, and what rounding loses of them.
    let (mut sums, mut lost) = ([0.0; 2], [0.0; 2]);
    times.x.iter().zip(w.fv).for_each(|(x, v)| add_two([*v, x * v], &mut sums, &mut lost));
    let (x, xx) = (times.sum_x, times.sum_xx);
    let (y, xy) = (sums[0] + lost[0], sums[1] + lost[1]);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// [`kahan_add`](periplus_model::kahan_add) for two sums at once, without branches, so that both go
/// through one instruction.
#[inline(always)]
fn add_two(terms: [f64; 2], sums: &mut [f64; 2], lost: &mut [f64; 2]) {
    for ((v, sum), c) in terms.iter().zip(sums).zip(lost) {
        let t = *sum + *v;
        let (large, small) = if sum.abs() >= v.abs() { (*sum, *v) } else { (*v, *sum) };
        let next = *c + ((large - t) + small);
        *c = if t.abs() == f64::INFINITY { 0.0 } else { next };
        *sum = t;
    }
}

/// Whether there are floats enough for a line; says so when histograms stood in the way.
fn enough(w: &Win<'_>, cx: &mut Cx<'_>) -> bool {
    if !w.hv.is_empty() && !w.fv.is_empty() {
        cx.ignored_in_mixed_range();
    }
    w.fv.len() >= 2
}

pub(crate) fn deriv(w: &Win<'_>, times: &RefCell<Times>, cx: &mut Cx<'_>) -> Option<Point> {
    enough(w, cx).then(|| Point::Float(regression(w, w.ft[0], &mut times.borrow_mut()).0))
}

pub(crate) fn predict(w: &Win<'_>, times: &RefCell<Times>, cx: &mut Cx<'_>) -> Option<Point> {
    enough(w, cx).then(|| {
        let (slope, intercept) = regression(w, w.t, &mut times.borrow_mut());
        Point::Float(slope * w.args[0] + intercept)
    })
}

pub(crate) fn smooth(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    let [level, trend] = w.args;
    for (what, short, v) in [("smoothing", "sf", level), ("trend", "tf", trend)] {
        if v <= 0.0 || v >= 1.0 {
            let text =
                format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {}", fixed(v));
            cx.error = Some(QueryError::execution(text));
            return None;
        }
    }
    if !enough(w, cx) {
        return None;
    }
    let (mut s0, mut s1, mut b) = (0.0, w.fv[0], w.fv[1] - w.fv[0]);
    for (i, v) in w.fv.iter().enumerate().skip(1) {
        let x = level * v;
        if i > 1 {
            b = trend * (s1 - s0) + (1.0 - trend) * b;
        }
        let y = (1.0 - level) * (s1 + b);
        (s0, s1) = (s1, x + y);
    }
    Some(Point::Float(s1))
}

/// Six decimals, as Go's `%f`.
fn fixed(v: f64) -> String {
    if v.is_finite() { format!("{v:.6}") } else { periplus_model::float::format_float(v) }
}
