//! The files in the bucket: which there are, and how rows in them are found.
//!
//! ```text
//! events/v1/files.json                         what counts; replaced by conditional put
//! events/v1/day=2026-11-21/<ulid>.parquet      rows received that day
//! events/v1/day=2026-11-21/<ulid>.index        its groups
//! events/v1/log/NNNNNNNNNNNNNNNNNNNN           the log, where several hubs share it
//! events/v1/hub.lease                          who writes
//! ```
//!
//! A file counts once it is in `files.json`. Whoever reads the Parquet files alone finds, until files of a day are
//! merged, superseded states as well: of rows with one (cluster, uid) the one with the largest `id` counts.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use periplus_bucket::{Bucket, BucketError, Key, PutOutcome, Version};
use serde::{Deserialize, Serialize};

use super::columns::Row;
use super::parquet::{self, FileError, FileIndex, Group, GroupReader, Metadata};
use super::summary::RowKey;
use crate::log::SegmentId;
use crate::wire::Gap;

/// The list's version.
const VERSION: u32 = 1;
/// The longest list read.
const LIST_BYTES_MAX: u64 = 256 << 20;
/// The longest index read.
const INDEX_BYTES_MAX: u64 = 512 << 20;
/// The longest description of a file.
const FOOTER_BYTES_MAX: u64 = 64 << 20;

/// One file of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileMeta {
    /// Its name below `events/v1`, without ending.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The smallest number in it.
    pub min_id: i64,
    /// The largest.
    pub max_id: i64,
    /// The earliest last time.
    pub min_last: i64,
    /// The latest.
    pub max_last: i64,
    /// How many files were merged into it.
    pub merged: u32,
}

/// What counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileList {
    /// [`VERSION`].
    pub version: u32,
    /// Secret of row keys.
    pub seed: u64,
    /// All live rows numbered below are in files.
    pub flushed_below: i64,
    /// Segments of the shared log below are needed no more.
    pub log_floor: SegmentId,
    /// The files, ascending by number, without overlap.
    pub files: Vec<FileMeta>,
    /// Numbers of rows in them that count no more.
    pub dead: Vec<i64>,
    /// Gaps.
    pub gaps: Vec<Gap>,
}

/// What goes wrong with files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A file is damaged.
    #[error("{key}: {source}")]
    File {
        /// Which.
        key: String,
        /// How.
        source: FileError,
    },
    /// Somebody else replaced the list.
    #[error("{0}: another hub has replaced it; this one stops writing")]
    Conflict(String),
    /// Made by a newer hub.
    #[error("{key} is of version {version}, this hub knows {VERSION}: use a newer hub")]
    Version {
        /// The list.
        key: String,
        /// As it says.
        version: u32,
    },
}

#[derive(Debug, Default)]
struct Cache {
    indexes: HashMap<String, (Arc<FileIndex>, u64)>,
    bytes: usize,
    clock: u64,
}

/// The files in a bucket.
#[derive(Debug)]
pub struct Files {
    bucket: Bucket,
    prefix: Key,
    cache: Mutex<Cache>,
    cache_bytes: usize,
    version: tokio::sync::Mutex<Option<Version>>,
}

