//! Changing the catalog: new manifests first, then the root, by conditional put.
//!
//! A crash before the root leaves manifests nobody names, which [`Catalog::orphans`] finds. Of two
//! that commit at once one finds the root changed, reads it again and applies its change to what is
//! there now, if it still applies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use ulid::Ulid;

use super::part::{Month, Part, PartRef};
use super::stored::{self, Manifest, ManifestAt, Replaced, Root, Superseded};
use super::{Catalog, Snapshot};
use crate::bucket::PutOutcome;
use crate::error::BucketError;
use crate::key::Key;

/// How often a conflict is met with another try.
const TRIES_MAX: u32 = 30;
/// How long a replaced manifest stays: longer than any reader holds a root without having read the
/// manifests it wants.
const MANIFEST_GRACE_MS: i64 = 3_600_000;

/// What is to become of the catalog, all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Parts whose files are there.
    pub add: Vec<Part>,
    /// Parts that no reader shall find any more. Their files stay; see [`Catalog::superseded`].
    pub remove: Vec<PartRef>,
    /// Removed parts whose files were deleted.
    pub forget: Vec<PartRef>,
}

impl Change {
    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty() && self.forget.is_empty()
    }
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A part that was to be removed is not there (any more): plan again.
    #[error("part {0} is not in the catalog any more; somebody else replaced it")]
    Gone(PartRef),
    /// A part with the same sources for the same stream, day and resolution is there: adding this
    /// one would double samples. Plan again.
    #[error("part {added} holds source {source_block}, as part {there} does already")]
    Overlap {
        /// The part that was to be added.
        added: Ulid,
        /// The part that is there.
        there: Ulid,
        /// A block both were made from.
        source_block: Ulid,
    },
    /// A part that can't be in a catalog.
    #[error(transparent)]
    Part(#[from] super::PartError),
    /// Others commit so often that it did not succeed.
    #[error("the catalog changed {0} times while this was tried; try again")]
    Busy(u32),
    /// The store refuses or does not answer; the change may have been made or not.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl CommitError {
    /// Whether planning again on a fresh snapshot may help.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::Overlap { .. } | Self::Busy(_))
    }
}

/// A change by the manifest it concerns.
type ByManifest<'a> = BTreeMap<(&'a str, Month), Slice<'a>>;

#[derive(Default)]
struct Slice<'a> {
    add: Vec<&'a Part>,
    remove: Vec<&'a PartRef>,
    forget: Vec<&'a PartRef>,
}

fn split(change: &Change) -> ByManifest<'_> {
    let mut out = ByManifest::new();
    for part in &change.add {
        out.entry((part.stream(), Month::of_day(part.day))).or_default().add.push(part);
    }
    for part in &change.remove {
        out.entry((&part.stream, part.month)).or_default().remove.push(part);
    }
    for part in &change.forget {
        out.entry((&part.stream, part.month)).or_default().forget.push(part);
    }
    out
}

/// Applies what concerns one manifest; says whether anything changed.
fn apply(manifest: &mut Manifest, change: &Slice<'_>, now_ms: i64) -> Result<bool, CommitError> {
    let mut changed = false;
    for reference in &change.remove {
        let at = manifest.parts.iter().position(|p| p.part == reference.part);
        match at {
            Some(at) => {
                let part = manifest.parts.remove(at);
                manifest.superseded.push(Superseded { part, since_ms: now_ms });
                changed = true;
            }
            // The try before this one was carried out, and its answer lost.
            None if change.add.iter().all(|a| manifest.parts.iter().any(|p| p.part == a.part))
                && !change.add.is_empty()
                && manifest.superseded.iter().any(|s| s.part.part == reference.part) => {}
            None => return Err(CommitError::Gone((*reference).clone())),
        }
    }
    for added in &change.add {
        if manifest.parts.iter().any(|p| p.part == added.part) {
            continue;
        }
        if let Some(there) = manifest.parts.iter().find(|p| p.doubles(added)) {
            let shared = added.sources.iter().find(|s| there.sources.contains(s));
            return Err(CommitError::Overlap {
                added: added.part,
                there: there.part,
                source_block: shared.copied().unwrap_or_default(),
            });
        }
        manifest.parts.push(Arc::new((*added).clone()));
        changed = true;
    }
    for reference in &change.forget {
        let before = manifest.superseded.len();
        manifest.superseded.retain(|s| s.part.part != reference.part);
        changed |= manifest.superseded.len() != before;
    }
    manifest
        .parts
        .sort_by(|a, b| (a.day, &a.resolution, a.part).cmp(&(b.day, &b.resolution, b.part)));
    Ok(changed)
}

