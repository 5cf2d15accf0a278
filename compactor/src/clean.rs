//! What nobody needs any more goes, each after its delay.
//!
//! Blocks that were marked for deletion and uploads that were given up, as `periplus bucket cleanup` deletes
//! them; files of parts that others took the place of, once no reader of an older catalog can ask for
//! them; objects that no catalog ever named, left by one that was killed. Blocks whose own retention is
//! over, and that are converted, get Thanos's deletion mark.

use std::collections::BTreeSet;
use std::time::SystemTime;

use periplus_bucket::blocks::cleanup::{self, CleanupOptions};
use periplus_bucket::blocks::marks::{self, MarkKind};
use periplus_bucket::blocks::scan::Found;
use periplus_bucket::lease::Held;
use ulid::Ulid;

use crate::committed;
use crate::metrics::Done;
use crate::plan::{BlockInfo, Policy, Subject, World};
use crate::retention::Retention;
use crate::service::Compactor;
use crate::work::WorkError;

/// What was cleaned up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Blocks that got a deletion mark.
    pub marked: usize,
    /// Blocks that were deleted.
    pub blocks: usize,
    /// Parts whose files were deleted.
    pub parts: usize,
    /// Objects that nothing named.
    pub orphans: usize,
}

impl Cleaned {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.marked += other.marked;
        self.blocks += other.blocks;
        self.parts += other.parts;
        self.orphans += other.orphans;
    }
}

/// The blocks whose retention is over and that are not needed any more: every day of them is in parts, or
/// too old to be made.
#[must_use]
pub fn over(world: &World, policy: &Policy, retention: &Retention) -> Vec<Ulid> {
    let is_over = |b: &BlockInfo| {
        let last = periplus_columnar::Day::of_ms(b.max_t);
        retention.is_over(&b.stream, b.resolution, last, world.now_ms)
    };
    let is_done = |b: &BlockInfo| {
        b.days().all(|day| {
            let parts = world.parts.iter().filter(|p| {
                let is_good = !world.quarantined.contains(&Subject::Part(p.id));
                is_good && p.stream == b.stream && p.day == day && p.resolution == b.resolution
            });
            let there: BTreeSet<Ulid> = parts.flat_map(|p| p.sources.iter().copied()).collect();
            b.sources.is_subset(&there)
                || policy.retention.is_over(&b.stream, b.resolution, day, world.now_ms)
        })
    };
    let blocks = world.blocks.iter().filter(|b| !b.is_going && is_over(b) && is_done(b));
    blocks.map(|b| b.id).collect()
}

/// Cleans up, where no other compactor does at the moment. Looking for orphans lists all of the history.
///
/// # Errors
/// The store refuses or does not answer; what was not deleted is found again.
pub(crate) async fn run(
    compactor: &Compactor,
    found: &[Found],
    world: &World,
    with_orphans: bool,
) -> Result<Cleaned, WorkError> {
    let mut cleaned = Cleaned::default();
    let (bucket, config) = (&compactor.bucket, &compactor.config);
    let options = CleanupOptions {
        delete_delay: config.delete_delay,
        partial_delay: config.partial_delay,
        dry_run: false,
    };
    let removals = cleanup::plan(found, &options, SystemTime::now());
    let marks = over(world, &config.policy, &config.block_retention);
    let superseded = committed::superseded(&compactor.catalog, config.delete_delay).await?;
    let orphans = if with_orphans {
        committed::orphans(&compactor.catalog, config.orphan_delay).await?
    } else {
        Vec::new()
    };
    if removals.is_empty() && marks.is_empty() && superseded.is_empty() && orphans.is_empty() {
        return Ok(cleaned);
    }
    let lease = compactor.lease("clean", "cleaning up")?;
    let mut lease = lease.lock().await;
    if let Held::Theirs { .. } = lease.hold().await? {
        return Ok(cleaned);
    }
    for id in marks {
        let why = "converted, and its retention is over";
        marks::mark(bucket, id, MarkKind::Deletion, why).await?;
        cleaned.marked += 1;
    }
    for removal in &removals {
        if let Held::Theirs { .. } = lease.hold().await? {
            return Ok(cleaned);
        }
        tracing::info!(block = %removal.block, why = removal.why, "a block is deleted");
        cleanup::delete_block(bucket, removal.block).await?;
        cleaned.blocks += 1;
    }
    cleaned.parts = committed::delete(&compactor.catalog, bucket, &superseded).await?;
    for key in orphans {
        bucket.delete(&key).await?;
        cleaned.orphans += 1;
    }
    let deleted = &compactor.metrics.deleted;
    for (kind, n) in [
        ("block_mark", cleaned.marked),
        ("block", cleaned.blocks),
        ("part", cleaned.parts),
        ("orphan", cleaned.orphans),
    ] {
        deleted.get_or_create(&Done { kind }).inc_by(n as u64);
    }
    lease.release().await?;
    Ok(cleaned)
}
