//! An expression as history can be read for it: each selector says what it reads.
//!
//! Two functions need more than another column: the average over time is the sum of sums over the sum of
//! counts, and the count over time is the sum of counts. They are written so where samples may be coarse;
//! elsewhere they stay as they are, to the last bit.

use periplus_model::TimeRange;
use periplus_promql::parse::ast::{BinaryExpr, BinaryOp, Call, Cardinality, Expr, MatrixSelector};
use periplus_promql::parse::ast::{ParenExpr, VectorMatching, VectorSelector};
use periplus_promql::parse::functions;

use super::resolution::{Column, MaxResolution, Reads};
use crate::plan::Clock;

/// What is known where an expression is made readable.
pub struct Reader<'a> {
    /// How coarse samples may be.
    pub max: MaxResolution,
    /// Times of evaluation to times of data.
    pub clock: Clock,
    /// Whether anything coarser than as scraped would be read of times in a range by such a selector.
    pub is_coarse: &'a dyn Fn(TimeRange, &Reads) -> bool,
}

impl Reader<'_> {
    /// `e`, evaluated at times in `at` every `step_ms`, readable.
    #[must_use]
    pub fn readable(&self, e: &Expr, at: TimeRange, step_ms: i64) -> Expr {
        let mut out = e.clone();
        self.mark(&mut out, at, step_ms, None);
        out
    }

    fn mark(&self, e: &mut Expr, at: TimeRange, step_ms: i64, func: Option<&str>) {
        let range = self.clock.data_range(e, at);
        match e {
            Expr::Number(_) | Expr::String(_) | Expr::Leaf(_) => {}
            Expr::Paren(p) => self.mark(&mut p.expr, at, step_ms, func),
            Expr::Unary(u) => self.mark(&mut u.expr, at, step_ms, None),
            Expr::Binary(b) => {
                self.mark(&mut b.lhs, at, step_ms, None);
                self.mark(&mut b.rhs, at, step_ms, None);
            }
            Expr::Aggregate(a) => {
                self.mark(&mut a.expr, at, step_ms, None);
                if let Some(p) = &mut a.param {
                    self.mark(p, at, step_ms, None);
                }
            }
            Expr::Subquery(s) => {
                let inner = match self.clock.data_range(&Expr::Subquery(s.clone()), at) {
                    Some(seen) => TimeRange::new(seen.min_t, at.max_t.max(seen.max_t)),
                    None => at,
                };
                self.mark(&mut s.expr, inner, s.step_ms.max(1), None);
            }
            Expr::VectorSelector(s) => self.mark_selector(s, range, func, 0, step_ms),
            Expr::MatrixSelector(m) => {
                let width = m.range_ms;
                self.mark_selector(&mut m.selector, range, func, width, step_ms);
            }
            Expr::Call(c) => {
                if let Some(instead) = self.rewritten(c, at, step_ms) {
                    *e = instead;
                    return;
                }
                let name = c.func.name;
                c.args.iter_mut().for_each(|a| self.mark(a, at, step_ms, Some(name)));
            }
        }
    }

    fn mark_selector(
        &self,
        s: &mut VectorSelector,
        range: Option<TimeRange>,
        func: Option<&str>,
        range_ms: i64,
        step_ms: i64,
    ) {
        let reads = Reads::new(self.max, func, range_ms, step_ms);
        if (self.is_coarse)(range.unwrap_or(TimeRange::ALL), &reads) {
            s.matchers.push(reads.as_matcher());
        }
    }

    /// `avg_over_time` and `count_over_time` over samples that may be coarse.
    fn rewritten(&self, c: &Call, at: TimeRange, step_ms: i64) -> Option<Expr> {
        let average = match c.func.name {
            "avg_over_time" => true,
            "count_over_time" => false,
            _ => return None,
        };
        let m = matrix(c.args.first()?)?;
        let range = self.clock.data_range(c.args.first()?, at)?;
        let reads = Reads::new(self.max, Some("sum_over_time"), m.range_ms, step_ms);
        if !(self.is_coarse)(range, &reads) {
            return None;
        }
        let sum_of = |column| {
            let mut m = m.clone();
            m.selector.matchers.push(Reads { column, ..reads }.as_matcher());
            let func = functions::lookup("sum_over_time")?;
            Some(Expr::Call(Box::new(Call {
                func,
                args: vec![Expr::MatrixSelector(Box::new(m))],
                span: c.span,
            })))
        };
        let count = sum_of(Column::Count)?;
        if !average {
            return Some(count);
        }
        let expr = Expr::Binary(Box::new(BinaryExpr {
            op: BinaryOp::Div,
            lhs: sum_of(Column::Sum)?,
            rhs: count,
            matching: Some(VectorMatching {
                card: Cardinality::OneToOne,
                labels: Vec::new(),
                on: false,
                include: Vec::new(),
                fill_lhs: None,
                fill_rhs: None,
            }),
            return_bool: false,
            span: c.span,
        }));
        Some(Expr::Paren(Box::new(ParenExpr { expr, span: c.span })))
    }
}

fn matrix(e: &Expr) -> Option<&MatrixSelector> {
    match e {
        Expr::Paren(p) => matrix(&p.expr),
        Expr::MatrixSelector(m) => Some(m),
        _ => None,
    }
}
