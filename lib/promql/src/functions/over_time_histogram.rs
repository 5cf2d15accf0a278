//! `sum_over_time` and `avg_over_time` of histograms.

use std::sync::Arc;

use periplus_model::{CounterResetHint, FloatHistogram, HistogramMean, HistogramSum};

use super::{Cx, Point, Win};
use crate::annotations::HistogramOperation::Aggregation;

/// Warns where some histograms say they begin anew and others that they don't.
fn check_hints(w: &Win<'_>, cx: &mut Cx<'_>) {
    let any = |hint| w.hv.iter().any(|h| h.counter_reset_hint == hint);
    if any(CounterResetHint::Reset) && any(CounterResetHint::NotReset) {
        cx.reset_collision();
    }
}

/// Takes in all histograms but the first.
fn fold(
    w: &Win<'_>,
    cx: &mut Cx<'_>,
    mut add: impl FnMut(
        &FloatHistogram,
    ) -> Result<periplus_model::Reconciled, periplus_model::IncompatibleBuckets>,
) -> Option<()> {
    let mut bounds = false;
    for h in w.hv.iter().skip(1) {
        match add(h) {
            Ok(r) => bounds |= r.bounds,
            Err(_) => {
                cx.mixed_exponential_custom();
                return None;
            }
        }
    }
    check_hints(w, cx);
    if bounds {
        cx.mismatched_bounds(Aggregation);
    }
    Some(())
}

pub(crate) fn sum(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    let mut total = HistogramSum::new(FloatHistogram::clone(w.hv.first()?));
    fold(w, cx, |h| total.add(h))?;
    Some(Point::Hist(Arc::new(total.finish())))
}

pub(crate) fn avg(w: &Win<'_>, cx: &mut Cx<'_>) -> Option<Point> {
    let mut mean = HistogramMean::new(FloatHistogram::clone(w.hv.first()?));
    fold(w, cx, |h| mean.add(h))?;
    Some(Point::Hist(Arc::new(mean.finish())))
}
