//! Who answers which steps: replicas are chosen so that no step looks into a gap.

use std::ops::Range;

use periplus_model::TimeRange;
use periplus_promql::parse::ast::Expr;
use periplus_promql::value::StepGrid;

use super::fleet::{EndpointId, Part};
use super::window::Clock;

/// How some steps of a part are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By one endpoint, which evaluates.
    Endpoint(EndpointId),
    /// By fetching series from all of these, merging replicas and evaluating here.
    Series(Vec<EndpointId>),
    /// Nobody can.
    Nobody,
}

/// Steps that are answered in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Which steps of the fragment's grid.
    pub steps: Range<usize>,
    /// How.
    pub target: Target,
}

/// Divides the steps of `grid` among the candidates of `part` that `allowed` lets through.
///
/// A step goes to a candidate that has no gap in anything the step looks at; neighbouring steps
/// stay with the same candidate as long as that holds. Steps for which every candidate has a gap
/// are answered from the merged series of all.
#[must_use]
pub fn slices(
    part: &Part,
    e: &Expr,
    grid: StepGrid,
    clock: &Clock,
    allowed: impl Fn(EndpointId) -> bool,
) -> Vec<Slice> {
    let steps = grid.steps();
    let candidates: Vec<_> = part.candidates.iter().filter(|c| allowed(c.endpoint)).collect();
    let whole = |target| vec![Slice { steps: 0..steps, target }];
    let all = || Target::Series(candidates.iter().map(|c| c.endpoint).collect());
    let executing: Vec<_> = candidates.iter().filter(|c| c.executes).collect();
    match (executing.as_slice(), candidates.len()) {
        (_, 0) => return whole(Target::Nobody),
        ([], _) => return whole(all()),
        ([only], 1) => return whole(Target::Endpoint(only.endpoint)),
        _ => {}
    }
    let clean = |gaps: &[TimeRange], seen: &TimeRange| !gaps.iter().any(|g| g.overlaps(seen));
    let at_all = grid_range(grid);
    let Some(seen) = clock.data_range(e, at_all) else {
        return whole(executing.first().map_or(Target::Nobody, |c| Target::Endpoint(c.endpoint)));
    };
    // Mostly somebody has no gap in all that the whole grid looks at.
    if let Some(c) = executing.iter().find(|c| c.healthy && clean(&c.gaps, &seen)) {
        return whole(Target::Endpoint(c.endpoint));
    }
    let mut out: Vec<Slice> = Vec::new();
    for i in 0..steps {
        let t = grid.time(i);
        let seen = clock.data_range(e, TimeRange::new(t, t)).unwrap_or(TimeRange::new(t, t));
        let current = match out.last().map(|s| &s.target) {
            Some(Target::Endpoint(id)) => Some(*id),
            _ => None,
        };
        let mut fit = executing.iter().filter(|c| clean(&c.gaps, &seen)).map(|c| c.endpoint);
        let first = fit.next();
        let chosen = match current.filter(|c| first == Some(*c) || fit.any(|f| f == *c)) {
            Some(stay) => Some(stay),
            None => first,
        };
        let target = chosen.map_or_else(all, Target::Endpoint);
        match out.last_mut() {
            Some(last) if last.target == target => last.steps.end = i + 1,
            _ => out.push(Slice { steps: i..i + 1, target }),
        }
    }
    out
}

/// From the first to the last evaluation.
pub(crate) fn grid_range(grid: StepGrid) -> TimeRange {
    TimeRange::new(grid.start_ms, grid.time(grid.steps().saturating_sub(1)))
}

/// The part of a grid that `steps` are.
#[must_use]
pub fn sub_grid(grid: StepGrid, steps: &Range<usize>) -> StepGrid {
    StepGrid {
        start_ms: grid.time(steps.start),
        end_ms: grid.time(steps.end.saturating_sub(1)),
        step_ms: grid.step_ms,
    }
}
