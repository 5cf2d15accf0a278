//! The tree as text over several lines, as Prometheus's formatter lays it out: a node whose text
//! is longer than a line is split, its parts indented.

use std::fmt::{Display, Write as _};

use super::ast::{Expr, SubqueryExpr};
use super::print::{AggregateHead, Operator, SubqueryTail};

/// The longest line, in bytes and without its indentation.
const LINE_BYTES_MAX: usize = 100;

/// The query over several lines.
#[must_use]
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write(&mut out, expr, 0);
    out
}

fn write(out: &mut String, expr: &Expr, level: usize) {
    match expr {
        Expr::Subquery(e) => return subquery(out, e, level),
        Expr::Unary(e) => {
            indent(out, level);
            out.push_str(e.op.as_str());
            // The operand's own indentation would come between sign and operand.
            let from = out.len();
            write(out, &e.expr, level);
            let operand = out.get(from..).unwrap_or("").trim().len();
            let spaces = out.len() - from - operand;
            out.replace_range(from..from + spaces, "");
            return;
        }
        Expr::Leaf(e) => return write(out, &e.original, level),
        _ => {}
    }
    let splits =
        matches!(expr, Expr::Aggregate(_) | Expr::Binary(_) | Expr::Call(_) | Expr::Paren(_))
            && is_long(expr);
    if !splits {
        indent(out, level);
        append(out, expr);
        return;
    }
    match expr {
        Expr::Binary(e) => {
            write(out, &e.lhs, level + 1);
            out.push('\n');
            indent(out, level);
            append(out, Operator(e));
            out.push('\n');
            write(out, &e.rhs, level + 1);
        }
        Expr::Aggregate(e) => {
            indent(out, level);
            append(out, AggregateHead(e));
            let parts = e.param.iter().chain([&e.expr]);
            in_parens(out, parts, level);
        }
        Expr::Call(e) => {
            indent(out, level);
            out.push_str(e.func.name);
            in_parens(out, &e.args, level);
        }
        Expr::Paren(e) => {
            indent(out, level);
            in_parens(out, [&e.expr], level);
        }
        _ => append(out, expr),
    }
}

fn in_parens<'e>(out: &mut String, parts: impl IntoIterator<Item = &'e Expr>, level: usize) {
    out.push('(');
    for (i, part) in parts.into_iter().enumerate() {
        out.push_str(if i == 0 { "\n" } else { ",\n" });
        write(out, part, level + 1);
    }
    out.push('\n');
    indent(out, level);
    out.push(')');
}

/// A subquery that fits a line is not indented: so Prometheus has it.
fn subquery(out: &mut String, e: &SubqueryExpr, level: usize) {
    if length(&e.expr) + length(&SubqueryTail(e)) > LINE_BYTES_MAX {
        write(out, &e.expr, level);
    } else {
        append(out, &e.expr);
    }
    append(out, SubqueryTail(e));
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn append(out: &mut String, text: impl Display) {
    // Writing to a string does not fail.
    let _ = write!(out, "{text}");
}

fn is_long(expr: &Expr) -> bool {
    length(expr) > LINE_BYTES_MAX
}

/// The length of a text in bytes, counted no further than needed: so that splitting a deep tree
/// stays linear.
fn length(text: &impl Display) -> usize {
    struct Counter(usize);
    impl std::fmt::Write for Counter {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            self.0 += s.len();
            if self.0 > LINE_BYTES_MAX { Err(std::fmt::Error) } else { Ok(()) }
        }
    }
    let mut counter = Counter(0);
    let _ = write!(counter, "{text}");
    counter.0
}
