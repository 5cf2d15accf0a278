//! Computes what is constant.

use crate::functions::{binop, math};
use crate::plan::{NodeId, Op, Plan};

/// Replaces scalar operations on numbers by their result.
pub(super) fn fold(mut plan: Plan) -> Plan {
    for id in 0..plan.nodes.len() {
        let number = |n: NodeId| match plan.nodes.get(n).map(|n| &n.op) {
            Some(Op::Number(v)) => Some(*v),
            _ => None,
        };
        let folded = match plan.nodes.get(id).map(|n| &n.op) {
            Some(Op::ScalarBinary { op, lhs, rhs }) => {
                number(*lhs).zip(number(*rhs)).map(|(l, r)| binop::scalars(*op, l, r))
            }
            Some(Op::ScalarPick { max, lhs, rhs }) => number(*lhs)
                .zip(number(*rhs))
                .map(|(l, r)| if *max { math::max(l, r) } else { math::min(l, r) }),
            Some(Op::Repeat(child)) => number(*child),
            _ => None,
        };
        if let (Some(v), Some(n)) = (folded, plan.nodes.get_mut(id)) {
            n.op = Op::Number(v);
        }
    }
    reachable(plan)
}

/// Leaves out nodes that nobody needs.
pub(super) fn reachable(plan: Plan) -> Plan {
    let mut needed = vec![false; plan.nodes.len()];
    let mut stack = vec![plan.root];
    while let Some(id) = stack.pop() {
        if let Some(seen) = needed.get_mut(id)
            && !std::mem::replace(seen, true)
        {
            stack.extend(plan.nodes.get(id).map(|n| n.op.children()).unwrap_or_default());
        }
    }
    let mut places = vec![0; plan.nodes.len()];
    let mut nodes = Vec::with_capacity(plan.nodes.len());
    for (id, mut n) in plan.nodes.into_iter().enumerate() {
        if needed.get(id) == Some(&true) {
            n.op.map_children(|c| places.get(c).copied().unwrap_or(c));
            if let Some(p) = places.get_mut(id) {
                *p = nodes.len();
            }
            nodes.push(n);
        }
    }
    let root = places.get(plan.root).copied().unwrap_or(0);
    Plan { nodes, root, ..plan }
}
