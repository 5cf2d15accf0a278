//! Instant selectors: the newest sample at or before each step, not older than the lookback.

use std::sync::Arc;

use periplus_model::{SampleBuffer, is_stale};

use crate::annotations::{Annotation, Annotations};
use crate::exec::row::{Row, histogram_weight};
use crate::exec::samples::Samples;
use crate::exec::stats::Counts;
use crate::functions::extended::{interpolate, interpolate_histograms};
use crate::functions::{Cx, Point, is_gauge};
use crate::parse::ast::Span;
use crate::plan::{Read, Selection};
use crate::value::StepGrid;

/// Looks a series up at every step. Steps that see the same sample, or none, are done in one go: in
/// subqueries and fine grids there are many of them.
pub(crate) fn lookup(
    buf: &SampleBuffer,
    s: &Selection,
    grid: StepGrid,
    lookback_ms: i64,
    row: &mut Row,
    counts: &mut Counts,
) {
    let steps = grid.steps();
    let reference = |i: usize| s.at.unwrap_or_else(|| grid.time(i)).saturating_sub(s.offset_ms);
    // The first step behind `i` that looks at `bound` or later.
    let until = |i: usize, bound: i64| {
        let mut j = i + 1;
        while j < steps && reference(j) < bound {
            j += 1;
            if j == i + 16 && s.at.is_none() && grid.step_ms > 0 {
                let more = bound.saturating_sub(reference(j)).max(0) / grid.step_ms;
                j = j.saturating_add(usize::try_from(more).unwrap_or(usize::MAX)).min(steps);
            }
        }
        j
    };
    let (mut i, mut next, mut next_hist) = (0usize, 0usize, 0usize);
    while i < steps {
        let now = reference(i);
        while buf.ts.get(next).is_some_and(|t| *t <= now) {
            next += 1;
        }
        let coming = buf.ts.get(next).copied().unwrap_or(i64::MAX);
        let from = i;
        let Some(at) = next.checked_sub(1) else {
            i = until(from, coming);
            continue;
        };
        let t = buf.ts[at];
        if t <= now.saturating_sub(lookback_ms) {
            i = until(from, coming);
            continue;
        }
        i = until(from, coming.min(t.saturating_add(lookback_ms)));
        while buf.histograms.get(next_hist).is_some_and(|(h, _)| (*h as usize) < at) {
            next_hist += 1;
        }
        let hist = buf.histograms.get(next_hist).filter(|(h, _)| *h as usize == at);
        let v = buf.values[at];
        if hist.map_or(is_stale(v), |(_, h)| is_stale(h.sum)) {
            continue;
        }
        let mut weight = 1;
        match (s.read, hist) {
            (Read::Timestamp, _) | (Read::InfoTime, None) => {
                row.set_floats(from, i, t as f64 / 1000.0);
            }
            (Read::StartTimestamp, _) => {
                let start = buf.start_ts.get(at).copied().unwrap_or(0);
                row.set_floats(from, i, start as f64 / 1000.0);
            }
            (_, Some((_, h))) => {
                weight = histogram_weight(h) as u64;
                (from..i).for_each(|i| row.push_histogram(i, Arc::clone(h)));
            }
            (_, None) => row.set_floats(from, i, v),
        }
        counts.at_steps(from..i, weight);
    }
}

/// Looks a series up at every step, on the line between the samples around it; the last value
/// where none follows.
pub(crate) fn lookup_smoothed(
    samples: &Samples,
    s: &Selection,
    grid: StepGrid,
    lookback_ms: i64,
    row: &mut Row,
    (annotations, name, span): (&mut Annotations, &str, Span),
) {
    let mut cx = Cx::new(annotations, name, span);
    for i in 0..grid.steps() {
        let t = s.at.unwrap_or_else(|| grid.time(i)).saturating_sub(s.offset_ms);
        let (from, to) = (t.saturating_sub(lookback_ms), t.saturating_add(lookback_ms));
        let within = |times: &[i64]| {
            (times.partition_point(|x| *x <= from), times.partition_point(|x| *x <= to))
        };
        let (f, h) = (within(&samples.ft), within(&samples.ht));
        if f.0 < f.1 && h.0 < h.1 {
            cx.annotations.add(Annotation::mixed_floats_histograms(name, span));
            continue;
        }
        let found = if h.0 < h.1 {
            histogram_at(samples, h, t, &mut cx)
        } else {
            float_at(samples, f, t).map(Point::Float)
        };
        if let Some(p) = found {
            row.set(i, p);
        }
    }
}

fn float_at(s: &Samples, (lo, hi): (usize, usize), t: i64) -> Option<f64> {
    let (ft, fv) = (s.ft.get(lo..hi)?, s.fv.get(lo..hi)?);
    let i = ft.partition_point(|x| *x < t);
    if ft.get(i) == Some(&t) {
        return fv.get(i).copied();
    }
    let before = i.checked_sub(1)?;
    if i < ft.len() {
        return Some(interpolate((ft[before], fv[before]), (ft[i], fv[i]), t, false));
    }
    fv.get(before).copied()
}

fn histogram_at(s: &Samples, (lo, hi): (usize, usize), t: i64, cx: &mut Cx<'_>) -> Option<Point> {
    let (ht, hv) = (s.ht.get(lo..hi)?, s.hv.get(lo..hi)?);
    let i = ht.partition_point(|x| *x < t);
    if ht.get(i) == Some(&t) {
        return hv.get(i).map(|h| Point::Hist(Arc::clone(h)));
    }
    let before = i.checked_sub(1)?;
    let prev = hv.get(before)?;
    let Some(next) = hv.get(i) else {
        let mut h = (**prev).clone();
        h.counter_reset_hint = periplus_model::CounterResetHint::Unknown;
        return Some(Point::Hist(Arc::new(h)));
    };
    if prev.has_custom_buckets() != next.has_custom_buckets() {
        cx.mixed_exponential_custom();
        return None;
    }
    let counter = !(is_gauge(prev) && is_gauge(next));
    let h = interpolate_histograms((ht[before], prev), (ht[i], next), t, counter, cx)?;
    Some(Point::Hist(Arc::new(h)))
}
