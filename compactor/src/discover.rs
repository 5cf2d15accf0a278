//! What there is: blocks with their marks, parts in the catalog, what is quarantined, what is to be gone.
//!
//! A block's description never changes, so a block is looked at once, and again from time to time for its
//! marks. One that says of itself what its files don't bear out is quarantined, unless it arrived a moment
//! ago: some stores list late what they have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures::{StreamExt as _, stream};
use periplus_bucket::blocks::marks::MarkKind;
use periplus_bucket::blocks::meta::BlockMeta;
use periplus_bucket::blocks::scan::{self, Found, MetaProblem};
use periplus_bucket::blocks::verify;
use periplus_bucket::{Bucket, BucketError};
use periplus_columnar::Resolution;
use ulid::Ulid;

use crate::plan::{BlockInfo, DAYS_MAX};

/// Blocks that are looked at at a time.
const AT_A_TIME: usize = 16;
/// Marks are looked for again in every so many rounds.
const MARKS_EVERY: u64 = 5;
/// A block that arrived less long ago and lacks files may only be listed late.
const ARRIVES_FOR: Duration = Duration::from_secs(600);

/// The blocks of a bucket, known from round to round.
#[derive(Debug, Default)]
pub struct Blocks {
    known: BTreeMap<Ulid, Found>,
    rounds: u64,
}

/// What is to be known of blocks.
#[derive(Debug, Default)]
pub struct Looked {
    /// Those that can be used.
    pub blocks: Vec<BlockInfo>,
    /// Those that are bad: whose they are, as far as they say, and why.
    pub bad: Vec<(Ulid, String, String)>,
    /// Uploads under way or given up.
    pub partial: usize,
}

impl Blocks {
    /// Looks again.
    ///
    /// # Errors
    /// The store refuses or does not answer.
    pub async fn look(&mut self, bucket: &Bucket) -> Result<Looked, BucketError> {
        let names: BTreeSet<Ulid> = scan::names(bucket).await?.into_iter().collect();
        self.known.retain(|id, _| names.contains(id));
        let all = self.rounds.is_multiple_of(MARKS_EVERY);
        let is_new = |id: &Ulid| all || self.known.get(id).is_none_or(|f| problem(f).is_some());
        let look: Vec<Ulid> = names.iter().copied().filter(is_new).collect();
        let mut looked = stream::iter(look).map(|id| scan::block(bucket, id)).buffered(AT_A_TIME);
        while let Some(found) = looked.next().await {
            let found = found?;
            if !found.objects.is_empty() || found.meta.is_ok() {
                self.known.insert(found.id, found);
            }
        }
        drop(looked);
        self.rounds += 1;
        self.described(bucket).await
    }

    async fn described(&mut self, bucket: &Bucket) -> Result<Looked, BucketError> {
        let mut looked = Looked::default();
        for found in self.known.values_mut() {
            let arrives = found.modified().is_some_and(|at| {
                SystemTime::now().duration_since(at).unwrap_or_default() < ARRIVES_FOR
            });
            let reason = match problem(found) {
                Some(Problem::Partial) => {
                    looked.partial += 1;
                    continue;
                }
                Some(Problem::Bad(reason)) => Some(reason),
                None => match lacking(bucket, found).await? {
                    // One list may have been wrong; before a block is set aside it is looked at again.
                    Some(_) => {
                        let again = scan::block(bucket, found.id).await?;
                        if again.meta.is_ok() {
                            *found = again;
                        }
                        lacking(bucket, found).await?
                    }
                    None => None,
                },
            };
            match (reason, described(found)) {
                (None, Some(block)) => looked.blocks.push(block),
                (Some(_), _) if arrives => looked.partial += 1,
                (Some(reason), _) => {
                    let stream = found.meta.as_ref().map(BlockMeta::stream).unwrap_or_default();
                    looked.bad.push((found.id, stream, reason));
                }
                (None, None) => {}
            }
        }
        Ok(looked)
    }

    /// All that was found, for cleaning up.
    pub fn found(&self) -> impl Iterator<Item = &Found> {
        self.known.values()
    }
}

enum Problem {
    Partial,
    Bad(String),
}

fn problem(found: &Found) -> Option<Problem> {
    match &found.meta {
        Err(MetaProblem::Partial) => Some(Problem::Partial),
        Err(MetaProblem::Malformed(reason)) => Some(Problem::Bad(format!("meta.json: {reason}"))),
        Ok(meta) => {
            let days = meta.max_time.saturating_sub(meta.min_time) / periplus_columnar::DAY_MS;
            if days > i64::from(DAYS_MAX) {
                let reason =
                    format!("meta.json: it is for {days} days, at most {DAYS_MAX} are believed");
                return Some(Problem::Bad(reason));
            }
            let resolution = meta.thanos.downsample.resolution;
            Resolution::from_ms(resolution).is_none().then(|| {
                Problem::Bad(format!(
                    "meta.json: a resolution of {resolution} ms; known are raw, 5 m and 1 h"
                ))
            })
        }
    }
}

/// What of its files is missing or has another size.
async fn lacking(bucket: &Bucket, found: &Found) -> Result<Option<String>, BucketError> {
    let problems = verify::block(bucket, found, false).await?;
    let serious = ["missing", "size", "no-index", "no-chunks"];
    let mut reasons = problems.into_iter().filter(|p| serious.contains(&p.kind));
    let first = reasons.next().map(|p| p.details);
    let more = reasons.count();
    Ok(first.map(|first| if more > 0 { format!("{first}, and {more} more") } else { first }))
}

/// A block as planning sees it; `None` for one that is not to be converted: a snapshot of a head, which
/// is replaced before long, and one without series.
fn described(found: &Found) -> Option<BlockInfo> {
    let meta = found.meta.as_ref().ok()?;
    if meta.is_head_snapshot() {
        return None;
    }
    let mut sources: BTreeSet<Ulid> = meta.compaction.sources.iter().copied().collect();
    if sources.is_empty() {
        sources.insert(meta.ulid);
    }
    Some(BlockInfo {
        id: found.id,
        stream: meta.thanos.labels.clone(),
        resolution: Resolution::from_ms(meta.thanos.downsample.resolution)?,
        min_t: meta.min_time,
        // A block without times is one of a single moment.
        max_t: (meta.max_time - 1).max(meta.min_time),
        sources,
        bytes: found.bytes(),
        samples: meta.stats.num_samples,
        is_going: found.marks.contains_key(&MarkKind::Deletion),
        no_compact: found.marks.contains_key(&MarkKind::NoCompact),
        no_downsample: found.marks.contains_key(&MarkKind::NoDownsample),
    })
}
