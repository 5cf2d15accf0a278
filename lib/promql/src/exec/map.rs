//! Operations on each series by itself: signs, operators with a scalar, functions of one value.

use std::sync::Arc;

use periplus_model::{FloatHistogram, METRIC_NAME};

use crate::annotations::Annotations;
use crate::exec::row::{Row, without_metadata};
use crate::functions::binop::{self, Outcome};
use crate::functions::{Point, math, time};
use crate::parse::ast::{BinaryOp, Span};
use crate::plan::MapOp;
use crate::value::StepGrid;

/// An operation with its scalar arguments, one value a step each.
#[derive(Clone, Debug)]
pub(crate) struct MapJob {
    pub(crate) op: MapOp,
    pub(crate) scalars: Vec<Arc<Vec<f64>>>,
    pub(crate) grid: StepGrid,
    pub(crate) span: Span,
    /// Whether names are dropped at the end only.
    pub(crate) delayed: bool,
}

/// Drops the name of a row now or later.
pub(crate) fn drop_name(row: &mut Row, delayed: bool) {
    if delayed {
        row.drop_name = true;
    } else {
        row.labels = without_metadata(&row.labels);
    }
}

impl MapJob {
    /// Whether rows lose their names by it.
    pub(crate) fn drops_name(&self) -> bool {
        match self.op {
            MapOp::Scalar { op, return_bool, .. } => return_bool || binop::changes_schema(op),
            _ => true,
        }
    }

    fn scalar(&self, n: usize, step: usize) -> f64 {
        self.scalars.get(n).and_then(|s| s.get(step)).copied().unwrap_or(f64::NAN)
    }

    /// Changes a row in place.
    pub(crate) fn apply(&self, row: &mut Row, annotations: &mut Annotations) {
        match self.op {
            MapOp::Negate => negate(row),
            MapOp::Scalar { op, swap, return_bool } => {
                self.with_scalar(op, swap, return_bool, row, annotations);
            }
            MapOp::Math(name) => {
                if let Some(f) = math::unary(name) {
                    floats(row, |_, v| Some(f(v)));
                }
            }
            MapOp::Date(name) => {
                if let Some(f) = time::calendar(name) {
                    floats(row, |_, v| Some(f(v)));
                }
            }
            MapOp::Round if self.scalars.is_empty() => {
                floats(row, |_, v| Some(math::round(v, 1.0)));
            }
            MapOp::Round => floats(row, |i, v| Some(math::round(v, self.scalar(0, i)))),
            MapOp::Clamp => floats(row, |i, v| {
                let (low, high) = (self.scalar(0, i), self.scalar(1, i));
                (low <= high || low.is_nan() || high.is_nan()).then(|| math::clamp(v, low, high))
            }),
            MapOp::ClampMin => {
                floats(row, |i, v| Some(math::clamp(v, self.scalar(0, i), f64::INFINITY)));
            }
            MapOp::ClampMax => {
                floats(row, |i, v| Some(math::clamp(v, f64::NEG_INFINITY, self.scalar(0, i))));
            }
            MapOp::StepTime => {
                row.hist.clear();
                floats(row, |i, _| Some(self.grid.time(i) as f64 / 1000.0));
            }
            MapOp::Nothing => {
                row.hist.clear();
                row.present.reset(row.values.len());
            }
            MapOp::Histogram(name) => histograms(row, name),
        }
        if matches!(self.op, MapOp::Histogram(_)) && !self.delayed {
            row.labels = row.labels.filter(|n| n != METRIC_NAME);
        } else if self.drops_name() {
            drop_name(row, self.delayed);
        }
    }

    fn with_scalar(
        &self,
        op: BinaryOp,
        swap: bool,
        return_bool: bool,
        row: &mut Row,
        annotations: &mut Annotations,
    ) {
        if !row.hist.is_empty() || matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
            return self.mixed_with_scalar(op, swap, return_bool, row, annotations);
        }
        let sides = |v: f64, s: f64| if swap { (s, v) } else { (v, s) };
        if op.is_comparison() {
            floats(row, |i, v| {
                let (l, r) = sides(v, self.scalar(0, i));
                let keep = binop::compares(op, l, r);
                if return_bool { Some(f64::from(u8::from(keep))) } else { keep.then_some(v) }
            });
        } else {
            floats(row, |i, v| {
                let (l, r) = sides(v, self.scalar(0, i));
                binop::arithmetic(op, l, r)
            });
        }
    }

    fn mixed_with_scalar(
        &self,
        op: BinaryOp,
        swap: bool,
        return_bool: bool,
        row: &mut Row,
        annotations: &mut Annotations,
    ) {
        let mut out = Row::empty(row.labels.clone(), row.values.len());
        out.drop_name = row.drop_name;
        for i in row.present.ones() {
            let Some(own) = row.get(i) else { continue };
            let scalar = Point::Float(self.scalar(0, i));
            let (l, r) = if swap { (&scalar, &own) } else { (&own, &scalar) };
            match binop::points(op, l, r, self.span, annotations) {
                Outcome::Value(_, keep) if return_bool => {
                    out.set_float(i, f64::from(u8::from(keep)));
                }
                Outcome::Value(_, false) => {}
                Outcome::Value(_, true) if op.is_comparison() => out.set(i, own),
                Outcome::Value(p, true) => out.set(i, p),
                Outcome::Nothing(why) => {
                    why.into_iter().for_each(|a| annotations.add(a));
                }
            }
        }
        *row = out;
    }
}

/// Applies `f` to floats; histograms go.
#[inline]
fn floats(row: &mut Row, f: impl Fn(usize, f64) -> Option<f64>) {
    for (s, _) in std::mem::take(&mut row.hist) {
        row.present.set(s as usize, false);
    }
    for i in 0..row.values.len() {
        if !row.present.get(i) {
            continue;
        }
        match f(i, row.values[i]) {
            Some(v) => row.values[i] = v,
            None => row.present.set(i, false),
        }
    }
}

fn negate(row: &mut Row) {
    for v in &mut row.values {
        *v = -*v;
    }
    for (_, h) in &mut row.hist {
        let mut negative = FloatHistogram::clone(h);
        negative.mul(-1.0);
        *h = Arc::new(negative);
    }
}

/// Applies a function of a histogram; floats go.
fn histograms(row: &mut Row, name: &str) {
    let steps = row.values.len();
    let hist = std::mem::take(&mut row.hist);
    row.present.reset(steps);
    for (s, h) in hist {
        let v = match name {
            "histogram_count" => h.count,
            "histogram_sum" => h.sum,
            "histogram_avg" => h.sum / h.count,
            "histogram_stdvar" => h.variance(),
            _ => h.standard_deviation(),
        };
        row.set_float(s as usize, v);
    }
}
