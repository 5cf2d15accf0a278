//! A series of results while a query runs, and many of them.

use std::sync::Arc;

use periplus_model::{FloatHistogram, Labels};

use crate::engine::QueryError;
use crate::functions::Point;
use crate::limits::Charge;
use crate::value::{Bitmap, StepGrid, StepMatrix, StepSeries};

/// The labels that say what a metric is: dropped together with its name.
pub(crate) fn is_metadata(name: &str) -> bool {
    matches!(name, "__name__" | "__type__" | "__unit__")
}

/// Labels less the name, type and unit.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    if labels.iter().any(|(n, _)| is_metadata(n)) {
        labels.filter(|n| !is_metadata(n))
    } else {
        labels.clone()
    }
}

/// One series over a grid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    /// Whether the name is to be dropped at the end (delayed name removal).
    pub(crate) drop_name: bool,
    /// One a step; meaningless where not present or where a histogram stands.
    pub(crate) values: Vec<f64>,
    pub(crate) present: Bitmap,
    /// In order of step.
    pub(crate) hist: Vec<(u32, Arc<FloatHistogram>)>,
}

impl Row {
    pub(crate) fn empty(labels: Labels, steps: usize) -> Self {
        Self {
            labels,
            drop_name: false,
            values: vec![0.0; steps],
            present: Bitmap::new(steps, false),
            hist: Vec::new(),
        }
    }

    /// Makes it an empty row of `steps` steps, keeping the memory.
    pub(crate) fn reset(&mut self, steps: usize) {
        self.values.clear();
        self.values.resize(steps, 0.0);
        self.present.reset(steps);
        self.hist.clear();
        self.drop_name = false;
    }

    #[inline]
    pub(crate) fn set_float(&mut self, step: usize, v: f64) {
        if let Some(slot) = self.values.get_mut(step) {
            *slot = v;
            self.present.set(step, true);
        }
    }

    /// Sets the steps from `from` up to before `to` to one value.
    pub(crate) fn set_floats(&mut self, from: usize, to: usize, v: f64) {
        if let Some(slots) = self.values.get_mut(from..to) {
            slots.fill(v);
            self.present.set_range(from, to);
        }
    }

    /// Sets a histogram; steps must come in ascending order.
    pub(crate) fn push_histogram(&mut self, step: usize, h: Arc<FloatHistogram>) {
        self.hist.push((step as u32, h));
        self.present.set(step, true);
    }

    pub(crate) fn set(&mut self, step: usize, p: Point) {
        match p {
            Point::Float(v) => self.set_float(step, v),
            Point::Hist(h) => self.push_histogram(step, h),
        }
    }

    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        if self.hist.is_empty() {
            return None;
        }
        let at = self.hist.binary_search_by_key(&(step as u32), |(s, _)| *s).ok()?;
        self.hist.get(at).map(|(_, h)| h)
    }

    pub(crate) fn get(&self, step: usize) -> Option<Point> {
        if !self.present.get(step) {
            return None;
        }
        if let Some(h) = self.histogram(step) {
            return Some(Point::Hist(Arc::clone(h)));
        }
        self.values.get(step).map(|v| Point::Float(*v))
    }

    /// Samples it counts for, as Prometheus weighs histograms.
    pub(crate) fn points(&self) -> u64 {
        let heavy: usize = self.hist.iter().map(|(_, h)| histogram_weight(h) - 1).sum();
        (self.present.count() + heavy) as u64
    }

    /// Bytes held; histograms as if they were shared with nobody.
    pub(crate) fn bytes(&self) -> u64 {
        let hist: usize = self.hist.iter().map(|(_, h)| 16 + h.bytes()).sum();
        (self.values.capacity() * 8 + self.present.len() / 8 + self.labels.heap_bytes() + hist + 96)
            as u64
    }

    /// Adds what `other` has at steps where this one has nothing.
    ///
    /// # Errors
    /// Both have something at a step.
    pub(crate) fn merge(&mut self, other: Self) -> Result<(), QueryError> {
        if self.present.overlaps(&other.present) {
            return Err(QueryError::same_labelset());
        }
        for i in other.present.ones() {
            if let (Some(to), Some(from)) = (self.values.get_mut(i), other.values.get(i)) {
                *to = *from;
            }
        }
        self.present.union_with(&other.present);
        if !other.hist.is_empty() {
            self.hist.extend(other.hist);
            self.hist.sort_by_key(|(s, _)| *s);
        }
        Ok(())
    }

    /// Removes steps that are not set in `keep`.
    pub(crate) fn keep_steps(&mut self, keep: &Bitmap) {
        self.present.intersect_with(keep);
        self.hist.retain(|(s, _)| keep.get(*s as usize));
    }

    pub(crate) fn into_series(self) -> StepSeries {
        StepSeries {
            labels: self.labels,
            values: self.values,
            present: self.present,
            histograms: self.hist,
        }
    }
}

/// How many floats a histogram counts for.
pub(crate) fn histogram_weight(h: &FloatHistogram) -> usize {
    (h.prometheus_size() + 8) / 16
}

/// The value of a vector expression.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) rows: Vec<Row>,
    /// Whether the order of rows is part of the result.
    pub(crate) ordered: bool,
    /// The memory it is counted for.
    pub(crate) charge: Option<Charge>,
}

impl Frame {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { rows, ordered: false, charge: None }
    }

    pub(crate) fn points(&self) -> u64 {
        self.rows.iter().map(Row::points).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.rows.iter().map(Row::bytes).sum()
    }

    /// Makes rows of equal labels one.
    ///
    /// # Errors
    /// Two of them have something at the same step.
    pub(crate) fn merge_equal(&mut self) -> Result<(), QueryError> {
        let mut first: ahash::AHashMap<Labels, usize> =
            ahash::AHashMap::with_capacity(self.rows.len());
        let doubles =
            self.rows.iter().enumerate().any(|(i, r)| first.insert(r.labels.clone(), i).is_some());
        if !doubles {
            return Ok(());
        }
        first.clear();
        let mut out: Vec<Row> = Vec::with_capacity(self.rows.len());
        for row in std::mem::take(&mut self.rows) {
            match first.get(&row.labels).and_then(|i| out.get_mut(*i)) {
                Some(known) => known.merge(row)?,
                None => {
                    first.insert(row.labels.clone(), out.len());
                    out.push(row);
                }
            }
        }
        self.rows = out;
        Ok(())
    }

    /// Whether two rows have equal labels.
    pub(crate) fn has_doubles(&self) -> bool {
        let mut seen = ahash::AHashSet::with_capacity(self.rows.len());
        self.rows.iter().any(|r| !seen.insert(&r.labels))
    }

    pub(crate) fn drop_empty(&mut self) {
        self.rows.retain(|r| r.present.any());
    }

    pub(crate) fn into_matrix(self, grid: StepGrid) -> StepMatrix {
        StepMatrix { grid, series: self.rows.into_iter().map(Row::into_series).collect() }
    }
}

/// The value of a node.
#[derive(Debug)]
pub(crate) enum Val {
    /// One number a step.
    Scalar(Vec<f64>),
    Vector(Frame),
    Text(String),
    /// A range, at one step.
    Range(Vec<(Labels, periplus_model::SampleBuffer)>),
}
