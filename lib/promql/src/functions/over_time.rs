//! `*_over_time` of floats; histograms are in `over_time_histogram`.

use std::sync::Arc;

use periplus_model::kahan_add;

use super::quantile::quantile;
use super::{Cx, Point, Win, over_time_histogram};

/// The compensated sum.
pub(crate) fn sum(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    if w.is_mixed() {
        cx.mixed_floats_histograms();
        return None;
    }
    if !w.hv.is_empty() {
        return over_time_histogram::sum(w, cx);
    }
    let (mut total, mut c) = (0.0, 0.0);
    for v in w.fv {
        (total, c) = kahan_add(*v, total, c);
    }
    (!w.fv.is_empty()).then(|| Point::Float(if total.is_infinite() { total } else { total + c }))
}

/// The mean: of the sum, or, where that would overflow, corrected with every value.
pub(crate) fn avg(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    if w.is_mixed() {
        cx.mixed_floats_histograms();
        return None;
    }
    if !w.hv.is_empty() {
        return over_time_histogram::avg(w, cx);
    }
    let (first, rest) = w.fv.split_first()?;
    let (mut total, mut c) = (*first, 0.0);
    let mut count = 1.0;
    for (i, v) in rest.iter().enumerate() {
        count = (i + 2) as f64;
        let (next, next_c) = kahan_add(*v, total, c);
        if next.is_infinite() {
            return Some(Point::Float(incremental_mean(total, c, i, rest)));
        }
        (total, c) = (next, next_c);
    }
    Some(Point::Float(total / count + c / count))
}

/// Goes on with a mean after `done + 1` values of sum `total`.
fn incremental_mean(total: f64, c: f64, done: usize, rest: &[f64]) -> f64 {
    let n = (done + 1) as f64;
    let (mut mean, mut c) = (total / n, c / n);
    for (i, v) in rest.iter().enumerate().skip(done) {
        let count = (i + 2) as f64;
        let weight = (count - 1.0) / count;
        (mean, c) = kahan_add(v / count, weight * mean, weight * c);
    }
    mean + c
}

pub(crate) fn count(w: &Win<'_>) -> Option<Point> {
    let n = w.fv.len() + w.hv.len();
    (n > 0).then_some(Point::Float(n as f64))
}

pub(crate) fn present(w: &Win<'_>) -> Option<Point> {
    count(w).map(|_| Point::Float(1.0))
}

pub(crate) fn first(w: &Win<'_>) -> Option<Point> {
    match (w.ft.first(), w.ht.first()) {
        (Some(f), Some(h)) if f >= h => Some(Point::Hist(Arc::clone(w.hv.first()?))),
        (Some(_), _) => w.fv.first().map(|v| Point::Float(*v)),
        (None, _) => w.hv.first().map(|h| Point::Hist(Arc::clone(h))),
    }
}

pub(crate) fn last(w: &Win<'_>) -> Option<Point> {
    match (w.ft.last(), w.ht.last()) {
        (Some(f), Some(h)) if h >= f => Some(Point::Hist(Arc::clone(w.hv.last()?))),
        (Some(_), _) => w.fv.last().map(|v| Point::Float(*v)),
        (None, _) => w.hv.last().map(|h| Point::Hist(Arc::clone(h))),
    }
}

pub(crate) fn ts_of_first(w: &Win<'_>) -> Option<Point> {
    let t = w.ft.first().into_iter().chain(w.ht.first()).min()?;
    Some(Point::Float(*t as f64 / 1000.0))
}

pub(crate) fn ts_of_last(w: &Win<'_>) -> Option<Point> {
    let t = w.ft.last().into_iter().chain(w.ht.last()).max()?;
    Some(Point::Float((*t).max(0) as f64 / 1000.0))
}

/// Only floats count; says so where there are histograms too. None without floats.
fn floats_only(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<()> {
    if w.fv.is_empty() {
        return None;
    }
    if !w.hv.is_empty() {
        cx.ignored_in_mixed_range();
    }
    Some(())
}

/// The index of the value that wins: `better(candidate, best)`, or anything over NaN.
#[inline]
fn pick(values: &[f64], better: impl Fn(f64, f64) -> bool) -> usize {
    let mut at = 0;
    for (i, v) in values.iter().enumerate() {
        if better(*v, values[at]) || values[at].is_nan() {
            at = i;
        }
    }
    at
}

pub(crate) fn max(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    floats_only(w, cx)?;
    Some(Point::Float(w.fv[pick(w.fv, |v, best| v > best)]))
}

pub(crate) fn min(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    floats_only(w, cx)?;
    Some(Point::Float(w.fv[pick(w.fv, |v, best| v < best)]))
}

pub(crate) fn ts_of_max(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    floats_only(w, cx)?;
    Some(Point::Float(w.ft[pick(w.fv, |v, best| v >= best)] as f64 / 1000.0))
}

pub(crate) fn ts_of_min(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    floats_only(w, cx)?;
    Some(Point::Float(w.ft[pick(w.fv, |v, best| v <= best)] as f64 / 1000.0))
}

/// The variance, or its root.
pub(crate) fn variance(w: &Win<'_>, root: bool, cx: &mut Cx<'_>) -> Option<Point> {
    floats_only(w, cx)?;
    let (mut count, mut mean, mut aux) = (0.0, (0.0, 0.0), (0.0, 0.0));
    for v in w.fv {
        count += 1.0;
        let delta = v - (mean.0 + mean.1);
        mean = kahan_add(delta / count, mean.0, mean.1);
        aux = kahan_add(delta * (v - (mean.0 + mean.1)), aux.0, aux.1);
    }
    let variance = (aux.0 + aux.1) / count;
    Some(Point::Float(if root { variance.sqrt() } else { variance }))
}

pub(crate) fn quantile_over_time(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    if w.fv.is_empty() {
        return None;
    }
    let q = w.args[0];
    if !(0.0..=1.0).contains(&q) {
        cx.invalid_quantile(q);
    }
    floats_only(w, cx)?;
    Some(Point::Float(quantile(q, &mut w.fv.to_vec())))
}

/// The median distance from the median.
pub(crate) fn mad(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    floats_only(w, cx)?;
    if w.fv.iter().any(|v| v.is_nan()) {
        return Some(Point::Float(f64::NAN));
    }
    let mut values = w.fv.to_vec();
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    Some(Point::Float(quantile(0.5, &mut values)))
}