impl Catalog {
    /// Makes a change. It is made whole, or not at all: readers see the catalog before or after it.
    ///
    /// Where others commit at the same time the change is applied to what they left, provided that
    /// every part to be removed is still there and no part to be added doubles one.
    ///
    /// # Errors
    /// [`CommitError::is_conflict`]: plan again; else the store refuses or does not answer.
    pub async fn commit(self: &Arc<Self>, change: &Change) -> Result<Snapshot, CommitError> {
        for part in &change.add {
            part.check()?;
        }
        let slices = split(change);
        for tried in 0..TRIES_MAX {
            if tried > 0 {
                let ms = rand::rng().random_range(5..50_u64 << tried.min(5));
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            if let Some(snapshot) = self.try_commit(change, &slices).await? {
                return Ok(snapshot);
            }
        }
        Err(CommitError::Busy(TRIES_MAX))
    }

    /// `None`: the root changed meanwhile.
    async fn try_commit(
        self: &Arc<Self>,
        change: &Change,
        slices: &ByManifest<'_>,
    ) -> Result<Option<Snapshot>, CommitError> {
        let bucket = &self.bucket;
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let (mut root, version) = match stored::read_root(bucket).await? {
            Some((root, version)) => (root, Some(version)),
            None => (Root::default(), None),
        };
        for part in &change.add {
            root.streams.insert(part.stream().to_owned(), part.external.clone());
        }
        let mut written: Vec<(Key, Arc<Manifest>)> = Vec::new();
        for ((stream, month), slice) in slices {
            let at = root.manifests.iter().position(|m| m.stream == *stream && m.month == *month);
            let mut manifest = match at.and_then(|i| root.manifests.get(i)) {
                Some(at) => match self.manifest(at).await? {
                    Some(manifest) => (*manifest).clone(),
                    // Replaced and gone since the root was read.
                    None => return Ok(None),
                },
                None => Manifest::new(stream, *month),
            };
            if !apply(&mut manifest, slice, now_ms)? {
                continue;
            }
            let key = manifest.new_key()?;
            let bytes = stored::seal(bucket, &key, &manifest)?;
            let entry = ManifestAt {
                stream: (*stream).to_owned(),
                month: *month,
                key: key.to_string(),
                size: bytes.len() as u64,
                parts: manifest.parts.len() as u64,
            };
            bucket.put(&key, bytes).await?;
            if let Some(at) = at {
                let old = root.manifests.remove(at);
                root.replaced.push(Replaced { key: old.key, since_ms: now_ms });
            }
            root.manifests.push(entry);
            written.push((key, Arc::new(manifest)));
        }
        if written.is_empty() {
            return Ok(Some(self.snapshot(Duration::ZERO).await?));
        }
        self.swap(root, version, written, now_ms).await
    }

    /// Puts the new root where the old one still is; else takes the new manifests back.
    async fn swap(
        self: &Arc<Self>,
        mut root: Root,
        version: Option<crate::Version>,
        written: Vec<(Key, Arc<Manifest>)>,
        now_ms: i64,
    ) -> Result<Option<Snapshot>, CommitError> {
        let bucket = &self.bucket;
        root.manifests.sort_by(|a, b| (&a.stream, a.month).cmp(&(&b.stream, b.month)));
        let used: std::collections::BTreeSet<_> =
            root.manifests.iter().map(|m| m.stream.clone()).collect();
        root.streams.retain(|stream, _| used.contains(stream));
        root.generation += 1;
        root.nonce = Ulid::generate().to_string();
        root.written = jiff::Timestamp::now().to_string();
        let is_due = |r: &Replaced| r.since_ms < now_ms - MANIFEST_GRACE_MS;
        let due: Vec<Replaced> = root.replaced.iter().filter(|r| is_due(r)).cloned().collect();
        root.replaced.retain(|r| !is_due(r));
        let key = stored::root_key()?;
        let bytes = stored::seal(bucket, &key, &root)?;
        let put = match &version {
            Some(version) => bucket.put_if_version(&key, bytes, version).await?,
            None => bucket.put_if_absent(&key, bytes).await?,
        };
        if put == PutOutcome::Conflict {
            for (key, _) in written {
                // An orphan harms nobody.
                if let Err(error) = bucket.delete(&key).await {
                    tracing::debug!(%key, %error, "a manifest of a lost commit stays");
                }
            }
            return Ok(None);
        }
        for old in due {
            if let Ok(key) = Key::parse(&old.key)
                && let Err(error) = bucket.delete(&key).await
            {
                tracing::debug!(%key, %error, "a replaced manifest stays");
            }
        }
        Ok(Some(self.install(root, written)))
    }
}
