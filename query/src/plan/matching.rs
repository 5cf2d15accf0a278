//! Binary operations: whether series can only find partners within their own part.

use periplus_promql::parse::ast::{BinaryExpr, BinaryOp, Cardinality, VectorMatching};

use super::apart::{Apart, NameMask};
use super::class::Class;
use super::part_set::PartSet;

/// One side of an operation between vectors.
#[derive(Clone, Copy)]
struct Side<'a> {
    keep: NameMask,
    parts: &'a PartSet,
}

/// The class of `b`, given those of its operands.
pub(super) fn join(apart: &Apart<'_>, b: &BinaryExpr, l: &Class, r: &Class) -> Class {
    let spans = Class::Open("an operand spans clusters");
    match (l, r) {
        (Class::Open(why), _) | (_, Class::Open(why)) => Class::Open(why),
        (Class::Partial { .. }, _) | (_, Class::Partial { .. }) => spans,
        (Class::Constant, Class::Constant) => Class::Constant,
        (Class::Closed { keep, parts }, Class::Constant) => {
            with_constant(b, Side { keep: *keep, parts }, apart, true)
        }
        (Class::Constant, Class::Closed { keep, parts }) => {
            with_constant(b, Side { keep: *keep, parts }, apart, false)
        }
        (Class::Closed { keep: lk, parts: lp }, Class::Closed { keep: rk, parts: rp }) => {
            let (l, r) = (Side { keep: *lk, parts: lp }, Side { keep: *rk, parts: rp });
            match &b.matching {
                Some(m) => vectors(apart, b.op, m, l, r),
                None => Class::Open("both operands depend on series"),
            }
        }
    }
}

/// The external labels among those that series are matched by.
fn matched_names(apart: &Apart<'_>, m: &VectorMatching) -> NameMask {
    let named = apart.mask(&m.labels);
    if m.on { named } else { apart.all_names() & !named }
}

fn has_fill(m: &VectorMatching) -> bool {
    m.fill_lhs.is_some() || m.fill_rhs.is_some()
}

/// Series of both operands are matched only within their part when what they are matched by tells
/// parts apart on both sides.
fn vectors(apart: &Apart<'_>, op: BinaryOp, m: &VectorMatching, l: Side<'_>, r: Side<'_>) -> Class {
    let (both, either) = (l.parts.intersect(r.parts), l.parts.union(r.parts));
    let by = matched_names(apart, m) & l.keep & r.keep;
    if !apart.told_apart(by, &either) {
        return Class::Open("series of different clusters can match each other");
    }
    match op {
        BinaryOp::And => Class::Closed { keep: l.keep, parts: both },
        BinaryOp::Unless => Class::Closed { keep: l.keep, parts: l.parts.clone() },
        BinaryOp::Or => Class::Closed { keep: l.keep & r.keep, parts: either },
        _ => {
            let included = apart.mask(&m.include);
            let keep = match m.card {
                Cardinality::ManyToOne => l.keep & !(included & !r.keep),
                Cardinality::OneToMany => r.keep & !(included & !l.keep),
                // What a series has beyond the labels it is matched by is not in the result.
                _ => by,
            };
            match has_fill(m) {
                true => Class::Closed { keep: keep & l.keep & r.keep, parts: either },
                false => Class::Closed { keep, parts: both },
            }
        }
    }
}

/// One operand is the same everywhere: a scalar, or a vector made of constants.
fn with_constant(b: &BinaryExpr, s: Side<'_>, apart: &Apart<'_>, series_left: bool) -> Class {
    let closed = |keep| Class::Closed { keep, parts: s.parts.clone() };
    let Some(m) = &b.matching else { return closed(s.keep) };
    match (b.op, m.card, series_left) {
        (BinaryOp::And | BinaryOp::Unless, _, true) => closed(s.keep),
        // Each of many finds the one constant, wherever it is. Copied labels are the constant's.
        (op, Cardinality::ManyToOne, true) | (op, Cardinality::OneToMany, false)
            if op != BinaryOp::Or && !has_fill(m) =>
        {
            let keep = s.keep & !apart.mask(&m.include);
            match apart.told_apart(keep, s.parts) {
                true => closed(keep),
                false => Class::Open("it overwrites labels that tell clusters apart"),
            }
        }
        _ => Class::Open("a constant vector meets series of all clusters"),
    }
}
