//! Which parts a selector can match.

use periplus_model::{Labels, Matcher};
use periplus_promql::parse::ast::LabelMatcher;

use super::fleet::Fleet;
use super::part_set::PartSet;

/// A selector's matchers on external labels, compiled; all others are for the endpoints.
pub(super) struct Route {
    matchers: Vec<Matcher>,
    /// No label value can satisfy it, since it is not UTF-8.
    never: bool,
}

impl Route {
    pub(super) fn new(fleet: &Fleet, matchers: &[LabelMatcher]) -> Self {
        let mut route = Self { matchers: Vec::new(), never: false };
        for m in matchers.iter().filter(|m| is_external(fleet, &m.name)) {
            let Ok(value) = std::str::from_utf8(&m.value) else {
                route.never |= m.op == periplus_model::MatchOp::Equal;
                continue;
            };
            // A regex that does not compile routes to everyone: the evaluation says what is wrong.
            if let Ok(m) = Matcher::new(m.name.as_str(), m.op, value) {
                route.matchers.push(m);
            }
        }
        route
    }

    /// Whether a series under these external labels can match. A label that is not external there
    /// may be carried by the series.
    pub(super) fn may_match(&self, external: &Labels) -> bool {
        !self.never
            && self.matchers.iter().all(|m| match external.get(&m.name) {
                Some(v) => m.matches(v),
                None => true,
            })
    }

    /// The parts with a stream that can match.
    pub(super) fn parts(&self, fleet: &Fleet) -> PartSet {
        let mut out = fleet.no_parts();
        for (i, part) in fleet.parts.iter().enumerate() {
            let holders =
                part.streams.iter().filter_map(|s| fleet.streams.get(*s)).flat_map(|s| &s.holders);
            if holders.into_iter().any(|h| self.may_match(&h.external)) {
                out.insert(i);
            }
        }
        out
    }
}

fn is_external(fleet: &Fleet, name: &str) -> bool {
    fleet.names.iter().any(|n| **n == *name) || is_replica_label(fleet, name)
}

/// Whether series are without this label because it only tells replicas apart. Matching on it is
/// a way to choose replicas (as in Thanos), which no evaluation over merged series can do.
pub(super) fn is_replica_label(fleet: &Fleet, name: &str) -> bool {
    fleet.replica_labels.iter().any(|r| r == name)
}
