//! From the syntax tree to a plan.
//!
//! A [`Plan`] is a list of nodes in which children stand before their parents, so that it can be
//! executed from front to back without recursion, and a node may have several parents. All times are
//! resolved: each node carries the grid it is evaluated on, and each selection the fixed time of its
//! `@` and its offset. Building is in `build`, the rewriting in [`crate::passes`].

use std::collections::HashMap;

use periplus_model::Matcher;

use crate::engine::{QueryError, QuerySpec};
use crate::parse::ast::{AggregateOp, BinaryOp, Span, ValueType, VectorMatching};
use crate::source::SelectRequest;
use crate::value::StepGrid;

pub(crate) mod build;
mod durations;

/// Index of a node in its plan.
pub(crate) type NodeId = usize;

/// A query, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Children before parents.
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    /// What is asked of the source.
    pub(crate) selects: Vec<SelectRequest>,
    /// For whom samples are counted, see [`Context`].
    pub(crate) contexts: Vec<Context>,
}

/// An operation and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) op: Op,
    /// When it is evaluated.
    pub(crate) grid: StepGrid,
    /// What part of the query it is.
    pub(crate) span: Span,
    pub(crate) ty: ValueType,
    pub(crate) context: usize,
}

/// A part of the plan with a grid of its own, for counting samples as Prometheus does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Context {
    pub(crate) parent: usize,
    pub(crate) grid: StepGrid,
    pub(crate) kind: ContextKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ContextKind {
    Root,
    /// Evaluated once, counted at every step.
    Invariant,
    /// A subquery below a function, with its offset and range.
    Subquery {
        offset_ms: i64,
        range_ms: i64,
    },
    /// A subquery that is the result.
    RawSubquery,
}

/// What a selection reads at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Value,
    /// The time of the sample, in seconds.
    Timestamp,
    /// The same, but histograms stay what they are, and so does the name.
    InfoTime,
    /// Its start timestamp, in seconds.
    StartTimestamp,
    /// The value, interpolated between the samples around.
    Smoothed,
}

/// An instant selector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Selection {
    pub(crate) select: usize,
    pub(crate) at: Option<i64>,
    pub(crate) offset_ms: i64,
    pub(crate) read: Read,
    /// Whether histograms can do without buckets.
    pub(crate) stats_only: bool,
}

/// The window of a range selector or subquery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) range_ms: i64,
    pub(crate) at: Option<i64>,
    pub(crate) offset_ms: i64,
    pub(crate) anchored: bool,
    pub(crate) smoothed: bool,
}

impl Window {
    /// The end of the window (inclusive) for an evaluation at `t`; it begins `range_ms` earlier
    /// (exclusive).
    pub(crate) fn end(&self, t: i64) -> i64 {
        self.at.unwrap_or(t).saturating_sub(self.offset_ms)
    }
}

/// Where a range function's samples come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RangeInput {
    /// A selector: which select, and whether histograms can do without buckets.
    Select {
        select: usize,
        stats_only: bool,
    },
    Subquery(NodeId),
}

/// A function over windows of a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RangeCall {
    pub(crate) func: &'static str,
    pub(crate) input: RangeInput,
    pub(crate) window: Window,
    /// Scalar arguments in order.
    pub(crate) args: Vec<NodeId>,
    /// Where annotations point.
    pub(crate) at_span: Span,
}

