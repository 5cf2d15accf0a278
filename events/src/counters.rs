//! Events as metrics: `periplus_events_total{cluster,namespace,reason,type,kind}`.
//!
//! A counter rises by how much an event's count rises, so a repeated event is counted as often as it happened and a
//! batch that is sent again is not counted again. Each series keeps the times at which it changed, which is
//! enough to answer with samples at any step; all of it is written to the bucket with the number of the last event
//! counted, and the log is counted on from there, so that a crash neither loses nor doubles and no counter falls.
//!
//! Bounded: beyond a number of series, new combinations are counted with kind, reason and namespace `other`; beyond a number of
//! changes the oldest half of each series is thinned out.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::store::files::{Files, FilesError};

/// The metric's name.
pub const METRIC: &str = "periplus_events_total";
/// Changes of one series within this time are one.
const STEP_MS: i64 = 15_000;
/// Changes kept of all series together.
const POINTS_MAX: usize = 4_000_000;
/// The largest object read back.
const OBJECT_BYTES_MAX: u64 = 256 << 20;
/// The largest state, decompressed.
const STATE_BYTES_MAX: usize = 1 << 30;

/// What a series is told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The cluster.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// The reason.
    pub reason: String,
    /// The type.
    #[serde(rename = "type")]
    pub type_: String,
    /// The kind of the object.
    pub kind: String,
}

impl Key {
    /// That of an event.
    #[must_use]
    pub fn new(event: &Event) -> Self {
        Self {
            cluster: event.cluster.clone(),
            namespace: event.namespace.clone(),
            reason: event.reason.clone(),
            type_: event.type_.clone(),
            kind: event.kind.clone(),
        }
    }

    fn other(&self) -> Self {
        let other = || "other".to_owned();
        let type_ = match self.type_.as_str() {
            "Normal" | "Warning" => self.type_.clone(),
            _ => other(),
        };
        Self {
            cluster: self.cluster.clone(),
            namespace: other(),
            reason: other(),
            type_,
            kind: other(),
        }
    }

    /// Labels as name and value, by name.
    #[must_use]
    pub fn labels(&self) -> [(&'static str, &str); 5] {
        [
            ("cluster", &self.cluster),
            ("kind", &self.kind),
            ("namespace", &self.namespace),
            ("reason", &self.reason),
            ("type", &self.type_),
        ]
    }
}

/// One series: the total after each change, by time in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Series {
    points: Vec<(i64, u64)>,
}

impl Series {
    fn total(&self) -> u64 {
        self.points.last().map_or(0, |p| p.1)
    }

    /// Gives how many points it has more.
    fn add(&mut self, n: u64, at_ms: i64) -> usize {
        let at = at_ms.div_euclid(STEP_MS) * STEP_MS + STEP_MS;
        let total = self.total().saturating_add(n);
        match self.points.last_mut() {
            Some(last) if last.0 >= at => {
                last.1 = total;
                0
            }
            Some(_) => {
                self.points.push((at, total));
                1
            }
            None => {
                // A counter begins at zero, or its first increase could not be seen.
                self.points.push((at - STEP_MS, 0));
                self.points.push((at, total));
                2
            }
        }
    }

    /// Leaves out every other of the older half of the changes.
    fn thin(&mut self) {
        let half = self.points.len() / 2;
        let mut n = 0;
        self.points.retain(|_| {
            n += 1;
            n > half || n % 2 == 1
        });
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    through_id: i64,
    series: Vec<(Key, Series)>,
}

#[derive(Debug, Default)]
struct Inner {
    series: HashMap<Key, Series>,
    points: usize,
    through_id: i64,
    /// Series at most in one cluster, so that one can't take all the room.
    of_cluster: HashMap<String, usize>,
}

/// The counters.
#[derive(Debug)]
pub struct Counters {
    inner: Mutex<Inner>,
    series_max: usize,
}

/// A series of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// What it counts.
    pub key: Key,
    /// Time in milliseconds and total.
    pub samples: Vec<(i64, u64)>,
}

