//! From a query to what each endpoint is asked and what is left to do here.
//!
//! In order: the [`Fleet`] says which streams there are and who holds them; every node of the query is
//! classified (`class`, with the rules for functions, matching and labels in `rules`, `matching` and
//! `apart`); the largest subtrees that others can answer are cut out (`push`) and become
//! [`Fragment`]s, in whose place an [`Expr::Leaf`] stands; the steps of each fragment are divided among
//! the replicas of each part (`slice`, which asks `window` what times a step looks at).
//!
//! All of it is pure: no clock, no network. Nothing is pushed unless a rule says that the answer
//! stays exactly what one Prometheus that holds all streams, with their external labels, would give;
//! what no rule covers is fetched as series and evaluated here.

mod apart;
mod class;
mod fleet;
mod matching;
mod part_set;
mod push;
mod route;
mod rules;
mod slice;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

pub use fleet::{Candidate, EndpointId, Fleet, Held, Part, Stream};
pub use part_set::PartSet;
use periplus_model::{Labels, METRIC_NAME, Matcher};
use periplus_promql::parse::ast::{AggregateOp, Expr, LabelMatcher, Span};
use periplus_promql::partial::PartialKind;
pub(crate) use slice::grid_range;
pub use slice::{Slice, Target, slices, sub_grid};
pub use window::Clock;

/// A subtree that others answer.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// The id of the leaf that stands in its place.
    pub id: u32,
    /// The subtree.
    pub expr: Expr,
    /// The subtree in the user's words.
    pub text: Arc<str>,
    /// Where those words begin in the query, in bytes.
    pub position: u32,
    /// For an aggregation that is put together from partial states: which, and its groups.
    pub partial: Option<(PartialKind, Grouping)>,
    /// The parts that are asked.
    pub parts: PartSet,
}

/// By which labels an aggregation groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    labels: Vec<String>,
    without: bool,
    /// The label that `count_values` writes.
    value_label: Option<String>,
}

impl Grouping {
    /// The grouping of an aggregation, parentheses around it ignored; of any other expression: none.
    #[must_use]
    pub fn of(e: &Expr) -> Self {
        match e {
            Expr::Paren(p) => Self::of(&p.expr),
            Expr::Aggregate(a) => Self {
                labels: a.grouping.clone(),
                without: a.without,
                value_label: match (a.op, &a.param) {
                    (AggregateOp::CountValues, Some(Expr::String(s))) => {
                        Some(String::from_utf8_lossy(&s.value).into_owned())
                    }
                    _ => None,
                },
            },
            _ => Self::default(),
        }
    }

    /// The group that a series with these labels is in, or that a partial result with these labels
    /// stands for.
    #[must_use]
    pub fn group(&self, labels: &Labels) -> Labels {
        let grouped = |n: &str| self.labels.iter().any(|l| l == n);
        labels.filter(|n| match self.without {
            true => n != METRIC_NAME && !grouped(n) && self.value_label.as_deref() != Some(n),
            false => grouped(n),
        })
    }
}

/// A planned query.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is evaluated here; selectors in it are fetched as series.
    pub residual: Expr,
    /// What others answer, in order of id.
    pub fragments: Vec<Fragment>,
    /// What is evaluated here and why it is not pushed.
    pub kept: Vec<(Span, &'static str)>,
}

/// Plans `expr`, which was read from `text`, over `fleet`.
#[must_use]
pub fn plan(expr: &Expr, text: &str, fleet: &Fleet) -> Plan {
    let node = class::Classifier::new(fleet).classify(expr);
    let mut cutter = push::Cutter::new(text);
    let residual = cutter.cut(expr, &node, true);
    Plan { residual, fragments: cutter.fragments, kept: cutter.kept }
}

/// Plans an aggregation whose partial state is asked for: like [`plan`], but the outermost
/// aggregation is a partial fragment even where its groups lie within parts, or else stays here.
#[must_use]
pub fn partial(expr: &Expr, text: &str, fleet: &Fleet) -> Plan {
    let node = class::Classifier::new(fleet).classify(expr);
    let mut cutter = push::Cutter::new(text);
    let residual = cutter.cut_partial(expr, &node);
    Plan { residual, fragments: cutter.fragments, kept: cutter.kept }
}

impl Plan {
    /// The fragment that is the whole query, when its partial state is what endpoints are asked for.
    #[must_use]
    pub fn root_partial(&self) -> Option<&Fragment> {
        let mut e = &self.residual;
        while let Expr::Paren(p) = e {
            e = &p.expr;
        }
        let Expr::Leaf(leaf) = e else { return None };
        self.fragments.iter().find(|f| f.id == leaf.id && f.partial.is_some())
    }
}

/// The parts in which a series that satisfies `matchers` may be.
#[must_use]
pub fn parts_matching(fleet: &Fleet, matchers: &[Matcher]) -> PartSet {
    let as_written: Vec<LabelMatcher> = matchers
        .iter()
        .map(|m| LabelMatcher {
            name: m.name.to_string(),
            op: m.op,
            value: m.value.as_bytes().to_vec(),
        })
        .collect();
    route::Route::new(fleet, &as_written).parts(fleet)
}
