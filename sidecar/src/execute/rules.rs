//! When Prometheus's own API gives the exact answer, and to which question.
//!
//! In the answer that is wanted every series carries the external labels, all with the same values; in
//! Prometheus's storage none does. For each expression the labels of that kind which its result carries are
//! known from its shape. So matchers on external labels are decided here and taken out; grouping and
//! matching by them changes nothing among series that all have the same value, and is taken out; what the
//! result carries is put back. What is not on the lists below, or mixes sides of which only one carries a
//! label, is refused with a reason: the engine then answers.

use std::collections::BTreeSet;

use periplus_model::{MatchOp, Matcher};
use periplus_promql::parse::ast::{
    AggregateExpr, AggregateOp, BinaryExpr, BinaryOp, Call, Cardinality, Expr, LabelMatcher,
    TimeShift, ValueType, VectorSelector,
};

use crate::external::{External, Resolved};

/// Why a question is not put to Prometheus.
pub(super) type Refusal = &'static str;

/// Names of external labels that every series of a result carries.
pub(super) type Carried = BTreeSet<String>;

/// What rules look at besides the expression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) external: &'a External,
    /// `start()` and its like mean the grid that is asked for.
    pub(super) own_grid: bool,
    /// The step Prometheus gives to subqueries that name none, milliseconds.
    pub(super) subquery_step_ms: i64,
}

/// The step the engine gives to them.
const SUBQUERY_STEP_MS: i64 = 60_000;

/// Functions of each series by itself, and of the classic histogram's series that differ in `le`.
const FUNCTIONS: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "avg_over_time",
    "ceil",
    "changes",
    "clamp",
    "clamp_max",
    "clamp_min",
    "cos",
    "cosh",
    "count_over_time",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deg",
    "delta",
    "deriv",
    "exp",
    "first_over_time",
    "floor",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantile",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "hour",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "ln",
    "log10",
    "log2",
    "max_over_time",
    "min_over_time",
    "minute",
    "month",
    "pi",
    "predict_linear",
    "present_over_time",
    "quantile_over_time",
    "rad",
    "rate",
    "resets",
    "round",
    "scalar",
    "sgn",
    "sin",
    "sinh",
    "sqrt",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "tan",
    "tanh",
    "time",
    "timestamp",
    "vector",
    "year",
];

