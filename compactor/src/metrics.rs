//! How compaction goes, as metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Done {
    /// A word of [`crate::plan::Kind::as_str`], or of what cleans up.
    pub kind: &'static str,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A word: `bucket`, `disk`, `input`, `differs`, `conflict`, `lease`.
    pub reason: &'static str,
}

type Number = Gauge<f64, AtomicU64>;

/// The metrics of one compactor.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Blocks that are to be converted, wholly or for some days.
    pub backlog_blocks: Gauge,
    /// Bytes of them.
    pub backlog_bytes: Gauge,
    /// Minutes since the end of the oldest of them.
    pub backlog_minutes: Number,
    /// Steps planned and not done.
    pub waiting: Gauge,
    /// Steps done.
    pub steps: Family<Done, Counter>,
    /// Failures.
    pub failures: Family<Reason, Counter>,
    /// What is quarantined.
    pub quarantined: Gauge,
    /// Samples written to parts.
    pub samples: Counter,
    /// Bytes written to the bucket.
    pub bytes: Counter,
    /// Streams that this process has the lease of.
    pub streams: Gauge,
    /// Uploads under way or given up.
    pub partial: Gauge,
    /// Objects and blocks deleted.
    pub deleted: Family<Done, Counter>,
    /// When the last round ended well, seconds since 1970.
    pub last_round: Number,
}

impl Metrics {
    /// Shows them.
    pub fn register(&self, to: &mut Registry) {
        let to = to.sub_registry_with_prefix("periplus_compactor");
        to.register(
            "backlog_blocks",
            "Blocks to be converted, wholly or for some days",
            self.backlog_blocks.clone(),
        );
        to.register("backlog_bytes", "Bytes of blocks to be converted", self.backlog_bytes.clone());
        to.register(
            "backlog_minutes",
            "Minutes since the end of the oldest block to be converted; 0 where there is none",
            self.backlog_minutes.clone(),
        );
        to.register("waiting_steps", "Steps that are planned and not done", self.waiting.clone());
        to.register("steps", "Steps done by kind", self.steps.clone());
        to.register("failures", "Failures by reason", self.failures.clone());
        to.register(
            "quarantined",
            "Blocks, days of blocks and parts that nothing is made from",
            self.quarantined.clone(),
        );
        to.register("samples", "Samples written to parts", self.samples.clone());
        to.register("bytes", "Bytes written to the bucket", self.bytes.clone());
        to.register("streams", "Streams this process works on", self.streams.clone());
        to.register("partial_blocks", "Block uploads under way or given up", self.partial.clone());
        to.register("deleted", "Objects, parts and blocks deleted by kind", self.deleted.clone());
        to.register(
            "last_round_timestamp_seconds",
            "When the last round ended without failure",
            self.last_round.clone(),
        );
    }
}
