//! Writing blocks that Prometheus and Thanos open.
//!
//! Series arrive in order of labels with their chunks; chunks go to disk at once, and what the index
//! needs (labels and chunk references) is kept until the end. The block appears under its name all
//! at once: it is written beside it, as a directory that Prometheus ignores and clears away, synced,
//! and renamed.

mod index;
mod segments;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use periplus_model::{Labels, TimeRange};
use ulid::Ulid;

use crate::chunk::{ChunkEncoding, EncodedChunk};
use crate::index::ChunkMeta;
use crate::meta::{Compaction, Meta, Stats, Thanos};

use index::IndexWriter;
use segments::SegmentWriter;

/// Why a block could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file operation failed.
    #[error("writing block {block}: {path}: {source}")]
    Io {
        /// The block's name.
        block: Ulid,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A series that does not sort after the one before it.
    #[error("block {block}: series {series:?} must sort after the one before, {before:?}")]
    SeriesOrder {
        /// The block's name.
        block: Ulid,
        /// The series.
        series: Labels,
        /// The series before it.
        before: Labels,
    },
    /// Chunks that run backwards or overlap.
    #[error("block {block}: series {series:?}: chunk {chunk} begins before the one before ends")]
    ChunkOrder {
        /// The block's name.
        block: Ulid,
        /// The series.
        series: Labels,
        /// Which chunk, from 0.
        chunk: usize,
    },
    /// A series without chunks, or a block without series.
    #[error("block {block}: {what}")]
    Empty {
        /// The block's name.
        block: Ulid,
        /// What is missing.
        what: String,
    },
    /// A part of the index exceeds what its format can address.
    #[error("block {block}: {what} exceeds the index format's limit: write several smaller blocks")]
    TooLarge {
        /// The block's name.
        block: Ulid,
        /// Which part.
        what: &'static str,
    },
}

/// What a finished block says of itself.
#[derive(Clone, Debug, Default)]
pub struct BlockInfo {
    /// The times the block is for, both ends included; what its samples span where absent.
    pub range: Option<TimeRange>,
    /// Its history; level 1, made of itself, where the default is left.
    pub compaction: Compaction,
    /// The `thanos` section, for blocks that go to a bucket.
    pub thanos: Option<Thanos>,
}

/// Writes one block.
///
/// Dropped before [`finish`](Self::finish) it leaves nothing behind.
pub struct BlockWriter {
    ulid: Ulid,
    parent: PathBuf,
    /// The directory written to; empty once it was renamed.
    dir: PathBuf,
    segments: SegmentWriter,
    index: IndexWriter,
    range: Option<TimeRange>,
    stats: Stats,
}

