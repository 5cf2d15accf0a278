//! A whole block, open.

use std::path::Path;

use periplus_model::{Labels, Matcher, TimeRange};

use crate::chunk::{self, AggregateChunk, ChunkSamples};
use crate::error::{BlockError, BlockFile, FileError};
use crate::index::{ChunkMeta, Index, Series, SeriesRef};
use crate::meta::Meta;
use crate::segment::{Segments, StoredChunk};
use crate::source::{BlockDir, BlockFiles, NamedFile};
use crate::tombstones::Tombstones;

/// An open block.
///
/// Opening reads `meta.json`, the index's directories, the tombstones and the segments' headers.
/// Series and chunks are read when asked for, and nothing of them is kept.
pub struct Block {
    name: String,
    meta: Meta,
    index: Index,
    tombstones: Tombstones,
    segments: Segments,
}

impl Block {
    /// Opens the block in a directory; its files are mapped.
    ///
    /// # Errors
    /// Which file is missing or bad, and where.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, BlockError> {
        Self::from_files(&BlockDir::new(dir.as_ref()))
    }

    /// Opens the block in these files.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_files(files: &dyn BlockFiles) -> Result<Self, BlockError> {
        let name = files.name();
        let at = |source| BlockError { block: name.clone(), series: None, source };
        let meta = read_meta(files).map_err(at)?;
        let index = required(files, BlockFile::Index).and_then(Index::open).map_err(at)?;
        let tombstones = read_tombstones(files).map_err(at)?;
        let segments = Segments::open(files).map_err(at)?;
        Ok(Self { name, meta, index, tombstones, segments })
    }

    /// What errors call the block.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its `meta.json`.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Its index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What was deleted from it.
    #[must_use]
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Its chunk segments.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// The series that pass all matchers, ascending by labels.
    ///
    /// # Errors
    /// What is wrong with the index.
    pub fn select(&self, matchers: &[Matcher]) -> Result<Vec<SeriesRef>, BlockError> {
        self.index.select(matchers).map_err(|e| self.at(None, e))
    }

    /// Reads a series.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn series(&self, reference: SeriesRef) -> Result<Series, BlockError> {
        self.index.series(reference).map_err(|e| self.at(None, e))
    }

    /// Reads a chunk of a series.
    ///
    /// # Errors
    /// What is wrong with it; names the series.
    pub fn chunk(&self, series: &Series, chunk: &ChunkMeta) -> Result<StoredChunk, BlockError> {
        self.segments.read(chunk.reference).map_err(|e| self.at(Some(&series.labels), e))
    }

    /// Reads a chunk of a series and appends its samples inside `range`, less what was deleted.
    ///
    /// # Errors
    /// What is wrong with the chunk; names series, offset and encoding. Also an aggregate chunk,
    /// which holds several columns: see [`with_aggregate`](Self::with_aggregate).
    pub fn decode(
        &self,
        series: &Series,
        chunk: &ChunkMeta,
        range: TimeRange,
        out: &mut ChunkSamples,
    ) -> Result<(), BlockError> {
        let before = out.len();
        self.decode_stored(series, chunk, range, out)?;
        out.delete(before, self.tombstones.of(u64::from(series.reference)));
        Ok(())
    }

    /// [`decode`](Self::decode) without looking at deletions.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_stored(
        &self,
        series: &Series,
        chunk: &ChunkMeta,
        range: TimeRange,
        out: &mut ChunkSamples,
    ) -> Result<(), BlockError> {
        let stored = self.chunk(series, chunk)?;
        stored
            .encoding()
            .and_then(|encoding| {
                chunk::decode(encoding, &stored.payload, range, out)
                    .map_err(|source| chunk_error(chunk, source))
            })
            .map_err(|e| self.at(Some(&series.labels), e))
    }

    /// Reads an aggregate chunk of a series and hands its parts over.
    ///
    /// # Errors
    /// What is wrong with the chunk, or what `then` says is; names series, offset and encoding.
    pub fn with_aggregate<T>(
        &self,
        series: &Series,
        chunk: &ChunkMeta,
        then: impl FnOnce(&AggregateChunk<'_>) -> Result<T, chunk::ChunkError>,
    ) -> Result<T, BlockError> {
        let stored = self.chunk(series, chunk)?;
        AggregateChunk::parse(&stored.payload)
            .and_then(|parts| then(&parts))
            .map_err(|source| self.at(Some(&series.labels), chunk_error(chunk, source)))
    }

    pub(crate) fn at(&self, series: Option<&Labels>, source: FileError) -> BlockError {
        BlockError { block: self.name.clone(), series: series.cloned(), source }
    }
}

fn chunk_error(chunk: &ChunkMeta, source: chunk::ChunkError) -> FileError {
    let offset = u64::from(chunk.reference.offset());
    FileError::Chunk { file: chunk.reference.file(), offset, source }
}

fn required(
    files: &dyn BlockFiles,
    file: BlockFile,
) -> Result<std::sync::Arc<dyn crate::source::RangedBytes>, FileError> {
    files
        .open(file)
        .and_then(|f| f.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
        .map_err(|e| FileError::io(file, e))
}

pub(crate) fn read_meta(files: &dyn BlockFiles) -> Result<Meta, FileError> {
    let file = NamedFile::new(BlockFile::Meta, required(files, BlockFile::Meta)?);
    Meta::parse(&file.read("the description", 0, file.len().min(1 << 26))?)
}

pub(crate) fn read_tombstones(files: &dyn BlockFiles) -> Result<Tombstones, FileError> {
    let file = BlockFile::Tombstones;
    match files.open(file).map_err(|e| FileError::io(file, e))? {
        Some(bytes) => Tombstones::read(&NamedFile::new(file, bytes)),
        None => Ok(Tombstones::default()),
    }
}
