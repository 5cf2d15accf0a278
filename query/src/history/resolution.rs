//! How coarse the samples may be that a selector reads, and which of their columns it reads.
//!
//! Downsampled history has a row for each five minutes or each hour: how many samples there were, their
//! sum, smallest and largest, and for counters the count with resets added up. Which of these a selector
//! means depends on the function above it, and how coarse they may be on its window: a rate needs two
//! points in every window or it has gaps; a quantile of averages is not the quantile of the samples. So both
//! are decided where the expression is still at hand, for each selector by itself, and travel with the
//! selector as one more matcher ([`Reads::as_matcher`]), which whoever reads series takes off again.

use periplus_model::{MatchOp, Matcher};
use periplus_promql::parse::ast::LabelMatcher;

/// The name of the matcher that says what a selector reads. No label can have it: it is no name that
/// Prometheus would take.
const MARK: &str = "\u{1}periplus:reads";

/// Resolutions there are, coarsest first, in milliseconds; 0: the samples as scraped.
pub const RESOLUTIONS: [i64; 3] = [3_600_000, 300_000, 0];

/// How coarse a question lets its sources be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxResolution {
    /// The coarsest resolution in milliseconds; 0: the samples as scraped.
    pub coarsest_ms: i64,
    /// A fifth of the step instead, where that keeps the answer's meaning.
    pub auto: bool,
    /// Where nothing finer is left, coarser samples are better than none.
    pub or_what_is_left: bool,
}

impl Default for MaxResolution {
    fn default() -> Self {
        Self { coarsest_ms: 0, auto: false, or_what_is_left: true }
    }
}

impl MaxResolution {
    /// What `max_source_resolution` says: `auto`, or a duration in nanoseconds as read already.
    #[must_use]
    pub const fn auto() -> Self {
        Self { coarsest_ms: 0, auto: true, or_what_is_left: true }
    }

    /// Nothing coarser than this, whatever is left.
    #[must_use]
    pub const fn at_most(coarsest_ms: i64) -> Self {
        Self { coarsest_ms, auto: false, or_what_is_left: false }
    }
}

/// A column of what is stored; of samples as scraped each has the obvious meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Column {
    /// The value; of downsampled samples the average, which has no column of its own.
    #[default]
    Value,
    /// How many samples.
    Count,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The counter with its resets added up.
    Counter,
}

impl Column {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Value, "value"),
        (Self::Count, "count"),
        (Self::Sum, "sum"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Counter, "counter"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(c, _)| *c == self).map_or("value", |(_, n)| n)
    }
}

/// What a selector reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Reads {
    /// The column.
    pub column: Column,
    /// The coarsest resolution that serves, in milliseconds.
    pub coarsest_ms: i64,
    /// Whether coarser ones serve where nothing finer is left.
    pub or_what_is_left: bool,
}

impl Reads {
    /// What a selector reads below `func` with a window of `range_ms` (0: an instant selector), evaluated
    /// every `step_ms` (0: once).
    #[must_use]
    pub fn new(max: MaxResolution, func: Option<&str>, range_ms: i64, step_ms: i64) -> Self {
        let (column, points) = needs(func, range_ms > 0);
        // Where people choose, the least that gives an answer; where we do, what keeps it close.
        let points = if max.auto { points.max(5) } else { points };
        let wanted = if max.auto { step_ms / 5 } else { max.coarsest_ms };
        let fits = |r: &i64| {
            let enough = range_ms == 0 || r.saturating_mul(points) <= range_ms;
            *r == 0 || (*r <= wanted && enough && !(max.auto && loses_meaning(func)))
        };
        let coarsest_ms = RESOLUTIONS.iter().copied().find(fits).unwrap_or(0);
        Self { column, coarsest_ms, or_what_is_left: max.or_what_is_left }
    }

    /// The matcher that carries this.
    #[must_use]
    pub fn as_matcher(&self) -> LabelMatcher {
        let left = if self.or_what_is_left { "+" } else { "" };
        LabelMatcher {
            name: MARK.to_owned(),
            op: MatchOp::Equal,
            value: format!("{} {}{left}", self.column.name(), self.coarsest_ms).into_bytes(),
        }
    }

