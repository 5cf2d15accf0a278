//! Carries matchers across binary operations: in `a{job="x"} * on (job) sum by (job) (b)`, nothing of
//! `b` with another job can find a partner.
//!
//! Only where the result stays what Prometheus gives, errors included. Two series of one group on the
//! side that may have one are an error wherever the other side has anything, partner or not. So only
//! that side restricts the other, and only where its labels can't be twice in a group: behind the other
//! side's matchers nobody could tell any more where it had something. Set operations know no such error.
//! For the same reason it stops where reading a series can be an error by itself: where several names
//! are dropped, so that two series may become one, and at functions that refuse arguments or histograms
//! only once they meet a series.
//!
//! What is lost are annotations about series that are not read any more. They can't matter to the
//! result: such a series has no partner, so no value of it is in the answer, and what is wrong with it
//! (floats mixed with histograms, a name that is no counter's) was said of a value that is not shown.

use periplus_model::{METRIC_NAME, MatchOp, Matcher};

use crate::parse::ast::{AggregateOp, BinaryOp, Cardinality, VectorMatching};
use crate::plan::{Aggregate, NodeId, Op, Plan, RangeCall, RangeInput, VectorBinary};

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
            if !b.op.is_set() && !alone(&plan, from, m) {
                continue;
            }
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

/// Whether no two series of a node can be in one group of a matching.
fn alone(plan: &Plan, mut id: NodeId, m: &VectorMatching) -> bool {
    let matched = |label: &String| m.labels.contains(label);
    loop {
        match plan.nodes.get(id).map(|n| &n.op) {
            Some(Op::Map(map)) => id = map.child,
            Some(Op::Repeat(c)) => id = *c,
            Some(Op::Aggregate(a)) if keeps_series(a.op) => id = a.child,
            Some(Op::Aggregate(a)) if a.op == AggregateOp::CountValues => return false,
            Some(Op::Aggregate(a)) => {
                return match (m.on, a.without) {
                    (true, without) => !without && a.grouping.iter().all(matched),
                    (false, false) => !a.grouping.iter().any(matched),
                    (false, true) => m.labels.iter().all(|l| a.grouping.contains(l)),
                };
            }
            // Labels of series are unique, and but for the name all of them are matched.
            Some(op) => {
                let select = op.select().and_then(|s| plan.selects.get(s));
                return !m.on
                    && m.labels.is_empty()
                    && select.is_some_and(|s| s.matchers.iter().any(is_name));
            }
            None => return false,
        }
    }
}

/// Aggregations that give some of their series as they are.
fn keeps_series(op: AggregateOp) -> bool {
    use AggregateOp::{Bottomk, LimitRatio, Limitk, Topk};
    matches!(op, Topk | Bottomk | Limitk | LimitRatio)
}

/// Whether only series of one name pass.
fn is_name(m: &Matcher) -> bool {
    *m.name == *METRIC_NAME && m.op == MatchOp::Equal && !m.value.is_empty()
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
    let mut drops_name = false;
    let select = loop {
        if uses.get(id) != Some(&1) {
            return;
        }
        match plan.nodes.get(id).map(|n| &n.op) {
            Some(Op::Map(m)) => {
                drops_name = true;
                id = m.child;
            }
            Some(Op::Repeat(c)) => id = *c,
            Some(Op::Aggregate(a)) if a.op != AggregateOp::CountValues => {
                matchers.retain(|m| kept(a, &m.name));
                id = a.child;
            }
            Some(Op::Select(s)) => break s.select,
            Some(Op::Range(c)) => match c.input {
                RangeInput::Select { select, .. } if !may_refuse(c) => {
                    drops_name = true;
                    break select;
                }
                _ => return,
            },
            _ => return,
        }
    };
    if let Some(s) = plan.selects.get_mut(select) {
        let one_name =
            |m: &Matcher| *m.name == *METRIC_NAME && m.op == MatchOp::Equal && !m.value.is_empty();
        if drops_name && !s.matchers.iter().any(one_name) {
            return;
        }
        for m in matchers {
            if !s.matchers.contains(&m) {
                s.matchers.push(m);
            }
        }
    }
}

/// Whether a call is an error once there is a series: by its arguments, or by a histogram in it.
fn may_refuse(c: &RangeCall) -> bool {
    c.func == "double_exponential_smoothing" || c.window.anchored || c.window.smoothed
}

#[cfg(test)]
mod tests {
    use crate::engine::QuerySpec;
    use crate::explain::explain;
    use crate::parse::parse;

    /// What is asked of the source.
    fn selects(query: &str) -> String {
        let spec = QuerySpec::instant(parse(query).unwrap(), query, 0);
        explain(&spec).unwrap().selects.join("\n")
    }

    fn doubled(query: &str) -> bool {
        selects(query).matches("job=\"x\"").count() == 2
    }

    #[test]
    fn carries_matchers_where_nothing_but_an_annotation_is_lost() {
        assert!(doubled("a + b{job=\"x\"}"));
        assert!(doubled("rate(a[5m]) / rate(b{job=\"x\"}[5m])"));
        assert!(doubled("a * on (job) group_left sum by (job) (b{job=\"x\"})"));
        assert!(doubled("a * ignoring (pod) group_left sum without (pod) (b{job=\"x\"})"));
        assert!(doubled("a{job=\"x\"} and abs(b)"));
        assert!(doubled("{c=\"d\"} and b{job=\"x\"}"), "no name is dropped");
    }

    #[test]
    fn stops_where_an_error_would_be_lost() {
        // Two series without partners may become one when their names are dropped.
        assert!(!doubled("abs({c=\"d\"}) and b{job=\"x\"}"));
        assert!(!doubled("rate({c=\"d\"}[5m]) + b{job=\"x\"}"));
        // Two series of one job would be an error wherever there is any `a`.
        assert!(!doubled("a + on (job) b{job=\"x\"}"));
        assert!(!doubled("a + {__name__=~\"b.*\",job=\"x\"}"));
        assert!(!doubled("a * on (job) group_left topk by (job) (1, b{job=\"x\"})"));
        assert!(!doubled("a * ignoring (pod) group_left sum by (job, pod) (b{job=\"x\"})"));
        assert!(!doubled("double_exponential_smoothing(a[5m], 2, 0.5) and b{job=\"x\"}"));
        assert!(!doubled("rate(a[5m] smoothed) and b{job=\"x\"}"));
        // The side that may have several series of one group does not restrict the other.
        assert!(!doubled("a{job=\"x\"} + on (job) b"));
    }
}
