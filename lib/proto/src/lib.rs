//! What goes over the wire, and the only way in from it.
//!
//! Three protocols meet in a fleet. [`prometheus`] is remote read (and write): how a sidecar gets chunks from its
//! Prometheus; [`exposition`] is what a Prometheus scrapes. [`thanos`] is what stores and queriers of the field speak to each other (`thanos.Store`,
//! `thanos.Query`, `thanos.info.Info`), with the same packages, names and field numbers, so that either
//! side may be Thanos's. [`fleet`] is what we need beyond it: who stands behind an endpoint, and the
//! evaluation of a subtree where the data is.
//!
//! In the order data takes: the generated messages, [`convert`] between messages and the words of
//! `periplus-model`, and [`rows`], the columns of results on their way between a sidecar and a query layer.
//! Messages are generated from `proto/` and checked in; a test compares.
//!
//! The one decision worth knowing: nothing received is used before it is checked, and checking is done
//! here, once. A conversion refuses label sets that are unsorted or doubled, references beyond the symbols,
//! columns of the wrong length, histograms whose spans and buckets disagree, and whatever exceeds
//! [`WireLimits`], before memory is taken for it. Bulk data (chunks, columns) is [`bytes::Bytes`], a slice of the
//! message it came in, never a copy.

pub mod convert;
mod error;
pub mod rows;

pub use error::{WireError, WireLimits};
pub use prost_types::Timestamp;

/// Prometheus's remote read: package `prometheus`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod prometheus {
    include!("generated/prometheus.rs");
}

/// Prometheus's exposition in protobuf: package `io.prometheus.client`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod exposition {
    include!("generated/io.prometheus.client.rs");
}

/// Thanos's services: package `thanos`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod thanos {
    include!("generated/thanos.rs");

    /// What an endpoint serves: package `thanos.info`.
    pub mod info {
        include!("generated/thanos.info.rs");
    }
}

/// The fleet protocol: package `periplus.fleet.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod fleet {
    include!("generated/periplus.fleet.v1.rs");
}
