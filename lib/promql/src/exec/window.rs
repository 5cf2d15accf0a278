//! Slides a window over the samples of a series.

mod plain;

use std::cell::RefCell;

use periplus_model::{CounterResetHint, FloatHistogram};

use crate::exec::row::{Row, histogram_weight};
use crate::exec::samples::Samples;
use crate::exec::stats::Counts;
use crate::functions::rate::Kind;
use crate::functions::{Cx, Point, Win, changes, instant_delta, linear, over_time, rate};
use crate::plan::Window;
use crate::value::StepGrid;

/// What a range function is run with.
pub(crate) struct Job<'a> {
    pub(crate) func: &'static str,
    pub(crate) window: Window,
    pub(crate) grid: StepGrid,
    pub(crate) lookback_ms: i64,
    /// Scalar arguments, one value a step each.
    pub(crate) args: Vec<&'a [f64]>,
}

/// Pointers into the floats and histograms: what lies in the window.
#[derive(Clone, Copy, Default)]
struct Cursor {
    flo: usize,
    fhi: usize,
    hlo: usize,
    hhi: usize,
}

fn advance(times: &[i64], lo: &mut usize, hi: &mut usize, after: i64, to: i64) {
    while times.get(*hi).is_some_and(|t| *t <= to) {
        *hi += 1;
    }
    while *lo < *hi && times.get(*lo).is_some_and(|t| *t <= after) {
        *lo += 1;
    }
}

impl Job<'_> {
    /// How far before and after its range a window reaches.
    fn reach(&self) -> (i64, i64) {
        let w = &self.window;
        let before = if w.anchored || w.smoothed { self.lookback_ms } else { 0 };
        (before, if w.smoothed { self.lookback_ms } else { 0 })
    }

    /// Evaluates the function at every step into `row`.
    pub(crate) fn run(&self, s: &Samples, row: &mut Row, counts: &mut Counts, cx: &mut Cx<'_>) {
        if let ("rate" | "increase" | "delta", true, true) = (
            self.func,
            s.hv.is_empty() && s.fst.is_empty() && self.window.at.is_none(),
            !self.window.anchored && !self.window.smoothed,
        ) {
            return self.plain_rate(s, kind_of(self.func), row, counts);
        }
        match self.func {
            "rate" | "increase" | "delta" => {
                let kind = kind_of(self.func);
                self.slide(s, row, counts, cx, |w, cx| rate::extrapolated(w, kind, cx));
            }
            "irate" => {
                self.slide(s, row, counts, cx, |w, cx| instant_delta::last_change(w, true, cx));
            }
            "idelta" => {
                self.slide(s, row, counts, cx, |w, cx| instant_delta::last_change(w, false, cx));
            }
            "resets" => self.slide(s, row, counts, cx, |w, _| changes::resets(w)),
            "changes" => self.slide(s, row, counts, cx, |w, _| changes::changes(w)),
            "deriv" => {
                let times = RefCell::default();
                self.slide(s, row, counts, cx, |w, cx| linear::deriv(w, &times, cx));
            }
            "predict_linear" => {
                let times = RefCell::default();
                self.slide(s, row, counts, cx, |w, cx| linear::predict(w, &times, cx));
            }
            "double_exponential_smoothing" => self.slide(s, row, counts, cx, linear::smooth),
            _ => self.over_time(s, row, counts, cx),
        }
    }

    fn over_time(&self, s: &Samples, row: &mut Row, counts: &mut Counts, cx: &mut Cx<'_>) {
        use over_time as o;
        match self.func {
            "sum_over_time" => self.slide(s, row, counts, cx, o::sum),
            "avg_over_time" => self.slide(s, row, counts, cx, o::avg),
            "count_over_time" => self.slide(s, row, counts, cx, |w, _| o::count(w)),
            "present_over_time" | "absent_over_time" => {
                self.slide(s, row, counts, cx, |w, _| o::present(w));
            }
            "first_over_time" => self.slide(s, row, counts, cx, |w, _| o::first(w)),
            "last_over_time" => self.slide(s, row, counts, cx, |w, _| o::last(w)),
            "ts_of_first_over_time" => self.slide(s, row, counts, cx, |w, _| o::ts_of_first(w)),
            "ts_of_last_over_time" => self.slide(s, row, counts, cx, |w, _| o::ts_of_last(w)),
            "min_over_time" => self.slide(s, row, counts, cx, o::min),
            "max_over_time" => self.slide(s, row, counts, cx, o::max),
            "ts_of_min_over_time" => self.slide(s, row, counts, cx, o::ts_of_min),
            "ts_of_max_over_time" => self.slide(s, row, counts, cx, o::ts_of_max),
            "stddev_over_time" => {
                self.slide(s, row, counts, cx, |w, cx| o::variance(w, true, cx));
            }
            "stdvar_over_time" => {
                self.slide(s, row, counts, cx, |w, cx| o::variance(w, false, cx));
            }
            "quantile_over_time" => self.slide(s, row, counts, cx, o::quantile_over_time),
            "mad_over_time" => self.slide(s, row, counts, cx, o::mad),
            other => {
                let text = format!("unknown range function {other}");
                cx.error = Some(crate::engine::QueryError::internal(text));
            }
        }
    }

    /// Calls `f` for every step whose window is not empty.
    fn slide(
        &self,
        s: &Samples,
        row: &mut Row,
        counts: &mut Counts,
        cx: &mut Cx<'_>,
        f: impl Fn(&Win<'_>, &mut Cx<'_>) -> Option<Point>,
    ) {
        let (before, after) = self.reach();
        let mut c = Cursor::default();
        let mut heavy = 0u64;
        let breaks = last_breaks(s);
        for i in 0..self.grid.steps() {
            let t = self.grid.time(i);
            let end = self.window.end(t);
            let start = end.saturating_sub(self.window.range_ms);
            let was = c;
            let lowest = start.saturating_sub(before);
            let highest = end.saturating_add(after);
            advance(&s.ft, &mut c.flo, &mut c.fhi, lowest, highest);
            advance(&s.ht, &mut c.hlo, &mut c.hhi, lowest, highest);
            if c.flo == c.fhi && c.hlo == c.hhi {
                heavy = 0;
                continue;
            }
            let hv = s.hv.get(c.hlo..c.hhi).unwrap_or(&[]);
            let mut fresh = (c.fhi - was.fhi.max(c.flo)) as u64;
            if c.hhi > 0 {
                let weigh = |from: usize, to: usize| -> u64 {
                    let some = s.hv.get(from..to).unwrap_or(&[]);
                    some.iter().map(|h| histogram_weight(h) as u64).sum()
                };
                // Each is weighed when it comes and when it goes, not at every step between.
                heavy = (heavy + weigh(was.hhi, c.hhi)).saturating_sub(weigh(was.hlo, c.hlo));
                fresh += weigh(was.hhi.max(c.hlo), c.hhi);
            }
            counts.at_step(i, (c.fhi - c.flo) as u64 + heavy, fresh);
            let w = Win {
                t,
                start,
                end,
                range_ms: self.window.range_ms,
                ft: s.ft.get(c.flo..c.fhi).unwrap_or(&[]),
                fv: s.fv.get(c.flo..c.fhi).unwrap_or(&[]),
                fst: s.fst.get(c.flo..c.fhi).unwrap_or(&[]),
                ht: s.ht.get(c.hlo..c.hhi).unwrap_or(&[]),
                hv,
                hst: s.hst.get(c.hlo..c.hhi).unwrap_or(&[]),
                args: [self.arg(0, i), self.arg(1, i)],
                anchored: self.window.anchored,
                smoothed: self.window.smoothed,
                calm: c.hhi > c.hlo && breaks.get(c.hhi - 1).is_some_and(|at| *at <= c.hlo),
            };
            if let Some(p) = f(&w, cx) {
                row.set(i, p);
            }
            if cx.error.is_some() {
                return;
            }
        }
    }

    fn arg(&self, n: usize, step: usize) -> f64 {
        self.args.get(n).and_then(|a| a.get(step)).copied().unwrap_or(f64::NAN)
    }
}

