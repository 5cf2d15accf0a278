//! Carries matchers across binary operations: in `a{job="x"} * on (job) b`, nothing of `b` with
//! another job can find a partner.
//!
//! Only where the result stays what Prometheus gives, errors included: the side that may not have two
//! series of one group restricts the other, not the other way round, since two such series are an
//! error even without a partner. Set operations know no such error.

use periplus_model::{METRIC_NAME, Matcher};

use crate::parse::ast::{AggregateOp, BinaryOp, Cardinality};
use crate::plan::{Aggregate, NodeId, Op, Plan, RangeInput, VectorBinary};

/// Adds to selectors what the other side of a binary operation makes certain.
pub(super) fn propagate(mut plan: Plan) -> Plan {
    let uses = plan.uses();
    for id in 0..plan.nodes.len() {
        let Some(Op::Binary(b)) = plan.nodes.get(id).map(|n| n.op.clone()) else { continue };
        let m = &b.matching;
        if b.op == BinaryOp::Or || m.fill_lhs.is_some() || m.fill_rhs.is_some() {
            continue;
        }
        for (from, to) in directions(&b) {
            let known: Vec<Matcher> = facts(&plan, from)
                .into_iter()
                .filter(|f| *f.name != *METRIC_NAME)
                .filter(|f| m.labels.iter().any(|l| **l == *f.name) == m.on)
                .collect();
            if !known.is_empty() {
                restrict(&mut plan, &uses, to, &known);
            }
        }
    }
    plan
}

/// From which side to which matchers may go.
fn directions(b: &VectorBinary) -> Vec<(NodeId, NodeId)> {
    match (b.op, b.matching.card) {
        (BinaryOp::And, _) => vec![(b.lhs, b.rhs), (b.rhs, b.lhs)],
        (BinaryOp::Unless, _) | (_, Cardinality::OneToMany) => vec![(b.lhs, b.rhs)],
        _ => vec![(b.rhs, b.lhs)],
    }
}

/// Whether series of different values of a label stay apart in an aggregation.
fn kept(a: &Aggregate, label: &str) -> bool {
    a.grouping.iter().any(|g| g == label) != a.without
}

/// What all series of a node satisfy.
fn facts(plan: &Plan, mut id: NodeId) -> Vec<Matcher> {
    let mut through: Vec<&Aggregate> = Vec::new();
    let select = loop {
        match plan.nodes.get(id).map(|n| &n.op) {
            Some(Op::Map(m)) => id = m.child,
            Some(Op::Repeat(c)) => id = *c,
            Some(Op::Aggregate(a)) if a.op != AggregateOp::CountValues => {
                through.push(a);
                id = a.child;
            }
            Some(op) => match op.select() {
                Some(s) => break s,
                None => return Vec::new(),
            },
            None => return Vec::new(),
        }
    };
    let all = plan.selects.get(select).map(|s| s.matchers.as_slice()).unwrap_or_default();
    let holds = |m: &&Matcher| through.iter().all(|a| kept(a, &m.name));
    all.iter().filter(holds).cloned().collect()
}

/// Adds matchers to the selector below a node, as far as they can be carried down.
fn restrict(plan: &mut Plan, uses: &[usize], mut id: NodeId, matchers: &[Matcher]) {
    let mut matchers = matchers.to_vec();
    let select = loop {
        if uses.get(id) != Some(&1) {
            return;
        }
        match plan.nodes.get(id).map(|n| &n.op) {
            Some(Op::Map(m)) => id = m.child,
            Some(Op::Repeat(c)) => id = *c,
            Some(Op::Aggregate(a)) if a.op != AggregateOp::CountValues => {
                matchers.retain(|m| kept(a, &m.name));
                id = a.child;
            }
            Some(Op::Select(s)) => break s.select,
            Some(Op::Range(c)) => match c.input {
                RangeInput::Select { select, .. } => break select,
                RangeInput::Subquery(_) => return,
            },
            _ => return,
        }
    };
    if let Some(s) = plan.selects.get_mut(select) {
        for m in matchers {
            if !s.matchers.contains(&m) {
                s.matchers.push(m);
            }
        }
    }
}
