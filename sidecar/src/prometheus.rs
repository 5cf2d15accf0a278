//! The Prometheus this sidecar stands beside: what it is, how it is, and what it holds.
//!
//! [`client`] asks its HTTP API, [`exposition`] reads its own metrics, [`frames`] takes remote read's
//! stream apart, [`answer`] reads query results into columns; [`watch`] keeps a [`Snapshot`] of labels,
//! version, health, time range and gaps current.

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod exposition;
pub(crate) mod frames;
mod gaps;
pub(crate) mod snapshot;
pub(crate) mod watch;

pub(crate) use client::{Client, ClientError};
pub use snapshot::{Snapshot, Version};
pub(crate) use watch::Watch;
