//! The samples of one series as range functions want them: floats and histograms apart, without
//! stale markers.

use std::sync::Arc;

use periplus_model::{CounterResetHint, FloatHistogram, SampleBuffer, is_stale};

use crate::exec::row::Row;
use crate::value::StepGrid;

/// Floats and histograms in order of time. Start timestamps are empty when none is known.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) ft: Vec<i64>,
    pub(crate) fv: Vec<f64>,
    pub(crate) fst: Vec<i64>,
    pub(crate) ht: Vec<i64>,
    pub(crate) hv: Vec<Arc<FloatHistogram>>,
    pub(crate) hst: Vec<i64>,
}

impl Samples {
    fn clear(&mut self) {
        self.ft.clear();
        self.fv.clear();
        self.fst.clear();
        self.ht.clear();
        self.hv.clear();
        self.hst.clear();
    }

    /// Takes the samples out of a decoded buffer, which gets this one's memory in exchange.
    pub(crate) fn take(&mut self, buf: &mut SampleBuffer, starts: bool) {
        self.clear();
        // A count without branches looks at several values at a time.
        let stale: usize = buf.values.iter().map(|v| usize::from(is_stale(*v))).sum();
        if buf.histograms.is_empty() && stale == 0 {
            std::mem::swap(&mut self.ft, &mut buf.ts);
            std::mem::swap(&mut self.fv, &mut buf.values);
            if starts {
                std::mem::swap(&mut self.fst, &mut buf.start_ts);
            }
            return;
        }
        let starts = starts && !buf.start_ts.is_empty();
        let mut histograms = buf.histograms.drain(..).peekable();
        for i in 0..buf.ts.len() {
            let start = buf.start_ts.get(i).copied().unwrap_or(0);
            match histograms.next_if(|(at, _)| *at as usize == i) {
                Some((_, h)) => {
                    if is_stale(h.sum) {
                        continue;
                    }
                    self.ht.push(buf.ts[i]);
                    self.hv.push(h);
                    if starts {
                        self.hst.push(start);
                    }
                }
                None if is_stale(buf.values[i]) => {}
                None => {
                    self.ft.push(buf.ts[i]);
                    self.fv.push(buf.values[i]);
                    if starts {
                        self.fst.push(start);
                    }
                }
            }
        }
    }

    /// Takes the points of a subquery's series. What histograms say of resets was about other
    /// neighbours and is forgotten.
    pub(crate) fn take_points(&mut self, row: &Row, grid: StepGrid) {
        self.clear();
        let mut hist = row.hist.iter().peekable();
        for i in row.present.ones() {
            if let Some((_, h)) = hist.next_if(|(s, _)| *s as usize == i) {
                self.ht.push(grid.time(i));
                self.hv.push(forget_reset(h));
            } else {
                self.ft.push(grid.time(i));
                self.fv.push(row.values.get(i).copied().unwrap_or(f64::NAN));
            }
        }
    }
}

/// Leaves only count and sum of histograms; what their buckets tell of resets becomes a hint.
pub(crate) fn drop_buckets<'a>(all: impl Iterator<Item = &'a mut Arc<FloatHistogram>>) {
    // The one before keeps its buckets until it has been compared with.
    let mut prev: Option<&mut Arc<FloatHistogram>> = None;
    for h in all {
        let hint = match (prev.as_deref(), h.counter_reset_hint) {
            (Some(p), CounterResetHint::Unknown) if h.detect_reset(p) => CounterResetHint::Reset,
            (Some(_), CounterResetHint::Unknown) => CounterResetHint::NotReset,
            (_, known) => known,
        };
        // What is said of a reset before it is of no matter to the one behind it.
        let known = h.counter_reset_hint == hint;
        match Arc::get_mut(h) {
            _ if known => {}
            Some(own) => own.counter_reset_hint = hint,
            None => {
                let whole = FloatHistogram { counter_reset_hint: hint, ..FloatHistogram::clone(h) };
                *h = Arc::new(whole);
            }
        }
        if is_stale(h.sum) {
            count_and_sum(h);
        } else if let Some(done) = prev.replace(h) {
            count_and_sum(done);
        }
    }
    if let Some(last) = prev {
        count_and_sum(last);
    }
}

/// Takes out everything but count, sum, schema and hint; in place where nobody else holds it.
fn count_and_sum(h: &mut Arc<FloatHistogram>) {
    if Arc::get_mut(h).is_none() {
        *h = Arc::new(FloatHistogram {
            counter_reset_hint: h.counter_reset_hint,
            schema: h.schema,
            count: h.count,
            sum: h.sum,
            ..FloatHistogram::default()
        });
    }
    let Some(own) = Arc::get_mut(h) else { return };
    own.zero_threshold = 0.0;
    own.zero_count = 0.0;
    own.positive_spans.clear();
    own.negative_spans.clear();
    own.positive_buckets.clear();
    own.negative_buckets.clear();
    own.custom_values.clear();
}

fn forget_reset(h: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match h.counter_reset_hint {
        CounterResetHint::Reset | CounterResetHint::NotReset => Arc::new(FloatHistogram {
            counter_reset_hint: CounterResetHint::Unknown,
            ..FloatHistogram::clone(h)
        }),
        _ => Arc::clone(h),
    }
}
