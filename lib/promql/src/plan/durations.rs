//! Durations that are computed: `[5m + step()]`.

use crate::engine::{ErrorKind, QueryError};
use crate::parse::ast::{DurationExpr, DurationOp, Span};

/// The query's own durations, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryTimes {
    pub(super) step_s: f64,
    pub(super) range_s: f64,
}

/// The longest duration, in seconds: nanoseconds have to fit into 63 bits.
const SECONDS_MAX: f64 = 9_223_372_036.854_775;

fn bad(span: Span, text: &str) -> QueryError {
    QueryError::new(ErrorKind::BadData, format!("{}:{}: {text}", span.start, span.end))
}

fn span_of(e: &DurationExpr) -> Span {
    match e {
        DurationExpr::Number(n) => n.span,
        DurationExpr::Op { span, .. } => *span,
    }
}

impl QueryTimes {
    /// A duration in milliseconds.
    pub(super) fn resolve(&self, e: &DurationExpr, negative: bool) -> Result<i64, QueryError> {
        let seconds = self.eval(e)?;
        if !seconds.is_finite() {
            return Err(bad(span_of(e), "duration is NaN or infinite"));
        }
        if seconds <= 0.0 && !negative {
            return Err(bad(span_of(e), "duration must be greater than 0"));
        }
        if seconds.abs() > SECONDS_MAX {
            return Err(bad(span_of(e), "duration is out of range"));
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn eval(&self, e: &DurationExpr) -> Result<f64, QueryError> {
        let (op, lhs, rhs) = match e {
            DurationExpr::Number(n) => return Ok(n.value),
            DurationExpr::Op { op, lhs, rhs, .. } => (*op, lhs, rhs),
        };
        let l = lhs.as_ref().map(|x| self.eval(x)).transpose()?.unwrap_or(0.0);
        let r = rhs.as_ref().map(|x| self.eval(x)).transpose()?.unwrap_or(0.0);
        Ok(match op {
            DurationOp::Step => self.step_s,
            DurationOp::Range => self.range_s,
            DurationOp::Min => crate::functions::math::min(l, r),
            DurationOp::Max => crate::functions::math::max(l, r),
            DurationOp::Add => l + r,
            DurationOp::Sub => l - r,
            DurationOp::Mul => l * r,
            DurationOp::Div if r == 0.0 => return Err(bad(span_of(e), "division by zero")),
            DurationOp::Div => l / r,
            DurationOp::Mod if r == 0.0 => return Err(bad(span_of(e), "modulo by zero")),
            DurationOp::Mod => l % r,
            DurationOp::Pow => l.powf(r),
            DurationOp::Start | DurationOp::End => {
                return Err(bad(span_of(e), "start() and end() are no durations"));
            }
        })
    }
}
