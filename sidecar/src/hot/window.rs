//! All series of the window, found by metric name.

use std::collections::HashMap;

use periplus_model::{FloatHistogram, Labels, METRIC_NAME, MatchOp, Matcher};
use periplus_wal::Visitor;

use super::series::{HotSeries, Pushed, Sample};

/// The newest samples of one Prometheus.
pub struct Window {
    /// How far back samples are kept, milliseconds.
    length_ms: i64,
    series: HashMap<u32, HotSeries>,
    next_id: u32,
    by_ref: HashMap<u64, u32>,
    by_labels: HashMap<Labels, u32>,
    by_name: HashMap<Box<str>, Vec<u32>>,
    covered_from: i64,
    newest_t: i64,
    /// The external labels that `HotSeries::dressed` was made with.
    dressed_with: Labels,
}

impl Window {
    /// An empty window that keeps `length_ms` milliseconds.
    #[must_use]
    pub fn new(length_ms: i64) -> Self {
        Self {
            length_ms,
            series: HashMap::new(),
            next_id: 0,
            by_ref: HashMap::new(),
            by_labels: HashMap::new(),
            by_name: HashMap::new(),
            covered_from: i64::MIN,
            newest_t: i64::MIN,
            dressed_with: Labels::empty(),
        }
    }

    /// The window holds every sample Prometheus has from this Unix millisecond on.
    #[must_use]
    pub fn covered_from(&self) -> i64 {
        self.covered_from
    }

    /// The time of the newest sample.
    #[must_use]
    pub fn newest_t(&self) -> i64 {
        self.newest_t
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

    /// Nothing before `t` is vouched for.
    pub fn raise_covered_from(&mut self, t: i64) {
        self.covered_from = self.covered_from.max(t);
    }

    /// Lets go of samples that are older than the window's length, and of series that ended long
    /// before (`forget_ms` without a sample); returns the bytes still held.
    pub fn trim(&mut self, forget_ms: i64) -> usize {
        let horizon = self.newest_t.saturating_sub(self.length_ms);
        let forget = self.newest_t.saturating_sub(forget_ms);
        self.raise_covered_from(horizon);
        let mut gone = Vec::new();
        let mut bytes = self.by_ref.len() * 24 + self.by_labels.len() * 40;
        for (id, series) in &mut self.series {
            if series.trim(horizon) && series.last_t() < forget {
                gone.push(*id);
            } else {
                bytes += series.bytes();
            }
        }
        self.remove(&gone);
        bytes
    }

    fn remove(&mut self, ids: &[u32]) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            if let Some(series) = self.series.remove(id) {
                self.by_labels.remove(&series.labels);
            }
        }
        let series = &self.series;
        self.by_ref.retain(|_, id| series.contains_key(id));
        for list in self.by_name.values_mut() {
            list.retain(|id| series.contains_key(id));
        }
        self.by_name.retain(|_, list| !list.is_empty());
    }

    /// The series that may match: those of one metric where a matcher says which, else all.
    pub(super) fn candidates(&self, matchers: &[Matcher]) -> Vec<u32> {
        let name = matchers.iter().find(|m| &*m.name == METRIC_NAME && m.op == MatchOp::Equal);
        match name {
            Some(m) if !m.value.is_empty() => {
                self.by_name.get(&*m.value).cloned().unwrap_or_default()
            }
            _ => {
                let mut all: Vec<u32> = self.series.keys().copied().collect();
                all.sort_unstable();
                all
            }
        }
    }

    /// A series.
    pub(super) fn get(&self, id: u32) -> Option<&HotSeries> {
        self.series.get(&id)
    }

    /// Makes sure that `dressed` labels are those with `external` put on.
    pub(super) fn dress(&mut self, external: &Labels, ids: &[u32]) {
        if self.dressed_with != *external {
            self.dressed_with = external.clone();
            for series in self.series.values_mut() {
                series.dressed = None;
            }
        }
        for id in ids {
            if let Some(series) = self.series.get_mut(id)
                && series.dressed.is_none()
            {
                let both = series.labels.iter().chain(external.iter());
                series.dressed = Some(Labels::from_pairs(both));
            }
        }
    }

    /// Whether all of `ids` are dressed with `external`.
    pub(super) fn is_dressed(&self, external: &Labels, ids: &[u32]) -> bool {
        self.dressed_with == *external
            && ids.iter().all(|id| self.series.get(id).is_none_or(|s| s.dressed.is_some()))
    }

    fn push(&mut self, reference: u64, start_ms: i64, t: i64, sample: Sample) {
        let series = self.by_ref.get(&reference).and_then(|id| self.series.get_mut(id));
        let Some(series) = series else {
            self.raise_covered_from(t.saturating_add(1));
            return;
        };
        if t < self.newest_t.saturating_sub(self.length_ms) {
            // Too old to keep; remembered by the series only as the time of its newest sample.
            return;
        }
        match series.push(start_ms, t, sample) {
            Pushed::Taken => self.newest_t = self.newest_t.max(t),
            Pushed::Double => {}
            Pushed::OutOfOrder => self.raise_covered_from(t.saturating_add(1)),
        }
    }
}

impl Visitor for Window {
    fn series(&mut self, series: u64, labels: Labels) {
        if let Some(id) = self.by_labels.get(&labels) {
            self.by_ref.insert(series, *id);
            return;
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.by_ref.insert(series, id);
        self.by_labels.insert(labels.clone(), id);
        let name = labels.metric_name().unwrap_or("");
        self.by_name.entry(name.into()).or_default().push(id);
        self.series.insert(id, HotSeries::new(labels));
    }

    fn sample(&mut self, series: u64, start_ms: i64, t_ms: i64, value: f64) {
        self.push(series, start_ms, t_ms, Sample::Float(value));
    }

    fn histogram(&mut self, series: u64, start_ms: i64, t_ms: i64, histogram: FloatHistogram) {
        self.push(series, start_ms, t_ms, Sample::Histogram(histogram));
    }

    fn tombstone(&mut self, _series: u64, _min_ms: i64, max_ms: i64) {
        self.raise_covered_from(max_ms.min(self.newest_t).saturating_add(1));
    }
}
