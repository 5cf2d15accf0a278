//! Which rules of a group may be evaluated at once: those of which none uses what another gives.

use periplus_model::{METRIC_NAME, MatchOp, Matcher};
use periplus_promql::parse::ast::{Expr, LabelMatcher};
use periplus_promql::parse::selectors;

use super::alert::{ALERTS, ALERTS_FOR_STATE, CLUSTER_MISSING};
use super::rule::Rule;

/// The order of evaluation: batches of places in the list of rules; rules of a batch are
/// independent of each other.
///
/// A selector without a name may match anything: then all rules are evaluated one after the other.
#[must_use]
pub fn batches(rules: &[std::sync::Arc<Rule>]) -> Vec<Vec<usize>> {
    let one_by_one = || (0..rules.len()).map(|i| vec![i]).collect();
    // For each rule: whether it uses an earlier one, and whether a later one uses it.
    let mut uses = vec![false; rules.len()];
    let mut used = vec![false; rules.len()];
    for (i, rule) in rules.iter().enumerate() {
        for matchers in selectors(&rule.expr).into_iter().map(|s| &s.matchers) {
            let Some(name) = name_matcher(matchers) else { return one_by_one() };
            for (j, other) in rules.iter().enumerate().take(i) {
                if depends(&name, matchers, other) {
                    if let Some(slot) = uses.get_mut(i) {
                        *slot = true;
                    }
                    if let Some(slot) = used.get_mut(j) {
                        *slot = true;
                    }
                }
            }
        }
    }
    let places = |of: &dyn Fn(bool, bool) -> bool| -> Vec<usize> {
        let both = uses.iter().zip(&used).enumerate();
        both.filter(|(_, (a, b))| of(**a, **b)).map(|(i, _)| i).collect()
    };
    let mut out = vec![places(&|uses, _| !uses)];
    out.extend(places(&|uses, used| uses && used).into_iter().map(|i| vec![i]));
    out.push(places(&|uses, used| uses && !used));
    out.retain(|b| !b.is_empty());
    out
}

fn depends(name: &Matcher, matchers: &[LabelMatcher], other: &Rule) -> bool {
    if name.matches(&other.name) {
        return true;
    }
    let of_alerts = name.matches(ALERTS) || name.matches(ALERTS_FOR_STATE);
    if !of_alerts || other.alerting.is_none() {
        return false;
    }
    match matchers.iter().find(|m| m.name == "alertname").map(matcher) {
        Some(Some(m)) => m.matches(&other.name),
        _ => true,
    }
}

fn name_matcher(matchers: &[LabelMatcher]) -> Option<Matcher> {
    matchers.iter().find(|m| m.name == METRIC_NAME).and_then(matcher)
}

fn matcher(m: &LabelMatcher) -> Option<Matcher> {
    m.compile().ok()
}

/// Whether an expression looks only at series that rulers themselves give of the fleet's state: then an
/// answer lacks nothing because a cluster is missing.
#[must_use]
pub fn looks_at_rulers_only(e: &Expr) -> bool {
    let selectors = selectors(e);
    let own = |m: &LabelMatcher| {
        let names = [ALERTS, ALERTS_FOR_STATE, CLUSTER_MISSING];
        m.name == METRIC_NAME
            && m.op == MatchOp::Equal
            && names.iter().any(|n| n.as_bytes() == m.value)
    };
    !selectors.is_empty() && selectors.iter().all(|s| s.matchers.iter().any(own))
}
