//! The samples a Prometheus would have stored had it scraped a cluster for a range of time.

use std::collections::BTreeMap;

use periplus_model::{Labels, METRIC_NAME, stale_nan};

use crate::fleet::{Cluster, Target};
use crate::series::{Family, Segment, Signal};
use crate::wave::mix_str;

static UP: Family = Family::gauge("up", "Whether the scrape found its target.");

/// How a Prometheus scrapes.
#[derive(Clone, Copy, Debug)]
pub struct ScrapeConfig {
    /// Time between two scrapes of a target.
    pub interval_ms: i64,
    /// Which Prometheus it is: replicas with other numbers scrape at other moments.
    pub replica: u64,
}

/// A series as stored: with its target's labels, its gaps and its stale markers.
#[derive(Clone, Debug)]
pub struct ScrapedSeries {
    /// The family it came from.
    pub family: &'static Family,
    /// All labels, without the Prometheus's external ones.
    pub labels: Labels,
    segments: Vec<Segment>,
    scrape: Scrape,
}

/// The moments at which a target is scraped: `first_ms + n * interval_ms` before `until_ms`.
#[derive(Clone, Copy, Debug)]
struct Scrape {
    first_ms: i64,
    until_ms: i64,
    interval_ms: i64,
}

impl Scrape {
    /// The first scrape at or after a time.
    fn at_or_after(self, t_ms: i64) -> i64 {
        let since = (t_ms - self.first_ms).max(0);
        self.first_ms + (since + self.interval_ms - 1) / self.interval_ms * self.interval_ms
    }
}

impl Cluster {
    /// The samples of all targets over `from_ms..until_ms`: series in order of target and family,
    /// each to be walked by [`ScrapedSeries::samples`]. Nothing is computed before it is asked for,
    /// so months of a large cluster cost the memory of its series only.
    #[must_use]
    pub fn scraped(&self, from_ms: i64, until_ms: i64, scrape: ScrapeConfig) -> Vec<ScrapedSeries> {
        self.targets()
            .into_iter()
            .flat_map(|target| self.scraped_target(target, from_ms, until_ms, scrape))
            .collect()
    }

    fn scraped_target(
        &self,
        target: Target,
        from_ms: i64,
        until_ms: i64,
        config: ScrapeConfig,
    ) -> Vec<ScrapedSeries> {
        let interval_ms = config.interval_ms.max(1);
        let place = mix_str(self.seed ^ config.replica, &self.target_path(target));
        let offset = (place % interval_ms as u64) as i64;
        let first_ms = from_ms + (offset - from_ms).rem_euclid(interval_ms);
        let scrape = Scrape { first_ms, until_ms, interval_ms };
        let added = self.target_labels(target);
        let mut all: Vec<ScrapedSeries> = self
            .series(target, from_ms, until_ms)
            .into_iter()
            .map(|s| ScrapedSeries {
                family: s.family,
                labels: merged(&s.labels, &added),
                segments: s.segments,
                scrape,
            })
            .collect();
        all.push(ScrapedSeries {
            family: &UP,
            labels: merged(&Labels::from_pairs([(METRIC_NAME, UP.name)]), &added),
            segments: self.up_segments(target, from_ms, until_ms),
            scrape,
        });
        all
    }

    fn up_segments(&self, target: Target, from_ms: i64, until_ms: i64) -> Vec<Segment> {
        let segment =
            |from_ms, until_ms, v| Segment { from_ms, until_ms, signal: Signal::constant(v) };
        let node = match target {
            Target::Cadvisor { node } | Target::NodeExporter { node } => &self.nodes[node],
            Target::KubeState | Target::Apps => return vec![segment(from_ms, until_ms, 1.0)],
        };
        let mut all = Vec::new();
        let mut at = from_ms;
        for (up, down) in node.uptimes(from_ms, until_ms) {
            all.push(segment(at, up, 0.0));
            all.push(segment(at.max(up), down.min(until_ms), 1.0));
            at = down;
        }
        all.push(segment(at, until_ms, 0.0));
        all.retain(|s| s.from_ms < s.until_ms);
        all
    }
}

/// The labels a scrape stores where the series' own labels are kept on conflict (`honor_labels`).
fn merged(own: &Labels, added: &Labels) -> Labels {
    let mut all: BTreeMap<&str, &str> = added.iter().collect();
    all.extend(own.iter());
    Labels::from_pairs(all)
}

