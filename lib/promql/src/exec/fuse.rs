//! Finds the chains of nodes that run as one pipeline.

use periplus_model::{METRIC_NAME, MatchOp};

use crate::parse::ast::AggregateOp;
use crate::plan::{NodeId, Op, Plan, RangeInput};

/// Nodes of a chain from its end down to the selector.
///
/// Where names are dropped on the way and series of several names are read, two of them may become
/// equal, which is an error even if a comparison above leaves neither: then every node is evaluated by
/// itself, and its series are compared.
pub(super) fn chain(
    plan: &Plan,
    uses: &[usize],
    end: NodeId,
    delayed: bool,
) -> Option<Vec<NodeId>> {
    let whole = any_chain(plan, uses, end)?;
    let alone = match whole.as_slice() {
        [_] => true,
        [_, last] => plan.nodes.get(*last).is_some_and(|n| matches!(n.op, Op::Select(_))),
        _ => false,
    };
    (alone || delayed || one_name(plan, &whole)).then_some(whole)
}

fn any_chain(plan: &Plan, uses: &[usize], end: NodeId) -> Option<Vec<NodeId>> {
    let mut out = vec![end];
    let mut at = end;
    loop {
        match &plan.nodes.get(at)?.op {
            Op::Select(_) => return Some(out),
            Op::Range(c) => {
                return matches!(c.input, RangeInput::Select { .. }).then_some(out);
            }
            Op::Map(m) => {
                if *uses.get(m.child)? != 1 {
                    return None;
                }
                at = m.child;
                out.push(at);
            }
            _ => return None,
        }
    }
}

/// Aggregations that need not see all series at once.
pub(super) fn streams(op: AggregateOp) -> bool {
    !matches!(op, AggregateOp::CountValues | AggregateOp::Quantile | AggregateOp::LimitRatio)
}

/// Whether all series a chain reads have one name, so that dropping it makes no two of them equal.
pub(super) fn one_name(plan: &Plan, chain: &[NodeId]) -> bool {
    let select = chain.last().and_then(|l| plan.nodes.get(*l)).and_then(|n| n.op.select());
    let request = select.and_then(|s| plan.selects.get(s));
    request.is_some_and(|r| {
        r.matchers
            .iter()
            .any(|m| *m.name == *METRIC_NAME && m.op == MatchOp::Equal && !m.value.is_empty())
    })
}

/// For each node whether another one evaluates it along.
pub(super) fn fused(plan: &Plan, uses: &[usize], delayed: bool) -> Vec<bool> {
    let mut fused = vec![false; plan.nodes.len()];
    for id in (0..plan.nodes.len()).rev() {
        if fused.get(id) == Some(&true) {
            continue;
        }
        let Some(n) = plan.nodes.get(id) else { continue };
        let below = match &n.op {
            Op::Map(_) => chain(plan, uses, id, delayed).map(|mut c| c.split_off(1)),
            Op::Aggregate(a) if streams(a.op) && uses.get(a.child) == Some(&1) => {
                chain(plan, uses, a.child, delayed).filter(|c| delayed || one_name(plan, c))
            }
            _ => None,
        };
        for i in below.into_iter().flatten() {
            if let Some(f) = fused.get_mut(i) {
                *f = true;
            }
        }
    }
    fused
}
