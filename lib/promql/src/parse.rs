//! Text to tree: [`parse`] reads a query as Prometheus 3.14 does with every experimental option
//! on, and the tree prints itself as Prometheus prints it.
pub mod ast;
mod error;
pub mod functions;
mod print;
mod span;

pub use error::ParseError;
pub use print::pretty;

use ast::{Expr, LabelMatcher};
use periplus_model::Labels;

/// The longest query accepted, in bytes.
pub const QUERY_BYTES_MAX: usize = 1 << 20;

/// The highest tree accepted: how many nodes may lie between the root and a leaf, and how deep
/// parentheses may nest. Recursion over a tree that [`parse`] returned is bounded by it.
pub const HEIGHT_MAX: usize = 512;

/// Reads a query and checks its types.
///
/// # Errors
/// What Prometheus refuses, with its words and position; also a query longer than
/// [`QUERY_BYTES_MAX`] or a tree higher than [`HEIGHT_MAX`].
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    Err(ParseError::new(query, ast::Span::default(), "parser not linked yet".into()))
}

/// Reads a series as `name{label="value", …}`.
///
/// # Errors
/// What Prometheus refuses, with its words and position.
pub fn parse_metric(text: &str) -> Result<Labels, ParseError> {
    Err(ParseError::new(text, ast::Span::default(), "parser not linked yet".into()))
}

/// Reads a selector without offset, `@` or range: what `match[]` parameters hold.
///
/// # Errors
/// What Prometheus refuses, with its words and position.
pub fn parse_metric_selector(text: &str) -> Result<Vec<LabelMatcher>, ParseError> {
    Err(ParseError::new(text, ast::Span::default(), "parser not linked yet".into()))
}
