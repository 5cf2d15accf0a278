//! `irate` and `idelta`: the change between the last two samples.

use std::sync::Arc;

use periplus_model::{CounterResetHint, FloatHistogram};

use super::rate::is_start_reset;
use super::{Cx, Point, Win, is_gauge};
use crate::annotations::HistogramOperation::Subtraction;

#[derive(Clone, Copy)]
struct Last<'a> {
    t: i64,
    start: i64,
    float: f64,
    histogram: Option<&'a FloatHistogram>,
}

/// The last two samples, floats and histograms together.
fn last_two<'a>(w: &Win<'a>) -> Option<(Last<'a>, Last<'a>)> {
    let mut all: Vec<Last<'a>> = Vec::with_capacity(4);
    for i in w.fv.len().saturating_sub(2)..w.fv.len() {
        let start = w.fst.get(i).copied().unwrap_or(0);
        all.push(Last { t: w.ft[i], start, float: w.fv[i], histogram: None });
    }
    for i in w.hv.len().saturating_sub(2)..w.hv.len() {
        let start = w.hst.get(i).copied().unwrap_or(0);
        all.push(Last { t: w.ht[i], start, float: 0.0, histogram: Some(&w.hv[i]) });
    }
    all.sort_by_key(|l| l.t);
    let second = all.pop()?;
    Some((all.pop()?, second))
}

pub(crate) fn last_change(w: &Win<'_>, counter: bool, cx: &mut Cx<'_>) -> Option<Point> {
    let (a, b) = last_two(w)?;
    let interval = b.t - a.t;
    if interval == 0 {
        return None;
    }
    let seconds = interval as f64 / 1000.0;
    let restarted = is_start_reset(a.start, a.t, b.start, b.t);
    match (a.histogram, b.histogram) {
        (None, None) => {
            let reset = counter && (b.float < a.float || restarted);
            let change = if reset { b.float } else { b.float - a.float };
            Some(Point::Float(if counter { change / seconds } else { change }))
        }
        (Some(ha), Some(hb)) => {
            if counter && (is_gauge(ha) || is_gauge(hb)) {
                cx.not_counter();
            }
            if !(counter || is_gauge(ha) && is_gauge(hb)) {
                cx.not_gauge();
            }
            let mut result = hb.clone();
            if !counter || !(restarted || hb.detect_reset(ha)) {
                match result.sub(ha) {
                    Ok(r) if r.bounds => cx.mismatched_bounds(Subtraction),
                    Ok(_) => {}
                    Err(_) => {
                        cx.mixed_exponential_custom();
                        return None;
                    }
                }
            }
            result.counter_reset_hint = CounterResetHint::Gauge;
            result.compact(0);
            if counter {
                result.div(seconds);
            }
            Some(Point::Hist(Arc::new(result)))
        }
        _ => {
            cx.mixed_floats_histograms();
            None
        }
    }
}