impl BlockWriter {
    /// Begins a block that will appear as `parent/<ulid>`.
    ///
    /// # Errors
    /// The directory can't be created or exists already.
    pub fn create(parent: impl Into<PathBuf>, ulid: Ulid) -> Result<Self, WriteError> {
        let parent = parent.into();
        let dir = parent.join(format!("{ulid}.tmp-for-creation"));
        let chunks = dir.join("chunks");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteError::Io { block: ulid, path, source }
        };
        if parent.join(ulid.to_string()).exists() {
            let path = parent.join(ulid.to_string());
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(WriteError::Io { block: ulid, path, source });
        }
        fs::create_dir(&dir).map_err(failed(&dir))?;
        let this = Self {
            ulid,
            parent,
            segments: SegmentWriter::new(ulid, chunks.clone()),
            dir,
            index: IndexWriter::default(),
            range: None,
            stats: Stats::default(),
        };
        fs::create_dir(&chunks).map_err(failed(&chunks))?;
        Ok(this)
    }

    /// Appends a series; each must sort after the one before.
    ///
    /// # Errors
    /// Series or chunks out of order, no chunks, a full disk.
    pub fn add(&mut self, labels: &Labels, chunks: &[EncodedChunk]) -> Result<(), WriteError> {
        if let Some(before) = self.index.last().filter(|before| *before >= labels) {
            let (series, before) = (labels.clone(), before.clone());
            return Err(WriteError::SeriesOrder { block: self.ulid, series, before });
        }
        if chunks.is_empty() {
            let what = format!("series {labels:?} has no chunks");
            return Err(WriteError::Empty { block: self.ulid, what });
        }
        let mut before: Option<i64> = None;
        for (chunk, c) in chunks.iter().enumerate() {
            if c.range.is_empty() || before.is_some_and(|b| c.range.min_t <= b) {
                let series = labels.clone();
                return Err(WriteError::ChunkOrder { block: self.ulid, series, chunk });
            }
            before = Some(c.range.max_t);
        }
        let mut metas = Vec::with_capacity(chunks.len());
        for c in chunks {
            let reference = self.segments.add(c)?;
            metas.push(ChunkMeta { range: c.range, reference });
            self.range = Some(self.range.map_or(c.range, |r| r.union(&c.range)));
            self.count(c);
        }
        self.index.add(labels.clone(), metas);
        Ok(())
    }

    fn count(&mut self, c: &EncodedChunk) {
        let n = u64::from(c.samples);
        self.stats.num_chunks += 1;
        self.stats.num_samples += n;
        match c.encoding {
            ChunkEncoding::Xor | ChunkEncoding::Xor2 => self.stats.num_float_samples += n,
            ChunkEncoding::Aggregate => {}
            _ => self.stats.num_histogram_samples += n,
        }
    }

    /// Writes index and `meta.json` and gives the block its name.
    ///
    /// # Errors
    /// A block without series, one too large for the format, a full disk.
    pub fn finish(mut self, info: BlockInfo) -> Result<Meta, WriteError> {
        let Some(spanned) = self.range else {
            let what = "there is no series to write".to_owned();
            return Err(WriteError::Empty { block: self.ulid, what });
        };
        self.segments.finish()?;
        let ulid = self.ulid;
        self.stats.num_series = self.index.len() as u64;
        let too_large = |what| WriteError::TooLarge { block: ulid, what };
        let path = self.dir.join("index");
        let failed = |path: PathBuf| move |source| WriteError::Io { block: ulid, path, source };
        {
            let file = File::create(&path).map_err(failed(path.clone()))?;
            let mut out = io::BufWriter::with_capacity(1 << 20, file);
            match self.index.write(&mut out) {
                Ok(()) => {}
                Err(index::Failed::TooLarge(what)) => return Err(too_large(what)),
                Err(index::Failed::Io(e)) => return Err(failed(path)(e)),
            }
            let file = out.into_inner().map_err(|e| failed(path.clone())(e.into_error()))?;
            file.sync_all().map_err(failed(path))?;
        }
        self.write_small("tombstones", &crate::tombstones::Tombstones::default().to_bytes())?;
        let range = info.range.map_or(spanned, |r| r.union(&spanned));
        let mut compaction = info.compaction;
        if compaction.level == 0 {
            compaction.level = 1;
        }
        if compaction.sources.is_empty() {
            compaction.sources.push(ulid);
        }
        let meta = Meta {
            ulid,
            min_time: range.min_t,
            max_time: range.max_t.saturating_add(1),
            stats: std::mem::take(&mut self.stats),
            compaction,
            version: 1,
            thanos: info.thanos,
            other: serde_json::Map::new(),
        };
        self.write_small("meta.json", &meta.to_bytes())?;
        self.publish()?;
        Ok(meta)
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let path = self.dir.join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| WriteError::Io { block: self.ulid, path: path.clone(), source })
    }

    /// Syncs the directories and renames: after this the block is there, after a crash before it not.
    fn publish(&mut self) -> Result<(), WriteError> {
        let target = self.parent.join(self.ulid.to_string());
        let publish = || {
            File::open(self.dir.join("chunks"))?.sync_all()?;
            File::open(&self.dir)?.sync_all()?;
            fs::rename(&self.dir, &target)?;
            File::open(&self.parent)?.sync_all()
        };
        publish().map_err(|source| WriteError::Io { block: self.ulid, path: target, source })?;
        self.dir = PathBuf::new();
        Ok(())
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.dir.as_os_str().is_empty() {
            // Nobody is left to tell; Prometheus clears such directories away as well.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
