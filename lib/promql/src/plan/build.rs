//! Builds a plan from a tree.

use std::collections::HashMap;

use periplus_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, TimeRange};

use super::durations::QueryTimes;
use super::{
    Context, ContextKind, Node, NodeId, Op, Plan, RangeCall, RangeInput, Read, Selection,
    VectorBinary, Window,
};
use crate::engine::{ErrorKind, QueryError, QuerySpec};
use crate::parse::ast::{
    AtModifier, BinaryExpr, BinaryOp, Call, Expr, LabelMatcher, MatrixSelector, Span, SubqueryExpr,
    TimeShift, UnaryExpr, ValueType, VectorSelector,
};
use crate::passes::invariant::{Invariance, unwrap_parens};
use crate::source::{SelectHints, SelectRequest};
use crate::value::StepGrid;

mod aggregate;
mod call;

/// How deep a tree may be.
const DEPTH_MAX: usize = 1024;

/// Builds the plan of a query, times resolved, not rewritten yet.
///
/// # Errors
/// A query that can't be evaluated as asked: wrong type, bad durations, over a limit.
pub(crate) fn build(spec: &QuerySpec) -> Result<Plan, QueryError> {
    let ty = spec.expr.value_type();
    if !spec.instant && !matches!(ty, ValueType::Vector | ValueType::Scalar) {
        let text = format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            ty.documented()
        );
        return Err(QueryError::new(ErrorKind::BadData, text));
    }
    let steps = spec.grid.steps() as u64;
    if steps > spec.limits.output_points {
        return Err(QueryError::limit("steps", steps, spec.limits.output_points));
    }
    let span_ms = spec.grid.end_ms.saturating_sub(spec.grid.start_ms);
    let times = QueryTimes {
        step_s: if spec.instant { 0.0 } else { spec.grid.step_ms as f64 / 1000.0 },
        range_s: span_ms as f64 / 1000.0,
    };
    let mut b = Builder {
        spec,
        times,
        invariance: Invariance::of(&spec.expr, DEPTH_MAX)?,
        plan: Plan {
            nodes: Vec::new(),
            root: 0,
            selects: Vec::new(),
            contexts: vec![Context { parent: 0, grid: spec.grid, kind: ContextKind::Root }],
        },
    };
    let place = Place {
        grid: spec.grid,
        context: 0,
        func: None,
        stats_only: None,
        step_ms: times_step(spec),
    };
    b.plan.root = b.node(&spec.expr, &place)?;
    Ok(b.plan)
}

fn times_step(spec: &QuerySpec) -> i64 {
    if spec.instant { 0 } else { spec.grid.step_ms }
}

/// Where in the tree a node is being built.
#[derive(Clone, Debug)]
struct Place {
    grid: StepGrid,
    context: usize,
    /// The nearest function or aggregation above, up to a binary operator.
    func: Option<&'static str>,
    /// Whether only counts and sums of histograms matter above (`Some(true)`), or buckets do
    /// (`Some(false)`, which nothing further below takes back).
    stats_only: Option<bool>,
    /// The step a source is told.
    step_ms: i64,
}

impl Place {
    fn below_function(&self, name: &'static str) -> Self {
        let stats_only = match name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => self.stats_only.or(Some(true)),
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => Some(false),
            _ => self.stats_only,
        };
        Self { func: Some(name), stats_only, ..self.clone() }
    }

    fn at_grid(&self, grid: StepGrid, context: usize) -> Self {
        Self { grid, context, ..self.clone() }
    }
}

struct Builder<'a> {
    spec: &'a QuerySpec,
    times: QueryTimes,
    invariance: Invariance,
    plan: Plan,
}

