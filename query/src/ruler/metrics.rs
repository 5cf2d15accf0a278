//! What rules count, under Prometheus's names with this project's prefix. Groups are what the
//! administrator wrote, so their keys are bounded by the files.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::group::Outcome;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabels {
    rule_group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    alertmanager: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RemoteLabels {
    url: String,
}

type Float = Gauge<f64, AtomicU64>;

/// All metrics of rules. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    evaluations: Family<GroupLabels, Counter>,
    failures: Family<GroupLabels, Counter>,
    partial: Family<GroupLabels, Counter>,
    iterations: Family<GroupLabels, Counter>,
    missed: Family<GroupLabels, Counter>,
    duration: Family<GroupLabels, Float>,
    last: Family<GroupLabels, Float>,
    interval: Family<GroupLabels, Float>,
    rules: Family<GroupLabels, Gauge>,
    samples: Family<GroupLabels, Gauge>,
    durations: Histogram,
    pub(super) reload_ok: Gauge,
    pub(super) reload_time: Float,
    sent: Family<TargetLabels, Counter>,
    errors: Family<TargetLabels, Counter>,
    dropped: Family<TargetLabels, Counter>,
    queue: Family<TargetLabels, Gauge>,
    pub(super) alertmanagers: Gauge,
    remote_sent: Family<RemoteLabels, Counter>,
    remote_errors: Family<RemoteLabels, Counter>,
    remote_dropped: Family<RemoteLabels, Counter>,
    remote_waiting: Family<RemoteLabels, Gauge>,
    /// Series that recording rules and alerts have in memory.
    pub head_series: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            evaluations: Family::default(),
            failures: Family::default(),
            partial: Family::default(),
            iterations: Family::default(),
            missed: Family::default(),
            duration: Family::default(),
            last: Family::default(),
            interval: Family::default(),
            rules: Family::default(),
            samples: Family::default(),
            durations: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            reload_ok: Gauge::default(),
            reload_time: Float::default(),
            sent: Family::default(),
            errors: Family::default(),
            dropped: Family::default(),
            queue: Family::default(),
            alertmanagers: Gauge::default(),
            remote_sent: Family::default(),
            remote_errors: Family::default(),
            remote_dropped: Family::default(),
            remote_waiting: Family::default(),
            head_series: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Shows all of it.
    pub fn register(&self, r: &mut Registry) {
        let rule = |n: &str| format!("periplus_rule_{n}");
        r.register(rule("evaluations"), "Rules evaluated", self.evaluations.clone());
        r.register(rule("evaluation_failures"), "Rules that failed", self.failures.clone());
        let text = "Evaluations of rules over answers that lacked somebody";
        r.register(rule("evaluations_partial"), text, self.partial.clone());
        let text = "Evaluations of groups that were due, missed ones included";
        r.register(rule("group_iterations"), text, self.iterations.clone());
        let text = "Evaluations of groups missed because the one before took too long";
        r.register(rule("group_iterations_missed"), text, self.missed.clone());
        let text = "Time the last evaluation of a group took";
        r.register(rule("group_last_duration_seconds"), text, self.duration.clone());
        let text = "When a group was last evaluated";
        r.register(rule("group_last_evaluation_timestamp_seconds"), text, self.last.clone());
        r.register(rule("group_interval_seconds"), "Interval of a group", self.interval.clone());
        r.register(rule("group_rules"), "Rules of a group", self.rules.clone());
        let text = "Samples the last evaluation of a group gave";
        r.register(rule("group_last_evaluation_samples"), text, self.samples.clone());
        let text = "Time evaluations of groups took";
        r.register(rule("group_duration_seconds"), text, self.durations.clone());
        let text = "Whether the rule files in use are those on disk";
        r.register(rule("config_last_reload_successful"), text, self.reload_ok.clone());
        let text = "When the rule files were last taken over";
        r.register(
            rule("config_last_reload_success_timestamp_seconds"),
            text,
            self.reload_time.clone(),
        );
        let notify = |n: &str| format!("periplus_notifications_{n}");
        r.register(notify("sent"), "Alerts delivered to an Alertmanager", self.sent.clone());
        r.register(notify("errors"), "Deliveries that failed", self.errors.clone());
        r.register(notify("dropped"), "Alerts that found no room", self.dropped.clone());
        r.register(notify("queue_length"), "Alerts waiting for delivery", self.queue.clone());
        let text = "Alertmanagers that are told of alerts";
        r.register(notify("alertmanagers_discovered"), text, self.alertmanagers.clone());
        let remote = |n: &str| format!("periplus_ruler_remote_write_{n}");
        r.register(remote("samples"), "Samples a receiver took", self.remote_sent.clone());
        r.register(remote("errors"), "Requests that failed", self.remote_errors.clone());
        let text = "Samples that a receiver refused, or that found no room";
        r.register(remote("dropped_samples"), text, self.remote_dropped.clone());
        r.register(remote("queue_samples"), "Samples that wait", self.remote_waiting.clone());
        let text = "Series that rules gave and that are in memory";
        r.register("periplus_ruler_head_series", text, self.head_series.clone());
    }

    /// The metrics of one group, which exist from now on.
    #[must_use]
    pub fn group(&self, key: &str, interval_ms: i64, rules: usize) -> GroupMetrics {
        let labels = GroupLabels { rule_group: key.to_owned() };
        self.interval.get_or_create(&labels).set(interval_ms as f64 / 1000.0);
        self.rules.get_or_create(&labels).set(i64::try_from(rules).unwrap_or(i64::MAX));
        for family in
            [&self.evaluations, &self.failures, &self.partial, &self.iterations, &self.missed]
        {
            drop(family.get_or_create(&labels));
        }
        GroupMetrics { all: self.clone(), labels }
    }

    /// Forgets a group.
    pub fn forget(&self, key: &str) {
        let l = GroupLabels { rule_group: key.to_owned() };
        for family in
            [&self.evaluations, &self.failures, &self.partial, &self.iterations, &self.missed]
        {
            family.remove(&l);
        }
        for family in [&self.duration, &self.last, &self.interval] {
            family.remove(&l);
        }
        self.rules.remove(&l);
        self.samples.remove(&l);
    }

    /// The metrics of one receiver of remote write, which exist from now on.
    #[must_use]
    pub fn remote(&self, url: &str) -> RemoteMetrics {
        let labels = RemoteLabels { url: url.to_owned() };
        for family in [&self.remote_sent, &self.remote_errors, &self.remote_dropped] {
            drop(family.get_or_create(&labels));
        }
        RemoteMetrics { all: self.clone(), labels }
    }

    /// The metrics of one Alertmanager.
    #[must_use]
    pub fn target(&self, name: &str) -> TargetMetrics {
        TargetMetrics {
            all: self.clone(),
            labels: Arc::new(TargetLabels { alertmanager: name.to_owned() }),
        }
    }
}

