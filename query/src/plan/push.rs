//! Cuts the subtrees that others answer out of a query, the largest first.

use std::sync::Arc;

use periplus_promql::parse::ast::{AggregateOp, Expr, Leaf, ValueType};
use periplus_promql::partial::PartialKind;

use super::class::{Class, Node};
use super::part_set::PartSet;
use super::{Fragment, Grouping};

/// Replaces what can be answered elsewhere by leaves.
pub(super) struct Cutter<'a> {
    text: &'a str,
    pub(super) fragments: Vec<Fragment>,
    /// What stayed, and why; the topmost of each chain only.
    pub(super) kept: Vec<(periplus_promql::parse::ast::Span, &'static str)>,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, fragments: Vec::new(), kept: Vec::new() }
    }

    /// `e` with leaves. At the root the order of the answer counts, which only merging keeps.
    pub(super) fn cut(&mut self, e: &Expr, node: &Node, root: bool) -> Expr {
        match &node.class {
            Class::Constant => e.clone(),
            Class::Partial { kind, parts } => self.leaf(e, Some(*kind), parts),
            Class::Closed { parts, .. } if e.value_type() == ValueType::Vector => {
                self.leaf(e, if root { ordered_partial(e, node) } else { None }, parts)
            }
            Class::Closed { .. } => self.below(e, node, root),
            Class::Open(why) => {
                if !matches!(e, Expr::Paren(_)) {
                    self.kept.push((e.span(), why));
                }
                self.below(e, node, root)
            }
        }
    }

    /// `e`, an aggregation in parentheses or not, as a partial leaf if what it aggregates is closed;
    /// else the aggregation stays, over leaves.
    pub(super) fn cut_partial(&mut self, e: &Expr, node: &Node) -> Expr {
        match (e, node.kids.first()) {
            (Expr::Paren(p), Some(inner)) => self.cut_partial(&p.expr, inner),
            (Expr::Aggregate(a), Some(inner)) => {
                let constant = node.kids.iter().skip(1).all(|k| k.class == Class::Constant);
                match (&inner.class, super::class::partial_kind(a)) {
                    (Class::Closed { parts, .. }, Some(kind)) if constant => {
                        self.leaf(e, Some(kind), parts)
                    }
                    _ => self.below(e, node, false),
                }
            }
            _ => self.below(e, node, false),
        }
    }

    fn below(&mut self, e: &Expr, node: &Node, root: bool) -> Expr {
        let mut kids = node.kids.iter();
        let mut cut = |this: &mut Self, e: &mut Expr, root: bool| {
            if let Some(kid) = kids.next() {
                *e = this.cut(e, kid, root);
            }
        };
        let mut out = e.clone();
        match &mut out {
            Expr::Paren(p) => cut(self, &mut p.expr, root),
            Expr::Unary(u) => cut(self, &mut u.expr, false),
            Expr::Subquery(s) => cut(self, &mut s.expr, false),
            Expr::Binary(b) => {
                cut(self, &mut b.lhs, false);
                cut(self, &mut b.rhs, false);
            }
            Expr::Aggregate(a) => {
                cut(self, &mut a.expr, false);
                if let Some(param) = &mut a.param {
                    cut(self, param, false);
                }
            }
            Expr::Call(c) => {
                let info = c.func.name == "info";
                for (i, arg) in c.args.iter_mut().enumerate() {
                    // The second argument of `info` says which series to select; it has no value.
                    if !(info && i == 1) {
                        cut(self, arg, false);
                    }
                }
            }
            Expr::Number(_)
            | Expr::String(_)
            | Expr::VectorSelector(_)
            | Expr::MatrixSelector(_)
            | Expr::Leaf(_) => {}
        }
        out
    }

    fn leaf(&mut self, e: &Expr, partial: Option<PartialKind>, parts: &PartSet) -> Expr {
        let id = self.fragments.len() as u32;
        let (text, position) = words(self.text, e);
        self.fragments.push(Fragment {
            id,
            expr: e.clone(),
            text,
            position,
            partial: partial.map(|kind| (kind, Grouping::of(e))),
            parts: parts.clone(),
        });
        Expr::Leaf(Box::new(Leaf { id, value_type: ValueType::Vector, original: e.clone() }))
    }
}

/// The words of the query that `e` was read from, and where they begin. Where they would not read
/// back as the same expression, the expression as it prints itself.
fn words(text: &str, e: &Expr) -> (Arc<str>, u32) {
    let span = e.span();
    let printed = e.to_string();
    if let Some(words) = text.get(span.start as usize..span.end as usize)
        && periplus_promql::parse::parse(words).is_ok_and(|again| again.to_string() == printed)
    {
        return (Arc::from(words), span.start);
    }
    (Arc::from(printed), span.start)
}

/// For `topk` and `bottomk` whose groups lie within parts: the partial form, which puts the answer
/// in order.
fn ordered_partial(e: &Expr, node: &Node) -> Option<PartialKind> {
    match (e, node.kids.first()) {
        (Expr::Paren(p), Some(inner)) => ordered_partial(&p.expr, inner),
        (Expr::Aggregate(a), Some(inner)) if matches!(inner.class, Class::Closed { .. }) => {
            match super::class::partial_kind(a) {
                Some(kind) if matches!(a.op, AggregateOp::Topk | AggregateOp::Bottomk) => {
                    Some(kind)
                }
                _ => None,
            }
        }
        _ => None,
    }
}
