//! The bucket everything else uses.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{
    GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};
use prometheus_client::registry::Registry;
use tokio::sync::OnceCell;

use crate::conditional::{self, Conditional};
use crate::error::{BucketError, Kind};
use crate::key::Key;
use crate::layer::count::{Count, Counters};
use crate::layer::retry::Retry;
use crate::location::{Location, Provider};
use crate::open::{self, OpenOptions};

/// How long a store without conditional puts is given to show who put last.
const SETTLE: Duration = Duration::from_millis(300);

/// Identifies the content of an object at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The store's entity tag, as it gives it.
    pub e_tag: Option<String>,
    /// The store's version number, where it keeps versions.
    pub number: Option<String>,
}

/// An object's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When it was put, by the store's clock.
    pub modified: SystemTime,
    /// Its version.
    pub version: Version,
}

impl Entry {
    fn new(meta: ObjectMeta) -> Result<Self, crate::KeyError> {
        Ok(Self {
            key: Key::from_path(&meta.location)?,
            size: meta.size,
            modified: meta.last_modified.into(),
            version: Version { e_tag: meta.e_tag, number: meta.version },
        })
    }
}

/// What lies directly below a prefix.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Prefixes that have something below them.
    pub directories: Vec<Key>,
    /// Objects.
    pub entries: Vec<Entry>,
    /// Names that are no keys; nothing here can touch them.
    pub foreign: Vec<String>,
}

/// How a conditional put ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// What was sent is there.
    Done(Version),
    /// Something else is there.
    Conflict,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    name: String,
    options: OpenOptions,
    counters: Arc<Counters>,
    known: Option<Conditional>,
    detected: OnceCell<Conditional>,
}

