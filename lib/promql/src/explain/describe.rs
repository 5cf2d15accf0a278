//! Operators on one line.

use crate::plan::{Aggregate, MapOp, Node, Op, RangeInput, Window};
use crate::source::SelectRequest;

/// What is asked of the source.
pub(super) fn select(i: usize, s: &SelectRequest) -> String {
    let matchers: Vec<String> = s.matchers.iter().map(|m| format!("{m:?}")).collect();
    let mut out = format!(
        "select #{i} {{{}}} from {} to {}",
        matchers.join(","),
        s.range.min_t,
        s.range.max_t
    );
    if let Some(f) = s.hints.func {
        out.push_str(&format!(" for {f}"));
    }
    if let Some(g) = &s.hints.grouping {
        let word = if s.hints.grouping_by { "needs" } else { "ignores" };
        out.push_str(&format!(" {word} ({})", g.join(",")));
    }
    out
}

/// A node, with the number of steps it is evaluated at.
pub(super) fn node(n: &Node) -> String {
    format!("{} [{} steps]", operator(&n.op), n.grid.steps())
}

fn operator(op: &Op) -> String {
    match op {
        Op::Number(v) => format!("number {v}"),
        Op::Text(s) => format!("text {s:?}"),
        Op::Time => "time".to_owned(),
        Op::Leaf(id) => format!("leaf #{id}"),
        Op::Repeat(_) => "once for all steps".to_owned(),
        Op::Select(s) => {
            let at = s.at.map_or(String::new(), |t| format!(" @{t}"));
            format!("instant #{}{at} offset {} ms ({:?})", s.select, s.offset_ms, s.read)
        }
        Op::Range(c) => match c.input {
            RangeInput::Select { select, .. } => {
                format!("{} over #{select}{}", c.func, window(&c.window))
            }
            RangeInput::Subquery(_) => format!("{} over subquery{}", c.func, window(&c.window)),
        },
        Op::RawRange { select, window: w } => format!("samples of #{select}{}", window(w)),
        Op::RawSubquery(_) => "points of subquery".to_owned(),
        Op::Map(m) => match m.op {
            MapOp::Scalar { op, swap: true, .. } => format!("scalar {} series", op.as_str()),
            MapOp::Scalar { op, .. } => format!("series {} scalar", op.as_str()),
            MapOp::Math(f) | MapOp::Date(f) | MapOp::Histogram(f) => f.to_owned(),
            other => format!("{other:?}").to_lowercase(),
        },
        Op::ScalarBinary { op, .. } => format!("scalar {} scalar", op.as_str()),
        Op::ScalarPick { max: true, .. } => "max_of".to_owned(),
        Op::ScalarPick { .. } => "min_of".to_owned(),
        Op::ToScalar(_) => "scalar of vector".to_owned(),
        Op::ToVector(_) => "vector of scalar".to_owned(),
        Op::Binary(b) => {
            let word = if b.matching.on { "on" } else { "ignoring" };
            let labels = b.matching.labels.join(",");
            format!("{} {word}({labels}) {:?}", b.op.as_str(), b.matching.card)
        }
        Op::Aggregate(a) => aggregate(a),
        Op::LabelReplace { dst, .. } => format!("label_replace to {dst}"),
        Op::LabelJoin { dst, .. } => format!("label_join to {dst}"),
        Op::Sort { descending, .. } => format!("sort{}", if *descending { " down" } else { "" }),
        Op::Absent { .. } | Op::AbsentOverTime { .. } => "absent".to_owned(),
        Op::Histogram(h) => h.func.to_owned(),
        Op::Info(_) => "info".to_owned(),
    }
}

fn window(w: &Window) -> String {
    let at = w.at.map_or(String::new(), |t| format!(" @{t}"));
    let kind = match (w.anchored, w.smoothed) {
        (true, _) => " anchored",
        (_, true) => " smoothed",
        _ => "",
    };
    format!(" [{} ms]{kind}{at} offset {} ms", w.range_ms, w.offset_ms)
}

fn aggregate(a: &Aggregate) -> String {
    let word = if a.without { "without" } else { "by" };
    format!("{} {word} ({})", a.op.as_str(), a.grouping.join(","))
}
