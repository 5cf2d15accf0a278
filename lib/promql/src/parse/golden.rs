//! What the parser makes of a query, as one line of JSON: the form in which parsers are compared.
//!
//! For an accepted query: `query`, `ok`, `str` (the tree printed), `pretty`, `sexp` (the tree as
//! an s-expression) and `pos` (every node in preorder: its name, first byte and one past its
//! last). For a refused one: `query`, `ok`, `err`.

use std::fmt::Write as _;

use periplus_model::float::{Quoted, format_float};

use super::ast::{
    AggregateExpr, AtModifier, BinaryExpr, BinaryOp, Cardinality, DurationExpr, Expr, LabelMatcher,
    Span, TimeShift, VectorSelector,
};
use super::{ParseError, parse, pretty};

/// The parser's answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The query.
    pub query: String,
    /// What was made of it.
    pub outcome: Result<Accepted, String>,
}

/// What is said of an accepted query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The tree printed on one line.
    pub str: String,
    /// The tree printed over several lines.
    pub pretty: String,
    /// The tree as an s-expression.
    pub sexp: String,
    /// Every node in preorder.
    pub pos: Vec<(&'static str, Span)>,
}

/// Parses a query and says what came of it.
#[must_use]
pub fn answer(query: &str) -> Answer {
    let accepted = |expr: Expr| {
        let mut pos = Vec::new();
        positions(&expr, &mut pos);
        let mut sexp = String::new();
        write_sexp(&mut sexp, &expr);
        Accepted { str: expr.to_string(), pretty: pretty(&expr), sexp, pos }
    };
    let outcome = parse(query).map(accepted).map_err(|e: ParseError| e.to_string());
    Answer { query: query.to_owned(), outcome }
}

impl Answer {
    /// The answer as one line of JSON, keys in order of name, without the newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        match &self.outcome {
            Ok(a) => {
                out.push_str("\"ok\":true,\"pos\":[");
                for (i, (name, span)) in a.pos.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    let _ = write!(out, "{comma}[\"{name}\",{},{}]", span.start, span.end);
                }
                out.push_str("],\"pretty\":");
                json_string(&mut out, &a.pretty);
                out.push_str(",\"query\":");
                json_string(&mut out, &self.query);
                out.push_str(",\"sexp\":");
                json_string(&mut out, &a.sexp);
                out.push_str(",\"str\":");
                json_string(&mut out, &a.str);
            }
            Err(e) => {
                out.push_str("\"err\":");
                json_string(&mut out, e);
                out.push_str(",\"ok\":false,\"query\":");
                json_string(&mut out, &self.query);
            }
        }
        out.push('}');
        out
    }
}

fn json_string(out: &mut String, s: &str) {
    let _ = write!(out, "{}", Json(s.as_bytes()));
}

/// Bytes as a JSON string, as Go's encoder writes it; for bytes that are no UTF-8 stands U+FFFD.
struct Json<'a>(&'a [u8]);

impl std::fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    '\u{8}' => f.write_str("\\b")?,
                    '\u{c}' => f.write_str("\\f")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                        write!(f, "\\u{:04x}", u32::from(c))?;
                    }
                    c => f.write_char(c)?,
                }
            }
            for _ in chunk.invalid() {
                f.write_str("\\ufffd")?;
            }
        }
        f.write_char('"')
    }
}

