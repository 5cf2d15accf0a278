//! The catalog: which parts of the history there are, known without listing.
//!
//! ```text
//! history/v1/catalog/root                             which manifests there are; replaced by conditional put
//! history/v1/catalog/manifests/<stream>/<month>-<ulid>  the parts of a stream and month; never changed
//! history/v1/<stream>/day=…/resolution=…/part=<ulid>/…  the parts' files; never changed
//! ```
//!
//! Format: `CATALOG.md`. Readers take a [`Snapshot`], a root as it was at one time, and keep it for as
//! long as they like: manifests are never changed, and the files of parts that were removed stay
//! until somebody deletes them, which is to be later than any reader holds a snapshot
//! ([`Catalog::superseded`]). Writers [`commit`](Catalog::commit) changes over any number of streams
//! and months at once.
//!
//! In the order of use: [`Part`], what is said of one; [`Catalog`] and [`Snapshot`], reading;
//! [`Change`] and [`CommitError`], writing; [`verify`] and [`rebuild`] against the bucket itself.
//!
//! It knows nothing of Parquet: a part describes itself (in its footers and by its writer), and what
//! it says is taken over. The one decision worth knowing: a manifest is replaced whole, for a
//! month of a stream is small (a hundred parts, a few hundred kilobytes), and one that is not there
//! can't be half written.

mod commit;
mod part;
mod rebuild;
mod stored;
mod verify;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;

use crate::bucket::{Bucket, Entry};
use crate::error::BucketError;
use crate::key::Key;

pub use commit::{Change, CommitError};
pub use part::{File, Month, PREFIX, Part, PartError, PartRef};
pub use rebuild::{Describe, DescribeError, Described, Rebuilt, rebuild};
pub use stored::Superseded;
pub use verify::{Problem, verify};

use stored::{Manifest, ManifestAt, Root};

/// Manifests that are read at a time.
const AT_A_TIME: usize = 16;

/// A bucket's catalog. Keeps the manifests that the newest root names.
pub struct Catalog {
    bucket: Bucket,
    manifests: Mutex<HashMap<String, Arc<Manifest>>>,
    current: Mutex<Option<(Instant, Arc<Root>)>>,
}

/// The catalog as it was at one time. Cheap to keep; what it names stays for a while.
#[derive(Clone)]
pub struct Snapshot {
    root: Arc<Root>,
    catalog: Arc<Catalog>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot(generation {})", self.root.generation)
    }
}

impl Catalog {
    /// The catalog of a bucket; nothing is asked of it yet.
    #[must_use]
    pub fn new(bucket: Bucket) -> Arc<Self> {
        let (manifests, current) = (Mutex::default(), Mutex::default());
        Arc::new(Self { bucket, manifests, current })
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The newest state that is known and not older than `age_max`; where it is older, the root is
    /// asked for, with one request.
    ///
    /// # Errors
    /// The root makes no sense; the store refuses or does not answer.
    pub async fn snapshot(self: &Arc<Self>, age_max: Duration) -> Result<Snapshot, BucketError> {
        let known = self.current.lock().clone();
        if let Some((at, root)) = known
            && at.elapsed() < age_max
        {
            return Ok(Snapshot { root, catalog: Arc::clone(self) });
        }
        let root = stored::read_root(&self.bucket).await?.map(|(root, _)| root);
        Ok(self.install(root.unwrap_or_default(), Vec::new()))
    }

    /// Makes a root the newest one that is known.
    fn install(self: &Arc<Self>, root: Root, written: Vec<(Key, Arc<Manifest>)>) -> Snapshot {
        let root = Arc::new(root);
        let mut manifests = self.manifests.lock();
        manifests.extend(written.into_iter().map(|(key, m)| (key.to_string(), m)));
        let mut current = self.current.lock();
        let is_newer = current.as_ref().is_none_or(|(_, r)| r.generation <= root.generation);
        if is_newer {
            let named: BTreeSet<&str> = root.manifests.iter().map(|m| m.key.as_str()).collect();
            manifests.retain(|key, _| named.contains(key.as_str()));
            *current = Some((Instant::now(), Arc::clone(&root)));
        }
        Snapshot { root, catalog: Arc::clone(self) }
    }

    /// A manifest; `None`: it is gone, for the root that names it is old.
    async fn manifest(&self, at: &ManifestAt) -> Result<Option<Arc<Manifest>>, BucketError> {
        if let Some(known) = self.manifests.lock().get(&at.key) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(read) = stored::read_manifest(&self.bucket, at).await? else { return Ok(None) };
        let read = Arc::new(read);
        self.manifests.lock().insert(at.key.clone(), Arc::clone(&read));
        Ok(Some(read))
    }

    /// Parts that were removed and whose files may still be there, with the time since when. Who
    /// deletes files that were superseded long enough ago commits a [`Change`] that forgets them.
    ///
    /// # Errors
    /// As [`Snapshot::all_parts`].
    pub async fn superseded(self: &Arc<Self>) -> Result<Vec<Superseded>, BucketError> {
        let manifests = self.snapshot(Duration::ZERO).await?.manifests(|_| true).await?;
        Ok(manifests.iter().flat_map(|m| m.superseded.iter().cloned()).collect())
    }

    /// Objects of the history that the newest root does not name, neither as parts nor as superseded
    /// ones, and that were put before `older_than`: left by commits that were never made.
    ///
    /// Anything younger may belong to a commit under way: allow hours.
    ///
    /// # Errors
    /// The store refuses or does not answer; the catalog makes no sense.
    pub async fn orphans(
        self: &Arc<Self>,
        older_than: SystemTime,
    ) -> Result<Vec<Entry>, BucketError> {
        // Listed first: what is committed meanwhile is then named by the root.
        let listed = self.bucket.list_all(&Key::parse(PREFIX)?).await?;
        let named = self.named().await?;
        let is_orphan = |e: &Entry| e.modified < older_than && !named.contains(e.key.as_str());
        Ok(listed.into_iter().filter(is_orphan).collect())
    }

    /// All keys that the newest root names in some way.
    async fn named(self: &Arc<Self>) -> Result<BTreeSet<String>, BucketError> {
        let snapshot = self.snapshot(Duration::ZERO).await?;
        let manifests = snapshot.manifests(|_| true).await?;
        let mut named = BTreeSet::from([stored::root_key()?.to_string()]);
        named.extend(snapshot.root.manifests.iter().map(|m| m.key.clone()));
        named.extend(snapshot.root.replaced.iter().map(|r| r.key.clone()));
        for manifest in &manifests {
            let superseded = manifest.superseded.iter().map(|s| &s.part);
            for part in manifest.parts.iter().chain(superseded) {
                named.extend(part.keys().iter().map(ToString::to_string));
            }
        }
        Ok(named)
    }
}

impl Snapshot {
    /// Grows with each commit.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.root.generation
    }

