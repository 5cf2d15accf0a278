//! What a watcher counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A reason, out of a fixed few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// In one word.
    pub reason: &'static str,
}

/// A counter by reason.
pub type ByReason = Family<Reason, Counter>;

/// A gauge with fractions.
pub type Seconds = Gauge<f64, AtomicU64>;

/// The watcher's metrics. Clones are the same values.
#[derive(Clone, Debug, Default)]
pub struct WatchMetrics {
    /// Rows passed on.
    pub rows: Counter,
    /// Events not passed on, by reason: `filtered`, `repeated`, `malformed`, `too_large`.
    pub skipped: ByReason,
    /// Lists read from the start, by reason.
    pub relists: ByReason,
    /// Requests that failed, by what was asked.
    pub failures: ByReason,
    /// Time since the server last gave a sign of life, in seconds.
    pub age: Seconds,
    /// How long after its last occurrence the newest event arrived, in seconds.
    pub lag: Seconds,
    /// Whether a watch is open: 1 or 0.
    pub watching: Gauge,
    /// Whether this replica holds the lease: 1 or 0.
    pub leading: Gauge,
}

impl WatchMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("periplus_events_watch");
        r.register("rows", "Rows passed on to the spool", self.rows.clone());
        r.register("skipped", "Events not passed on, by reason", self.skipped.clone());
        r.register("relists", "Lists of all events, by reason", self.relists.clone());
        r.register("failures", "Requests to the API server that failed", self.failures.clone());
        r.register(
            "age_seconds",
            "Time since the API server last gave a sign of life on the watch",
            self.age.clone(),
        );
        r.register(
            "lag_seconds",
            "How long after its last occurrence the newest event arrived",
            self.lag.clone(),
        );
        r.register("open", "Whether a watch is open", self.watching.clone());
        r.register("leading", "Whether this replica holds the lease", self.leading.clone());
    }

    /// Counts something skipped.
    pub fn skip(&self, reason: &'static str) {
        self.skipped.get_or_create(&Reason { reason }).inc();
    }
}