impl Counters {
    /// Reads what was written; nothing is a fresh start.
    ///
    /// # Errors
    /// The bucket does not answer. (Damage is a fresh start: counters may begin again.)
    pub async fn load(files: &Files, series_max: usize) -> Result<Self, FilesError> {
        let key = files.key("counters.json.zst")?;
        let state = match files.bucket().get(&key, OBJECT_BYTES_MAX).await? {
            None => State::default(),
            Some((bytes, _)) => {
                let zstd = crate::wire::Encoding::Zstd;
                let json = crate::wire::decompress(&bytes, zstd, STATE_BYTES_MAX);
                let read = json.map_err(|e| e.to_string()).and_then(|json| {
                    serde_json::from_slice::<State>(&json).map_err(|e| e.to_string())
                });
                read.unwrap_or_else(|error| {
                    tracing::error!(
                        error,
                        "counters of events begin again: what was written can't be read"
                    );
                    State::default()
                })
            }
        };
        let mut inner = Inner { through_id: state.through_id, ..Inner::default() };
        for (key, series) in state.series {
            inner.points += series.points.len();
            *inner.of_cluster.entry(key.cluster.clone()).or_default() += 1;
            inner.series.insert(key, series);
        }
        Ok(Self { inner: Mutex::new(inner), series_max })
    }

    /// Counts `n` more at a time in microseconds.
    pub fn add(&self, key: Key, n: u64, at_us: i64) {
        let mut inner = self.inner.lock();
        let full = inner.series.len() >= self.series_max
            || inner.of_cluster.get(&key.cluster).is_some_and(|n| *n >= self.series_max / 4);
        let key = if full && !inner.series.contains_key(&key) { key.other() } else { key };
        if !inner.series.contains_key(&key) {
            *inner.of_cluster.entry(key.cluster.clone()).or_default() += 1;
        }
        let more = inner.series.entry(key).or_default().add(n, at_us / 1000);
        inner.points += more;
        if inner.points > POINTS_MAX {
            inner.series.values_mut().for_each(Series::thin);
            inner.points = inner.series.values().map(|s| s.points.len()).sum();
        }
    }

    /// Everything up to this number is counted.
    pub fn reached(&self, id: i64) {
        let mut inner = self.inner.lock();
        inner.through_id = inner.through_id.max(id);
    }

    /// The number of the last event counted.
    #[must_use]
    pub fn through_id(&self) -> i64 {
        self.inner.lock().through_id
    }

    /// How many series `takes` takes.
    #[must_use]
    pub fn count(&self, takes: impl Fn(&Key) -> bool) -> usize {
        self.inner.lock().series.keys().filter(|k| takes(k)).count()
    }

    /// Looks at each series.
    pub fn each(&self, look: impl FnMut(&Key)) {
        self.inner.lock().series.keys().for_each(look);
    }

