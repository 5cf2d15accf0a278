//! The newest samples of the series that rules give, in memory.
//!
//! Bounded by time (older samples leave) and by the number of series; a series that has no samples
//! left is forgotten. What leaves is written as blocks before, where a data directory is set.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::RwLock;
use periplus_model::{Labels, METRIC_NAME, Matcher, SampleBuffer, TimeRange};
use prometheus_client::metrics::gauge::Gauge;

use super::evaluate::{Point, Refused, SampleValue, Sink};

/// Series in memory.
#[derive(Debug)]
pub struct Head {
    series: RwLock<BTreeMap<Labels, SampleBuffer>>,
    series_max: usize,
    gauge: Gauge,
}

impl Head {
    /// An empty head for at most so many series; `gauge` shows how many there are.
    #[must_use]
    pub fn new(series_max: usize, gauge: Gauge) -> Self {
        Self { series: RwLock::default(), series_max, gauge }
    }

    /// The series that match, with their samples of a time.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, SampleBuffer)> {
        let all = self.series.read();
        let wanted = |l: &Labels| matchers.iter().all(|m| m.matches(l.value(&m.name)));
        let mut out = Vec::new();
        for (labels, samples) in all.iter().filter(|(l, _)| wanted(l)) {
            let mut part = SampleBuffer::default();
            part.extend_range(samples, range);
            if !part.ts.is_empty() {
                out.push((labels.clone(), part));
            }
        }
        out
    }

    /// The label sets that match and have samples in a time.
    #[must_use]
    pub fn labels(&self, matchers: &[Matcher], range: TimeRange) -> Vec<Labels> {
        let all = self.series.read();
        let wanted = |(l, s): &(&Labels, &SampleBuffer)| {
            let (first, last) = (s.ts.first().copied(), s.ts.last().copied());
            let (Some(first), Some(last)) = (first, last) else { return false };
            TimeRange::new(first, last).overlaps(&range)
                && matchers.iter().all(|m| m.matches(l.value(&m.name)))
        };
        all.iter().filter(wanted).map(|(l, _)| l.clone()).collect()
    }

    /// The names of all metrics.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.series.read().keys().map(|l| l.value(METRIC_NAME).to_owned()).collect()
    }

    /// Puts samples of a series back that are newer than what it has.
    pub fn load(&self, labels: Labels, samples: &SampleBuffer) {
        let mut all = self.series.write();
        if !all.contains_key(&labels) && all.len() >= self.series_max {
            return;
        }
        let series = all.entry(labels).or_default();
        let from = series.ts.last().map_or(i64::MIN, |t| t.saturating_add(1));
        series.extend_range(samples, TimeRange::new(from, i64::MAX));
        self.gauge.set(i64::try_from(all.len()).unwrap_or(i64::MAX));
    }

    /// The time of the oldest sample.
    #[must_use]
    pub fn oldest(&self) -> Option<i64> {
        self.series.read().values().filter_map(|s| s.ts.first().copied()).min()
    }

    /// Forgets what is older than `from_ms`.
    pub fn truncate(&self, from_ms: i64) {
        let mut all = self.series.write();
        all.retain(|_, samples| {
            if samples.ts.first().is_some_and(|t| *t < from_ms) {
                let mut kept = SampleBuffer::default();
                kept.extend_range(samples, TimeRange::new(from_ms, i64::MAX));
                *samples = kept;
            }
            !samples.ts.is_empty()
        });
        self.gauge.set(i64::try_from(all.len()).unwrap_or(i64::MAX));
    }
}

impl Sink for Head {
    fn append(&self, points: &[Point]) -> Vec<Result<(), Refused>> {
        let mut all = self.series.write();
        let mut append = |(labels, t, value): &Point| {
            let room = all.len() < self.series_max;
            if !all.contains_key(labels) {
                if !room {
                    return Err(Refused::Full);
                }
                all.insert(labels.clone(), SampleBuffer::default());
            }
            let Some(series) = all.get_mut(labels) else { return Err(Refused::Full) };
            match series.ts.last() {
                Some(last) if last > t => return Err(Refused::OutOfOrder),
                Some(last) if last == t => {
                    let at = series.ts.len() - 1;
                    let same = match (value, series.histogram_at(at)) {
                        (SampleValue::Float(v), None) => {
                            series.values.get(at).map(|x| x.to_bits()) == Some(v.to_bits())
                        }
                        (SampleValue::Histogram(a), Some(b)) => a.same_as(b),
                        _ => false,
                    };
                    return if same { Ok(()) } else { Err(Refused::Duplicate) };
                }
                _ => {}
            }
            match value {
                SampleValue::Float(v) => series.push(*t, *v),
                SampleValue::Histogram(h) => series.push_histogram(*t, h.clone()),
            }
            Ok(())
        };
        let out = points.iter().map(&mut append).collect();
        self.gauge.set(i64::try_from(all.len()).unwrap_or(i64::MAX));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, t: i64, v: f64) -> Point {
        (Labels::from_pairs([("__name__", name)]), t, SampleValue::Float(v))
    }

    #[test]
    fn appends_in_order_within_bounds_and_forgets() {
        let head = Head::new(2, Gauge::default());
        assert_eq!(head.append(&[point("a", 1, 1.0), point("b", 1, 1.0)]), [Ok(()), Ok(())]);
        assert_eq!(
            head.append(&[point("c", 1, 1.0), point("a", 0, 1.0), point("a", 1, 2.0)]),
            [Err(Refused::Full), Err(Refused::OutOfOrder), Err(Refused::Duplicate)]
        );
        assert_eq!(head.append(&[point("a", 1, 1.0), point("a", 5, 2.0)]), [Ok(()), Ok(())]);
        let found = head.select(&[Matcher::equal("__name__", "a")], TimeRange::new(2, 9));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].1.ts.as_slice(), head.oldest()), ([5].as_slice(), Some(1)));
        head.truncate(2);
        assert_eq!(head.labels(&[], TimeRange::ALL).len(), 1);
    }
}
