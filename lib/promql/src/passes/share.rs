//! Evaluates equal subexpressions once.

use std::collections::HashMap;

use super::fold::reachable;
use crate::parse::ast::Span;
use crate::plan::{Node, NodeId, Op, Plan};

/// Lets all parents of equal nodes use the first of them. It takes over the positions of the last,
/// since of two annotations that say the same Prometheus shows the later one.
pub(super) fn share(mut plan: Plan) -> Plan {
    let mut known: HashMap<String, NodeId> = HashMap::new();
    let mut same: Vec<NodeId> = (0..plan.nodes.len()).collect();
    for id in 0..plan.nodes.len() {
        let Some(n) = plan.nodes.get_mut(id) else { continue };
        n.op.map_children(|c| same.get(c).copied().unwrap_or(c));
        if matches!(n.op, Op::Number(_) | Op::Text(_)) {
            continue;
        }
        let key = key(n);
        match known.get(&key) {
            Some(first) => {
                if let Some(s) = same.get_mut(id) {
                    *s = *first;
                }
                let (op, span) = (n.op.clone(), n.span);
                if let Some(kept) = plan.nodes.get_mut(*first) {
                    (kept.op, kept.span) = (op, span);
                }
            }
            None => {
                known.insert(key, id);
            }
        }
    }
    plan.root = same.get(plan.root).copied().unwrap_or(plan.root);
    reachable(plan)
}

/// Everything about a node but where it stands in the text.
fn key(n: &Node) -> String {
    let mut op = n.op.clone();
    match &mut op {
        Op::Range(c) => c.at_span = Span::default(),
        Op::Aggregate(a) => (a.expr_span, a.param_span) = (Span::default(), Span::default()),
        Op::Histogram(h) => {
            h.vector_span = Span::default();
            h.scalars.iter_mut().for_each(|(_, s)| *s = Span::default());
        }
        _ => {}
    }
    format!("{:?} {op:?}", n.grid)
}