impl Rules<'_> {
    fn is_external(&self, name: &str) -> bool {
        self.external.all.get(name).is_some()
    }

    /// Names less the external ones.
    fn own(&self, names: &[String]) -> Vec<String> {
        names.iter().filter(|n| !self.is_external(n)).cloned().collect()
    }

    fn all_carried(&self) -> Carried {
        self.external.shown.iter().map(|(n, _)| n.to_owned()).collect()
    }

    /// The expression to ask for, and what its result carries once it is put back.
    pub(super) fn rewrite(&self, expr: &Expr) -> Result<(Expr, Carried), Refusal> {
        match expr {
            Expr::Number(_) => Ok((expr.clone(), Carried::new())),
            Expr::String(_) => Ok((expr.clone(), Carried::new())),
            Expr::Paren(p) => {
                let (inner, carried) = self.rewrite(&p.expr)?;
                let mut p = p.clone();
                p.expr = inner;
                Ok((Expr::Paren(p), carried))
            }
            Expr::Unary(u) => {
                let (inner, carried) = self.rewrite(&u.expr)?;
                let mut u = u.clone();
                u.expr = inner;
                Ok((Expr::Unary(u), carried))
            }
            Expr::VectorSelector(s) => {
                let s = self.selector(s)?;
                Ok((Expr::VectorSelector(Box::new(s)), self.all_carried()))
            }
            Expr::MatrixSelector(m) => {
                if m.range_expr.is_some() {
                    return Err("duration-expression");
                }
                let mut m = m.clone();
                m.selector = self.selector(&m.selector)?;
                Ok((Expr::MatrixSelector(m), self.all_carried()))
            }
            Expr::Subquery(s) => {
                if s.range_expr.is_some() || s.step_expr.is_some() {
                    return Err("duration-expression");
                }
                if s.step_ms == 0 && self.subquery_step_ms != SUBQUERY_STEP_MS {
                    return Err("subquery-step");
                }
                self.shift(&s.shift)?;
                let (inner, carried) = self.rewrite(&s.expr)?;
                let mut s = s.clone();
                s.expr = inner;
                Ok((Expr::Subquery(s), carried))
            }
            Expr::Call(c) => self.call(c),
            Expr::Aggregate(a) => self.aggregate(a),
            Expr::Binary(b) => self.binary(b),
            Expr::Leaf(_) => Err("leaf"),
        }
    }

    fn shift(&self, shift: &TimeShift) -> Result<(), Refusal> {
        if shift.original_offset_expr.is_some() {
            return Err("duration-expression");
        }
        if shift.start_or_end.is_some() && !self.own_grid {
            return Err("start-or-end");
        }
        Ok(())
    }

    fn selector(&self, s: &VectorSelector) -> Result<VectorSelector, Refusal> {
        if s.anchored || s.smoothed {
            return Err("extended-range-selector");
        }
        self.shift(&s.shift)?;
        let mut out = s.clone();
        out.matchers = Vec::with_capacity(s.matchers.len());
        for m in &s.matchers {
            if !self.is_external(&m.name) {
                out.matchers.push(m.clone());
                continue;
            }
            let matcher = compiled(m)?;
            if matches!(self.external.resolve(&[matcher]), Resolved::Nothing) {
                return Err("nothing-matches");
            }
        }
        // What selected by external labels alone would select everything.
        let selects = out.matchers.iter().any(|m| compiled(m).is_ok_and(|m| !m.matches_empty()));
        if selects { Ok(out) } else { Err("only-external-matchers") }
    }

    fn call(&self, c: &Call) -> Result<(Expr, Carried), Refusal> {
        let name = c.func.name;
        if name == "label_replace" || name == "label_join" {
            return self.label_call(c);
        }
        if c.func.experimental || FUNCTIONS.binary_search(&name).is_err() {
            return Err("function");
        }
        if matches!(name, "histogram_quantile" | "histogram_fraction") && self.is_external("le") {
            return Err("external-le");
        }
        let mut out = c.clone();
        let mut carried = Carried::new();
        for arg in &mut out.args {
            let vector = matches!(arg.value_type(), ValueType::Vector | ValueType::Matrix);
            let (inner, of_arg) = self.rewrite(arg)?;
            *arg = inner;
            if vector {
                carried = of_arg;
            }
        }
        if c.func.returns != ValueType::Vector || name == "vector" {
            carried = Carried::new();
        }
        Ok((Expr::Call(Box::new(out)), carried))
    }

    /// `label_replace` and `label_join` read and write labels by name: fine while none is external.
    fn label_call(&self, c: &Call) -> Result<(Expr, Carried), Refusal> {
        let mut out = c.clone();
        let names: &[usize] = if c.func.name == "label_replace" { &[1, 3] } else { &[1] };
        for (i, arg) in c.args.iter().enumerate().skip(1) {
            let is_name = names.contains(&i) || (c.func.name == "label_join" && i >= 3);
            let Expr::String(s) = arg else {
                return Err("label-function");
            };
            let text = std::str::from_utf8(&s.value).map_err(|_| "label-function")?;
            if is_name && self.is_external(text) {
                return Err("label-function-on-external");
            }
        }
        let vector = out.args.first_mut().ok_or("label-function")?;
        let (inner, carried) = self.rewrite(vector)?;
        *vector = inner;
        Ok((Expr::Call(Box::new(out)), carried))
    }

    fn aggregate(&self, a: &AggregateExpr) -> Result<(Expr, Carried), Refusal> {
        match a.op {
            AggregateOp::Sum
            | AggregateOp::Avg
            | AggregateOp::Count
            | AggregateOp::Min
            | AggregateOp::Max
            | AggregateOp::Group
            | AggregateOp::Stddev
            | AggregateOp::Stdvar
            | AggregateOp::Quantile => {}
            AggregateOp::CountValues => {
                let Some(Expr::String(label)) = &a.param else {
                    return Err("count-values-label");
                };
                let label = std::str::from_utf8(&label.value).map_err(|_| "count-values-label")?;
                if self.is_external(label) {
                    return Err("count-values-label");
                }
            }
            // Which of two equals Prometheus keeps is its own affair.
            AggregateOp::Topk | AggregateOp::Bottomk => return Err("inner-topk"),
            AggregateOp::Limitk | AggregateOp::LimitRatio => return Err("limitk"),
        }
        let mut out = a.clone();
        let (inner, carried) = self.rewrite(&a.expr)?;
        out.expr = inner;
        if let Some(param) = &a.param {
            out.param = Some(self.rewrite(param)?.0);
        }
        out.grouping = self.own(&a.grouping);
        Ok((Expr::Aggregate(Box::new(out)), grouped(a, carried)))
    }

    fn binary(&self, b: &BinaryExpr) -> Result<(Expr, Carried), Refusal> {
        if matches!(b.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
            return Err("trim");
        }
        let mut out = b.clone();
        let (lhs, left) = self.rewrite(&b.lhs)?;
        let (rhs, right) = self.rewrite(&b.rhs)?;
        (out.lhs, out.rhs) = (lhs, rhs);
        let Some(matching) = &mut out.matching else {
            let carried = left.union(&right).cloned().collect();
            return Ok((Expr::Binary(Box::new(out)), carried));
        };
        if matching.fill_lhs.is_some() || matching.fill_rhs.is_some() {
            return Err("fill");
        }
        // Labels that take part in matching must be on both sides or on neither: else nothing matches.
        let named = |n: &String| matching.labels.contains(n);
        let takes_part = |n: &&String| named(n) == matching.on;
        let matched =
            |side: &Carried| -> Carried { side.iter().filter(takes_part).cloned().collect() };
        let (of_left, of_right) = (matched(&left), matched(&right));
        if of_left != of_right {
            return Err("one-sided-match");
        }
        let set = matches!(b.op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless);
        let carried = if set {
            if b.op == BinaryOp::Or && left != right {
                return Err("one-sided-or");
            }
            left
        } else {
            match matching.card {
                Cardinality::OneToOne => of_left,
                Cardinality::ManyToOne => included(left, &right, &matching.include, self),
                Cardinality::OneToMany => included(right, &left, &matching.include, self),
                Cardinality::ManyToMany => return Err("many-to-many"),
            }
        };
        matching.labels = self.own(&matching.labels);
        matching.include = self.own(&matching.include);
        Ok((Expr::Binary(Box::new(out)), carried))
    }
}

/// What groups carry of what the series carry.
pub(super) fn grouped(a: &AggregateExpr, carried: Carried) -> Carried {
    if matches!(a.op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk) {
        return carried;
    }
    carried.into_iter().filter(|n| a.grouping.contains(n) != a.without).collect()
}

/// `group_left(labels)`: the labels come from the one side, and are gone where it has none.
fn included(many: Carried, one: &Carried, include: &[String], rules: &Rules<'_>) -> Carried {
    let mut out = many;
    for name in include.iter().filter(|n| rules.is_external(n)) {
        if one.contains(name) {
            out.insert(name.clone());
        } else {
            out.remove(name);
        }
    }
    out
}

fn compiled(m: &LabelMatcher) -> Result<Matcher, Refusal> {
    let value = std::str::from_utf8(&m.value).map_err(|_| "matcher")?;
    let op: MatchOp = m.op;
    Matcher::new(m.name.as_str(), op, value).map_err(|_| "matcher")
}

#[cfg(test)]
mod tests;
