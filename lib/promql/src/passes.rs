//! What is done to a plan before it runs: each a pure function from plan to plan, in a file of its
//! own. [`invariant`] works on the tree, because what is evaluated once gets a grid of its own.

use crate::engine::QuerySpec;
use crate::plan::Plan;

pub(crate) mod invariant;

/// All passes, in order.
pub(crate) fn rewrite(plan: Plan, spec: &QuerySpec) -> Plan {
    let _ = spec;
    plan
}