/// Lists the nodes in preorder, children as Prometheus orders them: of an aggregation what is
/// aggregated before the parameter; a matrix selector holds its selector as a node of its own.
fn positions(expr: &Expr, out: &mut Vec<(&'static str, Span)>) {
    let name = match expr {
        Expr::Number(_) => "NumberLiteral",
        Expr::String(_) => "StringLiteral",
        Expr::Paren(_) => "ParenExpr",
        Expr::Unary(_) => "UnaryExpr",
        Expr::Binary(_) => "BinaryExpr",
        Expr::Aggregate(_) => "AggregateExpr",
        Expr::Call(_) => "Call",
        Expr::VectorSelector(_) => "VectorSelector",
        Expr::MatrixSelector(_) => "MatrixSelector",
        Expr::Subquery(_) => "SubqueryExpr",
        Expr::Leaf(_) => "Leaf",
    };
    out.push((name, expr.span()));
    match expr {
        Expr::Paren(e) => positions(&e.expr, out),
        Expr::Unary(e) => positions(&e.expr, out),
        Expr::Binary(e) => [&e.lhs, &e.rhs].into_iter().for_each(|e| positions(e, out)),
        Expr::Aggregate(e) => [&e.expr].into_iter().chain(&e.param).for_each(|e| positions(e, out)),
        Expr::Call(e) => e.args.iter().for_each(|e| positions(e, out)),
        Expr::MatrixSelector(e) => out.push(("VectorSelector", e.selector.span)),
        Expr::Subquery(e) => positions(&e.expr, out),
        _ => {}
    }
}

fn write_sexp(out: &mut String, expr: &Expr) {
    // Writing to a string does not fail.
    let _ = match expr {
        Expr::Number(n) => write!(out, "(num {})", bits(n.value)),
        Expr::String(s) => write!(out, "(str {})", Json(&s.value)),
        Expr::Paren(e) => return wrap(out, "paren ", &e.expr),
        Expr::Unary(e) if e.op == BinaryOp::Add => return write_sexp(out, &e.expr),
        Expr::Unary(e) => return wrap(out, "neg ", &e.expr),
        Expr::Binary(e) => return binary(out, e),
        Expr::Aggregate(e) => return aggregate(out, e),
        Expr::Call(e) => {
            let _ = write!(out, "(call {}", e.func.name);
            for arg in &e.args {
                out.push(' ');
                write_sexp(out, arg);
            }
            out.write_char(')')
        }
        Expr::VectorSelector(e) => write!(out, "(vs {})", selector(e)),
        Expr::MatrixSelector(e) => {
            let range = length(e.range_ms, e.range_expr.as_deref());
            write!(out, "(ms {} range={range})", selector(&e.selector))
        }
        Expr::Subquery(e) => {
            out.push_str("(sub ");
            write_sexp(out, &e.expr);
            let range = length(e.range_ms, e.range_expr.as_deref());
            let step = length(e.step_ms, e.step_expr.as_deref());
            write!(out, " range={range} step={step} {})", shift(&e.shift))
        }
        Expr::Leaf(e) => return write_sexp(out, &e.original),
    };
}

fn wrap(out: &mut String, head: &str, expr: &Expr) {
    out.push('(');
    out.push_str(head);
    write_sexp(out, expr);
    out.push(')');
}

fn binary(out: &mut String, e: &BinaryExpr) {
    let _ = write!(out, "(bin {}", e.op.as_str());
    if e.return_bool {
        out.push_str(" bool");
    }
    if let Some(m) = &e.matching {
        let card = match m.card {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        };
        let (labels, include) = (names(&m.labels), names(&m.include));
        let _ = write!(out, " card={card} on={}{labels} inc={include}", m.on);
        for (side, value) in [("fl", m.fill_lhs), ("fr", m.fill_rhs)] {
            if let Some(value) = value {
                let _ = write!(out, " {side}={}", bits(value));
            }
        }
    }
    for side in [&e.lhs, &e.rhs] {
        out.push(' ');
        write_sexp(out, side);
    }
    out.push(')');
}

fn aggregate(out: &mut String, e: &AggregateExpr) {
    let word = if e.without { "without" } else { "by" };
    let _ = write!(out, "(agg {} {word}{}", e.op.as_str(), names(&e.grouping));
    if let Some(param) = &e.param {
        out.push_str(" param=");
        write_sexp(out, param);
    }
    out.push(' ');
    write_sexp(out, &e.expr);
    out.push(')');
}

/// A float's bits; `Inf`, `-Inf` and `NaN` by name.
fn bits(value: f64) -> String {
    if value.is_finite() {
        return format!("{:016x}", value.to_bits());
    }
    format_float(value).trim_start_matches('+').to_owned()
}

/// Names of labels in order: `["a" "b"]`.
fn names(labels: &[String]) -> String {
    let mut quoted: Vec<String> = labels.iter().map(|l| Quoted(l).to_string()).collect();
    quoted.sort_unstable();
    format!("[{}]", quoted.join(" "))
}

fn selector(e: &VectorSelector) -> String {
    let show = |m: &LabelMatcher| format!("{}{}{}", m.name, m.op.as_str(), Quoted(&m.value));
    let mut matchers: Vec<String> = e.matchers.iter().map(show).collect();
    matchers.sort_unstable();
    let mut out = format!("{{{}}} {}", matchers.join(","), shift(&e.shift));
    for (on, word) in [(e.anchored, " anchored"), (e.smoothed, " smoothed")] {
        out.push_str(if on { word } else { "" });
    }
    out
}

fn shift(s: &TimeShift) -> String {
    let at = match (s.timestamp_ms, s.start_or_end) {
        (Some(ms), _) => ms.to_string(),
        (None, Some(AtModifier::Start)) => "start".to_owned(),
        (None, Some(AtModifier::End)) => "end".to_owned(),
        (None, None) => "none".to_owned(),
    };
    format!("off={} at={at}", length(s.original_offset_ms, s.original_offset_expr.as_deref()))
}

/// Milliseconds, or the expression in its printed form.
fn length(ms: i64, expr: Option<&DurationExpr>) -> String {
    expr.map_or_else(|| ms.to_string(), |e| format!("(dexpr {e})"))
}