impl Builder<'_> {
    fn push(&mut self, op: Op, span: Span, ty: ValueType, place: &Place) -> NodeId {
        self.plan.nodes.push(Node { op, grid: place.grid, span, ty, context: place.context });
        self.plan.nodes.len() - 1
    }

    fn ty(&self, id: NodeId) -> ValueType {
        self.plan.nodes.get(id).map_or(ValueType::None, |n| n.ty)
    }

    fn context(&mut self, parent: usize, grid: StepGrid, kind: ContextKind) -> usize {
        self.plan.contexts.push(Context { parent, grid, kind });
        self.plan.contexts.len() - 1
    }

    /// A node for `e`, evaluated once when it gives the same at every step.
    fn node(&mut self, e: &Expr, place: &Place) -> Result<NodeId, QueryError> {
        if place.grid.steps() > 1 && self.invariance.worth_hoisting(e) {
            return self.hoisted(e, place);
        }
        self.bare(e, place)
    }

    fn hoisted(&mut self, e: &Expr, place: &Place) -> Result<NodeId, QueryError> {
        let once = StepGrid { end_ms: place.grid.start_ms, ..place.grid };
        let context = self.context(place.context, once, ContextKind::Invariant);
        let child = self.bare(e, &place.at_grid(once, context))?;
        let ty = self.ty(child);
        Ok(self.push(Op::Repeat(child), e.span(), ty, place))
    }

    fn bare(&mut self, e: &Expr, place: &Place) -> Result<NodeId, QueryError> {
        let span = e.span();
        match e {
            Expr::Number(n) => Ok(self.push(Op::Number(n.value), span, ValueType::Scalar, place)),
            Expr::String(s) => {
                let text = String::from_utf8_lossy(&s.value).into_owned();
                Ok(self.push(Op::Text(text), span, ValueType::String, place))
            }
            Expr::Paren(p) => self.node(&p.expr, place),
            Expr::Unary(u) => self.unary(u, place),
            Expr::Binary(b) => self.binary(b, place),
            Expr::Aggregate(a) => self.aggregate(a, place),
            Expr::Call(c) => self.call(c, place),
            Expr::VectorSelector(v) => self.vector_selector(v, place, None),
            Expr::MatrixSelector(m) => {
                let (select, window) = self.matrix(m, place)?;
                Ok(self.push(Op::RawRange { select, window }, span, ValueType::Matrix, place))
            }
            Expr::Subquery(s) => {
                let (child, _) = self.subquery(s, place, true)?;
                Ok(self.push(Op::RawSubquery(child), span, ValueType::Matrix, place))
            }
            Expr::Leaf(l) => Ok(self.push(Op::Leaf(l.id), span, l.value_type, place)),
        }
    }

    fn unary(&mut self, u: &UnaryExpr, place: &Place) -> Result<NodeId, QueryError> {
        let child = self.node(&u.expr, place)?;
        if u.op != BinaryOp::Sub {
            return Ok(child);
        }
        if self.ty(child) == ValueType::Scalar {
            let lhs = self.push(Op::Number(-1.0), u.span, ValueType::Scalar, place);
            let op = Op::ScalarBinary { op: BinaryOp::Mul, lhs, rhs: child };
            return Ok(self.push(op, u.span, ValueType::Scalar, place));
        }
        let op = Op::Map(super::Map { child, op: super::MapOp::Negate, scalars: Vec::new() });
        Ok(self.push(op, u.span, ValueType::Vector, place))
    }

    fn binary(&mut self, b: &BinaryExpr, place: &Place) -> Result<NodeId, QueryError> {
        let trims = matches!(b.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        let below = Place {
            func: None,
            stats_only: if trims { Some(false) } else { place.stats_only },
            ..place.clone()
        };
        let (lhs, rhs) = (self.node(&b.lhs, &below)?, self.node(&b.rhs, &below)?);
        use ValueType::{Scalar, Vector};
        let op = match (self.ty(lhs), self.ty(rhs)) {
            (Scalar, Scalar) => {
                let op = Op::ScalarBinary { op: b.op, lhs, rhs };
                return Ok(self.push(op, b.span, Scalar, place));
            }
            (Scalar, Vector) => scalar_map(b, rhs, lhs, true),
            (Vector, Scalar) => scalar_map(b, lhs, rhs, false),
            (Vector, Vector) => {
                let matching = b.matching.clone().ok_or_else(|| {
                    QueryError::internal("a binary operation between vectors has no matching")
                })?;
                Op::Binary(VectorBinary {
                    op: b.op,
                    lhs,
                    rhs,
                    matching,
                    return_bool: b.return_bool,
                })
            }
            _ => {
                let text = "binary expression must contain only scalar and instant vector types";
                return Err(QueryError::new(ErrorKind::BadData, text));
            }
        };
        Ok(self.push(op, b.span, Vector, place))
    }

    /// The fixed time and the offset of a selector or subquery.
    fn shift(&self, s: &TimeShift) -> Result<(Option<i64>, i64), QueryError> {
        let offset = match &s.original_offset_expr {
            Some(e) => self.times.resolve(e, true)?,
            None => s.original_offset_ms,
        };
        let at = match s.start_or_end {
            Some(AtModifier::Start) => Some(self.spec.grid.start_ms),
            Some(AtModifier::End) => Some(self.spec.grid.end_ms),
            None => s.timestamp_ms,
        };
        Ok((at, offset))
    }

    fn matchers(&self, from: &[LabelMatcher]) -> Result<Vec<Matcher>, QueryError> {
        let max = self.spec.limits.regex_bytes;
        from.iter()
            .map(|m| {
                if matches!(m.op, MatchOp::Regex | MatchOp::NotRegex) && m.value.len() > max {
                    let len = m.value.len() as u64;
                    return Err(QueryError::limit("bytes of regular expression", len, max as u64));
                }
                m.compile().map_err(|e| QueryError::new(ErrorKind::BadData, e.to_string()))
            })
            .collect()
    }

    fn vector_selector(
        &mut self,
        v: &VectorSelector,
        place: &Place,
        read: Option<Read>,
    ) -> Result<NodeId, QueryError> {
        let (at, offset_ms) = self.shift(&v.shift)?;
        let matchers = self.matchers(&v.matchers)?;
        let lookback = self.spec.lookback_ms;
        let read = read.unwrap_or(if v.smoothed { Read::Smoothed } else { Read::Value });
        // The window of an instant selector is the lookback, the earliest millisecond excluded;
        // interpolation looks as far in both directions, the earliest included too.
        let (before, after) = match read {
            Read::Smoothed => (lookback, lookback),
            _ => (lookback - 1, 0),
        };
        let range = self.reach(place.grid, at, offset_ms, before, after);
        let hints = SelectHints { range_ms: 0, ..self.hints(place) };
        let select = self.add_select(SelectRequest { matchers, range, hints });
        let op = Op::Select(Selection {
            select,
            at,
            offset_ms,
            read,
            stats_only: place.stats_only == Some(true),
        });
        Ok(self.push(op, v.span, ValueType::Vector, place))
    }

    fn matrix(&mut self, m: &MatrixSelector, place: &Place) -> Result<(usize, Window), QueryError> {
        let v = &m.selector;
        let (at, offset_ms) = self.shift(&v.shift)?;
        let range_ms = match &m.range_expr {
            Some(e) => self.times.resolve(e, false)?,
            None => m.range_ms,
        };
        let matchers = self.matchers(&v.matchers)?;
        let window = Window { range_ms, at, offset_ms, anchored: v.anchored, smoothed: v.smoothed };
        let lookback = self.spec.lookback_ms;
        let before = if v.anchored || v.smoothed { lookback } else { 0 };
        let after = if v.smoothed { lookback } else { 0 };
        let before = range_ms.saturating_add(before).saturating_sub(1);
        let range = self.reach(place.grid, at, offset_ms, before, after);
        let hints = SelectHints { range_ms, ..self.hints(place) };
        Ok((self.add_select(SelectRequest { matchers, range, hints }), window))
    }

    fn add_select(&mut self, request: SelectRequest) -> usize {
        self.plan.selects.push(request);
        self.plan.selects.len() - 1
    }

    fn hints(&self, place: &Place) -> SelectHints {
        SelectHints { step_ms: place.step_ms, func: place.func, ..SelectHints::default() }
    }

    /// The times a selection over a grid can look at.
    fn reach(
        &self,
        grid: StepGrid,
        at: Option<i64>,
        offset_ms: i64,
        before_ms: i64,
        after_ms: i64,
    ) -> TimeRange {
        let steps = grid.steps();
        if steps == 0 {
            return TimeRange::new(0, -1);
        }
        let first = at.unwrap_or_else(|| grid.time(0)).saturating_sub(offset_ms);
        let last = at.unwrap_or_else(|| grid.time(steps - 1)).saturating_sub(offset_ms);
        TimeRange::new(first.saturating_sub(before_ms), last.saturating_add(after_ms))
    }

    /// The node inside a subquery, on the subquery's grid, and the window over it.
    fn subquery(
        &mut self,
        s: &SubqueryExpr,
        place: &Place,
        raw: bool,
    ) -> Result<(NodeId, Window), QueryError> {
        let (at, offset_ms) = self.shift(&s.shift)?;
        let step_ms = match &s.step_expr {
            Some(e) => self.times.resolve(e, false)?,
            None if s.step_ms > 0 => s.step_ms,
            None => self.spec.default_subquery_step_ms,
        };
        let range_ms = match &s.range_expr {
            Some(e) => self.times.resolve(e, false)?,
            None => s.range_ms,
        };
        let grid = subquery_grid(place.grid, at, offset_ms, range_ms, step_ms.max(1));
        let steps = grid.steps() as u64;
        let max = self.spec.limits.subquery_steps;
        if steps > max {
            return Err(QueryError::limit("subquery steps", steps, max));
        }
        let kind = match raw {
            true => ContextKind::RawSubquery,
            false => ContextKind::Subquery { offset_ms, range_ms },
        };
        let context = self.context(place.context, grid, kind);
        let inside = Place {
            step_ms: step_ms.max(1),
            stats_only: Some(false),
            ..place.at_grid(grid, context)
        };
        let child = if grid.steps() > 1 && self.invariance.is_invariant(&s.expr) {
            self.hoisted(&s.expr, &inside)?
        } else {
            self.node(&s.expr, &inside)?
        };
        let window = Window { range_ms, at, offset_ms, anchored: false, smoothed: false };
        Ok((child, window))
    }
}

