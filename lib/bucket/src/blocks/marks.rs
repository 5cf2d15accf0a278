//! Marks: small files beside a block that say what is to happen with it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::bucket::Bucket;
use crate::error::BucketError;
use crate::key::Key;

/// A larger mark is refused.
const MARK_BYTES_MAX: u64 = 64 << 10;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MarkKind {
    /// To be deleted, a while after the mark was made.
    Deletion,
    /// Not to be compacted.
    NoCompact,
    /// Not to be downsampled.
    NoDownsample,
}

impl MarkKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deletion, Self::NoCompact, Self::NoDownsample];

    /// The mark's file in the block's directory.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Deletion => "deletion-mark.json",
            Self::NoCompact => "no-compact-mark.json",
            Self::NoDownsample => "no-downsample-mark.json",
        }
    }

    /// Its key.
    ///
    /// # Errors
    /// Never: file names are plain.
    pub fn key(self, id: Ulid) -> Result<Key, BucketError> {
        Ok(Key::block_file(id, self.file())?)
    }
}

/// A mark's content, of all kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The block.
    pub id: Ulid,
    /// 1.
    pub version: u64,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When it was marked, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_time: Option<i64>,
    /// When it was marked, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_compact_time: Option<i64>,
    /// When it was marked, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_downsample_time: Option<i64>,
    /// Why, for programs: `manual`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Mark {
    /// When it was made, seconds since 1970.
    #[must_use]
    pub fn time(&self) -> i64 {
        self.deletion_time.or(self.no_compact_time).or(self.no_downsample_time).unwrap_or(0)
    }
}

/// Marks a block. A mark that is there stays, with its time.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn mark(
    bucket: &Bucket,
    id: Ulid,
    kind: MarkKind,
    details: &str,
) -> Result<(), BucketError> {
    let key = kind.key(id)?;
    if bucket.stat(&key).await?.is_some() {
        return Ok(());
    }
    let now = jiff::Timestamp::now().as_second();
    let mark = Mark {
        id,
        version: 1,
        details: details.to_owned(),
        deletion_time: (kind == MarkKind::Deletion).then_some(now),
        no_compact_time: (kind == MarkKind::NoCompact).then_some(now),
        no_downsample_time: (kind == MarkKind::NoDownsample).then_some(now),
        reason: (kind != MarkKind::Deletion).then(|| "manual".to_owned()),
    };
    let text = serde_json::to_vec(&mark).map_err(|e| bucket.malformed(&key, e))?;
    bucket.put(&key, Bytes::from(text)).await
}

/// Takes a mark away; there may be none.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn unmark(bucket: &Bucket, id: Ulid, kind: MarkKind) -> Result<(), BucketError> {
    bucket.delete(&kind.key(id)?).await
}

/// A block's mark; `None`: there is none.
///
/// # Errors
/// It is malformed; the store refuses or does not answer.
pub async fn read(bucket: &Bucket, id: Ulid, kind: MarkKind) -> Result<Option<Mark>, BucketError> {
    let key = kind.key(id)?;
    let Some((bytes, _)) = bucket.get(&key, MARK_BYTES_MAX).await? else { return Ok(None) };
    let mark: Mark = serde_json::from_slice(&bytes).map_err(|e| bucket.malformed(&key, e))?;
    if mark.id != id || mark.version != 1 {
        return Err(bucket.malformed(&key, "it is of another block or version"));
    }
    Ok(Some(mark))
}
