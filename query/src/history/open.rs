//! Parts opened: their footers and the tables of their series, read once and kept while there is room.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use moka::sync::Cache;
use periplus_bucket::BucketError;
use periplus_columnar::{ColumnarError, Footer, PartFile, SeriesTable};
use periplus_model::{Labels, Matcher, TimeRange};
use ulid::Ulid;
use xxhash_rust::xxh3::Xxh3;

use super::blocks::{AtHand, Blocks, File, FileId};
use super::part::{Part, StoredFile};

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bucket does not give it.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// What it gives makes no sense.
    #[error(transparent)]
    Columnar(#[from] ColumnarError),
    /// The catalog names a file that can't be one.
    #[error("{key}: the catalog says that the file {why}; run `periplus bucket rebuild-catalog`")]
    Catalog {
        /// The file.
        key: String,
        /// What is wrong.
        why: String,
    },
}

/// The series of one row group, and for each what tells it from all others.
#[derive(Debug)]
pub struct Table {
    /// The series.
    pub series: SeriesTable,
    /// A hash of each one's own labels, so that a series of many days is put together without its labels.
    pub keys: Vec<u128>,
}

/// A file of a part and what its end says.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The file.
    pub file: File,
    /// Its footer.
    pub footer: Footer,
}

/// Opens parts. Clones share everything.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The bytes.
    pub blocks: Blocks,
    footers: Cache<FileId, Footer>,
    tables: Cache<(Ulid, usize), Arc<Table>>,
    /// Which series of a table satisfy which matchers, at any time of the day.
    found: Cache<(Ulid, usize, u128), Arc<Vec<u32>>>,
}

impl Parts {
    /// Keeps up to `memory_bytes` of footers and as much of tables.
    #[must_use]
    pub fn new(blocks: Blocks, memory_bytes: u64) -> Self {
        let footer = |_: &FileId, f: &Footer| u32::try_from(f.heap_bytes()).unwrap_or(u32::MAX);
        let table = |_: &(Ulid, usize), t: &Arc<Table>| {
            u32::try_from(t.series.heap_bytes() + t.keys.len() * 16).unwrap_or(u32::MAX)
        };
        let found = |_: &(Ulid, usize, u128), f: &Arc<Vec<u32>>| {
            u32::try_from(f.len() * 4 + 96).unwrap_or(u32::MAX)
        };
        Self {
            blocks,
            found: Cache::builder().max_capacity(memory_bytes / 4).weigher(found).build(),
            footers: Cache::builder().max_capacity(memory_bytes).weigher(footer).build(),
            tables: Cache::builder().max_capacity(memory_bytes).weigher(table).build(),
        }
    }

    /// A file of a part; `None` where the part has none of that kind.
    ///
    /// # Errors
    /// The file can't be read, or is not what the catalog says.
    pub async fn open(&self, part: &Part, which: PartFile) -> Result<Option<Opened>, ReadError> {
        let Some(object) = part.file(which) else { return Ok(None) };
        let file = file_of(part.id, object);
        if let Some(footer) = self.footers.get(&file.id) {
            return Ok(Some(Opened { file, footer }));
        }
        if object.tail_len > object.size {
            let why = format!("has {} bytes, of which {} at its end", object.size, object.tail_len);
            return Err(ReadError::Catalog { key: object.key.to_string(), why });
        }
        let tail = object.size - object.tail_len..object.size;
        let at_hand = self.blocks.get(&file, [tail.clone()]).await?;
        let bytes = self.bytes(&file, &at_hand, tail)?;
        let crc = periplus_columnar::crc32(&bytes);
        if crc != object.tail_crc32 {
            let why = format!("ends in bytes of CRC-32 {:08x}, not {crc:08x}", object.tail_crc32);
            return Err(ReadError::Catalog { key: object.key.to_string(), why });
        }
        let footer = Footer::parse(file.key.as_str(), object.size, &bytes)?;
        self.footers.insert(file.id, footer.clone());
        Ok(Some(Opened { file, footer }))
    }

    fn bytes(
        &self,
        file: &File,
        at_hand: &AtHand,
        range: Range<u64>,
    ) -> Result<bytes::Bytes, ReadError> {
        let (key, end) = (file.key.to_string(), range.end);
        let missing = || ReadError::Catalog { key, why: format!("has no byte {end}") };
        at_hand.bytes(range).ok_or_else(missing)
    }

    /// The tables of a part in which there may be series that match and have samples in `range`, each
    /// with the indexes of these series.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn select(
        &self,
        part: &Part,
        own: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<(Arc<Table>, Vec<u32>)>, ReadError> {
        let Some(opened) = self.open(part, PartFile::Series).await? else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        let asked = key_of_matchers(own);
        let groups = opened.footer.series_groups(own, range);
        let missing = groups.iter().filter(|g| !self.tables.contains_key(&(part.id, **g)));
        let ranges: Vec<Range<u64>> = missing.map(|g| opened.footer.group_range(*g)).collect();
        let at_hand = match ranges.is_empty() {
            true => AtHand::default(),
            false => self.blocks.get(&opened.file, ranges).await?,
        };
        for group in groups {
            let table = match self.tables.get(&(part.id, group)) {
                Some(table) => table,
                None => self.table(&opened, part.id, group, &at_hand).await?,
            };
            let all = self.found.get_with((part.id, group, asked), || {
                Arc::new(table.series.select(own, TimeRange::ALL))
            });
            let whole = range.min_t <= part.range.min_t && part.range.max_t <= range.max_t;
            let found = match whole {
                true => all.to_vec(),
                false => inside(&table.series, &all, range),
            };
            if !found.is_empty() {
                out.push((table, found));
            }
        }
        Ok(out)
    }

    async fn table(
        &self,
        opened: &Opened,
        part: Ulid,
        group: usize,
        at_hand: &AtHand,
    ) -> Result<Arc<Table>, ReadError> {
        let range = opened.footer.group_range(group);
        // It may have left the cache since it was looked for.
        let bytes = match at_hand.bytes(range.clone()) {
            Some(bytes) => bytes,
            None => {
                let again = self.blocks.get(&opened.file, [range.clone()]).await?;
                self.bytes(&opened.file, &again, range)?
            }
        };
        let series = SeriesTable::decode(&opened.footer, group, &bytes)?;
        let none = BTreeMap::new();
        let keys = (0..series.len()).map(|i| key_of(&series.labels(i as u32, &none))).collect();
        let table = Arc::new(Table { series, keys });
        self.tables.insert((part, group), Arc::clone(&table));
        Ok(table)
    }
}

fn file_of(part: Ulid, object: &StoredFile) -> File {
    let file = match object.which {
        PartFile::Series => 0,
        PartFile::Samples => 1,
        PartFile::Histograms => 2,
    };
    File { id: FileId { part, file }, key: object.key.clone(), size: object.size }
}

/// Of these series those with samples in a range.
fn inside(series: &SeriesTable, among: &[u32], range: TimeRange) -> Vec<u32> {
    let has = |i: &u32| series.windows(*i).any(|w| w.range.overlaps(&range));
    among.iter().copied().filter(has).collect()
}

fn key_of_matchers(matchers: &[Matcher]) -> u128 {
    let mut hash = Xxh3::new();
    for m in matchers {
        for text in [&*m.name, &format!("{:?}", m.op), &*m.value] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.digest128()
}

/// What tells label sets apart: a hash of names and values, each with its length.
fn key_of(labels: &Labels) -> u128 {
    let mut hash = Xxh3::new();
    for (name, value) in labels {
        for text in [name, value] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.digest128()
}
