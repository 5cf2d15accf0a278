//! The historical half: series that lie in a bucket as Parquet, read as if they were one more endpoint.
//!
//! In the order a question takes: [`coverage`] knows, from the catalog alone, which streams and days there
//! are and in which forms; the planner sees the bucket as an endpoint that has gaps where it has nothing,
//! so that a step whose whole window is live is answered live, one whose window is history from here, and
//! only where neither is whole are samples of both merged. [`readable`] writes into each selector what it
//! reads ([`resolution`]). [`select`] finds the series: parts by the catalog's filters, row groups by their
//! statistics and bloom filters, series by their labels ([`open`]). [`fetch`] turns what was found into
//! ranges of bytes, which [`blocks`] gives from memory, from [`disk`] or from the bucket; [`bundle`] decodes
//! them on the engine's workers, series by series, [`aggregate`] and [`stitch`] where they are downsampled.
//! [`source`] hands all of that to the engine. [`days`] keeps the answers of whole days that will not change.
//!
//! It writes nothing to the bucket. A file that can't be read does not end a question: the answer lacks
//! that stream's day, and says so with the file's name and the reason.
//!
//! The one decision worth knowing: the bucket is an endpoint of the fleet. Seams, replicas, strictness and
//! naming who is missing are then what they are between any two endpoints, and need no rules of their own.

pub mod aggregate;
pub mod blocks;
pub mod bundle;
pub mod coverage;
pub mod days;
pub mod disk;
pub mod fetch;
pub mod labels;
pub mod open;
pub mod part;
pub mod readable;
pub mod resolution;
pub mod select;
mod settings;
pub mod source;
pub mod stitch;

pub use settings::{HistoryArgs, HistoryError};
pub use source::BucketSource;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use periplus_bucket::catalog::Catalog;
use periplus_bucket::{Bucket, BucketError};
use periplus_model::Labels;
use tokio_util::sync::CancellationToken;

use crate::endpoints::{Missing, Snapshot, now_ms};
use crate::fanout::Question;
use crate::plan::Fleet;
use blocks::{BlockLimits, Blocks};
use coverage::Coverage;
use days::Days;
use disk::Disk;
use open::Parts;
use part::Part;
use resolution::MaxResolution;
use select::Replicas;

/// How old the catalog may be before its age is part of every answer.
const STALE: Duration = Duration::from_secs(6 * 3600);

/// How history is kept and read.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// Bytes of files kept in memory.
    pub memory_bytes: u64,
    /// Requests to the bucket that run at once.
    pub requests: usize,
    /// Bytes of whole days' answers kept in memory.
    pub answer_bytes: u64,
    /// How often the catalog is looked at.
    pub refresh: Duration,
}

/// What is known of the bucket at one moment.
#[derive(Debug, Default)]
struct Known {
    coverage: Arc<Coverage>,
    /// When the catalog was last read; `None`: never.
    read: Option<Instant>,
    /// Why it could not be read since then, and since when.
    failing: Option<(i64, String)>,
}

/// A fleet that the bucket was added to, kept because most questions are about the same one.
struct Joined {
    snapshot: Arc<Snapshot>,
    coverage: Arc<Coverage>,
    max: MaxResolution,
    fleet: Arc<Fleet>,
}

struct Shared {
    name: String,
    parts: Parts,
    catalog: Arc<Catalog>,
    days: Days,
    known: ArcSwap<Known>,
    joined: Mutex<Vec<Joined>>,
}

/// A bucket's history. Clones share everything.
#[derive(Clone)]
pub struct History(Arc<Shared>);

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "History({})", self.0.name)
    }
}

/// Fleets kept by [`History::fleet`].
const JOINED_MAX: usize = 8;

impl History {
    /// A bucket's history. Nothing is read yet.
    #[must_use]
    pub fn new(bucket: Bucket, config: &HistoryConfig, disk: Option<Disk>) -> Self {
        let limits = BlockLimits { memory_bytes: config.memory_bytes, requests: config.requests };
        let blocks = Blocks::new(bucket.clone(), limits, disk);
        Self(Arc::new(Shared {
            name: bucket.to_string(),
            parts: Parts::new(blocks, config.memory_bytes / 4),
            catalog: Catalog::new(bucket),
            days: Days::new(config.answer_bytes),
            known: ArcSwap::default(),
            joined: Mutex::default(),
        }))
    }

    /// Reads the catalog; what was known stays when that fails.
    ///
    /// # Errors
    /// The catalog can't be read.
    pub async fn refresh(&self) -> Result<(), BucketError> {
        let read = async {
            let snapshot = self.0.catalog.snapshot(Duration::ZERO).await?;
            snapshot.all_parts().await
        };
        let before = self.0.known.load_full();
        match read.await {
            Ok(parts) => {
                let coverage = Arc::new(Coverage::new(self.checked(&parts)));
                let read = Some(Instant::now());
                self.0.known.store(Arc::new(Known { coverage, read, failing: None }));
                Ok(())
            }
            Err(error) => {
                let since = before.failing.as_ref().map_or_else(now_ms, |(since, _)| *since);
                self.0.known.store(Arc::new(Known {
                    coverage: Arc::clone(&before.coverage),
                    read: before.read,
                    failing: Some((since, error.to_string())),
                }));
                Err(error)
            }
        }
    }

