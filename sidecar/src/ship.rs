//! Ships Prometheus's blocks to a bucket, bit for bit, in Thanos's layout.
//!
//! In the order a block takes: [`local`] finds it in Prometheus's data directory; [`select`] decides
//! whether it is to be shipped; [`stream`] makes sure that nobody else ships this stream; `upload`
//! links it, sends chunks, index and at last `meta.json`, and verifies each; [`state`] remembers it,
//! in the file Thanos's shipper and Prometheus's delayed compaction know. [`shipper`] runs all of it
//! again and again, [`head`] adds snapshots of what is no block yet. [`destination`] is where blocks
//! go: a bucket, or in time the query side, for a cluster without a route to the bucket.
//! [`prometheus`] asks Prometheus for its flags and snapshots, [`metrics`] tells how it goes.
//!
//! Local blocks are only read. What is deleted locally are links and snapshots that were made here.
//!
//! The one decision worth knowing: nothing is decided by what this process remembers. Every step can
//! be its last, and the next start looks at the bucket: a block is there when its `meta.json` is, its
//! files are there when they verify, and the file of shipped blocks only saves asking.

pub mod config;
pub mod destination;
pub mod head;
pub mod local;
pub mod metrics;
pub mod prometheus;
pub mod select;
pub mod shipper;
pub mod state;
pub mod stream;
mod upload;

pub use config::{ShipArgs, ShipConfig, build};
pub use destination::{BucketDestination, Destination};
pub use shipper::{Report, Shipper};

use std::path::Path;
use std::time::Duration;

use periplus_bucket::{BucketError, Kind};
use ulid::Ulid;

/// What keeps blocks from being shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The destination refuses or does not answer.
    #[error(transparent)]
    Destination(#[from] BucketError),
    /// A file or directory beside Prometheus's blocks.
    #[error("{operation} {path}: {source}{}", remedy(source))]
    Local {
        /// What was done.
        operation: &'static str,
        /// With what.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another sidecar ships this stream.
    #[error(
        "stream {stream} is shipped by another sidecar ({owner}); two would double every block. Give \
         each Prometheus external labels of its own (replicas: a replica label), or stop the other \
         one; if it is gone for good, this one takes over in {free_in:?}"
    )]
    Owned {
        /// The external labels.
        stream: String,
        /// What the other one says about itself.
        owner: String,
        /// When it may take over.
        free_in: Duration,
    },
    /// Another process uses this data directory.
    #[error("{path} is locked: another sidecar ships from this data directory")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// Prometheus has no external labels.
    #[error(
        "Prometheus has no external labels; blocks of different servers could not be told apart in \
         the bucket. Set global.external_labels, for example `cluster: NAME`"
    )]
    NoLabels,
    /// A block of that name is in the bucket, as somebody else's.
    #[error("block {block} is in {destination} as part of stream {theirs}, not of {ours}")]
    OtherStream {
        /// The block.
        block: Ulid,
        /// Where.
        destination: String,
        /// Its labels there.
        theirs: String,
        /// The labels here.
        ours: String,
    },
    /// A block that makes no sense.
    #[error("block {block}: {reason}")]
    BadBlock {
        /// The block.
        block: Ulid,
        /// What is wrong with it.
        reason: String,
    },
    /// Prometheus does not do what is needed.
    #[error("Prometheus: {0}")]
    Prometheus(String),
    /// Settings that make no sense.
    #[error("{0}")]
    Config(String),
}

fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
            " (the sidecar links blocks before it reads them: it needs to write to Prometheus's data \
             directory, as the same user)"
        }
        _ => "",
    }
}

impl ShipError {
    pub(crate) fn local(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Local { operation, path: path.display().to_string(), source }
    }

    /// A word for metrics, from a fixed list.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Destination(error) => error.kind().as_str(),
            Self::Local { .. } => "local",
            Self::Owned { .. } | Self::Locked { .. } => "owned",
            Self::NoLabels | Self::Config(_) => "config",
            Self::OtherStream { .. } => "other_stream",
            Self::BadBlock { .. } => "bad_block",
            Self::Prometheus(_) => "prometheus",
        }
    }

    /// Whether it is about one block only, so that the others can go on.
    #[must_use]
    pub fn is_about_one_block(&self) -> bool {
        match self {
            Self::OtherStream { .. } | Self::BadBlock { .. } => true,
            Self::Destination(error) => error.kind() == Kind::Corrupt,
            _ => false,
        }
    }
}
