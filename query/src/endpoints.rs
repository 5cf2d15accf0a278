//! Who can be asked: endpoints, what stands behind them, and how they are.
//!
//! In order: addresses are found ([`discover`]: flags, files, DNS); every address is asked what streams it
//! has, again and again ([`probe`]: `Describe`, or `thanos.info.Info` where there is none); what was seen
//! is remembered across restarts (`known`); and all of it together is a [`Snapshot`], which queries plan
//! over without a lock.
//!
//! The one decision worth knowing: a stream that was once seen stays in the fleet until it is
//! forgotten on purpose or by age. When its endpoint is down or gone, it is a part of the fleet that nobody
//! can answer for, so every query that it could matter to names it.

pub mod discover;
mod known;
pub mod probe;
mod registry;
mod snapshot;

pub use registry::{Registry, RegistryConfig};
pub use snapshot::{Missing, Snapshot};

use std::time::{SystemTime, UNIX_EPOCH};

use periplus_model::{Labels, TimeRange};
use tonic::transport::Channel;

/// What kind of endpoint it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It has never answered.
    #[default]
    Unknown,
    /// A periplus sidecar.
    Sidecar,
    /// A periplus query layer: a tier below this one.
    Query,
    /// A Thanos endpoint, which gives series only.
    Thanos,
}

impl Kind {
    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Sidecar => "sidecar",
            Self::Query => "query",
            Self::Thanos => "thanos",
        }
    }
}

/// One Prometheus behind an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamInfo {
    /// Its external labels, replica labels included.
    pub labels: Labels,
    /// What can be asked for.
    pub available: TimeRange,
    /// Times without samples.
    pub gaps: Vec<TimeRange>,
    /// What is wrong with it; empty when nothing is.
    pub problem: String,
    /// Since when, Unix milliseconds.
    pub problem_since_ms: i64,
    /// Age of its newest sample in milliseconds; -1 when unknown.
    pub lag_ms: i64,
    /// Version of the Prometheus.
    pub version: String,
    /// Address of the endpoint that holds it, as the nearest tier knows it.
    pub address: String,
    /// External labels that some of its series carry themselves.
    pub shadowed: Vec<String>,
    /// Series in its head.
    pub head_series: u64,
}

/// How an endpoint is, as of its last answer or failure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// What kind of endpoint.
    pub kind: Kind,
    /// Its version.
    pub version: String,
    /// What stands behind it, as last told.
    pub streams: Vec<StreamInfo>,
    /// Whether the last question was answered.
    pub up: bool,
    /// Since when it is as it is (up or down), Unix milliseconds.
    pub since_ms: i64,
    /// When it was last asked, Unix milliseconds; 0: not yet.
    pub checked_ms: i64,
    /// What went wrong last, empty when nothing did. Kept after recovery, for people.
    pub last_error: String,
    /// Why it is not used although it answers.
    pub refused: Option<String>,
}

/// An endpoint and its connection.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `host:port` as discovered.
    pub address: String,
    /// The one connection to it; `None` for an endpoint that is only remembered.
    pub channel: Option<Channel>,
    /// How it is.
    pub status: Status,
}

/// The present, in Unix milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
