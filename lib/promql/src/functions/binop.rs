//! Binary operators on two values.

use std::sync::Arc;

use periplus_model::{FloatHistogram, Trim};

use super::Point;
use crate::annotations::{Annotation, Annotations, HistogramOperation};
use crate::parse::ast::{BinaryOp, Span};

/// What an operator gives for two values.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A value, kept unless a comparison says no.
    Value(Point, bool),
    /// Nothing, and why.
    Nothing(Option<Annotation>),
}

/// An operator on two numbers; comparisons give 0 or 1.
pub(crate) fn scalars(op: BinaryOp, l: f64, r: f64) -> f64 {
    match arithmetic(op, l, r) {
        Some(v) => v,
        None => f64::from(u8::from(compares(op, l, r))),
    }
}

#[inline]
pub(crate) fn arithmetic(op: BinaryOp, l: f64, r: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => l + r,
        BinaryOp::Sub => l - r,
        BinaryOp::Mul => l * r,
        BinaryOp::Div => l / r,
        BinaryOp::Mod => l % r,
        BinaryOp::Pow => l.powf(r),
        BinaryOp::Atan2 => l.atan2(r),
        _ => return None,
    })
}

#[inline]
pub(crate) fn compares(op: BinaryOp, l: f64, r: f64) -> bool {
    match op {
        BinaryOp::Eql => l == r,
        BinaryOp::Neq => l != r,
        BinaryOp::Lte => l <= r,
        BinaryOp::Lss => l < r,
        BinaryOp::Gte => l >= r,
        BinaryOp::Gtr => l > r,
        _ => false,
    }
}

/// Whether the result is another quantity than the operands, so that the name goes.
pub(crate) fn changes_schema(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

fn incompatible(l: &str, op: BinaryOp, r: &str, span: Span) -> Outcome {
    Outcome::Nothing(Some(Annotation::incompatible_types(l, op.as_str(), r, span)))
}

fn scaled(h: &FloatHistogram, f: impl FnOnce(&mut FloatHistogram)) -> Outcome {
    let mut h = h.clone();
    f(&mut h);
    Outcome::Value(Point::Hist(Arc::new(h)), true)
}

/// An operator on the values of two series.
pub(crate) fn points(
    op: BinaryOp,
    l: &Point,
    r: &Point,
    span: Span,
    annotations: &mut Annotations,
) -> Outcome {
    match (l, r) {
        (Point::Float(l), Point::Float(r)) => match arithmetic(op, *l, *r) {
            Some(v) => Outcome::Value(Point::Float(v), true),
            None if op.is_comparison() => Outcome::Value(Point::Float(*l), compares(op, *l, *r)),
            None => incompatible("float", op, "float", span),
        },
        (Point::Float(l), Point::Hist(r)) => match op {
            BinaryOp::Mul => scaled(r, |h| {
                h.mul(*l);
                h.compact(0);
            }),
            _ => incompatible("float", op, "histogram", span),
        },
        (Point::Hist(l), Point::Float(r)) => match op {
            BinaryOp::Mul => scaled(l, |h| {
                h.mul(*r);
                h.compact(0);
            }),
            BinaryOp::Div => scaled(l, |h| {
                h.div(*r);
                h.compact(0);
            }),
            BinaryOp::TrimUpper => scaled(l, |h| h.trim(*r, Trim::Below)),
            BinaryOp::TrimLower => scaled(l, |h| h.trim(*r, Trim::Above)),
            _ => incompatible("histogram", op, "float", span),
        },
        (Point::Hist(l), Point::Hist(r)) => histograms(op, l, r, span, annotations),
    }
}

fn histograms(
    op: BinaryOp,
    l: &Arc<FloatHistogram>,
    r: &FloatHistogram,
    span: Span,
    annotations: &mut Annotations,
) -> Outcome {
    let operation = match op {
        BinaryOp::Add => HistogramOperation::Addition,
        BinaryOp::Sub => HistogramOperation::Subtraction,
        BinaryOp::Eql => return Outcome::Value(Point::Hist(Arc::clone(l)), l.same_as(r)),
        BinaryOp::Neq => return Outcome::Value(Point::Hist(Arc::clone(l)), !l.same_as(r)),
        _ => return incompatible("histogram", op, "histogram", span),
    };
    let mut result = FloatHistogram::clone(l);
    let done = match op {
        BinaryOp::Add => result.add(r),
        _ => result.sub(r),
    };
    let Ok(reconciled) = done else {
        let a = Annotation::incompatible_bucket_layout(op.as_str(), span);
        return Outcome::Nothing(Some(a));
    };
    if op == BinaryOp::Sub {
        result.counter_reset_hint = periplus_model::CounterResetHint::Gauge;
    }
    // Prometheus gives no result where the hints contradict each other.
    if reconciled.counter_reset_collision {
        return Outcome::Nothing(Some(Annotation::reset_collision(operation, span)));
    }
    if reconciled.bounds {
        annotations.add(Annotation::mismatched_custom_buckets(operation, span));
    }
    result.compact(0);
    Outcome::Value(Point::Hist(Arc::new(result)), true)
}
