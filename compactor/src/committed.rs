//! The catalog, as compaction needs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use periplus_bucket::catalog::{Catalog, Change, CommitError, Part, PartRef, Superseded};
use periplus_bucket::{Bucket, Key};
use periplus_columnar::{Day, Resolution};
use ulid::Ulid;

use crate::plan::PartInfo;
use crate::work::WorkError;

/// All committed parts.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// As the catalog has them.
    pub parts: Vec<Arc<Part>>,
    /// The same, in the same order, as planning sees them.
    pub infos: Vec<PartInfo>,
}

impl Committed {
    /// How the catalog calls these parts.
    #[must_use]
    pub fn references(&self, ids: &[Ulid]) -> Vec<PartRef> {
        let named = self.parts.iter().filter(|p| ids.contains(&p.part));
        named.map(|p| p.reference()).collect()
    }
}

/// A part that is to be known, and those it takes the place of.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The part; its files are there.
    pub add: Option<Part>,
    /// The parts that go.
    pub remove: Vec<PartRef>,
}

fn info(part: &Part) -> Option<PartInfo> {
    let resolution = Resolution::ALL.into_iter().find(|r| r.as_str() == part.resolution)?;
    Some(PartInfo {
        id: part.part,
        stream: part.external.clone(),
        replica_labels: part.replica_labels.clone(),
        day: Day(part.day),
        resolution,
        sources: part.sources.iter().copied().collect(),
        inputs: part.inputs.clone(),
        series: part.series,
        bytes: part.bytes(),
    })
}

fn failed(error: CommitError) -> WorkError {
    match error {
        CommitError::Bucket(error) => WorkError::Bucket(error),
        other => WorkError::Catalog(other.to_string()),
    }
}

/// What is committed now.
///
/// # Errors
/// The catalog can't be read.
pub async fn load(catalog: &Arc<Catalog>) -> Result<Committed, WorkError> {
    let parts = catalog.snapshot(Duration::ZERO).await?.all_parts().await?;
    // One of a later version's resolution is left alone.
    let known: Vec<(Arc<Part>, PartInfo)> =
        parts.into_iter().filter_map(|part| info(&part).map(|info| (part, info))).collect();
    let (parts, infos) = known.into_iter().unzip();
    Ok(Committed { parts, infos })
}

/// Commits all of these together. `false`: at least one does not apply any more, for somebody else was
/// first; then none is committed.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn commit(catalog: &Arc<Catalog>, commits: &[Commit]) -> Result<bool, WorkError> {
    let change = Change {
        add: commits.iter().filter_map(|c| c.add.clone()).collect(),
        remove: commits.iter().flat_map(|c| c.remove.clone()).collect(),
        forget: Vec::new(),
    };
    match catalog.commit(&change).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => {
            tracing::info!(%error, "another compactor was first; planned again");
            Ok(false)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Parts that were removed from the catalog so long ago that nobody reads them any more.
///
/// # Errors
/// The catalog can't be read.
pub async fn superseded(
    catalog: &Arc<Catalog>,
    delay: Duration,
) -> Result<Vec<Superseded>, WorkError> {
    let now = jiff::Timestamp::now().as_millisecond();
    let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let mut all = catalog.superseded().await?;
    all.retain(|s| now.saturating_sub(s.since_ms) >= delay);
    Ok(all)
}

/// Deletes the files of removed parts and forgets them; how many.
///
/// # Errors
/// The store refuses or does not answer; the rest is found again.
pub async fn delete(
    catalog: &Arc<Catalog>,
    bucket: &Bucket,
    superseded: &[Superseded],
) -> Result<usize, WorkError> {
    // Nothing that a part in use names is deleted, whatever the catalog says of the other.
    let used: BTreeSet<Key> = load(catalog).await?.parts.iter().flat_map(|p| p.keys()).collect();
    for gone in superseded {
        for key in gone.part.keys() {
            if !used.contains(&key) {
                bucket.delete(&key).await?;
            }
        }
    }
    if !superseded.is_empty() {
        let forget = superseded.iter().map(|s| s.part.reference()).collect();
        let change = Change { forget, ..Change::default() };
        catalog.commit(&change).await.map_err(failed)?;
    }
    Ok(superseded.len())
}

/// Objects of the history that no catalog names, put so long ago that nobody is about to commit them.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn orphans(catalog: &Arc<Catalog>, delay: Duration) -> Result<Vec<Key>, WorkError> {
    let before = SystemTime::now().checked_sub(delay).unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(catalog.orphans(before).await?.into_iter().map(|entry| entry.key).collect())
}