/// An operation on each series by itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Map {
    pub(crate) child: NodeId,
    pub(crate) op: MapOp,
    /// Scalar arguments in order.
    pub(crate) scalars: Vec<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MapOp {
    Negate,
    /// A binary operator with a scalar; `swap`: the scalar is on the left.
    Scalar {
        op: BinaryOp,
        swap: bool,
        return_bool: bool,
    },
    /// A function of one float: `abs`, `ln`, …
    Math(&'static str),
    /// `round(v, to)`; without scalars to 1.
    Round,
    /// `clamp(v, min, max)`
    Clamp,
    ClampMin,
    ClampMax,
    /// A calendar function.
    Date(&'static str),
    /// `timestamp` of anything that is no selector: the evaluation time.
    StepTime,
    /// Leaves nothing.
    Nothing,
    /// A function of one histogram: `histogram_count`, …
    Histogram(&'static str),
}

/// A binary operator between vectors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VectorBinary {
    pub(crate) op: BinaryOp,
    pub(crate) lhs: NodeId,
    pub(crate) rhs: NodeId,
    pub(crate) matching: VectorMatching,
    pub(crate) return_bool: bool,
}

/// An aggregation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Aggregate {
    pub(crate) op: AggregateOp,
    pub(crate) child: NodeId,
    /// `k`, `φ` or the ratio.
    pub(crate) param: Option<NodeId>,
    /// The label of `count_values`.
    pub(crate) label: String,
    /// Sorted, without doubles.
    pub(crate) grouping: Vec<String>,
    pub(crate) without: bool,
    pub(crate) expr_span: Span,
    pub(crate) param_span: Span,
}

/// A function that looks at all buckets of a histogram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HistogramCall {
    pub(crate) func: &'static str,
    pub(crate) child: NodeId,
    /// Quantiles or bounds, with their positions.
    pub(crate) scalars: Vec<(NodeId, Span)>,
    /// The label of `histogram_quantiles`.
    pub(crate) label: String,
    /// The position of the vector.
    pub(crate) vector_span: Span,
}

/// `info(v, {selector})`
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) child: NodeId,
    pub(crate) matchers: Option<Vec<Matcher>>,
    pub(crate) at: Option<i64>,
    pub(crate) offset_ms: i64,
}

impl PartialEq for Info {
    fn eq(&self, other: &Self) -> bool {
        (self.child, &self.matchers, self.at, self.offset_ms)
            == (other.child, &other.matchers, other.at, other.offset_ms)
    }
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Number(f64),
    Text(String),
    Time,
    Leaf(u32),
    /// A child evaluated once, for every step.
    Repeat(NodeId),
    Select(Selection),
    Range(RangeCall),
    /// The samples of a range selector.
    RawRange {
        select: usize,
        window: Window,
    },
    /// The points of a subquery.
    RawSubquery(NodeId),
    Map(Map),
    ScalarBinary {
        op: BinaryOp,
        lhs: NodeId,
        rhs: NodeId,
    },
    /// `max_of` and `min_of`.
    ScalarPick {
        max: bool,
        lhs: NodeId,
        rhs: NodeId,
    },
    /// `scalar(v)`
    ToScalar(NodeId),
    /// `vector(s)`
    ToVector(NodeId),
    Binary(VectorBinary),
    Aggregate(Aggregate),
    LabelReplace {
        child: NodeId,
        dst: String,
        replacement: String,
        src: String,
        regex: String,
    },
    LabelJoin {
        child: NodeId,
        dst: String,
        separator: String,
        src: Vec<String>,
    },
    Sort {
        child: NodeId,
        descending: bool,
        labels: Option<Vec<String>>,
    },
    Absent {
        child: NodeId,
        labels: periplus_model::Labels,
    },
    AbsentOverTime {
        child: NodeId,
        labels: periplus_model::Labels,
    },
    Histogram(HistogramCall),
    Info(Info),
}

impl Op {
    /// The nodes it takes its input from, in the order in which they are evaluated.
    pub(crate) fn children(&self) -> Vec<NodeId> {
        match self {
            Self::Number(_)
            | Self::Text(_)
            | Self::Time
            | Self::Leaf(_)
            | Self::Select(_)
            | Self::RawRange { .. } => Vec::new(),
            Self::Range(c) => {
                let mut all = Vec::new();
                if let RangeInput::Subquery(n) = c.input {
                    all.push(n);
                }
                all.extend(&c.args);
                all
            }
            Self::Repeat(c) | Self::RawSubquery(c) | Self::ToScalar(c) | Self::ToVector(c) => {
                vec![*c]
            }
            Self::Map(m) => std::iter::once(m.child).chain(m.scalars.iter().copied()).collect(),
            Self::ScalarBinary { lhs, rhs, .. } | Self::ScalarPick { lhs, rhs, .. } => {
                vec![*lhs, *rhs]
            }
            Self::Binary(b) => vec![b.lhs, b.rhs],
            Self::Aggregate(a) => a.param.iter().copied().chain([a.child]).collect(),
            Self::LabelReplace { child, .. }
            | Self::LabelJoin { child, .. }
            | Self::Sort { child, .. }
            | Self::Absent { child, .. }
            | Self::AbsentOverTime { child, .. } => vec![*child],
            Self::Histogram(h) => h.scalars.iter().map(|(n, _)| *n).chain([h.child]).collect(),
            Self::Info(i) => vec![i.child],
        }
    }

