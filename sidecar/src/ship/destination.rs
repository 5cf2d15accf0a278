//! Where blocks go.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use periplus_bucket::blocks::cleanup::delete_block;
use periplus_bucket::blocks::marks::{self, MarkKind};
use periplus_bucket::blocks::meta::BlockMeta;
use periplus_bucket::blocks::scan;
use periplus_bucket::lease::{Held, Lease};
use periplus_bucket::upload::{Sent, UploadOptions, Uploader};
use periplus_bucket::{Bucket, BucketError, Key, Kind};
use tokio::sync::Mutex;
use ulid::Ulid;

/// Who wants to ship what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamClaim {
    /// Names the stream's lease; from its labels.
    pub key: Key,
    /// The labels, for people.
    pub stream: String,
    /// Who; the same after a restart.
    pub owner: String,
    /// Who, for people.
    pub about: String,
    /// For how long a claim is valid.
    pub ttl: Duration,
}

/// A place that takes blocks.
///
/// What was put is there for every later call, also of another process (read after write, list after
/// write). A call that fails may have been carried out. Nothing is visible half-done, except that a
/// block without `meta.json` may have any of its files.
#[async_trait]
pub trait Destination: Debug + Send + Sync {
    /// For people.
    fn name(&self) -> String;

    /// Takes the stream, keeps it, or tells who has it. Asked before anything is put, and often
    /// enough to keep it.
    async fn hold(&self, claim: &StreamClaim) -> Result<Held, BucketError>;

    /// Gives the stream back, so that the next owner need not wait.
    async fn release(&self) -> Result<(), BucketError>;

    /// Names of all blocks, whole or not.
    async fn blocks(&self) -> Result<Vec<Ulid>, BucketError>;

    /// A block's description; `None`: it is not there, or not whole.
    async fn meta(&self, block: Ulid) -> Result<Option<BlockMeta>, BucketError>;

    /// Makes sure that a file of a block is there, and verifies it.
    async fn put_file(&self, block: Ulid, path: &str, file: &Path) -> Result<Sent, BucketError>;

    /// Puts a block's `meta.json`, and reads it back.
    async fn put_meta(&self, block: Ulid, bytes: Bytes) -> Result<(), BucketError>;

    /// Marks a block; a mark that is there stays.
    async fn mark(&self, block: Ulid, kind: MarkKind, details: &str) -> Result<(), BucketError>;

    /// Deletes a block.
    async fn delete(&self, block: Ulid) -> Result<(), BucketError>;
}

/// A bucket as the destination.
#[derive(Debug)]
pub struct BucketDestination {
    bucket: Bucket,
    uploader: Uploader,
    lease: Mutex<Option<(StreamClaim, Lease)>>,
}

impl BucketDestination {
    /// Ships to a bucket.
    #[must_use]
    pub fn new(bucket: Bucket, options: UploadOptions) -> Self {
        Self { bucket, uploader: Uploader::new(options), lease: Mutex::new(None) }
    }
}

#[async_trait]
impl Destination for BucketDestination {
    fn name(&self) -> String {
        self.bucket.to_string()
    }

    async fn hold(&self, claim: &StreamClaim) -> Result<Held, BucketError> {
        let mut held = self.lease.lock().await;
        match &mut *held {
            Some((of, lease)) if of == claim => lease.hold().await,
            other => {
                // The labels changed: the old stream is free.
                if let Some((_, mut lease)) = other.take() {
                    lease.release().await?;
                }
                let StreamClaim { key, stream, owner, about, ttl } = claim.clone();
                let lease = Lease::new(self.bucket.clone(), key, &owner, &about, &stream, ttl);
                other.insert((claim.clone(), lease)).1.hold().await
            }
        }
    }

    async fn release(&self) -> Result<(), BucketError> {
        match self.lease.lock().await.take() {
            Some((_, mut lease)) => lease.release().await,
            None => Ok(()),
        }
    }

    async fn blocks(&self) -> Result<Vec<Ulid>, BucketError> {
        scan::names(&self.bucket).await
    }

    async fn meta(&self, block: Ulid) -> Result<Option<BlockMeta>, BucketError> {
        scan::meta(&self.bucket, block).await
    }

    async fn put_file(&self, block: Ulid, path: &str, file: &Path) -> Result<Sent, BucketError> {
        self.uploader.put_file(&self.bucket, &Key::block_file(block, path)?, file).await
    }

    async fn put_meta(&self, block: Ulid, bytes: Bytes) -> Result<(), BucketError> {
        let key = Key::block_meta(block);
        let mut tries = 0;
        loop {
            self.bucket.put(&key, bytes.clone()).await?;
            let error = match self.bucket.get(&key, bytes.len() as u64).await {
                Ok(Some((there, _))) if there == bytes => return Ok(()),
                Ok(_) => self.bucket.malformed(&key, "what was put is not what is there"),
                Err(error) => error,
            };
            tries += 1;
            if tries >= 3 || !matches!(error.kind(), Kind::Corrupt | Kind::Invalid) {
                return Err(error);
            }
        }
    }

    async fn mark(&self, block: Ulid, kind: MarkKind, details: &str) -> Result<(), BucketError> {
        marks::mark(&self.bucket, block, kind, details).await
    }

    async fn delete(&self, block: Ulid) -> Result<(), BucketError> {
        delete_block(&self.bucket, block).await
    }
}
