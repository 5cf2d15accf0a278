//! What this service counts. Every label has a bounded set of values: routes and kinds of errors that exist,
//! never anything a client or an endpoint sent.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabels {
    health: &'static str,
}

/// All metrics of the query service. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RouteLabels, Counter>,
    seconds: Family<ReasonLabels, Histogram, fn() -> Histogram>,
    failures: Family<ReasonLabels, Counter>,
    partial: Counter,
    missing: Counter<u64, AtomicU64>,
    endpoint_requests: Counter,
    coalesced: Counter,
    kept: Counter,
    running: Gauge<i64, AtomicI64>,
    endpoints: Family<HealthLabels, Gauge>,
    streams_missing: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

impl Metrics {
    /// Counts nothing yet; shown once registered.
    #[must_use]
    pub fn new() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            failures: Family::default(),
            partial: Counter::default(),
            missing: Counter::default(),
            endpoint_requests: Counter::default(),
            coalesced: Counter::default(),
            kept: Counter::default(),
            running: Gauge::default(),
            endpoints: Family::default(),
            streams_missing: Gauge::default(),
        }
    }

    /// Shows all of it.
    pub fn register(&self, r: &mut Registry) {
        let name = |n: &str| format!("periplus_query_{n}");
        r.register(name("http_requests"), "HTTP requests answered", self.requests.clone());
        let text = "Time to answer HTTP requests, by route";
        r.register(name("http_request_duration_seconds"), text, self.seconds.clone());
        r.register(name("failures"), "Queries without an answer", self.failures.clone());
        r.register(name("partial_answers"), "Answers that lack somebody", self.partial.clone());
        r.register(name("missing_streams"), "Streams that answers lacked", self.missing.clone());
        let text = "Requests sent to endpoints";
        r.register(name("endpoint_requests"), text, self.endpoint_requests.clone());
        let text = "Queries answered with what another client was asking at the same time";
        r.register(name("coalesced"), text, self.coalesced.clone());
        let text = "Queries that got the answer of a moment ago";
        r.register(name("kept"), text, self.kept.clone());
        r.register(name("running"), "Queries running now", self.running.clone());
        r.register(name("endpoints"), "Endpoints known, by health", self.endpoints.clone());
        let text = "Streams of the fleet that nobody can answer for now";
        r.register(name("fleet_missing_streams"), text, self.streams_missing.clone());
    }

    /// An HTTP request was answered.
    pub fn request(&self, route: &'static str, code: u16, took: Duration) {
        self.requests.get_or_create(&RouteLabels { route, code }).inc();
        self.seconds.get_or_create(&ReasonLabels { reason: route }).observe(took.as_secs_f64());
    }

    /// A query ended without an answer.
    pub fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A query was answered.
    pub fn answered(&self, requests: u64, missing: usize) {
        self.endpoint_requests.inc_by(requests);
        if missing > 0 {
            self.partial.inc();
            self.missing.inc_by(missing as u64);
        }
    }

    /// A query got the answer to one of a moment ago.
    pub fn kept(&self) {
        self.kept.inc();
    }

    /// A query was not asked, as somebody else was asking it.
    pub fn coalesced(&self) {
        self.coalesced.inc();
    }

    /// A query runs until what this gives is dropped.
    #[must_use]
    pub fn running(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }

    /// The fleet changed.
    pub fn fleet(&self, snapshot: &crate::endpoints::Snapshot) {
        let (mut up, mut down, mut refused) = (0, 0, 0);
        for e in &snapshot.endpoints {
            match (&e.status.refused, e.status.up) {
                (Some(_), _) => refused += 1,
                (None, true) => up += 1,
                (None, false) => down += 1,
            }
        }
        for (health, n) in [("up", up), ("down", down), ("refused", refused)] {
            self.endpoints.get_or_create(&HealthLabels { health }).set(n);
        }
        let nobody = snapshot.fleet.parts.iter().filter(|p| p.candidates.is_empty());
        let streams: usize = nobody.map(|p| p.streams.len()).sum();
        self.streams_missing.set(i64::try_from(streams).unwrap_or(i64::MAX));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts a query as running.
#[derive(Debug)]
pub struct Running(Gauge<i64, AtomicI64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
