//! Text to tree: [`parse`] reads a query as Prometheus 3.14 does with every experimental option
//! on, and the tree prints itself as Prometheus prints it.
//!
//! In the order a query takes: the lexer cuts it into tokens (`lexer`, `token`), the grammar puts
//! them together by recursive descent with operator precedence (`grammar`), and each node's types
//! are checked as it is made (`check`). The tree ([`ast`]) tells where each node stands and what it
//! evaluates to, prints itself (`print`, [`pretty`]) and answers tools ([`golden`]).
//!
//! The one decision: Prometheus's parser is an LALR automaton, and which error a broken query gets,
//! and where some nodes end, follows from when that automaton reads its next token. This parser
//! looks at tokens at the same moments; so it needs no second grammar for errors and gives the same
//! words and positions. Everything is linear in the length of the query, and bounded
//! ([`QUERY_BYTES_MAX`], [`NESTING_MAX`], [`HEIGHT_MAX`]), so that whoever walks a tree may recurse.
//!
//! Known differences: those bounds; a label's name of bytes that are not UTF-8 (`{"\xff"="a"}`) has
//! U+FFFD in their place; times are kept in milliseconds, so an offset of less than one is none;
//! `offset NaN`, which Prometheus prints as something it can't read, is printed with one sign.

pub mod arbitrary;
pub mod ast;
mod check;
mod error;
pub mod functions;
pub mod golden;
mod grammar;
mod lexer;
mod matcher;
mod pretty;
mod print;
mod selectors;
mod span;
mod token;

pub use error::ParseError;
pub use pretty::pretty;
pub use selectors::selectors;

use ast::{Expr, LabelMatcher};
use error::Problem;
use periplus_model::Labels;

/// The longest query accepted, in bytes.
pub const QUERY_BYTES_MAX: usize = 1 << 20;

/// The highest tree accepted: how many nodes may lie above each other, as the terms of
/// `a + b + c …` do. Recursion over a tree that [`parse`] returned is bounded by it.
pub const HEIGHT_MAX: usize = 512;

/// How deep parentheses, calls, signs and powers may stand in each other. Lower than
/// [`HEIGHT_MAX`], because the parser itself needs a stack for these.
pub const NESTING_MAX: usize = 128;

/// Reads a query and checks its types.
///
/// # Errors
/// What Prometheus refuses, with its words and position; also a query longer than
/// [`QUERY_BYTES_MAX`], a tree higher than [`HEIGHT_MAX`] or nested deeper than
/// [`NESTING_MAX`].
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    read(query, grammar::Parser::query)
}

/// Reads a series as `name{label="value", …}`.
///
/// # Errors
/// What Prometheus refuses, with its words and position.
pub fn parse_metric(text: &str) -> Result<Labels, ParseError> {
    read(text, grammar::Parser::metric)
}

/// Reads a selector without offset, `@` or range: what `match[]` parameters hold.
///
/// # Errors
/// What Prometheus refuses, with its words and position.
pub fn parse_metric_selector(text: &str) -> Result<Vec<LabelMatcher>, ParseError> {
    read(text, grammar::Parser::metric_selector)
}

/// Runs a parser over a text that is not too long.
fn read<'q, T>(
    text: &'q str,
    part: impl FnOnce(&mut grammar::Parser<'q>) -> Result<T, Box<Problem>>,
) -> Result<T, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        let message = format!(
            "query of {} bytes is longer than the limit of {QUERY_BYTES_MAX} bytes",
            text.len()
        );
        return Err(ParseError::new(text, Problem { span: ast::Span::default(), message }));
    }
    part(&mut grammar::Parser::new(text)).map_err(|problem| ParseError::new(text, *problem))
}
