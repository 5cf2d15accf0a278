//! Deletes blocks: those marked for it long enough ago, and uploads that were given up.
//!
//! A block goes in an order that never leaves something that looks whole: `meta.json` first, the
//! deletion mark last, so that a deletion that breaks off is found again and finished.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use ulid::Ulid;

use crate::blocks::Progress;
use crate::blocks::marks::MarkKind;
use crate::blocks::scan::{Found, MetaProblem};
use crate::bucket::Bucket;
use crate::error::BucketError;
use crate::key::Key;

/// What to delete.
#[derive(Clone, Copy, Debug)]
pub struct CleanupOptions {
    /// Marked blocks stay for this long after the mark was made, for readers that still use them.
    pub delete_delay: Duration,
    /// A directory without `meta.json` stays for this long after its newest object was put: an
    /// upload may be under way. `None`: they stay.
    pub partial_delay: Option<Duration>,
    /// Only say what would be deleted.
    pub dry_run: bool,
}

impl Default for CleanupOptions {
    fn default() -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        Self { delete_delay: hours(48), partial_delay: Some(hours(48)), dry_run: false }
    }
}

/// A block that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Which.
    pub block: Ulid,
    /// `marked` or `partial`.
    pub why: &'static str,
    /// Its objects.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Which blocks are to go now.
#[must_use]
pub fn plan(all: &[Found], options: &CleanupOptions, now: SystemTime) -> Vec<Removal> {
    let is_older =
        |time: SystemTime, delay: Duration| now.duration_since(time).is_ok_and(|age| age >= delay);
    let mut removals = Vec::new();
    for found in all {
        let marked = found.marks.get(&MarkKind::Deletion).map(|mark| {
            let seconds = u64::try_from(mark.time()).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(1 << 40))
        });
        let is_partial = found.meta == Err(MetaProblem::Partial);
        let why = if marked.is_some_and(|at| is_older(at, options.delete_delay)) {
            "marked"
        } else if is_partial
            && let (Some(delay), Some(at)) = (options.partial_delay, found.modified())
            && is_older(at, delay)
        {
            "partial"
        } else {
            continue;
        };
        let (objects, bytes) = (found.objects.len(), found.bytes());
        removals.push(Removal { block: found.id, why, objects, bytes });
    }
    removals
}

/// Carries a plan out.
///
/// # Errors
/// The store refuses or does not answer; what was not deleted is found again next time.
pub async fn run(
    bucket: &Bucket,
    removals: &[Removal],
    progress: &mut dyn Progress,
) -> Result<(), BucketError> {
    progress.more(removals.len() as u64);
    for removal in removals {
        delete_block(bucket, removal.block).await?;
        progress.step(&removal.block.to_string());
    }
    Ok(())
}

/// Deletes a block, whatever its marks.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn delete_block(bucket: &Bucket, id: Ulid) -> Result<(), BucketError> {
    bucket.delete(&Key::block_meta(id)).await?;
    let mark = MarkKind::Deletion.key(id)?;
    for entry in bucket.list_all(&Key::block(id)).await? {
        if entry.key != mark {
            bucket.delete(&entry.key).await?;
        }
    }
    bucket.delete(&mark).await
}
