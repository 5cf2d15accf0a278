//! What a plan looks like and what its operators did.

use std::time::Duration;

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