impl Files {
    /// Of a bucket; indexes of about `cache_bytes` are kept in memory.
    ///
    /// # Errors
    /// None: the prefix is a constant.
    pub fn new(bucket: Bucket, cache_bytes: usize) -> Result<Self, FilesError> {
        let prefix = Key::parse("events/v1").map_err(BucketError::from)?;
        let (cache, version) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { bucket, prefix, cache, cache_bytes, version })
    }

    /// The bucket.
    #[must_use]
    pub const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Bytes of indexes in memory.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cache.lock().bytes
    }

    /// The key of something of the hub's.
    ///
    /// # Errors
    /// The name is no key.
    pub fn key(&self, name: &str) -> Result<Key, FilesError> {
        Ok(self.prefix.join(name).map_err(BucketError::from)?)
    }

    fn broken(&self, key: &Key) -> impl FnOnce(FileError) -> FilesError + use<> {
        let key = format!("{key} in {}", self.bucket);
        move |source| FilesError::File { key, source }
    }

    /// Reads the list; makes an empty one where there is none.
    ///
    /// # Errors
    /// The bucket does not answer; the list is damaged, or of a newer hub.
    pub async fn load(&self) -> Result<FileList, FilesError> {
        let key = self.key("files.json")?;
        let mut version = self.version.lock().await;
        let Some((bytes, found)) = self.bucket.get(&key, LIST_BYTES_MAX).await? else {
            *version = None;
            let list = FileList { version: VERSION, seed: rand::random(), ..FileList::default() };
            self.put(&list, &mut version).await?;
            return Ok(list);
        };
        let list: FileList =
            serde_json::from_slice(&bytes).map_err(|e| self.bucket.malformed(&key, e))?;
        if list.version > VERSION {
            return Err(FilesError::Version { key: key.to_string(), version: list.version });
        }
        *version = Some(found);
        Ok(list)
    }

    /// Replaces the list that was read or written last.
    ///
    /// # Errors
    /// The bucket does not answer, or somebody else replaced it.
    pub async fn commit(&self, list: &FileList) -> Result<(), FilesError> {
        let mut version = self.version.lock().await;
        self.put(list, &mut version).await
    }

    async fn put(&self, list: &FileList, version: &mut Option<Version>) -> Result<(), FilesError> {
        let key = self.key("files.json")?;
        let bytes = serde_json::to_vec(list).map_err(|e| self.bucket.malformed(&key, e))?;
        let bytes = Bytes::from(bytes);
        let put = match version.as_ref() {
            Some(version) => self.bucket.put_if_version(&key, bytes, version).await?,
            None => self.bucket.put_if_absent(&key, bytes).await?,
        };
        match put {
            PutOutcome::Done(now) => {
                *version = Some(now);
                Ok(())
            }
            PutOutcome::Conflict => Err(FilesError::Conflict(format!("{key} in {}", self.bucket))),
        }
    }

    /// Writes rows of one day (of their numbers) as a file that does not count yet.
    ///
    /// # Errors
    /// The bucket does not answer.
    pub async fn write(
        &self,
        seed: u64,
        rows: Vec<Row>,
        merged: u32,
    ) -> Result<FileMeta, FilesError> {
        let day = rows.first().map_or(0, |r| r.id);
        let ids = rows.iter().map(|r| r.id);
        let lasts = rows.iter().map(|r| r.event.last_us);
        let name = format!("day={}/{}", day_name(day), ulid::Ulid::generate());
        let mut meta = FileMeta {
            rows: rows.len() as u64,
            min_id: ids.clone().min().unwrap_or(0),
            max_id: ids.max().unwrap_or(0),
            min_last: lasts.clone().min().unwrap_or(0),
            max_last: lasts.max().unwrap_or(0),
            merged,
            bytes: 0,
            name,
        };
        let key = self.key(&format!("{}.parquet", meta.name))?;
        let written = tokio::task::spawn_blocking(move || parquet::write(seed, rows)).await;
        let written = match written {
            Ok(written) => written.map_err(self.broken(&key))?,
            Err(_) => return Err(self.broken(&key)(FileError::Shape("writing it was cut off"))),
        };
        meta.bytes = written.bytes.len() as u64;
        self.bucket.put(&key, written.bytes).await?;
        let index = self.key(&format!("{}.index", meta.name))?;
        self.bucket.put(&index, Bytes::from(parquet::index_bytes(&written.groups))).await?;
        Ok(meta)
    }

    /// Deletes a file that counts no more.
    pub async fn delete(&self, meta: &FileMeta) {
        for ending in ["parquet", "index"] {
            let Ok(key) = self.key(&format!("{}.{ending}", meta.name)) else { continue };
            if let Err(error) = self.bucket.delete(&key).await {
                tracing::warn!(%error, %key, "deleting an old file of events; it stays and does no harm");
            }
        }
        let mut cache = self.cache.lock();
        if let Some((index, _)) = cache.indexes.remove(&meta.name) {
            cache.bytes = cache.bytes.saturating_sub(index.bytes);
        }
    }

    /// A file's groups and description, read once.
    ///
    /// # Errors
    /// The bucket does not answer, or the file is damaged.
    pub async fn index(&self, meta: &FileMeta) -> Result<Arc<FileIndex>, FilesError> {
        {
            let mut cache = self.cache.lock();
            cache.clock += 1;
            let clock = cache.clock;
            if let Some((index, used)) = cache.indexes.get_mut(&meta.name) {
                *used = clock;
                return Ok(Arc::clone(index));
            }
        }
        let key = self.key(&format!("{}.index", meta.name))?;
        let missing = || self.bucket.malformed(&key, "it is gone");
        let (bytes, _) = self.bucket.get(&key, INDEX_BYTES_MAX).await?.ok_or_else(missing)?;
        let size = bytes.len();
        let groups = parquet::read_index(&bytes).map_err(self.broken(&key))?;
        let file = self.key(&format!("{}.parquet", meta.name))?;
        let tail = self.bucket.get_range(&file, meta.bytes.saturating_sub(8)..meta.bytes).await?;
        let length = Metadata::length(&tail).map_err(self.broken(&file))?;
        if length > FOOTER_BYTES_MAX || length + 8 > meta.bytes {
            return Err(self.broken(&file)(FileError::Shape("its description is too long")));
        }
        let footer = meta.bytes - 8 - length..meta.bytes - 8;
        let footer = self.bucket.get_range(&file, footer).await?;
        let metadata = Metadata::parse(&footer, meta.bytes).map_err(self.broken(&file))?;
        if metadata.groups() != groups.len() {
            return Err(self.broken(&file)(FileError::Shape("its index is of another file")));
        }
        // The description in memory is some times what it is on disk.
        let bytes = size + footer.len() * 3;
        let index = Arc::new(FileIndex { groups: Arc::new(groups), metadata, bytes });
        self.keep(&meta.name, &index);
        Ok(index)
    }

    fn keep(&self, name: &str, index: &Arc<FileIndex>) {
        let mut cache = self.cache.lock();
        let clock = cache.clock;
        if cache.indexes.insert(name.to_owned(), (Arc::clone(index), clock)).is_none() {
            cache.bytes += index.bytes;
        }
        while cache.bytes > self.cache_bytes && cache.indexes.len() > 1 {
            let oldest = cache.indexes.iter().min_by_key(|(_, (_, used))| *used);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { break };
            if let Some((index, _)) = cache.indexes.remove(&name) {
                cache.bytes = cache.bytes.saturating_sub(index.bytes);
            }
        }
    }

    /// A group's bytes, ready to be read.
    ///
    /// # Errors
    /// The bucket does not answer.
    pub async fn group(
        &self,
        meta: &FileMeta,
        index: &FileIndex,
        number: usize,
    ) -> Result<GroupReader, FilesError> {
        let key = self.key(&format!("{}.parquet", meta.name))?;
        let Some(group) = index.groups.get(number) else {
            return Err(self.broken(&key)(FileError::Shape("it has fewer groups")));
        };
        let end = group.start.saturating_add(group.length);
        if end > meta.bytes || group.length > 1 << 30 {
            return Err(self.broken(&key)(FileError::Shape("a group lies beyond its end")));
        }
        let bytes = self.bucket.get_range(&key, group.start..end).await?;
        Ok(GroupReader::new(&index.metadata, number, group, bytes))
    }

    /// What is wrong with a file, with its name.
    pub fn wrong(&self, meta: &FileMeta, source: FileError) -> FilesError {
        FilesError::File { key: format!("{} in {}", meta.name, self.bucket), source }
    }

    /// All rows of a file that `takes` takes by number.
    ///
    /// # Errors
    /// The bucket does not answer, or the file is damaged.
    pub async fn rows(
        &self,
        meta: &FileMeta,
        takes: impl Fn(i64) -> bool,
    ) -> Result<Vec<Row>, FilesError> {
        let index = self.index(meta).await?;
        let mut out = Vec::new();
        for number in 0..index.groups.len() {
            let reader = self.group(meta, &index, number).await?;
            let rows = reader.rows(None).map_err(|e| self.wrong(meta, e))?;
            out.extend(rows.into_iter().filter(|r| takes(r.id)));
        }
        Ok(out)
    }

    /// The live row of a key among the files, below `evicted_below`, and received at `since_id` or later.
    ///
    /// # Errors
    /// The bucket does not answer, or a file is damaged: then nobody knows.
    pub async fn find(
        &self,
        list: &FileList,
        is_dead: impl Fn(i64) -> bool,
        ids: std::ops::Range<i64>,
        (cluster, uid): (&str, &str),
    ) -> Result<Option<Row>, FilesError> {
        let key = RowKey::new(list.seed, cluster, uid);
        let mut best: Option<Row> = None;
        for meta in &list.files {
            if meta.max_id < ids.start || meta.min_id >= ids.end {
                continue;
            }
            let index = self.index(meta).await?;
            for (number, group) in index.groups.iter().enumerate() {
                if group.ids.1 < ids.start
                    || group.ids.0 >= ids.end
                    || !group.summary.terms.may_hold(key.term())
                {
                    continue;
                }
                let reader = self.group(meta, &index, number).await?;
                let mut rows: Vec<u32> = (0..group.rows).collect();
                reader.keep_by("uid", &mut rows, |u| u == uid).map_err(|e| self.wrong(meta, e))?;
                if rows.is_empty() {
                    continue;
                }
                for row in reader.rows(Some(&rows)).map_err(|e| self.wrong(meta, e))? {
                    let is_it = row.event.cluster == cluster
                        && row.id < ids.end
                        && !is_dead(row.id)
                        && best.as_ref().is_none_or(|b| row.id > b.id);
                    if is_it {
                        best = Some(row);
                    }
                }
            }
        }
        Ok(best)
    }

    /// Deletes files that no list names: what a crash left. Only ones older than a day: a hub that has just lost its
    /// lease may still be writing.
    ///
    /// # Errors
    /// The bucket does not answer.
    pub async fn sweep(&self, list: &FileList) -> Result<usize, FilesError> {
        let mut gone = 0;
        for entry in self.bucket.list_all(&self.prefix).await? {
            let name = entry.key.within(&self.prefix).unwrap_or_default().to_owned();
            let stem = name.strip_suffix(".parquet").or_else(|| name.strip_suffix(".index"));
            let Some(stem) = stem.filter(|s| s.starts_with("day=")) else { continue };
            let old = entry.modified.elapsed().is_ok_and(|age| age.as_secs() > 86_400);
            if old && !list.files.iter().any(|f| f.name == stem) {
                self.bucket.delete(&entry.key).await?;
                gone += 1;
            }
        }
        Ok(gone)
    }
}

/// `2026-11-21` of a time in microseconds.
#[must_use]
pub fn day_name(us: i64) -> String {
    let day = jiff::Timestamp::from_microsecond(us).unwrap_or_default();
    day.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// The groups of a file for those that look at them alone.
#[must_use]
pub fn groups(index: &FileIndex) -> &[Group] {
    &index.groups
}
