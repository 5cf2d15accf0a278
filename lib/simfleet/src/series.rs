//! Series: labels, and segments of time with one law for the value in each.

use std::collections::BTreeMap;

use periplus_model::{Labels, LabelsBuilder, METRIC_NAME};

use crate::wave::Wave;

/// What the `# TYPE` line of a metric family says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until what counts is restarted.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A classic histogram: its series are named `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// The word of the text format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric family: the name, help and type that an exporter states once for all its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The metric's name (for a histogram, without the suffix).
    pub name: &'static str,
    /// What the exporter says of it.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
}

impl Family {
    pub(crate) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter }
    }

    pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge }
    }

    pub(crate) const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram }
    }
}

/// How a value follows from the time.
#[derive(Clone, Copy, Debug)]
pub struct Signal(Law);

#[derive(Clone, Copy, Debug)]
enum Law {
    Constant(f64),
    Level { wave: Wave, quantum: f64 },
    Count { wave: Wave, since_ms: i64, quantum: f64 },
    Ramp { from: (i64, f64), to: (i64, f64), quantum: f64 },
    Clock,
}

impl Signal {
    /// Always the same value.
    pub(crate) fn constant(v: f64) -> Self {
        Self(Law::Constant(v))
    }

    /// A gauge that follows a wave, in multiples of `quantum`.
    pub(crate) fn level(wave: Wave, quantum: f64) -> Self {
        Self(Law::Level { wave, quantum })
    }

    /// A counter that began at zero at `since_ms` and rises as the wave says, in multiples of
    /// `quantum`.
    pub(crate) fn count(wave: Wave, since_ms: i64, quantum: f64) -> Self {
        Self(Law::Count { wave, since_ms, quantum })
    }

    /// A gauge that climbs in a line from one point to another: a leak.
    pub(crate) fn ramp(from: (i64, f64), to: (i64, f64), quantum: f64) -> Self {
        Self(Law::Ramp { from, to, quantum })
    }

    /// The time itself, in seconds.
    pub(crate) fn clock() -> Self {
        Self(Law::Clock)
    }

    /// The value at a time in milliseconds since the epoch.
    #[must_use]
    pub fn value(&self, t_ms: i64) -> f64 {
        let t_s = t_ms as f64 / 1e3;
        // Dividing by the reciprocal keeps decimal quanta decimal: 0.1 + 0.2 has no place in an
        // exporter's output, 3 / 10 has.
        let quantized = |v: f64, q: f64| {
            if q < 1.0 {
                let per_unit = (1.0 / q).round();
                (v * per_unit).floor() / per_unit
            } else {
                (v / q).floor() * q
            }
        };
        match self.0 {
            Law::Constant(v) => v,
            Law::Level { wave, quantum } => quantized(wave.at(t_s), quantum),
            Law::Count { wave, since_ms, quantum } => {
                quantized(wave.integral(since_ms as f64 / 1e3, t_s), quantum)
            }
            Law::Ramp { from, to, quantum } => {
                let share = (t_ms - from.0) as f64 / (to.0 - from.0).max(1) as f64;
                quantized(from.1 + (to.1 - from.1) * share.clamp(0.0, 1.0), quantum)
            }
            Law::Clock => t_s,
        }
    }
}

/// A span of time over which a series exists and follows one signal.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// First millisecond.
    pub from_ms: i64,
    /// First millisecond that no longer belongs to it.
    pub until_ms: i64,
    /// What the value is in between.
    pub signal: Signal,
}

/// A series of one exporter, without the labels its scrape adds.
#[derive(Clone, Debug)]
pub struct Series {
    /// The family it belongs to.
    pub family: &'static Family,
    /// All labels, the metric's name among them.
    pub labels: Labels,
    /// In order of time, not overlapping.
    pub segments: Vec<Segment>,
}

impl Series {
    /// The value at a time, `None` while the series does not exist.
    #[must_use]
    pub fn at(&self, t_ms: i64) -> Option<f64> {
        let i = self.segments.partition_point(|s| s.until_ms <= t_ms);
        self.segments.get(i).filter(|s| s.from_ms <= t_ms).map(|s| s.signal.value(t_ms))
    }
}

/// Gathers the segments an exporter emits into series, for one range of time.
pub(crate) struct Collector {
    from_ms: i64,
    until_ms: i64,
    series: BTreeMap<(&'static str, Labels), Series>,
}

impl Collector {
    pub(crate) fn new(from_ms: i64, until_ms: i64) -> Self {
        Self { from_ms, until_ms, series: BTreeMap::new() }
    }

    pub(crate) fn range(&self) -> (i64, i64) {
        (self.from_ms, self.until_ms)
    }

    /// Adds a segment of the family's series with the given labels.
    pub(crate) fn add(
        &mut self,
        family: &'static Family,
        labels: &[(&str, &str)],
        life: (i64, i64),
        signal: Signal,
    ) {
        self.add_named(family, family.name, labels, life, signal);
    }

    /// As [`Self::add`], for the suffixed names of a histogram.
    pub(crate) fn add_named(
        &mut self,
        family: &'static Family,
        name: &str,
        labels: &[(&str, &str)],
        life: (i64, i64),
        signal: Signal,
    ) {
        let (from_ms, until_ms) = (life.0.max(self.from_ms), life.1.min(self.until_ms));
        if from_ms >= until_ms {
            return;
        }
        let mut all = LabelsBuilder::new();
        all.set(METRIC_NAME, name);
        for (n, v) in labels {
            all.set(*n, *v);
        }
        let labels = all.build();
        let series = self.series.entry((family.name, labels.clone())).or_insert_with(|| Series {
            family,
            labels,
            segments: Vec::new(),
        });
        series.segments.push(Segment { from_ms, until_ms, signal });
    }

    /// The series in order of family and labels.
    pub(crate) fn finish(self) -> Vec<Series> {
        let mut all: Vec<Series> = self.series.into_values().collect();
        for s in &mut all {
            s.segments.sort_by_key(|g| g.from_ms);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: Family = Family::gauge("x", "x");

    #[test]
    fn segments_are_clipped_ordered_and_looked_up() {
        let mut c = Collector::new(10, 50);
        c.add(&F, &[("a", "1")], (30, 60), Signal::constant(2.0));
        c.add(&F, &[("a", "1")], (0, 20), Signal::constant(1.0));
        c.add(&F, &[("a", "2")], (50, 60), Signal::constant(1.0));
        let all = c.finish();
        assert_eq!(all.len(), 1);
        let at: Vec<_> = [9, 10, 19, 20, 30, 49, 50].map(|t| all[0].at(t)).to_vec();
        assert_eq!(at, [None, Some(1.0), Some(1.0), None, Some(2.0), Some(2.0), None]);
    }

    #[test]
    fn decimals_stay_decimal() {
        let s = Signal::ramp((0, 0.0), (1000, 1.0), 0.001);
        assert_eq!(s.value(300).to_string(), "0.3");
    }
}
