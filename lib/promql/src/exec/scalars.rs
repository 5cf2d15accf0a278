//! Scalars: one number a step.

use periplus_model::Labels;

use super::Exec;
use super::row::{Frame, Row, Val};
use crate::engine::QueryError;
use crate::functions::{binop, math};
use crate::plan::{NodeId, Op};
use crate::value::{Bitmap, StepGrid};

impl Exec<'_> {
    /// The value of a node that is a scalar or a string, `None` for others.
    pub(super) fn scalar_node(
        &mut self,
        op: &Op,
        grid: StepGrid,
    ) -> Result<Option<Val>, QueryError> {
        let steps = grid.steps();
        let values = match op {
            Op::Number(v) => vec![*v; steps],
            Op::Text(s) => return Ok(Some(Val::Text(s.clone()))),
            Op::Time => (0..steps).map(|i| grid.time(i) as f64 / 1000.0).collect(),
            Op::ScalarBinary { op, lhs, rhs } => {
                self.zip(*lhs, *rhs, |l, r| binop::scalars(*op, l, r))?
            }
            Op::ScalarPick { max, lhs, rhs } => {
                let pick = if *max { math::max } else { math::min };
                self.zip(*lhs, *rhs, pick)?
            }
            Op::ToScalar(c) => {
                let f = self.take_frame(*c)?;
                to_scalar(&f, steps)
            }
            _ => return Ok(None),
        };
        Ok(Some(Val::Scalar(values)))
    }

    fn zip(
        &mut self,
        lhs: NodeId,
        rhs: NodeId,
        f: impl Fn(f64, f64) -> f64,
    ) -> Result<Vec<f64>, QueryError> {
        let mut l = self.take_scalar(lhs)?;
        let r = self.take_scalar(rhs)?;
        l.iter_mut().zip(&r).for_each(|(l, r)| *l = f(*l, *r));
        Ok(l)
    }

    pub(super) fn vector_of(&mut self, child: NodeId, grid: StepGrid) -> Result<Frame, QueryError> {
        let mut row = Row::empty(Labels::empty(), 0);
        row.values = self.take_scalar(child)?;
        row.present = Bitmap::new(grid.steps(), true);
        Ok(Frame::new(vec![row]))
    }
}

/// The only float at each step, NaN where there is none or more.
fn to_scalar(f: &Frame, steps: usize) -> Vec<f64> {
    let mut out = vec![f64::NAN; steps];
    let mut seen = Bitmap::new(steps, false);
    for r in &f.rows {
        for i in r.present.ones() {
            if r.histogram(i).is_some() {
                continue;
            }
            out[i] = if seen.get(i) { f64::NAN } else { r.values[i] };
            seen.set(i, true);
        }
    }
    out
}
