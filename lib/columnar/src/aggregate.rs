//! Samples of the coarser resolutions, in columns.

use std::sync::Arc;

use periplus_model::FloatHistogram;

/// What became of one series' raw samples at 5 m or 1 h.
///
/// `ts` ascends strictly; each column is empty (the aggregate is not known for this series) or as long
/// as `ts`. Histograms have times of their own, for a series may turn from floats into histograms.
///
/// `counter` has resets added up: the first value is what the series' first raw value in the part
/// grew to by the end of that interval. So that the next part can be joined, `counter_first` is the
/// time and value of the part's first raw sample and `counter_last` its last *raw* value: where the
/// next part's first is not below this one's last, the difference is to be added, else all of it.
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
