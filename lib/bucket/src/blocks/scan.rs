//! All blocks of a bucket.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures::StreamExt;
use futures::stream;
use ulid::Ulid;

use crate::blocks::marks::{self, Mark, MarkKind};
use crate::blocks::meta::{BlockMeta, META_BYTES_MAX};
use crate::blocks::{Progress, Silent};
use crate::bucket::{Bucket, Entry};
use crate::error::BucketError;
use crate::key::{Key, parse_ulid};

/// Blocks that are looked at at a time.
const AT_A_TIME: usize = 16;

/// A block's directory and what is in it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub id: Ulid,
    /// Its description; a sentence where it has none that can be read.
    pub meta: Result<BlockMeta, MetaProblem>,
    /// Its marks.
    pub marks: BTreeMap<MarkKind, Mark>,
    /// Its objects, by name.
    pub objects: Vec<Entry>,
}

/// Why a block has no description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaProblem {
    /// There is no `meta.json`: an upload that is under way or was given up, or a deletion that was.
    Partial,
    /// There is one that makes no sense.
    Malformed(String),
}

impl Found {
    /// Bytes of all its objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|o| o.size).fold(0, u64::saturating_add)
    }

    /// When its newest object was put.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        self.objects.iter().map(|o| o.modified).max()
    }

    /// An object by its path in the block.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<&Entry> {
        let block = Key::block(self.id);
        self.objects.iter().find(|o| o.key.within(&block) == Some(path))
    }
}

/// The names of all blocks' directories, in order, which is the order in which they were made.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn names(bucket: &Bucket) -> Result<Vec<Ulid>, BucketError> {
    let listing = bucket.list_directory(&Key::ROOT).await?;
    let mut ids: Vec<_> =
        listing.directories.iter().filter_map(|d| parse_ulid(d.as_str())).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// A block's description; `None`: it has none.
///
/// # Errors
/// It makes no sense; the store refuses or does not answer.
pub async fn meta(bucket: &Bucket, id: Ulid) -> Result<Option<BlockMeta>, BucketError> {
    let key = Key::block_meta(id);
    let Some((bytes, _)) = bucket.get(&key, META_BYTES_MAX).await? else { return Ok(None) };
    BlockMeta::parse(id, &bytes).map(Some).map_err(|e| bucket.malformed(&key, e))
}

/// One block, looked at whole.
///
/// # Errors
/// The store refuses or does not answer. What is wrong with the block itself is in the answer.
pub async fn block(bucket: &Bucket, id: Ulid) -> Result<Found, BucketError> {
    let mut objects = bucket.list_all(&Key::block(id)).await?;
    // Some stores keep an empty object for a directory.
    objects.retain(|o| o.key.as_str() != id.to_string());
    let mut found = Found { id, meta: Err(MetaProblem::Partial), marks: BTreeMap::new(), objects };
    // Asked for even where the list lacks it: some stores list late what they have.
    found.meta = match meta(bucket, id).await {
        Ok(Some(meta)) => Ok(meta),
        Ok(None) => Err(MetaProblem::Partial),
        Err(BucketError::Malformed { reason, .. } | BucketError::Differs { reason, .. }) => {
            Err(MetaProblem::Malformed(reason))
        }
        Err(BucketError::TooLarge { size, .. }) => {
            Err(MetaProblem::Malformed(format!("it has {size} bytes")))
        }
        Err(error) => return Err(error),
    };
    for kind in MarkKind::ALL {
        if found.object(kind.file()).is_none() {
            continue;
        }
        match marks::read(bucket, id, kind).await {
            Ok(Some(mark)) => drop(found.marks.insert(kind, mark)),
            Ok(None) => {}
            Err(BucketError::Malformed { reason, .. }) => {
                tracing::warn!(block = %id, file = kind.file(), reason, "a mark that makes no sense");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// All blocks, in order of their names.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn blocks(bucket: &Bucket) -> Result<Vec<Found>, BucketError> {
    blocks_with(bucket, &mut Silent).await
}

/// The same, telling how far it is.
///
/// # Errors
/// As [`blocks`].
pub async fn blocks_with(
    bucket: &Bucket,
    progress: &mut dyn Progress,
) -> Result<Vec<Found>, BucketError> {
    let ids = names(bucket).await?;
    progress.more(ids.len() as u64);
    let mut looked = stream::iter(ids).map(|id| block(bucket, id)).buffered(AT_A_TIME);
    let mut found = Vec::new();
    while let Some(one) = looked.next().await {
        let one = one?;
        progress.step(&one.id.to_string());
        // A directory that is listed but empty: deleted a moment ago.
        if !one.objects.is_empty() || one.meta.is_ok() {
            found.push(one);
        }
    }
    Ok(found)
}
