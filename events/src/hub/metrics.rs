//! The hub's own metrics.

use std::sync::atomic::AtomicU64;

use periplus_daemon::admin::Admin;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Metrics. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    batches: Family<Outcome, Counter>,
    events: Family<Outcome, Counter>,
    log_writes: Family<Outcome, Counter>,
    log_bytes: Gauge,
    rows: Gauge,
    memory: Gauge,
    files: Gauge,
    flushed: Counter,
    upkeep_failures: Counter,
    gaps: Counter,
    leads: Gauge,
    lag: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new(admin: &Admin) -> Self {
        let m = Self::default();
        admin.register(|r| {
            let r = r.sub_registry_with_prefix("periplus_hub");
            r.register("batches", "Batches by how they ended", m.batches.clone());
            r.register("events", "Events received, by what became of them", m.events.clone());
            r.register("log_writes", "Writes of the log", m.log_writes.clone());
            r.register("log_bytes", "Bytes kept in the log", m.log_bytes.clone());
            r.register("rows", "Rows in memory", m.rows.clone());
            r.register("memory_bytes", "Bytes of rows in memory", m.memory.clone());
            r.register("files", "Files in the bucket", m.files.clone());
            r.register("flushed_rows", "Rows moved into files", m.flushed.clone());
            r.register(
                "upkeep_failures",
                "Rounds of upkeep that failed",
                m.upkeep_failures.clone(),
            );
            r.register("gaps", "Reports of gaps that were new", m.gaps.clone());
            r.register("leads", "1 where this hub answers", m.leads.clone());
            r.register(
                "receipt_lag_seconds",
                "From the newest event's last time to its receipt",
                m.lag.clone(),
            );
        });
        m
    }

    pub(crate) fn batch(&self, outcome: &'static str) {
        self.batches.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn events(&self, outcome: &'static str, n: usize) {
        if n > 0 {
            self.events.get_or_create(&Outcome { outcome }).inc_by(n as u64);
        }
    }

    pub(crate) fn log(&self, ok: bool, bytes: u64) {
        let outcome = if ok { "done" } else { "failed" };
        self.log_writes.get_or_create(&Outcome { outcome }).inc();
        self.log_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn store(&self, rows: usize, bytes: usize, files: usize) {
        let int = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.rows.set(int(rows));
        self.memory.set(int(bytes));
        self.files.set(int(files));
    }

    pub(crate) fn flushed(&self, rows: usize) {
        self.flushed.inc_by(rows as u64);
    }

    pub(crate) fn upkeep_failed(&self) {
        self.upkeep_failures.inc();
    }

    pub(crate) fn gap(&self) {
        self.gaps.inc();
    }

    pub(crate) fn leads(&self, yes: bool) {
        self.leads.set(i64::from(yes));
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn lag(&self, us: i64) {
        self.lag.set(us.max(0) as f64 / 1e6);
    }
}
