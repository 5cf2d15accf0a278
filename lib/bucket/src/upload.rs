//! Sends files, in parts, in bounded memory, and verifies them.
//!
//! Each part is hashed as it is read and sent from the same buffer. Parts of all files that are under
//! way share one budget ([`Uploader`]), so memory does not depend on the size of a file or the number
//! of files.
//!
//! Afterwards the store is asked what it has. The size must be right. S3 and its kin make an object's
//! entity tag of the MD5 of its bytes (of its parts' MD5s, where there were parts); where the tag is
//! the one computed here, the store has hashed the same bytes. Where it is anything else (other
//! stores, encryption with customers' keys), the object is read back and its SHA-256 compared.

mod md5_lanes;
mod reader;
mod spare;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use object_store::{ObjectStoreExt, PutPayload};
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::bucket::{Bucket, Entry};
use crate::error::{BucketError, Kind};
use crate::key::Key;
use reader::{Reader, size_of};
use spare::Spare;

/// S3 takes no more.
const PARTS_MAX: u64 = 10_000;
/// How often a file is sent again that arrived differently, or not at all.
const TRIES_MAX: u32 = 3;

/// How files are sent.
#[derive(Clone, Copy, Debug)]
pub struct UploadOptions {
    /// Bytes of a part; S3 wants at least 5 MiB. Larger for files of more than 10,000 parts.
    pub part_bytes: usize,
    /// Parts in memory at a time, over all files.
    pub parts_max: usize,
    /// Bytes a second over all files; 0: as fast as it goes.
    pub bytes_per_second: u64,
    /// Read every object back instead of trusting entity tags.
    pub read_back: bool,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self { part_bytes: 6 << 20, parts_max: 4, bytes_per_second: 0, read_back: false }
    }
}

/// What is known of a file that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Its size.
    pub size: u64,
    /// In lower-case hexadecimal.
    pub sha256: String,
    /// The entity tag S3 gives it when it is sent in these parts, without quotes.
    e_tag: String,
}

/// How it was made sure that an object is what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifiedBy {
    /// The store's own hash.
    EntityTag,
    /// Its bytes.
    ReadBack,
}

/// A file that is in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Of the local file and, verified, of the object.
    pub digest: Digest,
    /// How it was verified.
    pub verified_by: VerifiedBy,
    /// Bytes that went over the wire; 0 where the object was there already.
    pub bytes_sent: u64,
}

/// Sends files within one budget of memory and bandwidth.
#[derive(Debug)]
pub struct Uploader {
    options: UploadOptions,
    parts: Arc<Semaphore>,
    spare: Mutex<Weak<Spare>>,
    pace: Pace,
}

impl Uploader {
    /// An uploader with its budget.
    #[must_use]
    pub fn new(options: UploadOptions) -> Self {
        let parts = Arc::new(Semaphore::new(options.parts_max.max(1)));
        let pace = Pace::new(options.bytes_per_second);
        Self { options, parts, spare: Mutex::default(), pace }
    }

    /// Opens a file to be read in parts.
    fn reader(&self, file: &Path, size: u64) -> Result<Reader, BucketError> {
        let spare = {
            let mut held = self.spare.lock();
            held.upgrade().unwrap_or_else(|| {
                let spare = Arc::new(Spare::default());
                *held = Arc::downgrade(&spare);
                spare
            })
        };
        Reader::open(file, size, self.part_bytes(size), spare)
    }

    /// Bytes of a part of a file of this size.
    fn part_bytes(&self, size: u64) -> usize {
        let least = size.div_ceil(PARTS_MAX);
        self.options.part_bytes.max(usize::try_from(least).unwrap_or(usize::MAX)).max(1)
    }

