//! What is to be done next: from what lies in the bucket to steps, without any I/O.
//!
//! A [`Step`] makes one part, of one stream, day and resolution, from blocks and parts, and says which
//! parts it takes the place of. Steps depend on what is committed alone, never on each other, so they
//! can be done in any order and by anybody, given up at any time and planned again.
//!
//! Which samples are where is told by *sources*: the names of the blocks that once came from a
//! Prometheus's head. A block or part that has a source has all of its samples (a part: those of its day).
//! So what is to be converted is a block with a source that no part of that day has, and a part whose
//! sources another one has too can go.

mod convert;
mod derive;
mod world;

use std::collections::BTreeSet;

use periplus_columnar::{Day, Resolution};
use ulid::Ulid;

pub use world::{BlockInfo, DAYS_MAX, PartInfo, Stream, Subject, World, reduced, stream_name};

/// Where samples come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// A TSDB block.
    Block(Ulid),
    /// A part.
    Part(Ulid),
}

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block(id) => write!(f, "block {id}"),
            Self::Part(id) => write!(f, "part {id}"),
        }
    }
}

/// How a part is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// From a block that arrived, with or without parts of the same day.
    Convert,
    /// From several parts of one day.
    Merge,
    /// From the parts of several replicas.
    Deduplicate,
    /// From a finer resolution.
    Downsample,
    /// From the part as it was, less what is to be gone.
    Erase,
}

impl Kind {
    /// A word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::Merge => "merge",
            Self::Deduplicate => "deduplicate",
            Self::Downsample => "downsample",
            Self::Erase => "erase",
        }
    }
}

/// One part to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How.
    pub kind: Kind,
    /// Whose: external labels, less the replica labels where replicas are merged.
    pub stream: Stream,
    /// The labels that were taken out of `stream`.
    pub replica_labels: Vec<String>,
    /// The day.
    pub day: Day,
    /// What its samples will stand for.
    pub resolution: Resolution,
    /// What it is made from.
    pub inputs: Vec<Input>,
    /// The sources that will be in it.
    pub sources: BTreeSet<Ulid>,
    /// The parts that go when it is there.
    pub replaces: Vec<Ulid>,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// External labels that tell replicas apart; none: replicas are not merged.
    pub replica_labels: Vec<String>,
    /// How long after its end a day is taken for complete: then its parts are merged into one.
    pub settle_ms: i64,
    /// How many parts a day may have before they are merged earlier.
    pub parts_max: usize,
    /// Whether to make 5 m and 1 h.
    pub downsample: bool,
    /// What is too old to be made any more.
    pub retention: crate::retention::Retention,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            replica_labels: Vec::new(),
            settle_ms: 3 * 3_600_000,
            parts_max: 6,
            downsample: true,
            retention: crate::retention::Retention::default(),
        }
    }
}

/// All steps that can be done now, oldest day first and finer resolutions before coarser ones.
#[must_use]
pub fn steps(world: &World, policy: &Policy) -> Vec<Step> {
    let index = world::Index::new(world);
    let mut steps = convert::steps(&index, policy);
    let busy: BTreeSet<_> = steps.iter().map(|s| (s.stream.clone(), s.resolution, s.day)).collect();
    steps.extend(derive::steps(&index, policy, &busy));
    steps.sort_by(|a, b| {
        (a.day, a.resolution, a.kind, &a.stream).cmp(&(b.day, b.resolution, b.kind, &b.stream))
    });
    steps
}

#[cfg(test)]
mod tests;
