//! How shipping goes, as metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A word of [`super::ShipError::kind`].
    pub reason: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// The metrics of one shipper.
#[derive(Clone, Debug, Default)]
pub struct ShipMetrics {
    /// Blocks shipped.
    pub blocks: Counter,
    /// Their bytes, without what was there already.
    pub bytes: Counter,
    /// Failures by reason.
    pub failures: Family<Reason, Counter>,
    /// Blocks to be shipped.
    pub unshipped: Gauge,
    /// Age of the end of the oldest of them; 0 where there is none.
    pub oldest_unshipped_seconds: Seconds,
    /// Age of the newest sample that is in the bucket, by blocks alone.
    pub lag_seconds: Seconds,
    /// The same with snapshots of the head.
    pub head_lag_seconds: Seconds,
    /// 1 while another sidecar has the stream.
    pub refused: Gauge,
    /// Local blocks that can't be read.
    pub bad_blocks: Gauge,
    /// Compacted blocks that can't be shipped without doubling a part of them.
    pub covered_in_part: Gauge,
    /// Warnings that follow from Prometheus's flags.
    pub flag_warnings: Gauge,
    /// Snapshots of the head shipped.
    pub heads: Counter,
}

impl ShipMetrics {
    /// Shows them.
    pub fn register(&self, to: &mut Registry) {
        let to = to.sub_registry_with_prefix("periplus_ship");
        to.register("blocks", "Blocks shipped", self.blocks.clone());
        to.register("bytes", "Bytes shipped", self.bytes.clone());
        to.register("failures", "Failures by reason", self.failures.clone());
        to.register("unshipped_blocks", "Blocks to be shipped", self.unshipped.clone());
        to.register(
            "oldest_unshipped_seconds",
            "Age of the end of the oldest block that is not shipped; 0 where there is none",
            self.oldest_unshipped_seconds.clone(),
        );
        to.register(
            "lag_seconds",
            "Age of the newest sample shipped in a block",
            self.lag_seconds.clone(),
        );
        to.register(
            "head_lag_seconds",
            "Age of the newest sample shipped, snapshots of the head included",
            self.head_lag_seconds.clone(),
        );
        to.register("refused", "1 while another sidecar has the stream", self.refused.clone());
        to.register("bad_blocks", "Local blocks that can't be read", self.bad_blocks.clone());
        to.register(
            "covered_in_part_blocks",
            "Compacted blocks that can't be shipped without doubling a part",
            self.covered_in_part.clone(),
        );
        to.register(
            "flag_warnings",
            "Warnings that follow from Prometheus's flags",
            self.flag_warnings.clone(),
        );
        to.register("heads", "Snapshots of the head shipped", self.heads.clone());
    }
}
