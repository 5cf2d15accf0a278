//! The crate promql-parser's tree in the s-expressions of `parse::golden`.

use std::panic::catch_unwind;
use std::time::{Duration, SystemTime};

use periplus_promql::parse::golden;
use promql_parser::label::{Labels, MatchOp};
use promql_parser::parser::{
    AtModifier, Expr, LabelModifier, Offset, VectorMatchCardinality, VectorSelector, parse,
};

/// Compares the trees where both accept the query; whether they did.
pub(crate) fn compare(query: &str) -> Result<bool, String> {
    let text = query.to_owned();
    // It panics on some input.
    let Ok(Ok(theirs)) = catch_unwind(move || parse(&text)) else { return Ok(false) };
    let Ok(ours) = golden::answer(query).outcome else { return Ok(false) };
    let Some(theirs) = sexp(&theirs) else { return Ok(false) };
    // Strings of bytes that are no UTF-8 it reads as Latin-1.
    if ours.sexp == theirs || ours.sexp.contains("\\ufffd") {
        return Ok(true);
    }
    Err(format!("{query}\n  ours   {}\n  theirs {theirs}", ours.sexp))
}

fn bits(v: f64) -> String {
    if v.is_finite() {
        return format!("{:016x}", v.to_bits());
    }
    if v.is_nan() { "NaN".into() } else { v.to_string().replace("inf", "Inf") }
}

fn quoted(s: &str) -> String {
    format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn names(labels: Option<&Labels>) -> String {
    let mut names: Vec<String> =
        labels.map_or(vec![], |l| l.labels.iter().map(|l| quoted(l)).collect());
    names.sort();
    format!("[{}]", names.join(" "))
}

/// `None` for what the form does not cover: strings whose escapes it reads otherwise.
fn sexp(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::NumberLiteral(n) => format!("(num {})", bits(n.val)),
        Expr::StringLiteral(s) if s.val.contains(['\u{fffd}', 'ÿ', '\\']) => return None,
        Expr::StringLiteral(s) => format!("(str {})", quoted(&s.val)),
        Expr::Paren(e) => format!("(paren {})", sexp(&e.expr)?),
        Expr::Unary(e) => format!("(neg {})", sexp(&e.expr)?),
        Expr::Subquery(e) => format!(
            "(sub {} range={} step={} {})",
            sexp(&e.expr)?,
            e.range.as_millis(),
            e.step.map_or(0, |s| s.as_millis()),
            shift(e.offset.as_ref(), e.at.as_ref())
        ),
        Expr::VectorSelector(e) => format!("(vs {})", selector(e)),
        Expr::MatrixSelector(e) => {
            format!("(ms {} range={})", selector(&e.vs), e.range.as_millis())
        }
        Expr::Call(e) => {
            let mut out = format!("(call {}", e.func.name);
            for arg in &e.args.args {
                out += &format!(" {}", sexp(arg)?);
            }
            out + ")"
        }
        Expr::Aggregate(e) => {
            let (word, labels) = match &e.modifier {
                Some(LabelModifier::Exclude(l)) => ("without", Some(l)),
                Some(LabelModifier::Include(l)) => ("by", Some(l)),
                None => ("by", None),
            };
            let param = match &e.param {
                Some(p) => format!(" param={}", sexp(p)?),
                None => String::new(),
            };
            format!("(agg {} {word}{}{param} {})", e.op, names(labels), sexp(&e.expr)?)
        }
        Expr::Binary(e) => {
            let mut out = format!("(bin {}", e.op);
            let vectors = e.lhs.value_type() == promql_parser::parser::value::ValueType::Vector
                && e.rhs.value_type() == promql_parser::parser::value::ValueType::Vector;
            let modifier = e.modifier.as_ref();
            if modifier.is_some_and(|m| m.return_bool) {
                out += " bool";
            }
            if vectors {
                out += &matching(
                    modifier,
                    matches!(e.op.to_string().as_str(), "and" | "or" | "unless"),
                );
            }
            format!("{out} {} {})", sexp(&e.lhs)?, sexp(&e.rhs)?)
        }
        Expr::Extension(_) => return None,
    })
}

fn matching(modifier: Option<&promql_parser::parser::BinModifier>, set: bool) -> String {
    let (card, include) = match modifier.map(|m| &m.card) {
        Some(VectorMatchCardinality::ManyToOne(l)) => ("many-to-one", Some(l)),
        Some(VectorMatchCardinality::OneToMany(l)) => ("one-to-many", Some(l)),
        _ if set => ("many-to-many", None),
        _ => ("one-to-one", None),
    };
    let (on, labels) = match modifier.and_then(|m| m.matching.as_ref()) {
        Some(LabelModifier::Include(l)) => (true, Some(l)),
        Some(LabelModifier::Exclude(l)) => (false, Some(l)),
        None => (false, None),
    };
    let mut out = format!(" card={card} on={on}{} inc={}", names(labels), names(include));
    if let Some(m) = modifier {
        for (side, value) in [("fl", m.fill_values.lhs), ("fr", m.fill_values.rhs)] {
            out += &value.map_or(String::new(), |v| format!(" {side}={}", bits(v)));
        }
    }
    out
}

fn selector(e: &VectorSelector) -> String {
    let mut matchers: Vec<String> = e
        .matchers
        .matchers
        .iter()
        .map(|m| {
            let op = match m.op {
                MatchOp::Equal => "=",
                MatchOp::NotEqual => "!=",
                MatchOp::Re(_) => "=~",
                MatchOp::NotRe(_) => "!~",
            };
            format!("{}{op}{}", m.name, golden_quoted(&m.value))
        })
        .collect();
    matchers.extend(e.name.iter().map(|n| format!("__name__=\"{n}\"")));
    matchers.sort();
    format!("{{{}}} {}", matchers.join(","), shift(e.offset.as_ref(), e.at.as_ref()))
}

fn golden_quoted(s: &str) -> String {
    periplus_model::float::Quoted(s).to_string()
}

fn shift(offset: Option<&Offset>, at: Option<&AtModifier>) -> String {
    let ms = |d: &Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    let offset = match offset {
        Some(Offset::Pos(d)) => ms(d),
        Some(Offset::Neg(d)) => -ms(d),
        None => 0,
    };
    let at = match at {
        None => "none".to_owned(),
        Some(AtModifier::Start) => "start".to_owned(),
        Some(AtModifier::End) => "end".to_owned(),
        Some(AtModifier::At(t)) => match t.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(d) => ms(&d).to_string(),
            Err(e) => (-ms(&e.duration())).to_string(),
        },
    };
    format!("off={offset} at={at}")
}
