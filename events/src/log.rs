//! The hub's write-ahead log: nothing is acknowledged before it is here.
//!
//! In the order a batch takes: [`frame`] puts an [`Entry`] into bytes with a checksum; [`commit`] collects what
//! arrives meanwhile and writes it at once (group commit), gives every event its number, and applies it in
//! that order; [`disk`] keeps segments on the local disk, synchronised before they count; [`shared`] keeps them in
//! the bucket instead, where any hub can go on from them.
//!
//! A log is read leniently and loudly: a torn end is what a crash leaves and is cut off; broken bytes before
//! good ones are skipped, counted, and become a gap that is shown.
//!
//! The one decision worth knowing: numbers are given in the log, not before it. An event's number (its `id`) is the
//! hub's time of receipt in microseconds, made unique and rising; it is in the log, in the Parquet files and in the
//! live stream, so a reader can go on from a number after any restart, on any hub.

pub mod commit;
pub mod disk;
pub mod frame;
pub mod shared;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::store::Row;
use crate::wire::Gap;

/// One accepted batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The cluster; the events' own field is left empty.
    pub cluster: String,
    /// The events, cleaned.
    pub events: Vec<Event>,
    /// The gaps, cleaned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// By place in `events`: the row of the same key that lies in files only. Found out again when the log is read.
    #[serde(skip)]
    pub filed: HashMap<usize, Row>,
}

/// The number of a segment (on disk) or an object (in the bucket). Rising, never used twice.
pub type SegmentId = u64;

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file can't be written or read.
    #[error("{operation} {path}: {source}")]
    File {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bucket can't be written or read.
    #[error("log in the bucket: {0}")]
    Bucket(#[from] periplus_bucket::BucketError),
    /// Another hub writes the log in the bucket.
    #[error("another hub has taken over the log at object {at}; this one stops")]
    Deposed {
        /// Where that was seen.
        at: SegmentId,
    },
    /// The log ended.
    #[error("the log is closed: the hub is ending")]
    Closed,
    /// It is written by a newer version.
    #[error("{path} is in format {format}, this hub knows format {known}: use a newer hub")]
    Format {
        /// Of what.
        path: String,
        /// As it says.
        format: u32,
        /// What is known here.
        known: u32,
    },
}

/// Where a log is kept.
#[derive(Debug)]
pub enum Journal {
    /// On the local disk.
    Disk(disk::DiskLog),
    /// In the bucket.
    Shared(shared::SharedLog),
}

impl Journal {
    /// Writes frames so that they survive whatever happens to this process; gives the segment they are in.
    ///
    /// # Errors
    /// They may or may not be there afterwards; they must not be acknowledged.
    pub fn append(&mut self, frames: &[u8]) -> Result<SegmentId, LogError> {
        match self {
            Self::Disk(log) => log.append(frames),
            Self::Shared(log) => log.append(frames),
        }
    }

    /// Removes the segments below `floor`, whose rows are all elsewhere. What can't be removed stays for the next time.
    pub fn remove_below(&mut self, floor: SegmentId) {
        match self {
            Self::Disk(log) => log.remove_below(floor),
            Self::Shared(log) => log.remove_below(floor),
        }
    }

    /// The segment written to last: everything in those below is applied.
    #[must_use]
    pub fn current(&self) -> SegmentId {
        match self {
            Self::Disk(log) => log.current(),
            Self::Shared(log) => log.current(),
        }
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Disk(log) => log.bytes(),
            Self::Shared(log) => log.bytes(),
        }
    }
}

/// What reading a log found besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes of a torn end: what a crash leaves. They were never acknowledged.
    pub torn_bytes: u64,
    /// Bytes that were skipped before good ones: damage to what was acknowledged.
    pub lost_bytes: u64,
}
