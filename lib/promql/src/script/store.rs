//! Samples in memory, handed out as Prometheus's storage would.

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_model::{CounterResetHint, FloatHistogram, Labels, SampleBuffer, is_stale};

use super::load::Load;
use crate::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};

/// A sample to load.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// Unix milliseconds.
    pub(super) t: i64,
    /// Start timestamp, 0 for none.
    pub(super) start: i64,
    /// The float, where there is no histogram.
    pub(super) value: f64,
    /// The histogram.
    pub(super) histogram: Option<Arc<FloatHistogram>>,
}

/// A sample that can't be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It is not later than what the series has, and not the same.
    #[error("out of order: {series} has a sample at {last_ms} ms already, next came {t_ms} ms")]
    OutOfOrder {
        /// The series.
        series: String,
        /// Its last sample.
        last_ms: i64,
        /// The new one.
        t_ms: i64,
    },
}

/// Series in memory, as a [`Source`] for the engine.
///
/// Histograms get the counter reset hints that Prometheus's chunks would give them: within a run of
/// histograms that only grow "not reset", at the start of each run "unknown", gauges "gauge". What
/// the loaded histogram says only decides where a run ends. And as in a chunk, all histograms of a run
/// have the same buckets, empty ones where others of the run are populated.
#[derive(Clone, Debug, Default)]
pub struct Store {
    series: BTreeMap<Labels, Series>,
}

#[derive(Clone, Debug, Default)]
struct Series {
    samples: Arc<SampleBuffer>,
    /// The histogram that the current run ends with.
    last: Option<Arc<FloatHistogram>>,
    /// Where the current run begins among the histograms, and its buckets, all empty.
    run: usize,
    layout: FloatHistogram,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.series.clear();
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Appends a float to a series.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn push(&mut self, labels: &Labels, t_ms: i64, value: f64) -> Result<(), StoreError> {
        self.append(labels, &Sample { t: t_ms, start: 0, value, histogram: None })
    }

    /// Appends a histogram to a series.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn push_histogram(
        &mut self,
        labels: &Labels,
        t_ms: i64,
        histogram: Arc<FloatHistogram>,
    ) -> Result<(), StoreError> {
        let histogram = Some(histogram);
        self.append(labels, &Sample { t: t_ms, start: 0, value: 0.0, histogram })
    }

    pub(super) fn load(&mut self, load: &Load) -> Result<(), StoreError> {
        for (labels, samples) in &load.series {
            for sample in samples {
                self.append(labels, sample)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, labels: &Labels, sample: &Sample) -> Result<(), StoreError> {
        if !self.series.contains_key(labels) {
            self.series.insert(labels.clone(), Series::default());
        }
        let Some(series) = self.series.get_mut(labels) else { return Ok(()) };
        if let Some(last) = series.samples.ts.last().copied().filter(|last| sample.t <= *last) {
            if series.has(sample) {
                return Ok(());
            }
            let (series, t_ms) = (format!("{labels:?}"), sample.t);
            return Err(StoreError::OutOfOrder { series, last_ms: last, t_ms });
        }
        series.append(sample);
        Ok(())
    }
}

impl Series {
    fn has(&self, sample: &Sample) -> bool {
        let Ok(at) = self.samples.ts.binary_search(&sample.t) else { return false };
        match (&sample.histogram, self.samples.histogram_at(at)) {
            (Some(a), Some(b)) => a.same_as(b),
            (None, None) => {
                self.samples.values.get(at).map(|v| v.to_bits()) == Some(sample.value.to_bits())
            }
            _ => false,
        }
    }

    fn append(&mut self, sample: &Sample) {
        let histogram = match &sample.histogram {
            Some(h) => Some(Arc::clone(h)),
            // The stale marker takes the form of the samples before it.
            None if is_stale(sample.value) && self.last.is_some() => {
                Some(Arc::new(FloatHistogram { sum: sample.value, ..FloatHistogram::default() }))
            }
            None => None,
        };
        let buffer = Arc::make_mut(&mut self.samples);
        match histogram {
            None => {
                self.last = None;
                buffer.push(sample.t, sample.value);
            }
            Some(h) => {
                let (hint, continues) = next_hint(self.last.as_deref(), &h);
                let mut stored = (*h).clone();
                stored.counter_reset_hint = hint;
                if !continues {
                    self.run = buffer.histograms.len();
                    self.layout = emptied(&h);
                }
                if !is_stale(h.sum) {
                    join_layout(&mut self.layout, &mut stored, buffer, self.run);
                }
                buffer.push_histogram(sample.t, Arc::new(stored));
                // A stale marker within a gauge's run leaves the run a gauge's.
                let mut last = (*h).clone();
                last.counter_reset_hint = match hint {
                    CounterResetHint::Gauge => hint,
                    _ => CounterResetHint::Unknown,
                };
                self.last = Some(Arc::new(last));
            }
        }
        if sample.start != 0 {
            buffer.set_last_start(sample.start);
        }
    }
}

/// The buckets of a histogram, all empty.
fn emptied(h: &FloatHistogram) -> FloatHistogram {
    FloatHistogram {
        zero_count: 0.0,
        count: 0.0,
        sum: 0.0,
        positive_buckets: vec![0.0; h.positive_buckets.len()],
        negative_buckets: vec![0.0; h.negative_buckets.len()],
        ..h.clone()
    }
}

/// Gives the next histogram of a run the buckets of the run, and the run those that it brings.
fn join_layout(
    layout: &mut FloatHistogram,
    next: &mut FloatHistogram,
    buffer: &mut SampleBuffer,
    run: usize,
) {
    let same = |a: &FloatHistogram, b: &FloatHistogram| {
        a.positive_spans == b.positive_spans && a.negative_spans == b.negative_spans
    };
    if same(layout, next) {
        return;
    }
    let widen = |h: &mut FloatHistogram, by: &FloatHistogram| {
        let hint = h.counter_reset_hint;
        // Empty buckets of one schema can always be added.
        let _ = h.add(by);
        h.counter_reset_hint = hint;
    };
    let before = layout.clone();
    widen(layout, &emptied(next));
    widen(next, layout);
    if !same(layout, &before) {
        for (_, h) in buffer.histograms.iter_mut().skip(run).filter(|(_, h)| !is_stale(h.sum)) {
            widen(Arc::make_mut(h), layout);
        }
    }
}

/// The hint a histogram is read back with after `last` (whose hint says only whether the run is one
/// of gauges), and whether it continues the run.
fn next_hint(last: Option<&FloatHistogram>, next: &FloatHistogram) -> (CounterResetHint, bool) {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    let is_gauge = next.counter_reset_hint == Gauge;
    let begins = (if is_gauge { Gauge } else { Unknown }, false);
    let Some(last) = last else { return begins };
    let same_layout = last.schema == next.schema
        && last.zero_threshold == next.zero_threshold
        && last.custom_values == next.custom_values
        && !is_stale(last.sum);
    if last.counter_reset_hint == Gauge {
        return if is_stale(next.sum) || (is_gauge && same_layout) {
            (Gauge, true)
        } else {
            begins
        };
    }
    if is_gauge || next.counter_reset_hint == Reset {
        return begins;
    }
    if is_stale(next.sum) {
        return (NotReset, true);
    }
    let mut plain = next.clone();
    plain.counter_reset_hint = Unknown;
    if !same_layout || plain.detect_reset(last) { begins } else { (NotReset, true) }
}

impl Source for Store {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let matching =
            |labels: &Labels| request.matchers.iter().all(|m| m.matches(labels.value(&m.name)));
        let found: Vec<SeriesEntry> = self
            .series
            .iter()
            .filter(|(labels, _)| matching(labels))
            .map(|(labels, s)| {
                let samples: Arc<SampleBuffer> = Arc::clone(&s.samples);
                SeriesEntry { labels: labels.clone(), samples }
            })
            .collect();
        Ok(Box::new(Blocks { rest: found.into_iter() }))
    }
}

