//! Binary operators and how their vectors are matched.

use super::super::ast::{BinaryExpr, BinaryOp, Cardinality, Expr, ValueType, VectorMatching};
use super::super::token::{Keyword, Kind};
use super::{Parsed, Parser, Stop, Tree};

impl Parser<'_> {
    /// The operator pending, with `left` before it.
    pub(super) fn binary(&mut self, op: BinaryOp, left: Tree) -> Parsed<Tree> {
        self.take();
        let return_bool = self.accept(Kind::Keyword(Keyword::Bool))?.is_some();
        let matching = Some(self.matching()?);
        let lowest = op.precedence() + u8::from(op != BinaryOp::Pow);
        let right = self.expr(lowest)?;
        let height = left.height.max(right.height);
        let (lhs, rhs) = (left.expr, right.expr);
        let span = lhs.span().to(rhs.span());
        let mut binary = Box::new(BinaryExpr { op, lhs, rhs, matching, return_bool, span });
        let (l, r) = (left.value_type, right.value_type);
        let checked =
            left.checked.and(right.checked).and_then(|()| self.checker().binary(&mut binary, l, r));
        let scalars = l == ValueType::Scalar && r == ValueType::Scalar;
        let value_type = if scalars { ValueType::Scalar } else { ValueType::Vector };
        self.node(Expr::Binary(binary), value_type, height, checked)
    }

    /// `on (…) group_left (…) fill (…)`, every part optional.
    fn matching(&mut self) -> Parsed<VectorMatching> {
        let mut matching = VectorMatching {
            card: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_lhs: None,
            fill_rhs: None,
        };
        if let Kind::Keyword(k @ (Keyword::On | Keyword::Ignoring)) = self.peek()? {
            self.take();
            matching.on = k == Keyword::On;
            matching.labels = self.label_list()?;
            self.group_modifier(&mut matching)?;
        }
        self.fill_modifiers(&mut matching)?;
        Ok(matching)
    }

    fn group_modifier(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        matching.card = match self.peek()? {
            Kind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
            Kind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
            _ => return Ok(()),
        };
        self.take();
        // The list may be left out, but only where the right operand follows; a parenthesis always
        // begins a list.
        let next = self.peek()?;
        if next == Kind::LeftParen || !next.begins_expression() {
            matching.include = self.label_list()?;
        }
        Ok(())
    }

    /// `fill (v)`, or `fill_left (v)` and `fill_right (v)` in either order.
    fn fill_modifiers(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        let first = self.peek()?;
        match first {
            Kind::Keyword(Keyword::Fill) => {
                matching.fill_lhs = Some(self.fill_value()?);
                matching.fill_rhs = matching.fill_lhs;
            }
            Kind::Keyword(Keyword::FillLeft) => {
                matching.fill_lhs = Some(self.fill_value()?);
                if self.peek()? == Kind::Keyword(Keyword::FillRight) {
                    matching.fill_rhs = Some(self.fill_value()?);
                }
            }
            Kind::Keyword(Keyword::FillRight) => {
                matching.fill_rhs = Some(self.fill_value()?);
                if self.peek()? == Kind::Keyword(Keyword::FillLeft) {
                    matching.fill_lhs = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The keyword pending, and `(number)` behind it.
    fn fill_value(&mut self) -> Parsed<f64> {
        self.take();
        self.expect(Kind::LeftParen)?;
        let sign = match self.peek()? {
            Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.take();
                Some(op)
            }
            Kind::Number | Kind::Duration => None,
            _ => return Err(Stop::Unexpected),
        };
        let value = self.number_literal()?.value;
        self.expect(Kind::RightParen)?;
        Ok(if sign == Some(BinaryOp::Sub) { -value } else { value })
    }
}
