//! A log in the bucket: objects `log/NNNNNNNNNNNNNNNNNNNN`, each put where there was none.
//!
//! Any hub can go on from it, and no two can both write: an object's number can be taken once. Who takes over
//! first puts a seal at the next number, so that a put of the one before, under way or delayed, meets it and fails.
//! So safety does not rest on the lease or on any clock; the lease only keeps two from trying at once.

use std::collections::BTreeMap;

use bytes::Bytes;
use periplus_bucket::{Bucket, Key, PutOutcome};
use tokio::runtime::Handle;

use super::frame::{Frames, Piece};
use super::{Damage, Entry, LogError, SegmentId};

/// The largest object read.
const OBJECT_BYTES_MAX: u64 = 256 << 20;

/// Begins a seal; the owner's name follows.
const SEAL: &[u8] = b"PESEAL1 ";

/// A log in the bucket, written by one hub at a time.
#[derive(Debug)]
pub struct SharedLog {
    bucket: Bucket,
    prefix: Key,
    objects: BTreeMap<SegmentId, u64>,
    next: SegmentId,
    deposed: Option<SegmentId>,
    runtime: Handle,
}

fn key(prefix: &Key, id: SegmentId) -> Result<Key, LogError> {
    prefix.join(&format!("{id:020}")).map_err(|e| LogError::Bucket(e.into()))
}

impl SharedLog {
    /// Takes over the log below `prefix`: seals it for `owner`, then gives `each` what it holds, in order.
    /// `floor` is the number below which nothing is needed any more. To be called within the async runtime.
    ///
    /// # Errors
    /// The bucket can't be read or written, or the log is of a newer format.
    pub async fn take_over(
        bucket: Bucket,
        prefix: Key,
        owner: &str,
        floor: SegmentId,
        mut each: impl FnMut(SegmentId, i64, Entry),
    ) -> Result<(Self, Damage), LogError> {
        let seal = Bytes::from(
            [SEAL, owner.as_bytes(), b" ", ulid::Ulid::generate().to_string().as_bytes()].concat(),
        );
        let mut at = floor.max(1);
        loop {
            at =
                at.max(list(&bucket, &prefix).await?.keys().next_back().map_or(1, |last| last + 1));
            match bucket.put_if_absent(&key(&prefix, at)?, seal.clone()).await? {
                PutOutcome::Done(_) => break,
                // The one before is still writing; its next put meets ours.
                PutOutcome::Conflict => at += 1,
            }
        }
        // Whatever was acknowledged was put below the seal, and is seen now.
        let objects = list(&bucket, &prefix).await?;
        let mut damage = Damage::default();
        for id in objects.keys().filter(|id| **id >= floor) {
            let key = key(&prefix, *id)?;
            let Some((bytes, _)) = bucket.get(&key, OBJECT_BYTES_MAX).await? else { continue };
            if bytes.starts_with(SEAL) {
                continue;
            }
            for piece in Frames::new(&bytes) {
                match piece {
                    Piece::Entry(first_id, entry) => each(*id, first_id, entry),
                    Piece::Unknown(format) => {
                        let (path, known) = (key.to_string(), super::frame::FORMAT);
                        return Err(LogError::Format { path, format, known });
                    }
                    // An object is put whole or not at all.
                    Piece::Broken(n) => damage.lost_bytes += n,
                }
            }
        }
        let log = Self {
            bucket,
            prefix,
            objects,
            next: at + 1,
            deposed: None,
            runtime: Handle::current(),
        };
        Ok((log, damage))
    }

    /// Puts one object. Blocks: to be called from a thread that is none of the runtime's.
    ///
    /// # Errors
    /// The bucket does not answer, or another hub has taken over.
    pub fn append(&mut self, frames: &[u8]) -> Result<SegmentId, LogError> {
        if let Some(at) = self.deposed {
            return Err(LogError::Deposed { at });
        }
        let (id, bytes) = (self.next, Bytes::copy_from_slice(frames));
        let key = key(&self.prefix, id)?;
        // The same number again after an error: either nothing is there, or these very bytes count as done, or
        // older ones of ours are, which no one was told of; they are kept, and we go on behind them.
        match self.runtime.block_on(self.bucket.put_if_absent(&key, bytes))? {
            PutOutcome::Done(_) => {
                self.objects.insert(id, frames.len() as u64);
                self.next += 1;
                Ok(id)
            }
            PutOutcome::Conflict => {
                let there = self.runtime.block_on(self.bucket.get(&key, OBJECT_BYTES_MAX))?;
                if there.is_some_and(|(bytes, _)| !bytes.starts_with(SEAL)) {
                    self.objects.insert(id, 0);
                    self.next += 1;
                    return self.append(frames);
                }
                self.deposed = Some(id);
                Err(LogError::Deposed { at: id })
            }
        }
    }

    /// Deletes objects below `floor`, but never the newest: its number must not be used again.
    pub fn remove_below(&mut self, floor: SegmentId) {
        let last = self.next.saturating_sub(1);
        let old: Vec<SegmentId> =
            self.objects.range(..floor.min(last)).map(|(id, _)| *id).collect();
        for id in old {
            let Ok(key) = key(&self.prefix, id) else { continue };
            match self.runtime.block_on(self.bucket.delete(&key)) {
                Ok(()) => {
                    self.objects.remove(&id);
                }
                Err(error) => {
                    tracing::warn!(%error, "deleting an object of the log");
                    return;
                }
            }
        }
    }

    /// The number that was put last: what is in it may not be applied yet.
    #[must_use]
    pub const fn current(&self) -> SegmentId {
        self.next.saturating_sub(1)
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.values().sum()
    }
}

async fn list(bucket: &Bucket, prefix: &Key) -> Result<BTreeMap<SegmentId, u64>, LogError> {
    let mut found = BTreeMap::new();
    for entry in bucket.list_all(prefix).await? {
        let name = entry.key.to_string();
        if let Some(id) = name.rsplit('/').next().and_then(|n| n.parse().ok()) {
            found.insert(id, entry.size);
        }
    }
    Ok(found)
}
