//! The evaluations that must agree with the one a script writes down.
//!
//! A query whose selectors are all pinned to one time by `@` gives the same whenever it is evaluated;
//! and an instant query gives what a range query gives at that step. Both follow from the language,
//! and both go through other parts of the engine than the plain evaluation does.

use crate::parse::ast::{Expr, TimeShift};

/// A query and when to evaluate it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variant {
    /// The query's text.
    pub(super) query: String,
    /// When, in Unix milliseconds.
    pub(super) t_ms: i64,
}

/// Functions whose result depends on the time of evaluation even if all their arguments don't.
const TIMELY: [&str; 15] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
    "year",
];

/// The query with `@ t_ms` on every selector and subquery that is not pinned, at several times; none
/// where the query asks for the time of evaluation itself.
pub(super) fn pinned(expr: &Expr, t_ms: i64) -> Vec<Variant> {
    let mut pinned = expr.clone();
    if !pin(&mut pinned, t_ms) {
        return Vec::new();
    }
    let query = pinned.to_string();
    let times: &[i64] = if t_ms == 0 {
        &[-1000, 0, 1000]
    } else {
        &[t_ms.saturating_mul(-10), 0, t_ms / 5, t_ms, t_ms.saturating_mul(10)]
    };
    times.iter().map(|t| Variant { query: query.clone(), t_ms: *t }).collect()
}

/// Whether a query speaks of the range it is evaluated over, so that as part of another range it
/// gives something else.
pub(super) fn knows_its_range(query: &str) -> bool {
    ["start()", "end()", "range()", "step()"].iter().any(|f| query.contains(f))
}

/// Pins every selector; false when there is a function that depends on the time of evaluation. What
/// is within a subquery is evaluated at the subquery's times and left alone.
fn pin(expr: &mut Expr, t_ms: i64) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Leaf(_) => true,
        Expr::Paren(e) => pin(&mut e.expr, t_ms),
        Expr::Unary(e) => pin(&mut e.expr, t_ms),
        Expr::Binary(e) => pin(&mut e.lhs, t_ms) & pin(&mut e.rhs, t_ms),
        Expr::Aggregate(e) => {
            let param = e.param.as_mut().is_none_or(|p| pin(p, t_ms));
            pin(&mut e.expr, t_ms) & param
        }
        Expr::Call(e) => {
            let mut steady = !TIMELY.contains(&e.func.name);
            for arg in &mut e.args {
                steady &= pin(arg, t_ms);
            }
            steady
        }
        Expr::VectorSelector(e) => {
            pin_shift(&mut e.shift, t_ms);
            true
        }
        Expr::MatrixSelector(e) => {
            pin_shift(&mut e.selector.shift, t_ms);
            true
        }
        Expr::Subquery(e) => {
            pin_shift(&mut e.shift, t_ms);
            true
        }
    }
}

fn pin_shift(shift: &mut TimeShift, t_ms: i64) {
    if shift.timestamp_ms.is_none() {
        shift.timestamp_ms = Some(t_ms);
        shift.start_or_end = None;
    }
}