/// For each histogram the last one up to it that does not plainly go on from the one before. Empty
/// where start timestamps have a say, too.
fn last_breaks(s: &Samples) -> Vec<usize> {
    if !s.hst.is_empty() {
        return Vec::new();
    }
    let (mut last, mut schema) = (0, None);
    let step = |(i, h): (usize, &std::sync::Arc<FloatHistogram>)| {
        if h.counter_reset_hint != CounterResetHint::NotReset || schema != Some(h.schema) {
            last = i;
        }
        schema = Some(h.schema);
        last
    };
    s.hv.iter().enumerate().map(step).collect()
}

fn kind_of(func: &str) -> Kind {
    match func {
        "rate" => Kind::RATE,
        "increase" => Kind::INCREASE,
        _ => Kind::DELTA,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::annotations::Annotations;
    use crate::parse::ast::Span;
    use periplus_model::Labels;

    fn job(func: &'static str, range_ms: i64, step_ms: i64) -> Job<'static> {
        let window = Window { range_ms, at: None, offset_ms: 0, anchored: false, smoothed: false };
        let grid = StepGrid { start_ms: 0, end_ms: 4_000_000, step_ms };
        Job { func, window, grid, lookback_ms: 300_000, args: Vec::new() }
    }

    proptest! {
        /// The way without division gives the same bits as the plain one, and counts the same.
        #[test]
        fn short_cuts_change_nothing(
            gaps in proptest::collection::vec((1i64..60_000, 0u16..400, 0.0f64..100.0), 0..300),
            regular: bool,
            which in 0usize..3,
            begin in prop_oneof![Just(0), 0i64..3_600_000],
            range_ms in prop_oneof![1_000i64..200_000, (1i64..20).prop_map(|k| k * 15_000)],
            step_ms in prop_oneof![1_000i64..100_000, (1i64..7).prop_map(|k| k * 15_000)],
        ) {
            let mut s = Samples::default();
            let (mut t, mut v) = (begin, 0.0);
            for (gap, kind, up) in gaps {
                t += if regular && kind > 5 { 15_000 } else { gap };
                v = match kind {
                    6..12 => up,
                    12 | 13 => f64::NAN,
                    14 => f64::INFINITY,
                    15..150 => v,
                    _ => v + up,
                };
                s.ft.push(t);
                s.fv.push(v);
            }
            let func = ["rate", "increase", "delta"][which];
            let job = job(func, range_ms, step_ms);
            let steps = job.grid.steps();
            let mut notes = Annotations::new();
            let mut cx = Cx::new(&mut notes, "", Span::default());
            let (mut fast, mut plain) =
                (Row::empty(Labels::empty(), steps), Row::empty(Labels::empty(), steps));
            let (mut counted, mut expected) = (Counts::new(Some(steps)), Counts::new(Some(steps)));
            let kind = kind_of(func);
            job.plain_rate(&s, kind, &mut fast, &mut counted);
            job.slide(&s, &mut plain, &mut expected, &mut cx, |w, cx| {
                rate::extrapolated(w, kind, cx)
            });
            prop_assert_eq!(&fast.present, &plain.present);
            for i in plain.present.ones() {
                let (a, b) = (fast.values[i], plain.values[i]);
                prop_assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
            }
            prop_assert_eq!(counted.total_at, expected.total_at);
            prop_assert_eq!((counted.total, counted.read), (expected.total, expected.read));
        }
    }
}
