//! Durations that are computed: `[5m + step()]`, `offset -max_of(1m, range())`.

use super::super::ast::{BinaryOp, DurationExpr, DurationOp, NumberLiteral, Span};
use super::super::token::{Kind, Preprocessor};
use super::{Parsed, Parser, Stop};

/// A duration expression and how high its tree is.
struct DurationTree {
    expr: DurationExpr,
    height: usize,
}

/// The most seconds that fit into 64 bits of nanoseconds.
const SECONDS_MAX: f64 = 9_223_372_036.854_776;

impl Parser<'_> {
    /// A duration expression as it stands in brackets.
    pub(super) fn duration_expr(&mut self) -> Parsed<DurationExpr> {
        self.duration(super::LOWEST).map(|tree| tree.expr)
    }

    /// The duration behind `offset`: one number or function with its sign, so that
    /// `a offset 5m + b` adds b; only what begins with a parenthesis or a double sign goes on
    /// through operators.
    pub(super) fn offset_duration(&mut self) -> Parsed<DurationExpr> {
        match self.peek()? {
            Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let start = self.take().start;
                self.signed_offset(op, start)
            }
            Kind::LeftParen => self.duration_expr(),
            _ => self.duration_operand().map(|tree| tree.expr),
        }
    }

    fn signed_offset(&mut self, op: BinaryOp, start: u32) -> Parsed<DurationExpr> {
        let sign_span = Span { start, end: start + 1 };
        match self.peek()? {
            Kind::Number | Kind::Duration => {
                let mut n = self.number_literal()?;
                n.sign(op, start);
                self.in_range(n.value, sign_span)?;
                Ok(DurationExpr::Number(n))
            }
            Kind::LeftParen => {
                let inner = self.duration_paren()?;
                self.signed(op, start, inner).map(|tree| tree.expr)
            }
            Kind::Preprocessor(_) => {
                let inner = self.duration_operand()?;
                let span = Span { start, end: inner.expr.span().end };
                let rhs = Some(Box::new(inner.expr));
                let op = if op == BinaryOp::Sub { DurationOp::Sub } else { DurationOp::Add };
                Ok(DurationExpr::Op { op, lhs: None, rhs, wrapped: false, span })
            }
            _ => {
                let inner = self.duration(BinaryOp::Pow.precedence())?;
                let signed = self.signed(op, start, inner)?;
                self.duration_operators(signed, super::LOWEST).map(|tree| tree.expr)
            }
        }
    }

    /// A duration expression whose operators bind at least as tightly as `lowest`.
    fn duration(&mut self, lowest: u8) -> Parsed<DurationTree> {
        self.deeper(|p| {
            let left = match p.peek()? {
                Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                    let start = p.take().start;
                    let inner = p.duration(BinaryOp::Pow.precedence())?;
                    p.signed(op, start, inner)?
                }
                _ => p.duration_operand()?,
            };
            p.duration_operators(left, lowest)
        })
    }

    fn duration_operators(&mut self, mut left: DurationTree, lowest: u8) -> Parsed<DurationTree> {
        loop {
            let Kind::Op(token) = self.peek()? else { return Ok(left) };
            let Some(op) = duration_op(token).filter(|_| token.precedence() >= lowest) else {
                return Ok(left);
            };
            let at = self.take();
            let right = self.duration(token.precedence() + u8::from(op != DurationOp::Pow))?;
            let by_zero = matches!(&right.expr, DurationExpr::Number(n) if n.value == 0.0);
            match op {
                DurationOp::Div if by_zero => {
                    return self.fail(at.span(), "division by zero".to_owned());
                }
                DurationOp::Mod if by_zero => {
                    return self.fail(at.span(), "modulo by zero".to_owned());
                }
                _ => {}
            }
            let span = left.expr.span().to(right.expr.span());
            let height = self.bounded(left.height.max(right.height) + 1, span)?;
            let (lhs, rhs) = (Some(Box::new(left.expr)), Some(Box::new(right.expr)));
            left = DurationTree {
                expr: DurationExpr::Op { op, lhs, rhs, wrapped: false, span },
                height,
            };
        }
    }

    /// A number, a function or a parenthesis.
    fn duration_operand(&mut self) -> Parsed<DurationTree> {
        match self.peek()? {
            Kind::Number | Kind::Duration => {
                let n = self.number_literal()?;
                self.in_range(n.value, n.span)?;
                Ok(DurationTree { expr: DurationExpr::Number(n), height: 1 })
            }
            Kind::LeftParen => self.duration_paren(),
            Kind::Preprocessor(Preprocessor::Step) => self.nullary(DurationOp::Step),
            Kind::Preprocessor(Preprocessor::Range) => self.nullary(DurationOp::Range),
            Kind::Preprocessor(Preprocessor::MinOf) => self.min_or_max(DurationOp::Min),
            Kind::Preprocessor(Preprocessor::MaxOf) => self.min_or_max(DurationOp::Max),
            _ => Err(Stop::Unexpected),
        }
    }

    fn nullary(&mut self, op: DurationOp) -> Parsed<DurationTree> {
        let name = self.take();
        self.expect(Kind::LeftParen)?;
        let close = self.expect(Kind::RightParen)?;
        let span = name.span().to(close.span());
        let expr = DurationExpr::Op { op, lhs: None, rhs: None, wrapped: false, span };
        Ok(DurationTree { expr, height: 1 })
    }

    fn min_or_max(&mut self, op: DurationOp) -> Parsed<DurationTree> {
        let name = self.take();
        self.expect(Kind::LeftParen)?;
        let left = self.duration(super::LOWEST)?;
        self.expect(Kind::Comma)?;
        let right = self.duration(super::LOWEST)?;
        let close = self.expect(Kind::RightParen)?;
        let span = name.span().to(close.span());
        let height = self.bounded(left.height.max(right.height) + 1, span)?;
        let (lhs, rhs) = (Some(Box::new(left.expr)), Some(Box::new(right.expr)));
        Ok(DurationTree { expr: DurationExpr::Op { op, lhs, rhs, wrapped: false, span }, height })
    }

    /// The parenthesis pending. A number in parentheses becomes a positive sign that prints them.
    fn duration_paren(&mut self) -> Parsed<DurationTree> {
        let open = self.take();
        let inner = self.duration(super::LOWEST)?;
        let close = self.expect(Kind::RightParen)?;
        let mut tree = inner;
        tree.expr = match tree.expr {
            DurationExpr::Op { op, lhs, rhs, span, .. } => {
                DurationExpr::Op { op, lhs, rhs, wrapped: true, span }
            }
            number @ DurationExpr::Number(_) => {
                let (op, rhs) = (DurationOp::Add, Some(Box::new(number)));
                let span = open.span().to(close.span());
                tree.height += 1;
                DurationExpr::Op { op, lhs: None, rhs, wrapped: true, span }
            }
        };
        Ok(tree)
    }

    /// Puts a sign before a duration: into a number; a plus before anything else is dropped.
    fn signed(&self, op: BinaryOp, start: u32, mut inner: DurationTree) -> Parsed<DurationTree> {
        match &mut inner.expr {
            DurationExpr::Number(n) => {
                n.sign(op, start);
                let value = n.value;
                self.in_range(value, Span { start, end: start + 1 })?;
                Ok(inner)
            }
            DurationExpr::Op { .. } if op == BinaryOp::Add => Ok(inner),
            DurationExpr::Op { span, .. } => {
                let span = Span { start, end: span.end };
                let height = self.bounded(inner.height + 1, span)?;
                let (op, rhs) = (DurationOp::Sub, Some(Box::new(inner.expr)));
                let expr = DurationExpr::Op { op, lhs: None, rhs, wrapped: false, span };
                Ok(DurationTree { expr, height })
            }
        }
    }

    fn in_range(&self, seconds: f64, span: Span) -> Parsed<()> {
        if seconds.abs() > SECONDS_MAX {
            return self.fail(span, "duration out of range".to_owned());
        }
        Ok(())
    }
}

const fn duration_op(op: BinaryOp) -> Option<DurationOp> {
    Some(match op {
        BinaryOp::Add => DurationOp::Add,
        BinaryOp::Sub => DurationOp::Sub,
        BinaryOp::Mul => DurationOp::Mul,
        BinaryOp::Div => DurationOp::Div,
        BinaryOp::Mod => DurationOp::Mod,
        BinaryOp::Pow => DurationOp::Pow,
        _ => return None,
    })
}

/// A plain number becomes milliseconds, anything else stays an expression.
pub(super) fn split(expr: DurationExpr) -> (i64, Option<Box<DurationExpr>>) {
    match expr {
        DurationExpr::Number(NumberLiteral { value, .. }) => (milliseconds(value), None),
        expr => (0, Some(Box::new(expr))),
    }
}

/// Seconds as milliseconds, by way of whole nanoseconds as Prometheus counts them.
pub(super) fn milliseconds(seconds: f64) -> i64 {
    super::super::print::go_int((seconds * 1e9).round()) / 1_000_000
}