/// A bucket, or a prefix of one. Cheap to clone.
#[derive(Clone)]
pub struct Bucket(Arc<Shared>);

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.0.name)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl Bucket {
    /// Opens a bucket. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// As [`open::store`].
    pub fn open(at: &Location, options: &OpenOptions) -> Result<Self, BucketError> {
        let store = open::store(at, options)?;
        let known = match at.provider {
            Provider::Filesystem { .. } => Some(Conditional { create: true, update: false }),
            Provider::Memory { .. } => Some(Conditional { create: true, update: true }),
            _ => None,
        };
        Ok(Self::layered(store, at.to_string(), options, known))
    }

    /// A bucket over a store of another kind: a tunnel, or one that breaks by script. It gets the
    /// layers of any other.
    #[must_use]
    pub fn from_store(store: Arc<dyn ObjectStore>, name: &str, options: &OpenOptions) -> Self {
        Self::layered(store, name.to_owned(), options, None)
    }

    fn layered(
        store: Arc<dyn ObjectStore>,
        name: String,
        options: &OpenOptions,
        known: Option<Conditional>,
    ) -> Self {
        let counters = Arc::new(Counters::default());
        let retry = Retry::new(store, *options, Arc::clone(&counters));
        let store = Arc::new(Count::new(Arc::new(retry), Arc::clone(&counters)));
        let (options, detected) = (*options, OnceCell::new());
        Self(Arc::new(Shared { store, name, options, counters, known, detected }))
    }

    /// The store with its layers, for readers that speak `object_store` themselves.
    #[must_use]
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.0.store)
    }

    /// The bucket's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Shows the bucket's counters.
    pub fn register(&self, registry: &mut Registry) {
        self.0.counters.register(registry);
    }

    pub(crate) fn error(
        &self,
        operation: &'static str,
        key: &Key,
        source: object_store::Error,
    ) -> BucketError {
        BucketError::Store {
            operation,
            key: key.to_string(),
            bucket: self.0.name.clone(),
            source: Box::new(source),
        }
    }

    /// Which conditional puts the store has; found out once, at the first call.
    ///
    /// # Errors
    /// The store can't be written to.
    pub async fn conditional(&self) -> Result<Conditional, BucketError> {
        if let Some(known) = self.0.known {
            return Ok(known);
        }
        self.0.detected.get_or_try_init(|| conditional::detect(self)).await.copied()
    }

    /// An object's description; `None`: there is no such object.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn stat(&self, key: &Key) -> Result<Option<Entry>, BucketError> {
        match self.0.store.head(&key.path()).await {
            Ok(meta) => Ok(Some(Entry { key: key.clone(), ..Entry::new(meta)? })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("head", key, error)),
        }
    }

    /// A whole object of at most `limit` bytes; `None`: there is no such object.
    ///
    /// # Errors
    /// It is larger, or its bytes are not as many as the store says; the store does not answer, or
    /// refuses.
    pub async fn get(
        &self,
        key: &Key,
        limit: u64,
    ) -> Result<Option<(Bytes, Version)>, BucketError> {
        let found = match self.0.store.get_opts(&key.path(), GetOptions::default()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.error("get", key, error)),
        };
        let size = found.meta.size;
        if size > limit {
            let (key, bucket) = (key.to_string(), self.0.name.clone());
            return Err(BucketError::TooLarge { key, bucket, size, limit });
        }
        let version =
            Version { e_tag: found.meta.e_tag.clone(), number: found.meta.version.clone() };
        let read = tokio::time::timeout(self.0.options.request_timeout, found.bytes()).await;
        let bytes = match read {
            Ok(bytes) => bytes.map_err(|e| self.error("get", key, e))?,
            Err(_) => return Err(self.late("get", key)),
        };
        if bytes.len() as u64 != size {
            let reason = format!("the store says {size} bytes and gives {}", bytes.len());
            return Err(self.differs(key, reason));
        }
        Ok(Some((bytes, version)))
    }

    /// Bytes of an object; fewer where it ends before the range does.
    ///
    /// # Errors
    /// No such object, or the store does not answer, or refuses.
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, BucketError> {
        // An answer may break half-way, which the layers below don't see.
        let (path, mut tries) = (key.path(), 0);
        loop {
            let work = self.0.store.get_range(&path, range.clone());
            let error = match tokio::time::timeout(self.0.options.request_timeout, work).await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(error)) => self.error("get", key, error),
                Err(_) => self.late("get", key),
            };
            tries += 1;
            if tries > 2 || !error.kind().is_passing() {
                return Err(error);
            }
        }
    }

    fn late(&self, operation: &'static str, key: &Key) -> BucketError {
        let source = Box::new(crate::error::TimedOut(self.0.options.request_timeout));
        self.error(operation, key, object_store::Error::Generic { store: "bucket", source })
    }

    pub(crate) fn differs(&self, key: &Key, reason: String) -> BucketError {
        BucketError::Differs { key: key.to_string(), bucket: self.0.name.clone(), reason }
    }

    /// A bucket file whose content makes no sense.
    #[must_use]
    pub fn malformed(&self, key: &Key, reason: impl fmt::Display) -> BucketError {
        let reason = reason.to_string();
        BucketError::Malformed { key: key.to_string(), bucket: self.0.name.clone(), reason }
    }

    /// Puts an object, whatever was there. Where the answer says it failed, what lies there decides:
    /// the store may have done it all the same.
    ///
    /// # Errors
    /// The store refuses, or does not answer and does not have it.
    pub async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), BucketError> {
        let payload = PutPayload::from_bytes(bytes.clone());
        let Err(error) = self.0.store.put(&key.path(), payload).await else { return Ok(()) };
        let error = self.error("put", key, error);
        if error.kind().is_passing() && self.holds(key, &bytes).await == Some(true) {
            return Ok(());
        }
        Err(error)
    }

    /// Whether the object is these bytes; `None`: there is none, or it can't be told.
    async fn holds(&self, key: &Key, bytes: &Bytes) -> Option<bool> {
        match self.get(key, bytes.len() as u64).await {
            Ok(found) => found.map(|(there, _)| there == bytes),
            Err(error) if error.kind() == Kind::Invalid => Some(false),
            Err(_) => None,
        }
    }

    /// Puts an object where there is none. It counts as done where these very bytes are there
    /// already: they may come from a try whose answer was lost.
    ///
    /// Where the store has no such put: it looks, puts, waits, and looks who was last. Two writers
    /// are told apart unless one of them stalls for longer than that between looking and putting.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<PutOutcome, BucketError> {
        self.put_if(key, bytes, None).await
    }

    /// Replaces an object if it still is that version. Else as [`Self::put_if_absent`].
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn put_if_version(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<PutOutcome, BucketError> {
        self.put_if(key, bytes, Some(version)).await
    }

    async fn put_if(
        &self,
        key: &Key,
        bytes: Bytes,
        version: Option<&Version>,
    ) -> Result<PutOutcome, BucketError> {
        let has = self.conditional().await?;
        let mode = match version {
            None if has.create => PutMode::Create,
            Some(v) if has.update => {
                PutMode::Update(UpdateVersion { e_tag: v.e_tag.clone(), version: v.number.clone() })
            }
            _ => return self.put_and_look(key, bytes, version).await,
        };
        let mut tries = 0;
        loop {
            let options = PutOptions::from(mode.clone());
            let payload = PutPayload::from_bytes(bytes.clone());
            let error = match self.0.store.put_opts(&key.path(), payload, options).await {
                Ok(put) => {
                    return Ok(PutOutcome::Done(Version { e_tag: put.e_tag, number: put.version }));
                }
                // A version that is gone is another version.
                Err(object_store::Error::NotFound { .. }) if version.is_some() => {
                    return Ok(PutOutcome::Conflict);
                }
                Err(error) => self.error("put", key, error),
            };
            let kind = error.kind();
            if kind != Kind::Conflict && !kind.is_passing() {
                return Err(error);
            }
            match self.get(key, bytes.len() as u64).await {
                Ok(Some((there, version))) if there == bytes => {
                    return Ok(PutOutcome::Done(version));
                }
                _ if kind == Kind::Conflict => return Ok(PutOutcome::Conflict),
                Err(unclear) if unclear.kind() != Kind::Invalid => return Err(error),
                // Not there: the put was not carried out. Or another one, and the next try finds it.
                _ => {}
            }
            tries += 1;
            if tries > self.0.options.retries_max {
                return Err(error);
            }
            tokio::time::sleep(self.0.options.backoff_max / 20).await;
        }
    }

    async fn put_and_look(
        &self,
        key: &Key,
        bytes: Bytes,
        version: Option<&Version>,
    ) -> Result<PutOutcome, BucketError> {
        let there = self.stat(key).await?.map(|entry| entry.version);
        if there.as_ref() != version {
            return Ok(match self.holds(key, &bytes).await {
                Some(true) => PutOutcome::Done(there.unwrap_or_default()),
                _ => PutOutcome::Conflict,
            });
        }
        self.put(key, bytes.clone()).await?;
        tokio::time::sleep(SETTLE).await;
        match self.get(key, bytes.len() as u64).await {
            Ok(Some((there, version))) if there == bytes => Ok(PutOutcome::Done(version)),
            Ok(_) => Ok(PutOutcome::Conflict),
            Err(error) if error.kind() == Kind::Invalid => Ok(PutOutcome::Conflict),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object; there may be none.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn delete(&self, key: &Key) -> Result<(), BucketError> {
        let (path, mut tries) = (key.path(), 0);
        loop {
            let work = self.0.store.delete(&path);
            let error = match tokio::time::timeout(self.0.options.request_timeout, work).await {
                Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => return Ok(()),
                Ok(Err(error)) => self.error("delete", key, error),
                Err(_) => self.late("delete", key),
            };
            tries += 1;
            if tries > self.0.options.retries_max || !error.kind().is_passing() {
                return Err(error);
            }
            tokio::time::sleep(self.0.options.backoff_max / 20).await;
        }
    }

    /// All objects below a prefix, in no particular order. Names that are no keys are left out.
    pub fn list(&self, prefix: &Key) -> BoxStream<'static, Result<Entry, BucketError>> {
        let (bucket, below) = (self.clone(), prefix.clone());
        let path = (!prefix.is_root()).then(|| prefix.path());
        self.0
            .store
            .list(path.as_ref())
            .filter_map(move |meta| {
                let entry = match meta {
                    Ok(meta) => Entry::new(meta).ok().map(Ok),
                    Err(error) => Some(Err(bucket.error("list", &below, error))),
                };
                std::future::ready(entry)
            })
            .boxed()
    }

    /// All objects below a prefix, by name.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn list_all(&self, prefix: &Key) -> Result<Vec<Entry>, BucketError> {
        let mut entries = Vec::new();
        let mut listed = self.list(prefix);
        while let Some(entry) = listed.next().await {
            entries.push(entry?);
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// What lies directly below a prefix.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn list_directory(&self, prefix: &Key) -> Result<Listing, BucketError> {
        let path = (!prefix.is_root()).then(|| prefix.path());
        let listed = self.0.store.list_with_delimiter(path.as_ref()).await;
        let listed = listed.map_err(|e| self.error("list", prefix, e))?;
        let mut listing = Listing::default();
        for path in listed.common_prefixes {
            match Key::from_path(&path) {
                Ok(key) => listing.directories.push(key),
                Err(_) => listing.foreign.push(path.to_string()),
            }
        }
        for meta in listed.objects {
            let name = meta.location.to_string();
            match Entry::new(meta) {
                Ok(entry) => listing.entries.push(entry),
                Err(_) => listing.foreign.push(name),
            }
        }
        Ok(listing)
    }
}