fn scalar_map(b: &BinaryExpr, vector: NodeId, scalar: NodeId, swap: bool) -> Op {
    Op::Map(super::Map {
        child: vector,
        op: super::MapOp::Scalar { op: b.op, swap, return_bool: b.return_bool },
        scalars: vec![scalar],
    })
}

/// The evaluation times of a subquery: multiples of its step within every window it is for.
fn subquery_grid(
    outer: StepGrid,
    at: Option<i64>,
    offset_ms: i64,
    range_ms: i64,
    step_ms: i64,
) -> StepGrid {
    let steps = outer.steps();
    if steps == 0 {
        return StepGrid { start_ms: 0, end_ms: -1, step_ms };
    }
    let first = at.unwrap_or_else(|| outer.time(0)).saturating_sub(offset_ms);
    let last = at.unwrap_or_else(|| outer.time(steps - 1)).saturating_sub(offset_ms);
    let begin = first.saturating_sub(range_ms);
    let mut start_ms = step_ms.saturating_mul(begin / step_ms);
    if start_ms <= begin {
        start_ms = start_ms.saturating_add(step_ms);
    }
    StepGrid { start_ms, end_ms: last, step_ms }
}

/// The labels `absent` gives: those an expression fixes by equality, once.
fn absent_labels(e: &Expr) -> Labels {
    let matchers = match e {
        Expr::VectorSelector(v) => &v.matchers,
        Expr::MatrixSelector(m) => &m.selector.matchers,
        // Evaluated elsewhere, but the text is the same.
        Expr::Leaf(leaf) => return absent_labels(unwrap_parens(&leaf.original)),
        _ => return Labels::empty(),
    };
    let mut out = LabelsBuilder::new();
    let mut seen: HashMap<&str, ()> = HashMap::new();
    for m in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        if m.op == MatchOp::Equal && seen.insert(&m.name, ()).is_none() {
            out.set(m.name.as_str(), String::from_utf8_lossy(&m.value));
        } else {
            out.del(&m.name);
        }
    }
    out.build()
}

