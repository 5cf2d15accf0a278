//! What a plan looks like and what its operators did.

use std::time::Duration;

use crate::engine::{QueryError, QuerySpec};
use crate::plan::Plan;

mod describe;

/// The plan of a query, parents before children, each with its depth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Operators in order.
    pub operators: Vec<(usize, String)>,
    /// What is asked of the source, in order of the numbers operators give.
    pub selects: Vec<String>,
}

impl Explanation {
    /// One line an operator, indented by depth, then what is asked of the source.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (depth, o) in &self.operators {
            out.push_str(&"  ".repeat(*depth));
            out.push_str(o);
            out.push('\n');
        }
        for s in &self.selects {
            out.push_str(s);
            out.push('\n');
        }
        out
    }

    /// `{"operators": [{"depth": 0, "operator": "…"}, …], "selects": ["…"]}`
    #[must_use]
    pub fn to_json(&self) -> String {
        let operator = |(depth, o): &(usize, String)| {
            format!("{{\"depth\":{depth},\"operator\":{}}}", json_string(o))
        };
        let operators: Vec<String> = self.operators.iter().map(operator).collect();
        let selects: Vec<String> = self.selects.iter().map(|s| json_string(s)).collect();
        format!("{{\"operators\":[{}],\"selects\":[{}]}}", operators.join(","), selects.join(","))
    }
}

/// Plans a query without running it.
///
/// # Errors
/// What makes the query impossible to plan.
pub fn explain(spec: &QuerySpec) -> Result<Explanation, QueryError> {
    let plan = crate::passes::rewrite(crate::plan::build::build(spec)?);
    let operators = walk(&plan).into_iter().map(|(_, depth, text)| (depth, text)).collect();
    let selects = plan.selects.iter().enumerate().map(|(i, s)| describe::select(i, s)).collect();
    Ok(Explanation { operators, selects })
}

fn json_string(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

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
    /// Bytes its result holds, or held as it was passed on in a pipeline, series by series.
    pub bytes: u64,
    /// Time spent in it, operators below included. In a pipeline: of all workers together.
    pub time: Duration,
    /// Whether it ran as part of the pipeline of an operator above it.
    pub pipelined: bool,
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

/// The nodes of a plan, parents before children, with depth and description.
fn walk(plan: &Plan) -> Vec<(usize, usize, String)> {
    let mut out = Vec::new();
    let mut stack = vec![(plan.root, 0usize)];
    let mut seen = vec![false; plan.nodes.len()];
    while let Some((id, depth)) = stack.pop() {
        let Some(n) = plan.nodes.get(id) else { continue };
        let mut text = describe::node(n);
        let again = seen.get_mut(id).is_some_and(|s| std::mem::replace(s, true));
        if again {
            text.push_str(" (shared, see above)");
        } else {
            stack.extend(n.op.children().into_iter().rev().map(|c| (c, depth + 1)));
        }
        out.push((id, depth, text));
    }
    out
}

/// The reports of a plan's nodes in the order of the printed plan.
pub(crate) fn arrange(plan: &Plan, reports: Vec<Option<OperatorReport>>) -> Vec<OperatorReport> {
    if reports.iter().all(Option::is_none) {
        return Vec::new();
    }
    walk(plan)
        .into_iter()
        .map(|(id, depth, operator)| {
            let report = reports.get(id).cloned().flatten();
            let operator = match &report {
                Some(r) if !r.pipelined => operator,
                Some(_) => format!("{operator} (in the pipeline above)"),
                None => format!("{operator} (not needed)"),
            };
            OperatorReport { operator, depth, ..report.unwrap_or_default() }
        })
        .collect()
}