/// The metrics of one receiver of remote write.
#[derive(Clone, Debug)]
pub struct RemoteMetrics {
    all: Metrics,
    labels: RemoteLabels,
}

impl RemoteMetrics {
    pub(super) fn sent(&self, n: u64) {
        self.all.remote_sent.get_or_create(&self.labels).inc_by(n);
    }

    pub(super) fn failed(&self) {
        self.all.remote_errors.get_or_create(&self.labels).inc();
    }

    pub(super) fn dropped(&self, n: u64) {
        if n > 0 {
            self.all.remote_dropped.get_or_create(&self.labels).inc_by(n);
        }
    }

    pub(super) fn waiting(&self, n: usize) {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        self.all.remote_waiting.get_or_create(&self.labels).set(n);
    }
}

/// The metrics of one group.
#[derive(Clone, Debug)]
pub struct GroupMetrics {
    all: Metrics,
    labels: GroupLabels,
}

impl GroupMetrics {
    /// It was evaluated.
    pub fn evaluated(&self, o: &Outcome, took: Duration) {
        let count = |n: usize| n as u64;
        self.all.iterations.get_or_create(&self.labels).inc();
        self.all.evaluations.get_or_create(&self.labels).inc_by(count(o.evaluated));
        self.all.failures.get_or_create(&self.labels).inc_by(count(o.failed));
        self.all.partial.get_or_create(&self.labels).inc_by(count(o.partial));
        let samples = i64::try_from(o.samples).unwrap_or(i64::MAX);
        self.all.samples.get_or_create(&self.labels).set(samples);
        self.all.duration.get_or_create(&self.labels).set(took.as_secs_f64());
        self.all.last.get_or_create(&self.labels).set(super::now_ms() as f64 / 1000.0);
        self.all.durations.observe(took.as_secs_f64());
    }

    /// So many evaluations did not take place.
    pub fn missed(&self, n: u64) {
        if n > 0 {
            self.all.missed.get_or_create(&self.labels).inc_by(n);
            self.all.iterations.get_or_create(&self.labels).inc_by(n);
        }
    }
}

/// The metrics of one Alertmanager.
#[derive(Clone, Debug)]
pub struct TargetMetrics {
    all: Metrics,
    labels: Arc<TargetLabels>,
}

impl TargetMetrics {
    pub(super) fn sent(&self, n: usize) {
        self.all.sent.get_or_create(&self.labels).inc_by(n as u64);
    }

    pub(super) fn failed(&self) {
        self.all.errors.get_or_create(&self.labels).inc();
    }

    pub(super) fn dropped(&self, n: usize) {
        self.all.dropped.get_or_create(&self.labels).inc_by(n as u64);
    }

    pub(super) fn waiting(&self, n: usize) {
        self.all.queue.get_or_create(&self.labels).set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    pub(super) fn forget(&self) {
        self.all.sent.remove(&self.labels);
        self.all.errors.remove(&self.labels);
        self.all.dropped.remove(&self.labels);
        self.all.queue.remove(&self.labels);
    }
}