    /// The streams: their digits and external labels.
    #[must_use]
    pub fn streams(&self) -> &BTreeMap<String, BTreeMap<String, String>> {
        &self.root.streams
    }

    /// Whether there is no part at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.manifests.is_empty()
    }

    /// Number of parts, without reading a manifest.
    #[must_use]
    pub fn part_count(&self) -> u64 {
        self.root.manifests.iter().map(|m| m.parts).sum()
    }

    /// All parts, those without files too. Manifests that are known cost no request.
    ///
    /// # Errors
    /// A manifest makes no sense or is gone (the snapshot is too old: take a new one); the store
    /// refuses or does not answer.
    pub async fn all_parts(&self) -> Result<Vec<Arc<Part>>, BucketError> {
        let manifests = self.manifests(|_| true).await?;
        Ok(manifests.iter().flat_map(|m| m.parts.iter().cloned()).collect())
    }

    /// The parts of one stream (by its digits) whose day shares a millisecond with the range.
    ///
    /// # Errors
    /// As [`all_parts`](Self::all_parts).
    pub async fn parts(
        &self,
        stream: &str,
        (min_t, max_t): (i64, i64),
    ) -> Result<Vec<Arc<Part>>, BucketError> {
        let day = |t: i64| t.div_euclid(86_400_000).clamp(-4_000_000, 2_900_000) as i32;
        let months = Month::of_day(day(min_t))..=Month::of_day(day(max_t));
        let manifests = self.manifests(|m| m.stream == stream && months.contains(&m.month)).await?;
        let overlaps = |p: &Arc<Part>| {
            let (first, last) = p.day_range();
            first <= max_t && min_t <= last
        };
        Ok(manifests.iter().flat_map(|m| m.parts.iter().cloned()).filter(overlaps).collect())
    }

    /// All parts, where every manifest is in memory already; asks nothing of the store.
    #[must_use]
    pub fn loaded_parts(&self) -> Option<Vec<Arc<Part>>> {
        let known = self.catalog.manifests.lock();
        let mut out = Vec::new();
        for at in &self.root.manifests {
            out.extend(known.get(&at.key)?.parts.iter().cloned());
        }
        Some(out)
    }

    async fn manifests(
        &self,
        wanted: impl Fn(&ManifestAt) -> bool,
    ) -> Result<Vec<Arc<Manifest>>, BucketError> {
        // Taken out first: a future that holds what an iterator lends can't be sent to another thread.
        let wanted: Vec<ManifestAt> =
            self.root.manifests.iter().filter(|m| wanted(m)).cloned().collect();
        let reads = wanted.into_iter().map(|at| async move {
            let read = self.catalog.manifest(&at).await?;
            let gone = || -> Result<BucketError, BucketError> {
                let key = Key::parse(&at.key)?;
                let reason = "it was replaced long ago: take a new snapshot of the catalog";
                Ok(self.catalog.bucket.malformed(&key, reason))
            };
            match read {
                Some(read) => Ok(read),
                None => Err(gone()?),
            }
        });
        stream::iter(reads).buffered(AT_A_TIME).try_collect().await
    }
}

#[cfg(test)]
mod tests;
