//! `deriv`, `predict_linear`, `double_exponential_smoothing`: lines through samples.

use super::{Cx, Point, Win};
use crate::engine::QueryError;

/// The line that fits floats best, as (slope per second, value at `at_ms`).
fn regression(w: &Win<'_>, at_ms: i64) -> (f64, f64) {
    let first = w.fv[0];
    let n = w.fv.len() as f64;
    // Sums of x, y, xy and xx, and what rounding loses of them.
    let (mut sums, mut lost) = ([0.0; 4], [0.0; 4]);
    let mut differing = 0;
    for (t, v) in w.ft.iter().zip(w.fv) {
        differing += usize::from(*v != first);
        let dx = t.saturating_sub(at_ms) as f64 / 1e3;
        add_four([dx, *v, dx * v, dx * dx], &mut sums, &mut lost);
    }
    // None but a first NaN, which differs from itself.
    if differing == usize::from(first.is_nan()) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let [x, y, xy, xx] = [0, 1, 2, 3].map(|i| sums[i] + lost[i]);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// [`kahan_add`](periplus_model::kahan_add) for four sums at once, without branches, so that two of
/// them go through one instruction.
#[inline(always)]
fn add_four(terms: [f64; 4], sums: &mut [f64; 4], lost: &mut [f64; 4]) {
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

pub(crate) fn deriv(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    enough(w, cx).then(|| Point::Float(regression(w, w.ft[0]).0))
}

pub(crate) fn predict(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    enough(w, cx).then(|| {
        let (slope, intercept) = regression(w, w.t);
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
