//! Runs of native histograms, aggregated.

use std::sync::Arc;

use periplus_block::chunk::ChunkSamples;
use periplus_columnar::{AggregateHistogram, Resolution};
use periplus_model::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram};

use super::interval_end;

/// The histograms of one series and day, as they come.
pub(super) struct HistogramRun {
    /// The coarsest schema of the day: all are brought to it.
    schema: i32,
    /// The histogram before as it was, the same at the day's schema, and the total.
    counter: Option<(FloatHistogram, FloatHistogram, FloatHistogram)>,
    is_gauge: bool,
    open: Option<Open>,
    /// The first one as it was.
    first: Option<(i64, FloatHistogram)>,
    last_t: i64,
}

/// The interval that is being filled.
struct Open {
    end: i64,
    last_t: i64,
    observations: f64,
    sum: FloatHistogram,
}

impl HistogramRun {
    pub(super) fn new(samples: &ChunkSamples) -> Self {
        let schemas = samples.histograms.iter().filter(|(_, h)| !h.sum().is_nan());
        let schemas = schemas.map(|(_, h)| match h {
            periplus_block::chunk::HistogramValue::Integer(h) => h.schema,
            periplus_block::chunk::HistogramValue::Float(h) => h.schema,
        });
        let schema = schemas.filter(|s| *s != CUSTOM_BUCKETS_SCHEMA).min().unwrap_or(0);
        Self { schema, counter: None, is_gauge: false, open: None, first: None, last_t: 0 }
    }

    /// Takes the next histogram.
    pub(super) fn add(
        &mut self,
        t: i64,
        h: FloatHistogram,
        resolution: Resolution,
        out: &mut Vec<AggregateHistogram>,
    ) {
        self.first.get_or_insert_with(|| (t, h.clone()));
        self.last_t = t;
        let at_schema = h.to_schema(self.schema).unwrap_or_else(|| h.clone());
        let is_other_kind =
            self.counter.as_ref().is_some_and(|(before, ..)| is_custom(before) != is_custom(&h));
        if is_other_kind || self.open.as_ref().is_some_and(|open| t > open.end) {
            let ends_run = is_other_kind;
            self.close(ends_run, out);
        }
        if is_other_kind {
            self.counter = None;
        }
        if self.counter.is_none() {
            self.is_gauge = h.counter_reset_hint == CounterResetHint::Gauge;
        }
        self.count(h, &at_schema);
        match &mut self.open {
            Some(open) => {
                // Kinds are the same here, so they can be added.
                let _reconciled = open.sum.add(&at_schema);
                open.sum.counter_reset_hint = CounterResetHint::Gauge;
                open.observations += 1.0;
                open.last_t = t;
            }
            None => {
                let mut sum = at_schema;
                sum.counter_reset_hint = CounterResetHint::Gauge;
                let end = interval_end(t, resolution.ms());
                self.open = Some(Open { end, last_t: t, observations: 1.0, sum });
            }
        }
    }

    /// Adds to the total what the next histogram has more than the one before, or all of it.
    fn count(&mut self, h: FloatHistogram, at_schema: &FloatHistogram) {
        self.counter = Some(match self.counter.take() {
            None => (h, at_schema.clone(), at_schema.clone()),
            Some((before, before_at_schema, mut total)) => {
                let is_gauge = h.counter_reset_hint == CounterResetHint::Gauge;
                let mut more = at_schema.clone();
                if is_gauge || !h.detect_reset(&before) {
                    let _reconciled = more.sub(&before_at_schema);
                }
                let _reconciled = total.add(&more);
                (h, at_schema.clone(), total)
            }
        });
    }

    /// The first and the last one as they were; none of gauges.
    pub(super) fn ends(self) -> [Option<(i64, Arc<FloatHistogram>)>; 2] {
        match (self.first, self.counter) {
            (Some((t, first)), Some((last, ..))) if !self.is_gauge => {
                [Some((t, Arc::new(first))), Some((self.last_t, Arc::new(last)))]
            }
            _ => [None, None],
        }
    }

    /// Ends the run: floats follow, or nothing.
    pub(super) fn end(&mut self, out: &mut Vec<AggregateHistogram>) {
        self.close(true, out);
    }

    fn close(&mut self, ends_run: bool, out: &mut Vec<AggregateHistogram>) {
        let Some(open) = self.open.take() else { return };
        let counter = self.counter.as_ref().map(|(.., total)| {
            let mut total = total.clone();
            total.counter_reset_hint = match (self.is_gauge, out.is_empty()) {
                (true, _) => CounterResetHint::Gauge,
                (false, true) => CounterResetHint::Unknown,
                (false, false) => CounterResetHint::NotReset,
            };
            Arc::new(total)
        });
        out.push(AggregateHistogram {
            ts: if ends_run { open.last_t } else { open.end },
            observations: open.observations,
            sum: Some(Arc::new(open.sum)),
            counter,
        });
    }
}

fn is_custom(h: &FloatHistogram) -> bool {
    h.schema == CUSTOM_BUCKETS_SCHEMA
}

/// The sum of sums; `None` of none. One that can't be added to those before begins anew.
pub(super) fn sum<'a>(
    histograms: impl Iterator<Item = &'a Arc<FloatHistogram>>,
) -> Option<FloatHistogram> {
    let mut total: Option<FloatHistogram> = None;
    for h in histograms {
        match &mut total {
            Some(so_far) if is_custom(so_far) == is_custom(h) => {
                let _reconciled = so_far.add(h);
            }
            _ => total = Some(FloatHistogram::clone(h)),
        }
    }
    total.map(|mut h| {
        h.counter_reset_hint = CounterResetHint::Gauge;
        h
    })
}
