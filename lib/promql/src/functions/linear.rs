//! `deriv`, `predict_linear`, `double_exponential_smoothing`: lines through samples.

use periplus_model::kahan_add;

use super::{Cx, Point, Win};
use crate::engine::QueryError;

/// The line that fits floats best, as (slope per second, value at `at_ms`).
fn regression(w: &Win<'_>, at_ms: i64) -> (f64, f64) {
    let first = w.fv[0];
    let n = w.fv.len() as f64;
    let (mut x, mut y, mut xy, mut xx) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    let mut constant = true;
    for (i, (t, v)) in w.ft.iter().zip(w.fv).enumerate() {
        constant &= i == 0 || *v == first;
        let dx = t.saturating_sub(at_ms) as f64 / 1e3;
        x = kahan_add(dx, x.0, x.1);
        y = kahan_add(*v, y.0, y.1);
        xy = kahan_add(dx * v, xy.0, xy.1);
        xx = kahan_add(dx * dx, xx.0, xx.1);
    }
    if constant {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (x, y, xy, xx) = (x.0 + x.1, y.0 + y.1, xy.0 + xy.1, xx.0 + xx.1);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
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
