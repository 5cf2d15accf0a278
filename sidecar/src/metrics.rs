//! What a sidecar counts about itself and says about its Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use periplus_daemon::admin::Admin;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::hot::HotStatus;
use crate::prometheus::Snapshot;

/// One of our services' methods and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MethodLabels {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PathLabels {
    path: &'static str,
    reason: &'static str,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// The metrics of one sidecar.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    series: Counter,
    chunks: Counter,
    bytes: Counter,
    received: Counter,
    evaluations: Family<PathLabels, Counter>,
    healthy: Gauge,
    lag: FloatGauge,
    head_series: Gauge,
    gaps: Gauge,
    shadowed: Gauge,
    hot_ready: Gauge,
    hot_from: FloatGauge,
    hot_series: Gauge,
    hot_bytes: Gauge,
}

fn durations() -> Histogram {
    Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0])
}

impl Metrics {
    /// Registers the metrics of the sidecar beside the Prometheus at `source`.
    pub(crate) fn new(admin: &Admin, source: &str) -> Self {
        let m = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(durations as fn() -> Histogram),
            series: Counter::default(),
            chunks: Counter::default(),
            bytes: Counter::default(),
            received: Counter::default(),
            evaluations: Family::default(),
            healthy: Gauge::default(),
            lag: FloatGauge::default(),
            head_series: Gauge::default(),
            gaps: Gauge::default(),
            shadowed: Gauge::default(),
            hot_ready: Gauge::default(),
            hot_from: FloatGauge::default(),
            hot_series: Gauge::default(),
            hot_bytes: Gauge::default(),
        };
        admin.register(|r| m.register(r, source));
        m
    }

    /// All with a label that names the Prometheus: one process may have several sidecars.
    fn register(&self, r: &mut prometheus_client::registry::Registry, source: &str) {
        let r = r
            .sub_registry_with_label(("prometheus".into(), source.to_owned().into()))
            .sub_registry_with_prefix("periplus_sidecar");
        r.register("requests", "Requests by method and gRPC code", self.requests.clone());
        r.register("request_duration_seconds", "Duration of requests", self.seconds.clone());
        r.register("series_streamed", "Series sent to clients", self.series.clone());
        r.register("chunks_streamed", "Chunks sent to clients", self.chunks.clone());
        r.register("chunk_bytes_streamed", "Bytes of chunks sent to clients", self.bytes.clone());
        r.register("remote_read_bytes", "Bytes of remote read received", self.received.clone());
        r.register(
            "evaluations",
            "Subtrees evaluated, by where and why there",
            self.evaluations.clone(),
        );
        r.register("prometheus_healthy", "Whether Prometheus is well", self.healthy.clone());
        r.register("prometheus_lag_seconds", "Age of its newest sample", self.lag.clone());
        r.register("prometheus_head_series", "Series in its head", self.head_series.clone());
        r.register("prometheus_gaps", "Known gaps in its data", self.gaps.clone());
        r.register(
            "prometheus_shadowed_labels",
            "External labels that its series carry themselves",
            self.shadowed.clone(),
        );
        r.register("hot_window_ready", "Whether the hot window answers", self.hot_ready.clone());
        r.register(
            "hot_window_covered_from_seconds",
            "Unix time from which on the hot window is whole",
            self.hot_from.clone(),
        );
        r.register("hot_window_series", "Series in the hot window", self.hot_series.clone());
        r.register("hot_window_bytes", "Memory of the hot window", self.hot_bytes.clone());
    }

    /// A request ended.
    pub(crate) fn request(&self, method: &'static str, code: tonic::Code, took: Duration) {
        let code = code_name(code);
        self.requests.get_or_create(&RequestLabels { method, code }).inc();
        self.seconds.get_or_create(&MethodLabels { method }).observe(took.as_secs_f64());
    }

    /// A series with its chunks went out.
    pub(crate) fn streamed(&self, chunks: u64, bytes: u64) {
        self.series.inc();
        self.chunks.inc_by(chunks);
        self.bytes.inc_by(bytes);
    }

    /// Bytes of remote read came in.
    pub(crate) fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// A subtree was evaluated in `path`; `reason` says why not elsewhere.
    pub(crate) fn evaluated(&self, path: &'static str, reason: &'static str) {
        self.evaluations.get_or_create(&PathLabels { path, reason }).inc();
    }

    /// A look at Prometheus ended.
    pub(crate) fn watched(&self, s: &Snapshot, now_ms: i64) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.healthy.set(i64::from(s.problem.is_none()));
        self.lag.set(s.lag_ms(now_ms) as f64 / 1000.0);
        self.head_series.set(i64::try_from(s.head_series).unwrap_or(i64::MAX));
        self.gaps.set(count(s.gaps.len()));
        self.shadowed.set(count(s.shadowed.len()));
    }

    /// How the hot window is.
    pub(crate) fn hot(&self, status: &HotStatus) {
        let (ready, from, series, bytes) = match status {
            HotStatus::Ready { covered_from_ms, series, bytes, .. } => {
                (1, *covered_from_ms, *series, *bytes)
            }
            HotStatus::Loading | HotStatus::Off { .. } => (0, 0, 0, 0),
        };
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.hot_ready.set(ready);
        self.hot_from.set(from as f64 / 1000.0);
        self.hot_series.set(count(series));
        self.hot_bytes.set(count(bytes));
    }
}

fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::Unavailable => "unavailable",
        Code::Unimplemented => "unimplemented",
        _ => "internal",
    }
}