    /// Makes sure that the object is the file: looks whether it is there, sends it otherwise, and
    /// verifies it.
    ///
    /// # Errors
    /// The file can't be read or changes meanwhile; the store refuses or does not answer; what
    /// arrived differs, again and again.
    pub async fn put_file(
        &self,
        bucket: &Bucket,
        key: &Key,
        file: &Path,
    ) -> Result<Sent, BucketError> {
        let size = size_of(file)?;
        if let Some(there) = bucket.stat(key).await?
            && there.size == size
        {
            let digest = self.digest(file).await?;
            if let Ok(verified_by) = self.verify(bucket, key, &digest).await {
                return Ok(Sent { digest, verified_by, bytes_sent: 0 });
            }
        }
        let mut bytes_sent = 0;
        let mut tries = 0;
        loop {
            let error = match self.send(bucket, key, file, size).await {
                Ok(digest) => {
                    bytes_sent += digest.size;
                    match self.verify(bucket, key, &digest).await {
                        Ok(verified_by) => return Ok(Sent { digest, verified_by, bytes_sent }),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            tries += 1;
            // An upload in parts that is not found was completed by a try whose answer was lost.
            let is_worth_it = error.kind().is_passing()
                || matches!(error, BucketError::Differs { .. })
                || (error.kind() == Kind::NotFound && matches!(error, BucketError::Store { .. }));
            if tries >= TRIES_MAX || !is_worth_it {
                return Err(error);
            }
            tracing::warn!(%error, %key, tries, "sending the file again");
        }
    }

    async fn send(
        &self,
        bucket: &Bucket,
        key: &Key,
        file: &Path,
        size: u64,
    ) -> Result<Digest, BucketError> {
        let mut reader = self.reader(file, size)?;
        if size <= self.part_bytes(size) as u64 {
            let _permit = self.permit().await;
            let (bytes, again) = reader.next().await?;
            reader = again;
            self.pace.wait(bytes.len()).await;
            let put = bucket.object_store().put(&key.path(), PutPayload::from_bytes(bytes)).await;
            put.map_err(|e| bucket.error("put", key, e))?;
            return reader.finish();
        }
        let upload = bucket.object_store().put_multipart(&key.path()).await;
        let mut upload = upload.map_err(|e| bucket.error("put", key, e))?;
        let sent = async {
            // Tasks, so that they go on while the next part is read; they end with this one.
            let mut under_way = JoinSet::new();
            while reader.left() > 0 {
                // A permit is free, or one of this very file's parts must end.
                let permit = loop {
                    tokio::select! {
                        permit = self.permit() => break permit,
                        Some(ended) = under_way.join_next() => check(bucket, key, ended)?,
                    }
                };
                let (bytes, again) = reader.next().await?;
                reader = again;
                self.pace.wait(bytes.len()).await;
                let part = upload.put_part(PutPayload::from_bytes(bytes));
                under_way.spawn(async move {
                    let ended = part.await;
                    drop(permit);
                    ended
                });
            }
            while let Some(ended) = under_way.join_next().await {
                check(bucket, key, ended)?;
            }
            reader.finish()
        };
        let sent = match sent.await {
            Ok(digest) => match upload.complete().await {
                Ok(_) => Ok(digest),
                Err(error) => Err(bucket.error("complete", key, error)),
            },
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // Parts that stay cost money; stores also drop them by a lifecycle rule.
            let _ = upload.abort().await;
        }
        sent
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.parts).acquire_owned().await.ok()
    }

    /// Hashes a file as if it were sent.
    ///
    /// # Errors
    /// It can't be read, or changes meanwhile.
    pub async fn digest(&self, file: &Path) -> Result<Digest, BucketError> {
        let size = size_of(file)?;
        let mut reader = self.reader(file, size)?;
        let _permit = self.permit().await;
        loop {
            reader = reader.next().await?.1;
            if reader.left() == 0 {
                return reader.finish();
            }
        }
    }

    /// Makes sure that an object is what a digest says.
    ///
    /// # Errors
    /// [`BucketError::Differs`] where it is not; the store refuses or does not answer.
    pub async fn verify(
        &self,
        bucket: &Bucket,
        key: &Key,
        digest: &Digest,
    ) -> Result<VerifiedBy, BucketError> {
        let Some(there) = bucket.stat(key).await? else {
            return Err(bucket.differs(key, "it is not there".to_owned()));
        };
        if there.size != digest.size {
            let reason = format!("it has {} bytes, the file {}", there.size, digest.size);
            return Err(bucket.differs(key, reason));
        }
        if !self.options.read_back && has_tag(&there, &digest.e_tag) {
            return Ok(VerifiedBy::EntityTag);
        }
        let sha256 = self.hash_object(bucket, key, there.size).await?;
        if sha256 != digest.sha256 {
            let reason = format!("its SHA-256 is {sha256}, the file's {}", digest.sha256);
            return Err(bucket.differs(key, reason));
        }
        Ok(VerifiedBy::ReadBack)
    }

    /// The SHA-256 of an object of that size, read in parts.
    ///
    /// # Errors
    /// It is shorter; the store refuses or does not answer.
    pub async fn hash_object(
        &self,
        bucket: &Bucket,
        key: &Key,
        size: u64,
    ) -> Result<String, BucketError> {
        let _permit = self.permit().await;
        let (mut hash, mut at) = (Context::new(&SHA256), 0);
        while at < size {
            let end = size.min(at + self.options.part_bytes as u64);
            let bytes = bucket.get_range(key, at..end).await?;
            if bytes.len() as u64 != end - at {
                return Err(bucket.differs(key, format!("it ends before byte {end}")));
            }
            hash.update(&bytes);
            at = end;
        }
        Ok(hex(hash.finish().as_ref()))
    }
}

fn check(
    bucket: &Bucket,
    key: &Key,
    ended: Result<object_store::Result<()>, JoinError>,
) -> Result<(), BucketError> {
    ended.unwrap_or_else(|e| Err(e.into())).map_err(|e| bucket.error("put", key, e))
}

fn has_tag(entry: &Entry, tag: &str) -> bool {
    entry.version.e_tag.as_deref().is_some_and(|t| t.trim_matches('"').eq_ignore_ascii_case(tag))
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 of bytes in lower-case hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}

/// Keeps to a number of bytes a second.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    free_at: tokio::sync::Mutex<Instant>,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, free_at: tokio::sync::Mutex::new(Instant::now()) }
    }

    /// Waits until what was sent before has had its time.
    async fn wait(&self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let mut free_at = self.free_at.lock().await;
        let now = Instant::now();
        if *free_at > now {
            tokio::time::sleep_until((*free_at).into()).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a pause, not a count")]
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        *free_at = (*free_at).max(now) + takes;
    }
}
