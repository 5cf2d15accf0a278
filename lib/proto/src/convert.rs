//! Between messages and the words of `periplus-model`: labels, matchers, histograms, chunk encodings.

mod histogram;
mod labels;
mod matcher;

pub use histogram::{
    fleet_histogram_from_wire, fleet_histogram_to_wire, prometheus_histogram_from_wire,
    prometheus_histogram_to_wire,
};
pub use labels::{
    label_set_from_fleet, label_set_to_fleet, labels_from_prometheus, labels_from_thanos,
    labels_to_prometheus, labels_to_thanos,
};
pub use matcher::{
    matchers_from_fleet, matchers_from_prometheus, matchers_from_thanos, matchers_to_fleet,
    matchers_to_prometheus, matchers_to_thanos,
};

use crate::thanos;

/// Thanos's number of a chunk encoding, given the number it has in a block (1: XOR, 2: histogram, …);
/// `None` for a number neither we nor Thanos know.
#[must_use]
pub fn chunk_encoding_to_thanos(block_encoding: i32) -> Option<i32> {
    (1..=6).contains(&block_encoding).then(|| block_encoding - 1)
}

/// The number in a block of Thanos's chunk encoding; the inverse of [`chunk_encoding_to_thanos`].
#[must_use]
pub fn chunk_encoding_from_thanos(thanos_encoding: i32) -> Option<u8> {
    thanos::chunk::Encoding::try_from(thanos_encoding).ok()?;
    u8::try_from(thanos_encoding + 1).ok()
}
