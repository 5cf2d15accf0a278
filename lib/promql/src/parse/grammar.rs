//! Tokens to tree: recursive descent with operator precedence.
//!
//! Two rules keep this exact. A token is looked at only where Prometheus's own parser would look at
//! it, because two things depend on it: which of several errors is noticed first, and the end of
//! nodes that end at "the last closing token read" (such as a selector with an offset in
//! parentheses, which counts in the parenthesis behind it). And a token that fits nowhere is
//! reported by the innermost construct that has words for it: [`Stop::Unexpected`] climbs until
//! one gives it its text.

mod aggregate;
mod binary;
mod call;
mod duration;
mod modifier;
mod range;
mod selector;

use periplus_model::Labels;

use super::ast::{
    BinaryOp, Expr, NumberLiteral, ParenExpr, Span, StringLiteral, UnaryExpr, ValueType,
    VectorSelector,
};
use super::check::{Checked, Checker, Tree};
use super::error::Problem;
use super::lexer::{Lexer, parse_number, unquote};
use super::token::{Keyword, Kind, Token};
use super::{HEIGHT_MAX, NESTING_MAX};

pub(super) type Parsed<T> = Result<T, Stop>;

/// Why parsing stopped.
pub(super) enum Stop {
    /// At an error.
    At(Box<Problem>),
    /// At the last token read, which does not fit; nobody has said yet in which words.
    Unexpected,
}

impl From<Box<Problem>> for Stop {
    fn from(e: Box<Problem>) -> Self {
        Self::At(e)
    }
}

/// The precedence below which every binary operator is taken.
const LOWEST: u8 = 0;

pub(super) struct Parser<'q> {
    lexer: Lexer<'q>,
    /// The last token read.
    token: Token,
    /// Whether `token` has been looked at but not taken.
    pending: bool,
    /// The end of the last token read that may close a construct.
    last_closing: u32,
    /// How many levels of [`Parser::expr`] and of duration expressions are open.
    depth: usize,
}

impl<'q> Parser<'q> {
    pub(super) const fn new(query: &'q str) -> Self {
        Self {
            lexer: Lexer::new(query),
            token: Token { kind: Kind::Eof, start: 0, end: 0 },
            pending: false,
            last_closing: 0,
            depth: 0,
        }
    }

    /// A whole query.
    pub(super) fn query(&mut self) -> Result<Expr, Box<Problem>> {
        let tree = self.whole(|p| {
            if p.peek()? == Kind::Eof {
                return p.fail(Span::default(), "no expression found in input".to_owned());
            }
            p.expr(LOWEST)
        })?;
        tree.checked.map(|()| tree.expr)
    }

    /// A whole selector, without offset, `@` and range.
    pub(super) fn metric_selector(
        &mut self,
    ) -> Result<Vec<super::ast::LabelMatcher>, Box<Problem>> {
        self.whole(|p| p.vector_selector().map(|s| s.matchers))
    }

    /// A whole series.
    pub(super) fn metric(&mut self) -> Result<Labels, Box<Problem>> {
        self.whole(Self::series)
    }

    /// What `part` reads, if that is all there is.
    fn whole<T>(&mut self, part: impl FnOnce(&mut Self) -> Parsed<T>) -> Result<T, Box<Problem>> {
        let read = part(self).and_then(|value| match self.peek()? {
            Kind::Eof => Ok(value),
            _ => Err(Stop::Unexpected),
        });
        match read {
            Ok(value) => Ok(value),
            Err(Stop::At(e)) => Err(e),
            Err(Stop::Unexpected) => Err(self.unexpected("", "")),
        }
    }

    /// The kind of the next token, which stays pending.
    fn peek(&mut self) -> Parsed<Kind> {
        if !self.pending {
            self.token = self.lexer.next_token()?;
            self.pending = true;
            if let Kind::RightBrace
            | Kind::RightParen
            | Kind::RightBracket
            | Kind::Duration
            | Kind::Number = self.token.kind
            {
                self.last_closing = self.token.end;
            }
        }
        Ok(self.token.kind)
    }

