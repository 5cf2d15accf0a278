//! Which parts of a query give the same at every step, so that they are evaluated once.
//!
//! The rules are Prometheus's, including that an aggregation's parameter does not count and that
//! functions that look at the evaluation time never are invariant.

use std::collections::HashMap;

use crate::engine::{ErrorKind, QueryError};
use crate::parse::ast::{Expr, TimeShift};

/// Functions whose result depends on the evaluation time even when their arguments don't.
const UNSAFE: &[&str] = &[
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

/// Functions that are constants of the query.
const FOLDED: &[&str] = &["end", "range", "start", "step"];

/// The expression inside any number of parentheses.
pub(crate) fn unwrap_parens(mut e: &Expr) -> &Expr {
    while let Expr::Paren(p) = e {
        e = &p.expr;
    }
    e
}

/// What is known of each node of a tree, by its address.
#[derive(Debug)]
pub(crate) struct Invariance {
    /// (gives the same at every step, is worth evaluating once)
    known: HashMap<*const Expr, (bool, bool)>,
}

impl Invariance {
    /// Looks at a whole tree.
    ///
    /// # Errors
    /// A tree deeper than `depth_max`.
    pub(crate) fn of(e: &Expr, depth_max: usize) -> Result<Self, QueryError> {
        let mut all = Self { known: HashMap::new() };
        all.visit(e, depth_max)?;
        Ok(all)
    }

    /// Whether the node gives the same at every step.
    pub(crate) fn is_invariant(&self, e: &Expr) -> bool {
        self.known.get(&std::ptr::from_ref(e)).is_some_and(|k| k.0)
    }

    /// Whether it also is something to evaluate once (numbers and ranges are not).
    pub(crate) fn worth_hoisting(&self, e: &Expr) -> bool {
        self.known.get(&std::ptr::from_ref(e)).is_some_and(|k| k.0 && k.1)
    }

    fn visit(&mut self, e: &Expr, depth: usize) -> Result<(bool, bool), QueryError> {
        let Some(depth) = depth.checked_sub(1) else {
            let text = "query is nested too deeply to be planned; split it up";
            return Err(QueryError::new(ErrorKind::BadData, text));
        };
        let found = match e {
            Expr::Number(_) | Expr::String(_) => (true, false),
            Expr::Paren(p) => self.visit(&p.expr, depth)?,
            Expr::Unary(u) => self.visit(&u.expr, depth)?,
            Expr::VectorSelector(v) => (fixed(&v.shift), fixed(&v.shift)),
            Expr::MatrixSelector(m) => (fixed(&m.selector.shift), false),
            Expr::Subquery(s) => {
                self.visit(&s.expr, depth)?;
                (fixed(&s.shift), false)
            }
            Expr::Aggregate(a) => {
                if let Some(p) = &a.param {
                    self.visit(p, depth)?;
                }
                self.visit(&a.expr, depth)?
            }
            Expr::Binary(b) => {
                let (l, r) = (self.visit(&b.lhs, depth)?, self.visit(&b.rhs, depth)?);
                (l.0 && r.0, l.0 && r.0)
            }
            Expr::Call(c) => {
                let mut all = true;
                for a in &c.args {
                    all &= self.visit(a, depth)?.0;
                }
                let name = c.func.name;
                let of_selector = name == "timestamp"
                    && c.args.iter().all(|a| matches!(unwrap_parens(a), Expr::VectorSelector(_)));
                if FOLDED.contains(&name) {
                    (true, false)
                } else {
                    let same = all && (!UNSAFE.contains(&name) || of_selector);
                    (same, same)
                }
            }
            Expr::Leaf(l) => self.visit(&l.original, depth)?,
        };
        self.known.insert(std::ptr::from_ref(e), found);
        Ok(found)
    }
}

fn fixed(s: &TimeShift) -> bool {
    s.timestamp_ms.is_some() || s.start_or_end.is_some()
}