    /// Replaces the nodes it takes its input from.
    pub(crate) fn map_children(&mut self, mut f: impl FnMut(NodeId) -> NodeId) {
        match self {
            Self::Number(_)
            | Self::Text(_)
            | Self::Time
            | Self::Leaf(_)
            | Self::Select(_)
            | Self::RawRange { .. } => {}
            Self::Range(c) => {
                if let RangeInput::Subquery(n) = &mut c.input {
                    *n = f(*n);
                }
                c.args.iter_mut().for_each(|n| *n = f(*n));
            }
            Self::Repeat(c) | Self::RawSubquery(c) | Self::ToScalar(c) | Self::ToVector(c) => {
                *c = f(*c);
            }
            Self::Map(m) => {
                m.child = f(m.child);
                m.scalars.iter_mut().for_each(|n| *n = f(*n));
            }
            Self::ScalarBinary { lhs, rhs, .. } | Self::ScalarPick { lhs, rhs, .. } => {
                (*lhs, *rhs) = (f(*lhs), f(*rhs));
            }
            Self::Binary(b) => (b.lhs, b.rhs) = (f(b.lhs), f(b.rhs)),
            Self::Aggregate(a) => {
                a.param = a.param.map(&mut f);
                a.child = f(a.child);
            }
            Self::LabelReplace { child, .. }
            | Self::LabelJoin { child, .. }
            | Self::Sort { child, .. }
            | Self::Absent { child, .. }
            | Self::AbsentOverTime { child, .. } => *child = f(*child),
            Self::Histogram(h) => {
                h.scalars.iter_mut().for_each(|(n, _)| *n = f(*n));
                h.child = f(h.child);
            }
            Self::Info(i) => i.child = f(i.child),
        }
    }

    /// The select it reads, if it reads one.
    pub(crate) fn select(&self) -> Option<usize> {
        match self {
            Self::Select(s) => Some(s.select),
            Self::RawRange { select, .. } => Some(*select),
            Self::Range(RangeCall { input: RangeInput::Select { select, .. }, .. }) => {
                Some(*select)
            }
            _ => None,
        }
    }
}

impl Plan {
    /// For each node how many parents it has (one more for the root).
    pub(crate) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for n in &self.nodes {
            for c in n.op.children() {
                if let Some(u) = uses.get_mut(c) {
                    *u += 1;
                }
            }
        }
        if let Some(u) = uses.get_mut(self.root) {
            *u += 1;
        }
        uses
    }
}

/// On which grid a subtree is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalGrid {
    /// The evaluation times a leaf in this place has to be answered for.
    pub grid: StepGrid,
    /// Whether the subtree gives the same at every step; `grid` then has a single one.
    pub step_invariant: bool,
}

/// For every [`crate::parse::ast::Expr::Leaf`] of a query, by id: the grid its value is needed on.
/// Inside subqueries that is the subquery's grid; below something step-invariant a single time.
///
/// # Errors
/// What makes the query impossible to plan (durations out of range, too many subquery steps).
pub fn leaf_grids(spec: &QuerySpec) -> Result<HashMap<u32, EvalGrid>, QueryError> {
    let plan = build::build(spec)?;
    let mut out = HashMap::new();
    for n in &plan.nodes {
        if let Op::Leaf(id) = n.op {
            let invariant = plan
                .contexts
                .get(n.context)
                .is_some_and(|c| matches!(c.kind, ContextKind::Invariant));
            out.insert(id, EvalGrid { grid: n.grid, step_invariant: invariant });
        }
    }
    Ok(out)
}