    /// Takes the pending token.
    const fn take(&mut self) -> Token {
        self.pending = false;
        self.token
    }

    /// Takes the next token if it is of this kind.
    fn accept(&mut self, kind: Kind) -> Parsed<Option<Token>> {
        Ok((self.peek()? == kind).then(|| self.take()))
    }

    /// Takes the next token, which must be of this kind.
    fn expect(&mut self, kind: Kind) -> Parsed<Token> {
        self.accept(kind)?.ok_or(Stop::Unexpected)
    }

    fn text(&self, token: Token) -> &'q str {
        self.lexer.text(token.start, token.end)
    }

    /// An error about `span`.
    fn fail<T>(&self, span: Span, message: String) -> Parsed<T> {
        Err(Stop::At(Box::new(Problem { span, message })))
    }

    /// The error that the last token read does not fit.
    fn unexpected(&self, context: &str, expected: &str) -> Box<Problem> {
        let mut message = format!("unexpected {}", self.token.describe(self.text(self.token)));
        for (word, what) in [(" in ", context), (", expected ", expected)] {
            if !what.is_empty() {
                message.push_str(word);
                message.push_str(what);
            }
        }
        Box::new(Problem { span: self.token.span(), message })
    }

    /// Gives an unexpected token within `read` its words.
    fn within<T>(
        &mut self,
        context: &str,
        expected: &str,
        read: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Parsed<T> {
        match read(self) {
            Err(Stop::Unexpected) => Err(Stop::At(self.unexpected(context, expected))),
            other => other,
        }
    }

    /// Refuses what is higher than [`HEIGHT_MAX`].
    fn bounded(&self, height: usize, span: Span) -> Parsed<usize> {
        if height > HEIGHT_MAX {
            let message = format!("expression has more than the limit of {HEIGHT_MAX} levels");
            return self.fail(span, message);
        }
        Ok(height)
    }

    const fn checker(&self) -> Checker<'q> {
        Checker(self.lexer.query())
    }

    /// A node on top of trees of which the highest has the given height.
    fn node(
        &self,
        expr: Expr,
        value_type: ValueType,
        children: usize,
        checked: Checked,
    ) -> Parsed<Tree> {
        let mut tree = Tree { expr, value_type, height: children + 1, checked };
        if tree.checked.is_err() {
            tree.hollow();
        } else {
            self.bounded(tree.height, tree.expr.span())?;
        }
        Ok(tree)
    }

    /// Runs `read` one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == NESTING_MAX {
            let message = format!("expression is nested deeper than the limit of {NESTING_MAX}");
            return self.fail(self.token.span(), message);
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// An expression whose binary operators bind at least as tightly as `lowest`.
    fn expr(&mut self, lowest: u8) -> Parsed<Tree> {
        self.deeper(|p| {
            let mut left = p.operand()?;
            loop {
                left = match p.peek()? {
                    Kind::LeftBracket => p.range(left)?,
                    Kind::At => p.at(left)?,
                    Kind::Keyword(Keyword::Offset) => p.offset(left)?,
                    Kind::Keyword(Keyword::Anchored) => p.anchored(left)?,
                    Kind::Keyword(Keyword::Smoothed) => p.smoothed(left)?,
                    Kind::Op(op) if op.precedence() >= lowest => p.binary(op, left)?,
                    _ => return Ok(left),
                }
            }
        })
    }

    /// What stands between operators.
    fn operand(&mut self) -> Parsed<Tree> {
        match self.peek()? {
            Kind::Number | Kind::Duration => {
                let number = self.number_literal()?;
                self.node(Expr::Number(number), ValueType::Scalar, 0, Ok(()))
            }
            Kind::String => {
                let token = self.take();
                let value = unquote(self.text(token));
                let string = StringLiteral { value, span: token.span() };
                self.node(Expr::String(string), ValueType::String, 0, Ok(()))
            }
            Kind::LeftParen => self.paren(),
            Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => self.unary(op),
            Kind::Aggregate(op) => self.aggregate_or_selector(op),
            Kind::Identifier | Kind::Preprocessor(_) => self.call_or_selector(),
            _ => {
                let selector = self.vector_selector()?;
                self.selector_node(selector)
            }
        }
    }

    fn paren(&mut self) -> Parsed<Tree> {
        let open = self.take();
        let inner = self.expr(LOWEST)?;
        let close = self.expect(Kind::RightParen)?;
        let span = open.span().to(close.span());
        let paren = Expr::Paren(Box::new(ParenExpr { expr: inner.expr, span }));
        self.node(paren, inner.value_type, inner.height, inner.checked)
    }

    /// A sign: part of the number it stands before, else an operator that binds as tightly as `*`.
    fn unary(&mut self, op: BinaryOp) -> Parsed<Tree> {
        let start = self.take().start;
        let mut inner = self.expr(BinaryOp::Pow.precedence())?;
        if let Expr::Number(n) = &mut inner.expr {
            n.sign(op, start);
            return Ok(inner);
        }
        let span = Span { start, end: inner.expr.span().end };
        let unary = Box::new(UnaryExpr { op, expr: inner.expr, span });
        let checked = inner.checked.and_then(|()| self.checker().unary(&unary, inner.value_type));
        self.node(Expr::Unary(unary), inner.value_type, inner.height, checked)
    }

    /// The pending number or duration.
    fn number_literal(&mut self) -> Parsed<NumberLiteral> {
        let duration = self.peek()? == Kind::Duration;
        if !duration && self.token.kind != Kind::Number {
            return Err(Stop::Unexpected);
        }
        let token = self.take();
        let value = self.number(token)?;
        Ok(NumberLiteral { value, duration, span: token.span() })
    }

    /// The value of a number, or of a duration in seconds.
    fn number(&self, token: Token) -> Parsed<f64> {
        let text = self.text(token);
        if token.kind == Kind::Duration {
            return match periplus_model::duration::parse_duration(text) {
                // Whole seconds and the rest are converted apart, to round as Go's durations do.
                #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
                Ok(ms) => Ok((ms / 1000) as f64 + (ms % 1000 * 1_000_000) as f64 / 1e9),
                Err(e) => self.fail(token.span(), e.to_string()),
            };
        }
        parse_number(text).or_else(|e| {
            let quoted = periplus_model::float::Quoted(text);
            let message =
                format!("error parsing number: strconv.ParseFloat: parsing {quoted}: {e}");
            self.fail(token.span(), message)
        })
    }

    /// A function call, where a parenthesis follows, or the name of a metric.
    fn call_or_selector(&mut self) -> Parsed<Tree> {
        let name = self.take();
        if self.peek()? == Kind::LeftParen {
            return self.call(name);
        }
        self.selector_named(name)
    }

    fn selector_named(&mut self, name: Token) -> Parsed<Tree> {
        let selector = self.selector_after_name(name)?;
        self.selector_node(selector)
    }

    fn selector_node(&self, selector: VectorSelector) -> Parsed<Tree> {
        let checked = self.checker().selector(&selector);
        let expr = Expr::VectorSelector(Box::new(selector));
        self.node(expr, ValueType::Vector, 0, checked)
    }
}

impl NumberLiteral {
    /// Puts a sign that stands at `start` before the number.
    fn sign(&mut self, op: BinaryOp, start: u32) {
        if op == BinaryOp::Sub {
            self.value = -self.value;
        }
        self.span.start = start;
    }
}

impl Token {
    /// Where it stands.
    const fn span(self) -> Span {
        Span { start: self.start, end: self.end }
    }
}

impl Span {
    /// From the start of this to the end of the other.
    const fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }
}