/// What an argument of a call that is a range is read from.
enum Ranged {
    Input(RangeInput, Window, Span),
}

impl Builder<'_> {
    /// The range argument of a call.
    fn ranged(&mut self, e: &Expr, place: &Place) -> Result<Ranged, QueryError> {
        match unwrap_parens(e) {
            Expr::MatrixSelector(m) => {
                let (select, window) = self.matrix(m, place)?;
                let stats_only = place.stats_only == Some(true);
                let input = RangeInput::Select { select, stats_only };
                Ok(Ranged::Input(input, window, m.span))
            }
            Expr::Subquery(s) => {
                let (child, window) = self.subquery(s, place, false)?;
                // Prometheus evaluates a subquery into a selector without a position.
                Ok(Ranged::Input(RangeInput::Subquery(child), window, Span::default()))
            }
            other => {
                let text = format!("expected a range, got {}", other.value_type().documented());
                Err(QueryError::new(ErrorKind::BadData, text))
            }
        }
    }

    fn range_call(
        &mut self,
        c: &Call,
        range_arg: usize,
        place: &Place,
    ) -> Result<NodeId, QueryError> {
        let mut args = Vec::new();
        let mut ranged = None;
        let mut at_span = Span::default();
        for (i, a) in c.args.iter().enumerate() {
            let a = unwrap_parens(a);
            if i == range_arg {
                let Ranged::Input(input, window, span) = self.ranged(a, place)?;
                ranged = Some((input, window));
                if i == 0 {
                    at_span = span;
                }
            } else {
                args.push(self.node(a, place)?);
                if i == 0 {
                    at_span = a.span();
                }
            }
        }
        let Some((input, window)) = ranged else {
            return Err(QueryError::internal(format!("{} without a range", c.func.name)));
        };
        check_extended(c.func.name, &window)?;
        let call = RangeCall { func: c.func.name, input, window, args, at_span };
        Ok(self.push(Op::Range(call), c.span, ValueType::Vector, place))
    }
}

/// Which functions `anchored` and `smoothed` go with.
fn check_extended(func: &str, window: &Window) -> Result<(), QueryError> {
    const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
    const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];
    let (word, allowed): (_, &[&str]) = if window.anchored {
        ("anchored", &ANCHORED)
    } else if window.smoothed {
        ("smoothed", &SMOOTHED)
    } else {
        return Ok(());
    };
    if allowed.contains(&func) {
        return Ok(());
    }
    let allowed = allowed.join(", ");
    Err(QueryError::execution(format!(
        "{word} modifier can only be used with: {allowed} - not with {func}"
    )))
}
