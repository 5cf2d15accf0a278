//! What is wrong with a query, and where.

use std::fmt;

use super::ast::Span;

/// Why a query was refused. Displays as Prometheus's error does: `1:3: parse error: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong, in Prometheus's words.
    pub message: String,
    /// Which part of the query the message is about.
    pub span: Span,
    /// Line and column (in bytes) of `span.start`, from 1; `None` where the query is empty.
    pub line_column: Option<(u32, u32)>,
}

/// What is wrong, before it is known whether it is what will be reported: finding line and column
/// takes a look at the query from its beginning, which must not happen for every problem.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) span: Span,
    pub(super) message: String,
}

impl ParseError {
    pub(super) fn new(query: &str, problem: Problem) -> Self {
        let Problem { span, message } = problem;
        let before = query.as_bytes().get(..span.start as usize).unwrap_or(query.as_bytes());
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|b| **b != b'\n').count();
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let line_column = (!query.is_empty()).then(|| (small(line), small(column)));
        Self { message, span, line_column }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line_column {
            Some((line, column)) => write!(f, "{line}:{column}")?,
            None => f.write_str("unknown position")?,
        }
        write!(f, ": parse error: {}", self.message)
    }
}

impl std::error::Error for ParseError {}
