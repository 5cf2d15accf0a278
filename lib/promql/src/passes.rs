//! What is done to a plan before it runs: each a pure function from plan to plan, in a file of its
//! own, in this order. [`invariant`] works on the tree, because what is evaluated once gets a grid of
//! its own when the plan is built.

use crate::plan::Plan;

mod fold;
pub(crate) mod invariant;
mod matchers;
mod projection;
mod selectors;
mod share;

/// All passes, in order.
pub(crate) fn rewrite(plan: Plan) -> Plan {
    let plan = fold::fold(plan);
    let plan = matchers::propagate(plan);
    let plan = projection::project(plan);
    let plan = selectors::merge(plan);
    share::share(plan)
}