    /// Parts in our form; what can't be is left out, with a word in the log.
    fn checked(&self, entries: &[Arc<periplus_bucket::catalog::Part>]) -> Vec<Arc<Part>> {
        let known = self.0.known.load_full();
        let old = known.coverage.by_id();
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(part) = old.get(&entry.part) {
                out.push(Arc::clone(part));
                continue;
            }
            match Part::new(entry) {
                Ok(part) => out.push(Arc::new(part)),
                Err(why) => {
                    let bucket = &self.0.name;
                    tracing::warn!(%bucket, part = %entry.directory, why, "a part is not used");
                }
            }
        }
        out
    }

    /// Reads the catalog again and again until the token ends it.
    pub async fn follow(self, every: Duration, end: CancellationToken) {
        loop {
            if let Err(error) = self.refresh().await {
                tracing::warn!(bucket = %self.0.name, %error, "the catalog of history can't be read");
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = end.cancelled() => return,
            }
        }
    }

    /// The bucket as it is known now, for one question.
    #[must_use]
    pub fn reading(&self, max: MaxResolution) -> Arc<Reading> {
        let known = self.0.known.load_full();
        Arc::new(Reading { history: self.clone(), coverage: Arc::clone(&known.coverage), max })
    }

    /// Whether the catalog has been read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.0.known.load().read.is_some()
    }

    /// What every answer lacks because the catalog could not be read for too long.
    #[must_use]
    pub fn missing(&self) -> Option<Missing> {
        let known = self.0.known.load();
        let (since_ms, reason) = match (&known.failing, known.read) {
            (_, Some(read)) if read.elapsed() < STALE => return None,
            (Some((since, why)), _) => {
                (*since, format!("the catalog of history can't be read: {why}"))
            }
            (None, None) => (0, "the catalog of history is not read yet".to_owned()),
            (None, Some(_)) => return None,
        };
        Some(Missing { labels: Labels::empty(), address: self.0.name.clone(), since_ms, reason })
    }

    /// Answers of whole days.
    #[must_use]
    pub fn days(&self) -> &Days {
        &self.0.days
    }

    /// Bytes of files, and what was done to get them.
    #[must_use]
    pub fn blocks(&self) -> &Blocks {
        &self.0.parts.blocks
    }
}

/// The bucket as one question sees it; what others commit meanwhile does not change it.
pub struct Reading {
    history: History,
    coverage: Arc<Coverage>,
    max: MaxResolution,
}

impl Reading {
    /// The bucket's history.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What the bucket is called in answers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.history.0.name
    }

    /// What there is.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Opens parts.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.history.0.parts
    }

    /// How coarse samples may be.
    #[must_use]
    pub fn max(&self) -> MaxResolution {
        self.max
    }

    /// The external labels of a stream.
    #[must_use]
    pub fn external_of(&self, stream: usize) -> Labels {
        self.coverage.streams().get(stream).map(|s| s.external.clone()).unwrap_or_default()
    }

    /// The fleet of a snapshot with the bucket as one more endpoint.
    #[must_use]
    pub fn fleet(&self, snapshot: &Arc<Snapshot>, replica_labels: &[String]) -> Arc<Fleet> {
        let mut joined = self.history.0.joined.lock();
        let same = |j: &&Joined| {
            Arc::ptr_eq(&j.snapshot, snapshot)
                && Arc::ptr_eq(&j.coverage, &self.coverage)
                && j.max == self.max
                && j.fleet.replica_labels == replica_labels
        };
        if let Some(j) = joined.iter().find(same) {
            return Arc::clone(&j.fleet);
        }
        let held = self.coverage.held(snapshot.endpoints.len(), replica_labels, self.max);
        let fleet = snapshot.fleet_with_history(replica_labels, held);
        if joined.len() >= JOINED_MAX {
            joined.remove(0);
        }
        joined.push(Joined {
            snapshot: Arc::clone(snapshot),
            coverage: Arc::clone(&self.coverage),
            max: self.max,
            fleet: Arc::clone(&fleet),
        });
        fleet
    }
}

/// The streams of some parts of the fleet as the bucket has them.
#[must_use]
pub fn fleet_streams(
    q: &Question,
    reading: &Reading,
    parts: impl Iterator<Item = usize>,
) -> Vec<Replicas> {
    let parts = parts.filter_map(|p| q.fleet.parts.get(p));
    let streams = parts.flat_map(|p| &p.streams).filter_map(|s| q.fleet.streams.get(*s));
    let replicas = streams.map(|s| {
        let held = s.holders.iter().filter(|h| q.is_history(h.endpoint));
        let mut own: Vec<usize> = held
            .flat_map(|h| reading.coverage().under(&h.external, &q.fleet.replica_labels))
            .collect();
        own.sort_unstable();
        own.dedup();
        Replicas { labels: s.labels.clone(), streams: own }
    });
    replicas.filter(|r| !r.streams.is_empty()).collect()
}
