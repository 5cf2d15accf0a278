//! Aggregations and lists of labels.

use periplus_model::float::Quoted;

use super::super::ast::{AggregateExpr, AggregateOp, Expr, Span, ValueType};
use super::super::lexer::unquote;
use super::super::token::{Keyword, Kind};
use super::{Parsed, Parser, Tree};

impl Parser<'_> {
    /// The operator pending: an aggregation where `(`, `by` or `without` follows, else the name of
    /// a metric.
    pub(super) fn aggregate_or_selector(&mut self, op: AggregateOp) -> Parsed<Tree> {
        let name = self.take();
        match self.peek()? {
            Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without) => {
                self.within("aggregation", "", |p| p.aggregate(op, name.start))
            }
            _ => self.selector_named(name),
        }
    }

    fn aggregate(&mut self, op: AggregateOp, start: u32) -> Parsed<Tree> {
        let mut modifier = self.aggregate_modifier()?;
        let (args, got) = self.call_args()?;
        let mut end = self.last_closing;
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
            end = match modifier {
                Some(_) => self.last_closing,
                // The token behind has been read to see that no modifier follows.
                None => self.lexer.end_of_previous_paren(self.last_closing),
            };
        }
        let span = Span { start, end };
        if args.is_empty() {
            return self.fail(span, "no arguments for aggregate expression provided".to_owned());
        }
        let expected = 1 + usize::from(op.has_param());
        if got != expected {
            return self.fail(
                span,
                format!(
                    "wrong number of arguments for aggregate expression provided, \
                     expected {expected}, got {got}"
                ),
            );
        }
        let height = args.iter().map(|tree| tree.height).max().unwrap_or(0);
        let mut args = args.into_iter();
        let mut param = if op.has_param() { args.next() } else { None };
        let Some(mut arg) = args.next() else { return Err(super::Stop::Unexpected) };
        let checked = self.checker().aggregate(op, &mut arg, param.as_mut());
        let (without, grouping) = modifier.unwrap_or_default();
        let param = param.map(|tree| tree.expr);
        let aggregate = AggregateExpr { op, expr: arg.expr, param, grouping, without, span };
        self.node(Expr::Aggregate(Box::new(aggregate)), ValueType::Vector, height, checked)
    }

    /// `by (…)` or `without (…)`: whether it is `without`, and the labels.
    fn aggregate_modifier(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = match self.peek()? {
            Kind::Keyword(Keyword::By) => false,
            Kind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.take();
        Ok(Some((without, self.label_list()?)))
    }

    /// `(label, "label", …)`.
    pub(super) fn label_list(&mut self) -> Parsed<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        self.within(CONTEXT, "\"(\"", |p| p.expect(Kind::LeftParen))?;
        let mut labels = Vec::new();
        if self.accept(Kind::RightParen)?.is_some() {
            return Ok(labels);
        }
        loop {
            labels.push(self.within(CONTEXT, "label", Self::label_name)?);
            match self.peek()? {
                Kind::Comma => self.take(),
                Kind::RightParen => break,
                _ => return Err(self.unexpected(CONTEXT, "\",\" or \")\"").into()),
            };
            if self.peek()? == Kind::RightParen {
                break;
            }
        }
        self.take();
        Ok(labels)
    }

    fn label_name(&mut self) -> Parsed<String> {
        let kind = self.peek()?;
        if !kind.names_label() && kind != Kind::String {
            return Err(super::Stop::Unexpected);
        }
        let token = self.take();
        if kind != Kind::String {
            return Ok(self.text(token).to_owned());
        }
        let name = unquote(self.text(token));
        match String::from_utf8(name) {
            Ok(name) if !name.is_empty() => Ok(name),
            invalid => {
                let bytes = invalid.map_or_else(|e| e.into_bytes(), String::into_bytes);
                let message = format!("invalid label name for grouping: {}", Quoted(&bytes));
                self.fail(token.span(), message)
            }
        }
    }
}