    /// The oldest time with a sample; `None`: there are no series.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        let inner = self.inner.lock();
        inner.series.values().filter_map(|s| s.points.first()).map(|p| p.0).min()
    }

    /// Writes them down.
    ///
    /// # Errors
    /// The bucket does not answer.
    pub async fn save(&self, files: &Files) -> Result<(), FilesError> {
        let key = files.key("counters.json.zst")?;
        let state = {
            let inner = self.inner.lock();
            let series = inner.series.iter().map(|(k, s)| (k.clone(), s.clone())).collect();
            State { through_id: inner.through_id, series }
        };
        let packed = tokio::task::spawn_blocking(move || {
            let json = serde_json::to_vec(&state).unwrap_or_default();
            zstd::bulk::compress(&json, 1).unwrap_or_default()
        });
        let packed = packed.await.unwrap_or_default();
        if !packed.is_empty() {
            files.bucket().put(&key, Bytes::from(packed)).await?;
        }
        Ok(())
    }

    /// Series that `takes` takes, with a sample at every multiple of `step_ms` in the range for which there is a
    /// total, and none after `now_ms`.
    #[must_use]
    pub fn samples(
        &self,
        takes: impl Fn(&Key) -> bool,
        (min_ms, max_ms): (i64, i64),
        step_ms: i64,
        now_ms: i64,
    ) -> Vec<Samples> {
        let (step, inner) = (step_ms.max(1), self.inner.lock());
        let end = max_ms.min(now_ms);
        let mut out = Vec::new();
        for (key, series) in inner.series.iter().filter(|(k, _)| takes(k)) {
            let Some(first) = series.points.first() else { continue };
            let begin = min_ms.max(first.0);
            let mut t = begin.div_euclid(step) * step;
            if t < begin {
                t += step;
            }
            let (mut samples, mut at) = (Vec::new(), 0);
            while t <= end {
                while series.points.get(at + 1).is_some_and(|p| p.0 <= t) {
                    at += 1;
                }
                if let Some((_, total)) = series.points.get(at) {
                    samples.push((t, *total));
                }
                t += step;
            }
            out.push(Samples { key: key.clone(), samples });
        }
        out.sort_by(|a, b| a.key.labels().cmp(&b.key.labels()));
        out
    }

    /// The totals in the OpenMetrics text format, for a Prometheus to scrape; with the label `cluster` or without.
    #[must_use]
    pub fn text(&self, takes: impl Fn(&Key) -> bool, with_cluster: bool) -> String {
        let inner = self.inner.lock();
        let taken = inner.series.iter().filter(|(k, _)| takes(k));
        let mut all: Vec<(&Key, u64)> = taken.map(|(k, s)| (k, s.total())).collect();
        all.sort();
        let mut out = String::from(
            "# HELP periplus_events Kubernetes events, by how often they happened.\n# TYPE periplus_events counter\n",
        );
        for (key, total) in all {
            out.push_str(METRIC);
            let mut before = '{';
            for (name, value) in key.labels() {
                if name == "cluster" && !with_cluster {
                    continue;
                }
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _fits = write!(out, "{before}{name}=\"{value}\"");
                before = ',';
            }
            let _fits = writeln!(out, "}} {total}");
        }
        out.push_str("# EOF\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use periplus_bucket::{Bucket, Location, OpenOptions};

    fn files(name: &str) -> Files {
        let at = Location::parse(&format!("memory://{name}")).unwrap();
        Files::new(Bucket::open(&at, &OpenOptions::default()).unwrap(), 1 << 20).unwrap()
    }

    fn key(cluster: &str, reason: &str) -> Key {
        let event = Event {
            cluster: cluster.into(),
            namespace: "n".into(),
            reason: reason.into(),
            type_: "Warning".into(),
            kind: "Pod".into(),
            ..Event::default()
        };
        Key::new(&event)
    }

    #[tokio::test]
    async fn counts_survive_and_are_samples_at_any_step() {
        let files = files("counters");
        let c = Counters::load(&files, 100).await.unwrap();
        let minute = 60_000_000;
        c.add(key("a", "BackOff"), 3, minute);
        c.add(key("a", "BackOff"), 2, 10 * minute);
        c.add(key("b", "Failed"), 1, 10 * minute);
        c.reached(77);
        c.save(&files).await.unwrap();
        let c = Counters::load(&files, 100).await.unwrap();
        assert_eq!(c.through_id(), 77);
        let got = c.samples(|k| k.cluster == "a", (0, i64::MAX), 60_000, 12 * 60_000);
        assert_eq!(got.len(), 1);
        let values: Vec<u64> = got[0].samples.iter().map(|s| s.1).collect();
        assert_eq!(got[0].samples[0].0, 60_000);
        assert_eq!(values, [0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 5, 5]);
        assert!(c.text(|_| true, true).contains(
            r#"{cluster="a",kind="Pod",namespace="n",reason="BackOff",type="Warning"} 5"#
        ));
    }

    #[tokio::test]
    async fn a_flood_of_reasons_is_bounded_and_loses_no_count() {
        let c = Counters::load(&files("flood"), 40).await.unwrap();
        for i in 0..10_000 {
            c.add(key("evil", &format!("R{i}\"\n")), 1, i64::from(i) * 1000);
        }
        c.add(key("good", "BackOff"), 1, 5);
        let all = c.samples(|_| true, (0, i64::MAX), 15_000, 60_000);
        assert!(all.len() <= 13, "{}", all.len());
        let total = |cluster: &str| -> u64 {
            let of = all.iter().filter(|s| s.key.cluster == cluster);
            of.filter_map(|s| s.samples.last()).map(|s| s.1).sum()
        };
        assert_eq!((total("evil"), total("good")), (10_000, 1));
        assert!(all.iter().any(|s| s.key.cluster == "good" && s.key.reason == "BackOff"));
    }
}