    /// Takes the matcher that carries it off a selector's; without one, samples as scraped.
    #[must_use]
    pub fn take(matchers: &[Matcher]) -> (Self, Vec<Matcher>) {
        let (marks, own): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| &*m.name == MARK);
        let reads = marks.first().and_then(|m| Self::parse(&m.value));
        (reads.unwrap_or_default(), own.into_iter().cloned().collect())
    }

    fn parse(text: &str) -> Option<Self> {
        let (column, coarsest) = text.split_once(' ')?;
        let column = Column::ALL.iter().find(|(_, n)| *n == column)?.0;
        let (coarsest, left) = match coarsest.strip_suffix('+') {
            Some(number) => (number, true),
            None => (coarsest, false),
        };
        Some(Self { column, coarsest_ms: coarsest.parse().ok()?, or_what_is_left: left })
    }
}

/// The column that a function reads, and how many points of it each window must hold.
fn needs(func: Option<&str>, ranges: bool) -> (Column, i64) {
    match func {
        Some("rate" | "increase" | "irate" | "resets") => (Column::Counter, 2),
        Some("min_over_time") => (Column::Min, 1),
        Some("max_over_time") => (Column::Max, 1),
        Some("sum_over_time") => (Column::Sum, 1),
        Some("count_over_time") => (Column::Count, 1),
        Some("delta" | "idelta" | "deriv" | "predict_linear") => (Column::Value, 2),
        _ if ranges => (Column::Value, 1),
        _ => (Column::Value, 1),
    }
}

/// Functions whose answer over averages is about something else than over the samples.
fn loses_meaning(func: Option<&str>) -> bool {
    matches!(
        func,
        Some(
            "quantile_over_time"
                | "stddev_over_time"
                | "stdvar_over_time"
                | "mad_over_time"
                | "changes"
                | "resets"
                | "irate"
                | "idelta"
                | "double_exponential_smoothing"
                | "timestamp"
                | "start_timestamp"
                | "first_over_time"
                | "last_over_time"
                | "ts_of_first_over_time"
                | "ts_of_last_over_time"
                | "ts_of_min_over_time"
                | "ts_of_max_over_time"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: i64 = 60_000;
    const H: i64 = 3_600_000;

    #[track_caller]
    fn check(max: MaxResolution, func: Option<&str>, range: i64, step: i64, expect: (Column, i64)) {
        let r = Reads::new(max, func, range, step);
        assert_eq!((r.column, r.coarsest_ms), expect, "{func:?}[{range}] every {step}");
    }

    #[test]
    fn rates_have_two_points_in_each_window() {
        let hour = MaxResolution::at_most(H);
        check(hour, Some("rate"), 5 * M, H, (Column::Counter, 0));
        check(hour, Some("rate"), 10 * M, H, (Column::Counter, 5 * M));
        check(hour, Some("increase"), 2 * H, H, (Column::Counter, H));
        check(hour, Some("max_over_time"), H, H, (Column::Max, H));
        check(hour, Some("count_over_time"), 5 * M, H, (Column::Count, 5 * M));
        check(MaxResolution::at_most(5 * M), Some("increase"), 2 * H, H, (Column::Counter, 5 * M));
        check(MaxResolution::default(), Some("increase"), 2 * H, H, (Column::Counter, 0));
    }

    #[test]
    fn a_choice_of_ours_keeps_the_meaning() {
        let auto = MaxResolution::auto();
        check(auto, None, 0, H, (Column::Value, 5 * M));
        check(auto, None, 0, 15 * M, (Column::Value, 0));
        check(auto, None, 0, 6 * H, (Column::Value, H));
        check(auto, Some("rate"), 5 * M, H, (Column::Counter, 0));
        check(auto, Some("rate"), H, H, (Column::Counter, 5 * M));
        check(auto, Some("rate"), 24 * H, 24 * H, (Column::Counter, H));
        check(auto, Some("quantile_over_time"), 24 * H, 24 * H, (Column::Value, 0));
    }

    #[test]
    fn it_travels_with_the_matchers() {
        for column in Column::ALL.map(|(c, _)| c) {
            for left in [false, true] {
                let reads = Reads { column, coarsest_ms: 5 * M, or_what_is_left: left };
                let m = reads.as_matcher();
                let value = String::from_utf8(m.value).expect("text");
                let all = [
                    Matcher::new("job", MatchOp::Equal, "a").expect("a matcher"),
                    Matcher::new(m.name.as_str(), m.op, value.as_str()).expect("a matcher"),
                ];
                let (back, own) = Reads::take(&all);
                assert_eq!((back, own.len()), (reads, 1));
            }
        }
        assert_eq!(Reads::take(&[]), (Reads::default(), Vec::new()));
    }
}
