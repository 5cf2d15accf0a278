//! What follows a selector or subquery: `offset`, `@`, `anchored`, `smoothed`.

use periplus_model::float::format_g;

use super::super::ast::{AtModifier, BinaryOp, Expr, TimeShift, VectorSelector};
use super::super::token::{Kind, Preprocessor};
use super::duration::split;
use super::{Parsed, Parser, Stop, Tree};

impl Parser<'_> {
    /// The keyword pending, with `left` before it.
    pub(super) fn offset(&mut self, mut left: Tree) -> Parsed<Tree> {
        self.take();
        let offset =
            self.within("offset", "number, duration, step(), or range()", Self::offset_duration)?;
        let before = left.expr.span();
        let Some((shift, end)) = shift_and_end(&mut left.expr) else {
            let message = "offset modifier must be preceded by an instant vector selector \
                           or range vector selector or a subquery";
            return self.fail(before, message.to_owned());
        };
        if shift.original_offset_ms != 0 || shift.original_offset_expr.is_some() {
            return self.fail(before, "offset may not be set multiple times".to_owned());
        }
        (shift.original_offset_ms, shift.original_offset_expr) = split(offset);
        *end = self.last_closing;
        Ok(left)
    }

    /// The `@` pending, with `left` before it.
    pub(super) fn at(&mut self, mut left: Tree) -> Parsed<Tree> {
        self.take();
        let at = self.within("@", "timestamp", Self::timestamp)?;
        let before = left.expr.span();
        if let At::Seconds(seconds) = at
            && (seconds.is_nan() || seconds.abs() >= 9_223_372_036_854_775_807.0)
        {
            let shown =
                if seconds.is_finite() { format!("{seconds:.6}") } else { format_g(seconds) };
            let message = format!("timestamp out of bounds for @ modifier: {shown}");
            return self.fail(before, message);
        }
        let Some((shift, end)) = shift_and_end(&mut left.expr) else {
            let message = "@ modifier must be preceded by an instant vector selector \
                           or range vector selector or a subquery";
            return self.fail(before, message.to_owned());
        };
        if shift.timestamp_ms.is_some() || shift.start_or_end.is_some() {
            return self.fail(before, "@ <timestamp> may not be set multiple times".to_owned());
        }
        match at {
            At::Seconds(seconds) => {
                let ms = super::super::print::go_int((seconds * 1000.0).round());
                shift.timestamp_ms = Some(ms);
            }
            At::Edge(edge) => shift.start_or_end = Some(edge),
        }
        *end = self.last_closing;
        Ok(left)
    }

    /// A number with its sign, `start()` or `end()`.
    fn timestamp(&mut self) -> Parsed<At> {
        let edge = match self.peek()? {
            Kind::Preprocessor(Preprocessor::Start) => AtModifier::Start,
            Kind::Preprocessor(Preprocessor::End) => AtModifier::End,
            Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.take();
                let value = self.number_literal()?.value;
                return Ok(At::Seconds(if op == BinaryOp::Sub { -value } else { value }));
            }
            Kind::Number | Kind::Duration => return Ok(At::Seconds(self.number_literal()?.value)),
            _ => return Err(Stop::Unexpected),
        };
        self.take();
        self.expect(Kind::LeftParen)?;
        self.expect(Kind::RightParen)?;
        Ok(At::Edge(edge))
    }

    /// The keyword pending, with `left` before it.
    pub(super) fn anchored(&mut self, mut left: Tree) -> Parsed<Tree> {
        let selector = self.extended("anchored", &mut left.expr)?;
        selector.anchored = true;
        let both = selector.smoothed;
        self.exclusive(both, left)
    }

    /// The keyword pending, with `left` before it.
    pub(super) fn smoothed(&mut self, mut left: Tree) -> Parsed<Tree> {
        let selector = self.extended("smoothed", &mut left.expr)?;
        selector.smoothed = true;
        let both = selector.anchored;
        self.exclusive(both, left)
    }

    fn exclusive(&self, both: bool, left: Tree) -> Parsed<Tree> {
        if both {
            let message = "anchored and smoothed modifiers cannot be used together".to_owned();
            return self.fail(left.expr.span(), message);
        }
        Ok(left)
    }

    /// The selector that a modifier of ranges is about.
    fn extended<'e>(&mut self, word: &str, expr: &'e mut Expr) -> Parsed<&'e mut VectorSelector> {
        self.take();
        let span = expr.span();
        match expr {
            Expr::VectorSelector(s) => Ok(s),
            Expr::MatrixSelector(m) => Ok(&mut m.selector),
            Expr::Subquery(_) => {
                self.fail(span, format!("{word} modifier is not supported for subqueries"))
            }
            _ => self.fail(span, format!("{word} modifier not implemented")),
        }
    }
}

/// What stands behind `@`.
enum At {
    Seconds(f64),
    Edge(AtModifier),
}

/// Where offset and `@` of an expression are kept, and the end they move.
fn shift_and_end(expr: &mut Expr) -> Option<(&mut TimeShift, &mut u32)> {
    match expr {
        Expr::VectorSelector(s) => Some((&mut s.shift, &mut s.span.end)),
        Expr::MatrixSelector(m) => Some((&mut m.selector.shift, &mut m.span.end)),
        Expr::Subquery(s) => Some((&mut s.shift, &mut s.span.end)),
        _ => None,
    }
}
