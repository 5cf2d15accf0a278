//! How the series of two vectors find each other.

use ahash::AHashMap;
use periplus_model::{Labels, LabelsBuilder, METRIC_NAME};

use super::row::{Row, is_metadata};
use crate::functions::binop::changes_schema;
use crate::parse::ast::{BinaryOp, Cardinality, VectorMatching};

/// The labels by which a series is matched.
pub(super) fn signature(m: &VectorMatching, labels: &Labels) -> Labels {
    let named = |n: &str| m.labels.iter().any(|l| l == n);
    if m.on { labels.filter(named) } else { labels.filter(|n| n != METRIC_NAME && !named(n)) }
}

/// Series of both sides by signature, as indexes into their rows; signatures in order of first
/// appearance, left side first.
pub(super) struct Matched {
    pub(super) groups: Vec<Group>,
}

#[derive(Default)]
pub(super) struct Group {
    pub(super) signature: Labels,
    pub(super) left: Vec<usize>,
    pub(super) right: Vec<usize>,
}

impl Matched {
    pub(super) fn new(m: &VectorMatching, left: &[Row], right: &[Row]) -> Self {
        let mut ids: AHashMap<Labels, usize> = AHashMap::with_capacity(left.len());
        let mut groups: Vec<Group> = Vec::new();
        for (side, rows) in [(true, left), (false, right)] {
            for (i, r) in rows.iter().enumerate() {
                let key = signature(m, &r.labels);
                let next = groups.len();
                let id = *ids.entry(key).or_insert_with_key(|key| {
                    groups.push(Group { signature: key.clone(), ..Group::default() });
                    next
                });
                if let Some(g) = groups.get_mut(id) {
                    if side { g.left.push(i) } else { g.right.push(i) }
                }
            }
        }
        Self { groups }
    }
}

/// The labels of a result: those of `many`, as the operator and the matching leave them, and those
/// that `group_left` or `group_right` takes from `one`.
pub(super) fn result_labels(
    op: BinaryOp,
    m: &VectorMatching,
    drop_name: bool,
    many: &Labels,
    one: &Labels,
) -> Labels {
    let named = |n: &str| m.labels.iter().any(|l| l == n);
    let drops = drop_name || changes_schema(op);
    let one_to_one = m.card == Cardinality::OneToOne;
    let kept = many.filter(|n| {
        !(drops && is_metadata(n)) && (!one_to_one || (if m.on { named(n) } else { !named(n) }))
    });
    if m.include.is_empty() {
        return kept;
    }
    let mut b: LabelsBuilder = kept.to_builder();
    for name in &m.include {
        b.set(name.as_str(), one.value(name));
    }
    b.build()
}

/// Labels as Prometheus prints them: `{a="1", b="2"}`.
pub(super) fn printed(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (i, (n, v)) in labels.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        let plain = !n.is_empty()
            && n.bytes().enumerate().all(|(i, b)| {
                b.is_ascii_alphabetic() || b == b'_' || (i > 0 && b.is_ascii_digit())
            });
        if plain {
            out.push_str(n);
        } else {
            out.push_str(&crate::annotations::quote(n));
        }
        out.push('=');
        out.push_str(&crate::annotations::quote(v));
    }
    out.push('}');
    out
}
