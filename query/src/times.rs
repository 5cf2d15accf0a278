//! Replaces what refers to the whole query's times by these times, for an expression that is evaluated on
//! other steps than the query's own.

use periplus_promql::parse::ast::{
    AtModifier, DurationExpr, DurationOp, Expr, NumberLiteral, Span, TimeShift, VectorSelector,
};

use crate::fanout::QueryTimes;

/// `e` with `@ start()`, `@ end()`, `start()`, `end()`, `range()` and `step()` replaced by their values.
#[must_use]
pub fn pin(e: &Expr, times: QueryTimes) -> Expr {
    let mut out = e.clone();
    pin_in(&mut out, times);
    out
}

fn pin_in(e: &mut Expr, t: QueryTimes) {
    match e {
        Expr::Number(_) | Expr::String(_) | Expr::Leaf(_) => {}
        Expr::Paren(p) => pin_in(&mut p.expr, t),
        Expr::Unary(u) => pin_in(&mut u.expr, t),
        Expr::Binary(b) => {
            pin_in(&mut b.lhs, t);
            pin_in(&mut b.rhs, t);
        }
        Expr::Aggregate(a) => {
            pin_in(&mut a.expr, t);
            if let Some(p) = &mut a.param {
                pin_in(p, t);
            }
        }
        Expr::Call(c) => match (c.args.is_empty(), seconds(c.func.name, t)) {
            (true, Some(value)) => {
                *e = Expr::Number(NumberLiteral { value, duration: false, span: c.span });
            }
            _ => c.args.iter_mut().for_each(|a| pin_in(a, t)),
        },
        Expr::VectorSelector(s) => pin_selector(s, t),
        Expr::MatrixSelector(m) => {
            pin_selector(&mut m.selector, t);
            pin_duration(m.range_expr.as_deref_mut(), t);
        }
        Expr::Subquery(s) => {
            pin_in(&mut s.expr, t);
            pin_shift(&mut s.shift, t);
            pin_duration(s.range_expr.as_deref_mut(), t);
            pin_duration(s.step_expr.as_deref_mut(), t);
        }
    }
}

fn pin_selector(s: &mut VectorSelector, t: QueryTimes) {
    pin_shift(&mut s.shift, t);
}

fn pin_shift(shift: &mut TimeShift, t: QueryTimes) {
    match shift.start_or_end.take() {
        Some(AtModifier::Start) => shift.timestamp_ms = Some(t.start_ms),
        Some(AtModifier::End) => shift.timestamp_ms = Some(t.end_ms),
        None => {}
    }
    pin_duration(shift.original_offset_expr.as_deref_mut(), t);
}

fn pin_duration(d: Option<&mut DurationExpr>, t: QueryTimes) {
    let Some(d) = d else { return };
    let DurationExpr::Op { op, lhs, rhs, span, .. } = d else { return };
    let name = match op {
        DurationOp::Step => "step",
        DurationOp::Range => "range",
        DurationOp::Start => "start",
        DurationOp::End => "end",
        _ => {
            pin_duration(lhs.as_deref_mut(), t);
            return pin_duration(rhs.as_deref_mut(), t);
        }
    };
    let span: Span = *span;
    if let Some(value) = seconds(name, t) {
        *d = DurationExpr::Number(NumberLiteral { value, duration: false, span });
    }
}

/// What the functions without arguments give that know the query's times, in seconds.
fn seconds(function: &str, t: QueryTimes) -> Option<f64> {
    let ms = match function {
        "start" => t.start_ms,
        "end" => t.end_ms,
        "range" => t.end_ms.saturating_sub(t.start_ms),
        "step" => t.step_ms,
        _ => return None,
    };
    Some(ms as f64 / 1000.0)
}
