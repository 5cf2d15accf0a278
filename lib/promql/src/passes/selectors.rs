//! Asks the source once for what several selectors need.

use crate::plan::{Op, Plan, RangeInput};
use crate::source::{SelectHints, SelectRequest};

/// Makes selects of equal matchers one, where their times touch: then one of both together is not
/// larger than both apart.
pub(super) fn merge(mut plan: Plan) -> Plan {
    let mut merged: Vec<SelectRequest> = Vec::new();
    let mut places = Vec::with_capacity(plan.selects.len());
    for s in plan.selects {
        let fits = |m: &SelectRequest| {
            m.matchers == s.matchers
                && m.range.min_t <= s.range.max_t.saturating_add(1)
                && s.range.min_t <= m.range.max_t.saturating_add(1)
        };
        match merged.iter().position(fits) {
            Some(at) => {
                if let Some(m) = merged.get_mut(at) {
                    m.range = m.range.union(&s.range);
                    m.hints = both(&m.hints, &s.hints);
                }
                places.push(at);
            }
            None => {
                places.push(merged.len());
                merged.push(s);
            }
        }
    }
    plan.selects = merged;
    for n in &mut plan.nodes {
        let select = match &mut n.op {
            Op::Select(s) => &mut s.select,
            Op::RawRange { select, .. } => select,
            Op::Range(c) => match &mut c.input {
                RangeInput::Select { select, .. } => select,
                RangeInput::Subquery(_) => continue,
            },
            _ => continue,
        };
        *select = places.get(*select).copied().unwrap_or(*select);
    }
    plan
}

/// What still can be said when samples are for two things.
fn both(a: &SelectHints, b: &SelectHints) -> SelectHints {
    let same_grouping = a.grouping == b.grouping && a.grouping_by == b.grouping_by;
    SelectHints {
        step_ms: a.step_ms.min(b.step_ms),
        range_ms: a.range_ms.max(b.range_ms),
        func: a.func.filter(|f| b.func == Some(*f)),
        grouping: a.grouping.clone().filter(|_| same_grouping),
        grouping_by: a.grouping_by && same_grouping,
    }
}
