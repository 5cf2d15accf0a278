//! Which times of the data an expression looks at.

use periplus_model::TimeRange;
use periplus_promql::parse::ast::{AtModifier, Expr, TimeShift, VectorSelector};
use periplus_promql::value::StepGrid;

use super::class::children;

/// What turns evaluation times into times of data.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The grid of the whole query, which `start()` and `end()` refer to.
    pub query: StepGrid,
    /// How long a sample is looked back for.
    pub lookback_ms: i64,
}

impl Clock {
    /// A range that holds every sample `e` can look at when it is evaluated at times in `at`;
    /// all of time where that can't be told. `None` when it looks at no sample at all.
    #[must_use]
    pub fn data_range(&self, e: &Expr, at: TimeRange) -> Option<TimeRange> {
        match e {
            Expr::VectorSelector(s) => Some(self.selector(s, at, 0)),
            Expr::MatrixSelector(m) => match m.range_expr {
                Some(_) => Some(TimeRange::ALL),
                None => Some(self.selector(&m.selector, at, m.range_ms)),
            },
            Expr::Subquery(s) => {
                let Some(base) = self.shifted(&s.shift, at).filter(|_| s.range_expr.is_none())
                else {
                    return self.data_range(&s.expr, at).map(|_| TimeRange::ALL);
                };
                let from = base.min_t.saturating_sub(s.range_ms);
                self.data_range(&s.expr, TimeRange::new(from, base.max_t))
            }
            Expr::Call(c) if c.func.name == "info" => {
                let own = TimeRange::new(at.min_t.saturating_sub(self.lookback_ms), at.max_t);
                Some(self.over_children(e, at).map_or(own, |r| r.union(&own)))
            }
            _ => self.over_children(e, at),
        }
    }

    fn over_children(&self, e: &Expr, at: TimeRange) -> Option<TimeRange> {
        let ranges = children(e).into_iter().filter_map(|c| self.data_range(c, at));
        ranges.reduce(|a, b| a.union(&b))
    }

    fn selector(&self, s: &VectorSelector, at: TimeRange, range_ms: i64) -> TimeRange {
        let Some(base) = self.shifted(&s.shift, at) else { return TimeRange::ALL };
        // Anchored and smoothed ranges look for a sample before their start, smoothed ones also
        // for one after their end; an instant selector looks back.
        let before = match range_ms == 0 || s.anchored || s.smoothed {
            true => range_ms.saturating_add(self.lookback_ms),
            false => range_ms,
        };
        let after = if s.smoothed { self.lookback_ms } else { 0 };
        TimeRange::new(base.min_t.saturating_sub(before), base.max_t.saturating_add(after))
    }

    fn shifted(&self, shift: &TimeShift, at: TimeRange) -> Option<TimeRange> {
        if shift.original_offset_expr.is_some() {
            return None;
        }
        let fixed = match (shift.timestamp_ms, shift.start_or_end) {
            (Some(t), _) => Some(t),
            (None, Some(AtModifier::Start)) => Some(self.query.start_ms),
            (None, Some(AtModifier::End)) => Some(self.query.end_ms),
            (None, None) => None,
        };
        let base = fixed.map_or(at, |t| TimeRange::new(t, t));
        let by = shift.original_offset_ms;
        Some(TimeRange::new(base.min_t.saturating_sub(by), base.max_t.saturating_sub(by)))
    }
}
