//! Which conditional puts a store really has.
//!
//! Stores that speak S3 differ: some have both headers, some ignore them, and some refuse them. So it
//! is tried out with one small object under `periplus/probe/`, which is deleted again. Five
//! requests, once per process and bucket, and only where somebody needs a conditional put.
//!
//! | store | create | update |
//! |---|---|---|
//! | memory, GCS, Azure, AWS S3 | yes | yes |
//! | local directory | yes (hard link) | no |
//! | others that speak S3 | tried out | tried out |
//!
//! Where one is missing, [`crate::Bucket`] looks, puts, waits and looks again: enough to keep two
//! processes apart that were started by mistake, not a lock for a hot path.

use bytes::Bytes;
use object_store::{PutMode, PutOptions, PutPayload, UpdateVersion};
use ulid::Ulid;

use crate::bucket::Bucket;
use crate::error::{BucketError, Kind};
use crate::key::Key;

/// What a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditional {
    /// A put that fails where there is an object already.
    pub create: bool,
    /// A put that fails where the object is another version.
    pub update: bool,
}

/// Tries it out.
///
/// # Errors
/// The store refuses to be written to, or does not answer.
pub(crate) async fn detect(bucket: &Bucket) -> Result<Conditional, BucketError> {
    let key = Key::parse(&format!("periplus/probe/{}", Ulid::generate()))?;
    bucket.put(&key, Bytes::from_static(b"conditional puts, tried out")).await?;
    let create = is_refused(bucket, &key, PutMode::Create).await?;
    let update = match bucket.stat(&key).await {
        // Both: another version is refused, and the right one is taken.
        Ok(Some(entry)) if entry.version.e_tag.is_some() => {
            let other = Some("\"00000000000000000000000000000000\"".to_owned());
            // Google's goes by the number, the others by the tag.
            let number = entry.version.number.as_ref().map(|_| "1".to_owned());
            let wrong = UpdateVersion { e_tag: other, version: number };
            let right = UpdateVersion {
                e_tag: entry.version.e_tag.clone(),
                version: entry.version.number.clone(),
            };
            is_refused(bucket, &key, PutMode::Update(wrong)).await?
                && put(bucket, &key, PutMode::Update(right)).await.is_ok()
        }
        _ => false,
    };
    // What stays there harms nobody.
    if let Err(error) = bucket.delete(&key).await {
        tracing::warn!(%error, "the object that tried out conditional puts stays in the bucket");
    }
    let found = Conditional { create, update };
    if !(create && update) {
        tracing::info!(%bucket, ?found, "the bucket lacks conditional puts; falling back to looking twice");
    }
    Ok(found)
}

async fn put(bucket: &Bucket, key: &Key, mode: PutMode) -> Result<(), BucketError> {
    let payload = PutPayload::from_static(b"conditional puts, tried again");
    let put = bucket.object_store().put_opts(&key.path(), payload, PutOptions::from(mode)).await;
    put.map(|_| ()).map_err(|e| bucket.error("put", key, e))
}

/// Whether the store refuses such a put. A store that is away for a moment is asked again: taking
/// that for a no would last as long as the process.
async fn is_refused(bucket: &Bucket, key: &Key, mode: PutMode) -> Result<bool, BucketError> {
    let mut tries = 0;
    loop {
        match put(bucket, key, mode.clone()).await {
            Ok(()) => return Ok(false),
            Err(error) if error.kind().is_passing() && tries < 3 => tries += 1,
            Err(error) if error.kind().is_passing() => return Err(error),
            Err(error) => return Ok(error.kind() == Kind::Conflict),
        }
    }
}