/// Series in a block: few, so that small scripts too go through the merging of blocks.
const BLOCK: usize = 3;

struct Blocks {
    rest: std::vec::IntoIter<SeriesEntry>,
}

impl SeriesStream for Blocks {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        let block: Vec<SeriesEntry> = self.rest.by_ref().take(BLOCK).collect();
        Ok((!block.is_empty()).then_some(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use periplus_model::stale_nan;

    #[test]
    fn hints_are_those_of_chunks() {
        use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
        let series = Labels::from_pairs([("__name__", "h")]);
        let mut store = Store::new();
        let steps = [
            (Some(1.0), Unknown, Unknown),
            (Some(2.0), Unknown, NotReset),
            (Some(1.0), Unknown, Unknown),
            (Some(3.0), Reset, Unknown),
            (Some(4.0), NotReset, NotReset),
            (Some(4.0), Gauge, Gauge),
            (Some(5.0), Unknown, Unknown),
            (None, Unknown, Unknown),
            (Some(6.0), Unknown, Unknown),
            (Some(stale_nan()), Unknown, NotReset),
            (Some(7.0), Unknown, Unknown),
        ];
        for (t, (count, hint, _)) in (0i64..).zip(steps) {
            match count {
                None => store.push(&series, t, 1.0).unwrap(),
                Some(count) => {
                    let (count, sum) = if count.is_nan() { (0.0, count) } else { (count, 1.0) };
                    let h = FloatHistogram {
                        count,
                        sum,
                        counter_reset_hint: hint,
                        ..Default::default()
                    };
                    store.push_histogram(&series, t, Arc::new(h)).unwrap();
                }
            }
        }
        let got = &store.series[&series].samples;
        for (i, (count, _, want)) in steps.iter().enumerate() {
            let hint = got.histogram_at(i).map(|h| h.counter_reset_hint);
            assert_eq!(hint, count.map(|_| *want), "sample {i}");
        }
        // The first two share their buckets.
        let h = |text: &str| Arc::new(super::super::literal::split(text).unwrap().0.histogram);
        let other = Labels::from_pairs([("__name__", "o")]);
        store.push_histogram(&other, 0, h("{{count:1 buckets:[1]}}")).unwrap();
        store.push_histogram(&other, 1, h("{{count:2 offset:-1 buckets:[1 1]}}")).unwrap();
        store.push_histogram(&other, 2, h("{{count:2 offset:3 buckets:[2]}}")).unwrap();
        let buckets: Vec<Vec<f64>> = store.series[&other]
            .samples
            .histograms
            .iter()
            .map(|(_, h)| h.positive_buckets.clone())
            .collect();
        assert_eq!(buckets, [vec![0.0, 1.0], vec![1.0, 1.0], vec![2.0]]);
        assert!(store.push(&series, 10, 1.0).is_err());
        assert!(store.push(&series, 7, 1.0).is_ok());
        store.push(&series, 11, 1.0).unwrap();
    }
}
