//! `[…]` behind an expression: ranges and subqueries.

use super::super::ast::{
    DurationExpr, Expr, MatrixSelector, Span, SubqueryExpr, TimeShift, ValueType,
};
use super::super::token::{Kind, Token};
use super::duration::split;
use super::{Parsed, Parser, Tree};

impl Parser<'_> {
    /// The bracket pending, with `left` before it.
    pub(super) fn range(&mut self, left: Tree) -> Parsed<Tree> {
        let open = self.take();
        let range = self.within(
            "subquery or range selector",
            "number, duration, step(), or range()",
            Self::positive_duration,
        )?;
        match self.peek()? {
            Kind::RightBracket => {
                let close = self.take();
                self.matrix_selector(left, range, open, close)
            }
            Kind::Colon => {
                self.take();
                self.subquery(left, range)
            }
            _ => Err(self.unexpected("subquery or range", "\":\" or \"]\"").into()),
        }
    }

    fn matrix_selector(
        &self,
        left: Tree,
        range: DurationExpr,
        open: Token,
        close: Token,
    ) -> Parsed<Tree> {
        let refuse = |why: &str| self.fail(open.span().to(close.span()), why.to_owned());
        let Expr::VectorSelector(selector) = left.expr else {
            return refuse("ranges only allowed for vector selectors");
        };
        let shift = &selector.shift;
        if shift.original_offset_ms != 0 || shift.original_offset_expr.is_some() {
            return refuse("no offset modifiers allowed before range");
        }
        if shift.timestamp_ms.is_some() || shift.start_or_end.is_some() {
            return refuse("no @ modifiers allowed before range");
        }
        let span = Span { start: selector.span.start, end: self.last_closing };
        let (range_ms, range_expr) = split(range);
        let matrix = MatrixSelector { selector: *selector, range_ms, range_expr, span };
        let expr = Expr::MatrixSelector(Box::new(matrix));
        self.node(expr, ValueType::Matrix, left.height, left.checked)
    }

    fn subquery(&mut self, left: Tree, range: DurationExpr) -> Parsed<Tree> {
        const CONTEXT: &str = "subquery selector";
        let mut step = None;
        if self.peek()? != Kind::RightBracket {
            let expected = "number, duration, step(), range(), or \"]\"";
            step = Some(self.within(CONTEXT, expected, Self::positive_duration)?);
        }
        let close = self.within(CONTEXT, "\"]\"", |p| p.expect(Kind::RightBracket))?;
        let span = Span { start: left.expr.span().start, end: close.end };
        let (range_ms, range_expr) = split(range);
        let (step_ms, step_expr) = step.map_or((0, None), split);
        let subquery = Box::new(SubqueryExpr {
            expr: left.expr,
            range_ms,
            range_expr,
            step_ms,
            step_expr,
            shift: TimeShift::default(),
            span,
        });
        let checked =
            left.checked.and_then(|()| self.checker().subquery(&subquery, left.value_type));
        self.node(Expr::Subquery(subquery), ValueType::Matrix, left.height, checked)
    }

    /// A duration expression that, if it is a plain number, is greater than 0.
    fn positive_duration(&mut self) -> Parsed<DurationExpr> {
        let expr = self.duration_expr()?;
        match &expr {
            DurationExpr::Number(n) if n.value <= 0.0 => {
                self.fail(n.span, "duration must be greater than 0".to_owned())
            }
            _ => Ok(expr),
        }
    }
}
