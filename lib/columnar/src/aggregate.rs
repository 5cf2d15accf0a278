//! Samples of the coarser resolutions, in columns.

use std::sync::Arc;

use periplus_model::{CounterResetHint, FloatHistogram};

/// What became of one series' raw samples at 5 m or 1 h.
///
/// `ts` ascends strictly; each column is empty (the aggregate is not known for this series) or as long
/// as `ts`. Histograms have times of their own, for a series may turn from floats into histograms.
///
/// `counter` has resets added up: the first value is what the series' first raw value in the part
/// grew to by the end of that interval. So that the next part can be joined, `counter_first` is the
/// time and value of the part's first raw sample and `counter_last` its last *raw* value: where the
/// next part's first is not below this one's last, the difference is to be added, else all of it.
/// `histogram_first` and `histogram_last` are the same of histograms ([`HistogramTotal`] joins them).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AggregateSamples {
    /// Unix milliseconds at which each interval is said to end.
    pub ts: Vec<i64>,
    /// Raw samples in the interval.
    pub count: Vec<f64>,
    /// Their sum.
    pub sum: Vec<f64>,
    /// The smallest.
    pub min: Vec<f64>,
    /// The largest.
    pub max: Vec<f64>,
    /// The last one, resets added up.
    pub counter: Vec<f64>,
    /// Time and value of the first raw sample.
    pub counter_first: Option<(i64, f64)>,
    /// The last raw value.
    pub counter_last: Option<f64>,
    /// Intervals of native histograms, ascending in time.
    pub histograms: Vec<AggregateHistogram>,
    /// Time and value of the first histogram as it was scraped; `None` where these are no counters.
    pub histogram_first: Option<(i64, Arc<FloatHistogram>)>,
    /// The same of the last one.
    pub histogram_last: Option<(i64, Arc<FloatHistogram>)>,
}

impl AggregateSamples {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.histograms.is_empty()
    }

    /// The five columns in the order of the file.
    #[must_use]
    pub fn columns(&self) -> [&Vec<f64>; 5] {
        [&self.count, &self.sum, &self.min, &self.max, &self.counter]
    }

    /// The same, to be changed.
    pub fn columns_mut(&mut self) -> [&mut Vec<f64>; 5] {
        [&mut self.count, &mut self.sum, &mut self.min, &mut self.max, &mut self.counter]
    }
}

/// One interval of native histograms.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateHistogram {
    /// Unix milliseconds at which the interval is said to end.
    pub ts: i64,
    /// Raw samples in the interval.
    pub observations: f64,
    /// Their sum.
    pub sum: Option<Arc<FloatHistogram>>,
    /// The last one, resets added up.
    pub counter: Option<Arc<FloatHistogram>>,
}

/// Counters of native histograms, put together over parts.
///
/// In each part resets are added up from its first histogram on. From one part to the next what they
/// truly stood at tells whether there was a reset between.
#[derive(Clone, Debug, Default)]
pub struct HistogramTotal {
    /// What was scraped last, and what that is with all resets added up.
    last: Option<(FloatHistogram, FloatHistogram)>,
}

impl HistogramTotal {
    /// What is to be added to the counters of a part whose first histogram is `first`; `None`: nothing.
    #[must_use]
    pub fn offset(&self, first: &FloatHistogram) -> Option<FloatHistogram> {
        let (scraped, total) = self.last.as_ref()?;
        let mut offset = total.clone();
        if !first.detect_reset(scraped) {
            // Of another kind of buckets nothing can be taken; then it begins anew.
            offset.sub(scraped).ok()?;
        }
        offset.counter_reset_hint = CounterResetHint::NotReset;
        Some(offset)
    }

    /// Moves a counter by an offset; it is then no longer the first of anything.
    pub fn shift(counter: &mut FloatHistogram, offset: &FloatHistogram) {
        if counter.counter_reset_hint == CounterResetHint::Gauge {
            return;
        }
        if counter.add(offset).is_ok() {
            counter.counter_reset_hint = CounterResetHint::NotReset;
        }
    }

    /// Where a part ends: what was scraped last, and what that is with all resets added up.
    pub fn ended(&mut self, scraped: FloatHistogram, total: FloatHistogram) {
        self.last = Some((scraped, total));
    }
}
