//! Tells the source which labels matter, where an aggregation drops the others.

use crate::parse::ast::AggregateOp;
use crate::plan::{NodeId, Op, Plan, RangeInput};

/// Sets the grouping hint of selectors below aggregations that keep no series.
pub(super) fn project(mut plan: Plan) -> Plan {
    let uses = plan.uses();
    let mut hints = Vec::new();
    for n in &plan.nodes {
        let Op::Aggregate(a) = &n.op else { continue };
        let keeps_series = matches!(
            a.op,
            AggregateOp::Topk
                | AggregateOp::Bottomk
                | AggregateOp::Limitk
                | AggregateOp::LimitRatio
        );
        if keeps_series {
            continue;
        }
        if let Some(select) = below(&plan, &uses, a.child) {
            hints.push((select, a.grouping.clone(), !a.without));
        }
    }
    for (select, grouping, by) in hints {
        if let Some(s) = plan.selects.get_mut(select) {
            s.hints.grouping = Some(grouping);
            s.hints.grouping_by = by;
        }
    }
    plan
}

/// The select whose series go through operations on each series alone.
fn below(plan: &Plan, uses: &[usize], mut id: NodeId) -> Option<usize> {
    loop {
        if uses.get(id) != Some(&1) {
            return None;
        }
        match &plan.nodes.get(id)?.op {
            Op::Map(m) => id = m.child,
            Op::Repeat(c) => id = *c,
            Op::Select(s) => return Some(s.select),
            Op::Range(c) => {
                return match c.input {
                    RangeInput::Select { select, .. } => Some(select),
                    RangeInput::Subquery(_) => None,
                };
            }
            _ => return None,
        }
    }
}
