//! What a plan looks like and what its operators did.

use std::time::Duration;

use crate::plan::Plan;

/// What one operator is and did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperatorReport {
    /// Operator and arguments on one line.
    pub operator: String,
    /// How deep it stands in the tree; 0 for the root.
    pub depth: usize,
    /// Series it gave.
    pub series: u64,
    /// Values it gave.
    pub points: u64,
    /// Samples it looked at.
    pub samples: u64,
    /// Bytes its result holds.
    pub bytes: u64,
    /// Time spent in it, operators below included.
    pub time: Duration,
}

/// What each operator of a query did, parents before children.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analysis {
    /// The operators in the order of the printed plan.
    pub operators: Vec<OperatorReport>,
}

impl Analysis {
    /// One line an operator, indented by depth.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for o in &self.operators {
            let line = format!(
                "{:indent$}{}  series={} points={} samples={} bytes={} time={:?}\n",
                "",
                o.operator,
                o.series,
                o.points,
                o.samples,
                o.bytes,
                o.time,
                indent = 2 * o.depth
            );
            out.push_str(&line);
        }
        out
    }
}

/// The reports of a plan's nodes in the order of the printed plan, parents before children.
pub(crate) fn arrange(plan: &Plan, reports: Vec<Option<OperatorReport>>) -> Vec<OperatorReport> {
    if reports.iter().all(Option::is_none) {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut stack = vec![(plan.root, 0usize)];
    let mut seen = vec![false; plan.nodes.len()];
    while let Some((id, depth)) = stack.pop() {
        let Some(n) = plan.nodes.get(id) else { continue };
        let mut report = reports.get(id).cloned().flatten().unwrap_or_default();
        report.operator = describe(plan, id);
        report.depth = depth;
        let again = std::mem::replace(&mut seen[id], true);
        if again {
            report.operator.push_str(" (see above)");
        }
        out.push(report);
        if !again {
            stack.extend(n.op.children().into_iter().rev().map(|c| (c, depth + 1)));
        }
    }
    out
}

/// A node on one line.
fn describe(plan: &Plan, id: usize) -> String {
    plan.nodes.get(id).map_or_else(String::new, |n| format!("{:?}", n.op))
}
