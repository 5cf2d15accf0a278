//! Rows as Parquet, for us and for any tool.
//!
//! One file holds rows of one UTC day (of receipt), sorted by cluster, then last time. Columns are named as the
//! fields of an event in JSON; times are UTC timestamps in microseconds, `id` is the row's number, `labels` a JSON
//! object. Texts with few values are dictionaries. Row groups have [`GROUP_ROWS`] rows; for each a [`Group`] says
//! where its bytes are and what is certainly not in it, in an object beside the file (`.index`), so that a search reads only
//! groups that may hold something.

mod read;
mod schema;

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::columns::Row;
use super::summary::{Bits, RowKey, Summary};

pub use read::{GroupReader, Metadata};
pub use schema::{COLUMNS, batch, schema};

/// Rows of a row group.
pub const GROUP_ROWS: usize = 16_384;

/// A file or an index that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// As Parquet.
    #[error("Parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// As columns.
    #[error("Parquet columns: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// It is not what it should be.
    #[error("it is no file of events: {0}")]
    Shape(&'static str),
}

/// A row group: where it is and what may be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its rows.
    pub rows: u32,
    /// The earliest and latest last time.
    pub last: (i64, i64),
    /// The smallest and largest number.
    pub ids: (i64, i64),
    /// Where its bytes begin in the file.
    pub start: u64,
    /// How many they are.
    pub length: u64,
    /// What is certainly not in it.
    pub summary: Summary,
}

/// A file in bytes, with its groups.
#[derive(Debug)]
pub struct Written {
    /// The file.
    pub bytes: Bytes,
    /// Its groups, in order.
    pub groups: Vec<Group>,
}

fn properties() -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_offset_index_disabled(true)
        .set_created_by("periplus".to_owned());
    for name in ["id", "last", "first", "received"] {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in ["uid", "event_name", "message"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    Ok(properties.build())
}

/// Writes rows of one day; sorts them. `seed` is that of row keys.
///
/// # Errors
/// None in practice: it writes to memory.
pub fn write(seed: u64, mut rows: Vec<Row>) -> Result<Written, FileError> {
    rows.sort_by(|a, b| {
        let key = |r: &Row| (r.event.last_us, r.id);
        a.event.cluster.cmp(&b.event.cluster).then_with(|| key(a).cmp(&key(b)))
    });
    let mut groups = Vec::new();
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, schema::schema(), Some(properties()?))?;
    for chunk in rows.chunks(GROUP_ROWS) {
        let batch: RecordBatch = schema::batch(chunk, &COLUMNS)?;
        writer.write(&batch)?;
        writer.flush()?;
        let key = |r: &Row| RowKey::new(seed, &r.event.cluster, &r.event.uid);
        let bounds = |of: fn(&Row) -> i64| {
            let values = chunk.iter().map(of);
            (values.clone().min().unwrap_or(0), values.max().unwrap_or(0))
        };
        groups.push(Group {
            rows: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
            last: bounds(|r| r.event.last_us),
            ids: bounds(|r| r.id),
            start: 0,
            length: 0,
            summary: Summary::new(chunk.iter().map(|r| (key(r), &r.event))),
        });
    }
    let metadata = writer.close()?;
    let bytes = Bytes::from(out);
    for (group, written) in groups.iter_mut().zip(metadata.row_groups()) {
        let ranges: Vec<(u64, u64)> = written.columns().iter().map(|c| c.byte_range()).collect();
        let start = ranges.iter().map(|r| r.0).min().unwrap_or(0);
        let end = ranges.iter().map(|r| r.0 + r.1).max().unwrap_or(0);
        (group.start, group.length) = (start, end - start);
    }
    Ok(Written { bytes, groups })
}

const MAGIC: &[u8; 4] = b"PEI1";
/// Most groups of a file.
const GROUPS_MAX: u32 = 1 << 20;

/// The groups of a file as the bytes of its index.
#[must_use]
pub fn index_bytes(groups: &[Group]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(u32::try_from(groups.len()).unwrap_or(0).to_le_bytes());
    for g in groups {
        out.extend(g.rows.to_le_bytes());
        for n in [g.last.0, g.last.1, g.ids.0, g.ids.1] {
            out.extend(n.to_le_bytes());
        }
        out.extend(g.start.to_le_bytes());
        out.extend(g.length.to_le_bytes());
        for bits in [&g.summary.terms, &g.summary.grams] {
            let (bytes, probes) = bits.to_bytes();
            out.extend(probes.to_le_bytes());
            out.extend(u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
            out.extend(bytes);
        }
    }
    let sum = crc32c::crc32c(&out);
    out.extend(sum.to_le_bytes());
    out
}

/// The groups out of an index.
///
/// # Errors
/// It is damaged or none.
pub fn read_index(bytes: &[u8]) -> Result<Vec<Group>, FileError> {
    let broken = || FileError::Shape("its index is damaged");
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(broken)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return Err(broken());
    }
    let mut rest = body.strip_prefix(MAGIC).ok_or_else(broken)?;
    let count = take::<4>(&mut rest).map(u32::from_le_bytes).ok_or_else(broken)?;
    let mut groups = Vec::new();
    for _ in 0..count.min(GROUPS_MAX) {
        groups.push(read_group(&mut rest).ok_or_else(broken)?);
    }
    Ok(groups)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn read_group(rest: &mut &[u8]) -> Option<Group> {
    let rows = take(rest).map(u32::from_le_bytes)?;
    let mut n = || take(rest).map(i64::from_le_bytes);
    let (last, ids) = ((n()?, n()?), (n()?, n()?));
    let start = take(rest).map(u64::from_le_bytes)?;
    let length = take(rest).map(u64::from_le_bytes)?;
    let mut bits = || {
        let probes = take(rest).map(u32::from_le_bytes)?;
        let length = take(rest).map(u32::from_le_bytes)? as usize;
        let bytes = rest.get(..length)?;
        *rest = rest.get(length..)?;
        Bits::from_bytes(bytes, probes)
    };
    let summary = Summary { terms: bits()?, grams: bits()? };
    Some(Group { rows, last, ids, start, length, summary })
}

/// Shared by readers: a file's groups and how to read them.
#[derive(Clone, Debug)]
pub struct FileIndex {
    /// The groups.
    pub groups: Arc<Vec<Group>>,
    /// The file's own description.
    pub metadata: Metadata,
    /// Bytes both take, about.
    pub bytes: usize,
}

#[cfg(test)]
mod tests;
