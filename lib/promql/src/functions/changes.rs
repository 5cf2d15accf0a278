//! `changes` and `resets`: how often a series changed, how often a counter began anew.

use periplus_model::FloatHistogram;

use super::rate::is_start_reset;
use super::{Point, Win};

#[derive(Clone, Copy)]
struct Seen<'a> {
    t: i64,
    start: i64,
    float: f64,
    histogram: Option<&'a FloatHistogram>,
}

/// Where to begin: an anchored range keeps one sample at or before its start, whatever its type.
/// None when no sample lies within the range.
fn begin(w: &Win<'_>) -> Option<(usize, usize)> {
    if !w.anchored {
        return Some((0, 0));
    }
    let f = w.ft.partition_point(|t| *t <= w.start);
    let h = w.ht.partition_point(|t| *t <= w.start);
    if f >= w.ft.len() && h >= w.ht.len() {
        return None;
    }
    match (f.checked_sub(1), h.checked_sub(1)) {
        (None, None) => Some((0, 0)),
        (Some(fi), None) => Some((fi, h)),
        (Some(fi), Some(hi)) if w.ft[fi] >= w.ht[hi] => Some((fi, h)),
        (_, Some(hi)) => Some((f, hi)),
    }
}

/// Counts pairs of neighbours for which `differs` holds.
fn count(w: &Win<'_>, differs: impl Fn(&Seen<'_>, &Seen<'_>) -> bool) -> Option<Point> {
    let (mut f, mut h) = begin(w)?;
    let mut prev: Option<Seen<'_>> = None;
    let mut n = 0u64;
    while f < w.fv.len() || h < w.hv.len() {
        let float_first = h >= w.hv.len() || (f < w.fv.len() && w.ft[f] <= w.ht[h]);
        let current = if float_first {
            f += 1;
            let start = w.fst.get(f - 1).copied().unwrap_or(0);
            Seen { t: w.ft[f - 1], start, float: w.fv[f - 1], histogram: None }
        } else {
            h += 1;
            let start = w.hst.get(h - 1).copied().unwrap_or(0);
            Seen { t: w.ht[h - 1], start, float: 0.0, histogram: Some(&w.hv[h - 1]) }
        };
        if let Some(p) = &prev
            && differs(p, &current)
        {
            n += 1;
        }
        prev = Some(current);
    }
    prev.map(|_| Point::Float(n as f64))
}

pub(crate) fn resets(w: &Win<'_>) -> Option<Point> {
    count(w, |p, c| {
        let restarted = || is_start_reset(p.start, p.t, c.start, c.t);
        match (p.histogram, c.histogram) {
            (None, None) => c.float < p.float || restarted(),
            (Some(a), Some(b)) => restarted() || b.detect_reset(a),
            _ => true,
        }
    })
}

pub(crate) fn changes(w: &Win<'_>) -> Option<Point> {
    count(w, |p, c| match (p.histogram, c.histogram) {
        (None, None) => c.float != p.float && !(c.float.is_nan() && p.float.is_nan()),
        (Some(a), Some(b)) => !b.same_as(a),
        _ => true,
    })
}
