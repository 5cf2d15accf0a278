//! From the syntax tree to a plan.

use std::collections::HashMap;

use crate::engine::{QueryError, QuerySpec};
use crate::value::StepGrid;

/// On which grid a subtree is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalGrid {
    /// The evaluation times a leaf in this place has to be answered for.
    pub grid: StepGrid,
    /// Whether the subtree gives the same at every step; `grid` then has a single one.
    pub step_invariant: bool,
}

/// For every [`crate::parse::ast::Expr::Leaf`] of a query, by id: the grid its value is needed on.
/// Inside subqueries that is the subquery's grid; below something step-invariant a single time.
///
/// # Errors
/// What makes the query impossible to plan (durations out of range, too many subquery steps).
pub fn leaf_grids(spec: &QuerySpec) -> Result<HashMap<u32, EvalGrid>, QueryError> {
    let _ = spec;
    Ok(HashMap::new())
}
