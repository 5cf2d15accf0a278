//! Selectors and series.

use periplus_model::{LabelsBuilder, METRIC_NAME, MatchOp, re2};

use super::super::ast::{BinaryOp, LabelMatcher, Span, TimeShift, VectorSelector};
use super::super::lexer::unquote;
use super::super::token::{Kind, Token};
use super::{Parsed, Parser, Stop};

impl Parser<'_> {
    /// `name{…}`, `name` or `{…}`.
    pub(super) fn vector_selector(&mut self) -> Parsed<VectorSelector> {
        match self.peek()? {
            Kind::LeftBrace => {
                let (matchers, span) = self.matchers()?;
                Ok(selector(String::new(), matchers, span))
            }
            kind if kind.names_metric() => {
                let name = self.take();
                self.selector_after_name(name)
            }
            _ => Err(Stop::Unexpected),
        }
    }

    /// The rest of a selector that begins with a name.
    pub(super) fn selector_after_name(&mut self, name: Token) -> Parsed<VectorSelector> {
        let (mut matchers, mut span) = (Vec::new(), name.span());
        if self.peek()? == Kind::LeftBrace {
            let (inside, braces) = self.matchers()?;
            matchers = inside;
            span = span.to(braces);
        }
        let name = self.text(name).to_owned();
        let (label, value) = (METRIC_NAME.to_owned(), name.clone().into_bytes());
        matchers.push(LabelMatcher { name: label, op: MatchOp::Equal, value });
        Ok(selector(name, matchers, span))
    }

    /// `{matcher, …}` and where it stands; its brace is pending.
    fn matchers(&mut self) -> Parsed<(Vec<LabelMatcher>, Span)> {
        let open = self.take().span();
        let mut matchers = Vec::new();
        if let Some(close) = self.accept(Kind::RightBrace)? {
            return Ok((matchers, open.to(close.span())));
        }
        loop {
            matchers.push(self.matcher()?);
            match self.peek()? {
                Kind::Comma => self.take(),
                Kind::RightBrace => break,
                _ => return Err(self.unexpected(MATCHING, "\",\" or \"}\"").into()),
            };
            if self.peek()? == Kind::RightBrace {
                break;
            }
        }
        let close = self.take();
        Ok((matchers, open.to(close.span())))
    }

    fn matcher(&mut self) -> Parsed<LabelMatcher> {
        let kind = self.peek()?;
        if !matches!(kind, Kind::Identifier | Kind::String) {
            return Err(self.unexpected(MATCHING, "identifier or \"}\"").into());
        }
        let label = self.take();
        let op = match self.peek()? {
            Kind::Equal => MatchOp::Equal,
            Kind::Op(BinaryOp::Neq) => MatchOp::NotEqual,
            Kind::EqualRegex => MatchOp::Regex,
            Kind::NotEqualRegex => MatchOp::NotRegex,
            // A string alone is the metric's name.
            _ if kind == Kind::String => {
                let value = unquote(self.text(label));
                return Ok(LabelMatcher {
                    name: METRIC_NAME.to_owned(),
                    op: MatchOp::Equal,
                    value,
                });
            }
            _ => return Err(self.unexpected(MATCHING, "label matching operator").into()),
        };
        self.take();
        let value = self.within(MATCHING, "string", |p| p.expect(Kind::String))?;
        let matcher =
            LabelMatcher { name: self.label(label), op, value: unquote(self.text(value)) };
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex)
            && let Err(e) = re2::check(&matcher.value)
        {
            return self.fail(label.span().to(value.span()), e.to_string());
        }
        Ok(matcher)
    }

    /// The name of a label, bare or quoted. No label has a name that is not UTF-8: where one is
    /// asked for, the replacement character stands in.
    fn label(&self, token: Token) -> String {
        let text = self.text(token);
        if token.kind == Kind::Identifier {
            return text.to_owned();
        }
        String::from_utf8(unquote(text))
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }

    /// `name{label="value", …}`: a series. Values that are not UTF-8 are replaced as names are.
    pub(super) fn series(&mut self) -> Parsed<periplus_model::Labels> {
        let mut labels = LabelsBuilder::new();
        let name = if self.peek()?.names_metric() { Some(self.take()) } else { None };
        if self.peek()? == Kind::LeftBrace {
            self.label_set(&mut labels)?;
        }
        if let Some(name) = name {
            labels.set(METRIC_NAME, self.text(name));
        }
        Ok(labels.build())
    }

    fn label_set(&mut self, labels: &mut LabelsBuilder) -> Parsed<()> {
        const CONTEXT: &str = "label set";
        self.take();
        while self.peek()? != Kind::RightBrace {
            let kind = self.token.kind;
            if !matches!(kind, Kind::Identifier | Kind::String) {
                return Err(self.unexpected(CONTEXT, "identifier or \"}\"").into());
            }
            let label = self.take();
            if self.accept(Kind::Equal)?.is_some() {
                let value = self.within(CONTEXT, "string", |p| p.expect(Kind::String))?;
                let value = Token { kind: Kind::String, ..value };
                labels.set(self.label(label), self.label(value));
            } else if kind == Kind::String {
                labels.set(METRIC_NAME, self.label(label));
            } else {
                return Err(self.unexpected(CONTEXT, "\"=\"").into());
            }
            match self.peek()? {
                Kind::Comma => {
                    self.take();
                }
                Kind::RightBrace => {}
                _ => return Err(self.unexpected(CONTEXT, "\",\" or \"}\"").into()),
            }
        }
        self.take();
        Ok(())
    }
}

const MATCHING: &str = "label matching";

fn selector(name: String, matchers: Vec<LabelMatcher>, span: Span) -> VectorSelector {
    VectorSelector {
        name,
        matchers,
        shift: TimeShift::default(),
        anchored: false,
        smoothed: false,
        bypass_empty_matcher_check: false,
        span,
    }
}