impl ScrapedSeries {
    /// Times in milliseconds and values, in order. Where the series ends before the range does,
    /// or is away for at least one scrape, the scrape after its last sample gives a stale marker.
    pub fn samples(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        let scrape = self.scrape;
        self.segments.iter().enumerate().flat_map(move |(i, segment)| {
            let first = scrape.at_or_after(segment.from_ms);
            let after = scrape.at_or_after(segment.until_ms);
            let values = (0..)
                .map(move |n| first + n * scrape.interval_ms)
                .take_while(move |t| *t < segment.until_ms)
                .map(move |t| (t, segment.signal.value(t)));
            let back = self.segments.get(i + 1).is_some_and(|next| {
                next.from_ms <= after && scrape.at_or_after(next.from_ms) < next.until_ms
            });
            let stale = (first < segment.until_ms && !back && after < scrape.until_ms)
                .then(|| (after, stale_nan()));
            values.chain(stale)
        })
    }
}

#[cfg(test)]
mod tests {
    use periplus_model::is_stale;

    use super::*;
    use crate::{Fleet, FleetConfig, Kind};

    const T: i64 = 1_790_000_000_000;
    const DAY: i64 = 86_400_000;
    const SCRAPE: ScrapeConfig = ScrapeConfig { interval_ms: 15_000, replica: 0 };

    fn cluster(pods: u32) -> Cluster {
        Fleet::new(FleetConfig { pods, nodes: 3, ..FleetConfig::default() }).clusters()[0].clone()
    }

    #[test]
    fn labels_are_unique_and_samples_in_order() {
        let all = cluster(60).scraped(T, T + DAY / 4, SCRAPE);
        let mut labels: Vec<&Labels> = all.iter().map(|s| &s.labels).collect();
        labels.sort();
        assert!(labels.windows(2).all(|w| w[0] != w[1]));
        for s in &all {
            let times: Vec<i64> = s.samples().map(|(t, _)| t).collect();
            assert!(times.windows(2).all(|w| w[0] < w[1]), "{:?}", s.labels);
            assert!(times.iter().all(|t| (T..T + DAY).contains(t)));
        }
    }

    #[test]
    fn counters_fall_only_to_start_again_and_series_end_with_a_marker() {
        let all = cluster(60).scraped(T, T + DAY / 2, SCRAPE);
        let (mut resets, mut ends) = (0, 0);
        for s in all.iter().filter(|s| s.family.kind == Kind::Counter) {
            let mut last: Option<f64> = None;
            for (_, v) in s.samples() {
                if is_stale(v) {
                    ends += 1;
                    continue;
                }
                if let Some(last) = last.filter(|l| v < *l) {
                    resets += 1;
                    assert!(v < last.max(1.0) * 0.9, "{:?} {last} {v}", s.labels);
                }
                last = Some(v);
            }
        }
        assert!(resets > 0 && ends > 0, "{resets} resets, {ends} ends");
    }

    #[test]
    fn what_a_scrape_sees_is_what_is_stored() {
        let c = cluster(40);
        let stored = c.scraped(T, T + DAY, SCRAPE);
        let target = Target::Cadvisor { node: 1 };
        let seen = c.series(target, T, T + DAY);
        let path = merged(&Labels::empty(), &c.target_labels(target));
        let mut compared = 0;
        for s in &seen {
            let labels = merged(&s.labels, &path);
            let one = stored.iter().find(|x| x.labels == labels).expect("stored");
            for (t, v) in one.samples().filter(|(_, v)| !is_stale(*v)).take(20) {
                assert_eq!(s.at(t), Some(v));
                compared += 1;
            }
        }
        assert!(compared > 1000);
    }

    #[test]
    fn seeds_and_times_decide_everything() {
        let sum = |from: i64| -> f64 {
            let all = cluster(40).scraped(from, T + DAY, SCRAPE);
            all.iter()
                .filter_map(|s| s.samples().find(|(t, _)| *t > T + DAY - 60_000))
                .filter(|(_, v)| !is_stale(*v))
                .map(|(_, v)| v)
                .sum()
        };
        assert_eq!(sum(T), sum(T + DAY / 2));
    }

    #[test]
    fn a_hundred_pods_are_about_five_thousand_series() {
        let n = |pods| {
            let f = FleetConfig { pods, nodes: 4, ..FleetConfig::default() };
            let c = Fleet::new(f).clusters()[0].clone();
            c.scraped(T, T + 15_000, SCRAPE).len()
        };
        assert!((1_500..3_500).contains(&n(40)), "{}", n(40));
        assert!((4_000..7_000).contains(&n(90)), "{}", n(90));
    }
}
