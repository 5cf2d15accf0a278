//! `and`, `or`, `unless`: whole columns of presence at a time.

use super::Exec;
use super::matching::Matched;
use super::row::Frame;
use crate::engine::QueryError;
use crate::parse::ast::BinaryOp;
use crate::plan::VectorBinary;
use crate::value::{Bitmap, StepGrid};

impl Exec<'_> {
    pub(super) fn set_operation(
        &mut self,
        b: &VectorBinary,
        grid: StepGrid,
    ) -> Result<Frame, QueryError> {
        let mut left = self.take_frame(b.lhs)?;
        let mut right = self.take_frame(b.rhs)?;
        let matched = Matched::new(&b.matching, &left.rows, &right.rows);
        let steps = grid.steps();
        for g in &matched.groups {
            self.cancel.check()?;
            let (from, to, of, onto) = match b.op {
                // What is on the left decides about the right.
                BinaryOp::Or => (&left.rows, &mut right.rows, &g.left, &g.right),
                _ => (&right.rows, &mut left.rows, &g.right, &g.left),
            };
            let mut there = Bitmap::new(steps, false);
            for r in of.iter().filter_map(|i| from.get(*i)) {
                there.union_with(&r.present);
            }
            if b.op != BinaryOp::And {
                let mut rest = Bitmap::new(steps, true);
                rest.subtract(&there);
                there = rest;
            }
            for i in onto {
                if let Some(r) = to.get_mut(*i) {
                    r.keep_steps(&there);
                }
            }
        }
        if b.op == BinaryOp::Or {
            let ordered = left.ordered && right.rows.is_empty();
            left.rows.append(&mut right.rows);
            left.ordered = ordered;
            left.charge = match (left.charge.take(), right.charge.take()) {
                (Some(mut a), Some(b)) => {
                    a.absorb(b);
                    Some(a)
                }
                (a, b) => a.or(b),
            };
        }
        left.drop_empty();
        self.merge_unless_instant(&mut left, grid)?;
        Ok(left)
    }

    /// Rows of equal labels are one. With delayed name removal and a single step, Prometheus lets
    /// doubles be until the end.
    pub(super) fn merge_unless_instant(
        &self,
        f: &mut Frame,
        grid: StepGrid,
    ) -> Result<(), QueryError> {
        if self.spec.delayed_name_removal && grid.steps() == 1 {
            return Ok(());
        }
        f.merge_equal()
    }
}
