//! One owner of a name at a time.
//!
//! An owner writes a small object with its identity, and writes it again before its time is over.
//! Another one that finds it waits until the object *has not changed for that time by its own clock*;
//! clocks of different machines are never compared. Who takes over, and who renews, does so by
//! conditional put against the version seen, so of two that try only one succeeds; see
//! [`crate::conditional`] for stores without it.
//!
//! A lease says who may begin a write, it can't stop one that is under way. What it protects must
//! therefore be harmless when two do it for a moment; shipping is, for blocks have unique names.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::bucket::{Bucket, PutOutcome, Version};
use crate::error::BucketError;
use crate::key::Key;

/// A larger object is no lease.
const LEASE_BYTES_MAX: u64 = 64 << 10;

/// What an owner writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The owner's identity: stays the same when it is started again.
    pub owner: String,
    /// For people: host, process, address.
    pub about: String,
    /// What is owned, for people.
    pub subject: String,
    /// For how long after its last change it is valid.
    pub ttl_seconds: u64,
    /// When it was written, by the owner's clock; for people only.
    pub written: String,
    /// Makes every write another one.
    pub nonce: String,
}

/// Whether it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is.
    Ours,
    /// Somebody else has it.
    Theirs {
        /// What they wrote; `None` where that is no claim.
        claim: Option<Claim>,
        /// When it will be free if they don't write again.
        free_in: Duration,
    },
}

#[derive(Debug)]
struct Seen {
    version: Version,
    since: Instant,
}

/// One name, and this process's view of it.
#[derive(Debug)]
pub struct Lease {
    bucket: Bucket,
    key: Key,
    owner: String,
    about: String,
    subject: String,
    ttl: Duration,
    seen: Option<Seen>,
    ours: Option<(Version, Instant)>,
}

impl Lease {
    /// A lease that nobody has been asked for yet.
    #[must_use]
    pub fn new(
        bucket: Bucket,
        key: Key,
        owner: &str,
        about: &str,
        subject: &str,
        ttl: Duration,
    ) -> Self {
        let (owner, about, subject) = (owner.to_owned(), about.to_owned(), subject.to_owned());
        Self { bucket, key, owner, about, subject, ttl, seen: None, ours: None }
    }

    /// Whether the last write is recent enough to act upon: two thirds of the time.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.ours.as_ref().is_some_and(|(_, at)| at.elapsed() < self.ttl * 2 / 3)
    }

    /// Takes it, keeps it, or finds out who has it. To be called more often than a third of its time.
    ///
    /// # Errors
    /// The store refuses or does not answer. It is not ours then, unless [`Self::is_fresh`].
    pub async fn hold(&mut self) -> Result<Held, BucketError> {
        if self.ours.as_ref().is_some_and(|(_, at)| at.elapsed() < self.ttl / 3) {
            return Ok(Held::Ours);
        }
        let Some((bytes, version)) = self.bucket.get(&self.key, LEASE_BYTES_MAX).await? else {
            return self.write(None).await;
        };
        let claim = serde_json::from_slice::<Claim>(&bytes).ok();
        if claim.as_ref().is_some_and(|c| c.owner == self.owner) {
            return self.write(Some(version)).await;
        }
        self.ours = None;
        let since = match &self.seen {
            Some(seen) if seen.version == version => seen.since,
            _ => Instant::now(),
        };
        let ttl =
            claim.as_ref().map_or(self.ttl, |c| Duration::from_secs(c.ttl_seconds.min(86_400)));
        let free_in = ttl.saturating_sub(since.elapsed());
        if free_in.is_zero() {
            tracing::warn!(key = %self.key, ?claim, "taking over: its owner has not written for its time");
            return self.write(Some(version)).await;
        }
        self.seen = Some(Seen { version, since });
        Ok(Held::Theirs { claim, free_in })
    }

    async fn write(&mut self, over: Option<Version>) -> Result<Held, BucketError> {
        let claim = Claim {
            owner: self.owner.clone(),
            about: self.about.clone(),
            subject: self.subject.clone(),
            ttl_seconds: self.ttl.as_secs(),
            written: jiff::Timestamp::now().to_string(),
            nonce: Ulid::generate().to_string(),
        };
        let text =
            serde_json::to_vec_pretty(&claim).map_err(|e| self.bucket.malformed(&self.key, e))?;
        let at = Instant::now();
        let put = match &over {
            None => self.bucket.put_if_absent(&self.key, Bytes::from(text)).await?,
            Some(version) => {
                self.bucket.put_if_version(&self.key, Bytes::from(text), version).await?
            }
        };
        match put {
            PutOutcome::Done(version) => {
                self.ours = Some((version, at));
                self.seen = None;
                Ok(Held::Ours)
            }
            PutOutcome::Conflict => {
                self.ours = None;
                let found = self.bucket.get(&self.key, LEASE_BYTES_MAX).await?;
                let claim = found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok());
                Ok(Held::Theirs { claim, free_in: self.ttl })
            }
        }
    }

    /// Gives it back, so that the next owner need not wait.
    ///
    /// # Errors
    /// The store refuses or does not answer; the lease then ends by time.
    pub async fn release(&mut self) -> Result<(), BucketError> {
        if self.ours.take().is_none() {
            return Ok(());
        }
        let found = self.bucket.get(&self.key, LEASE_BYTES_MAX).await?;
        let claim = found.and_then(|(bytes, _)| serde_json::from_slice::<Claim>(&bytes).ok());
        if claim.is_some_and(|c| c.owner == self.owner) {
            self.bucket.delete(&self.key).await?;
        }
        Ok(())
    }
}
