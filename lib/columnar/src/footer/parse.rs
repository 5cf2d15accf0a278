//! From a file's last bytes to a footer that holds together.

use std::ops::Range;

use bytes::Bytes;
use parquet::basic::Type as Physical;

use super::{Chunk, Group, Inner, PAGE_ROWS_MAX, PageAt, TAIL_BYTES_MAX};
use crate::error::{ColumnarError, Place, Result};
use crate::part::{FORMAT_VERSION, PartFile};
use crate::schema::{self, Column};
use crate::thrift::{BINARY, Bad, I32, I64, LIST, Reader, STRUCT};
use crate::write::{Description, GROUP_LABELS, GROUP_ROWS, META_KEY};

const MAGIC: &[u8; 4] = b"PAR1";
/// `CompressionCodec::ZSTD`
const ZSTD: i32 = 6;

type Parsed<T> = std::result::Result<T, Bad>;

/// The tail of a file, found by offsets from the file's beginning.
struct Tail<'a> {
    name: &'a str,
    file_len: u64,
    start: u64,
    bytes: &'a Bytes,
}

impl Tail<'_> {
    fn slice(&self, range: Range<u64>, what: &str) -> Result<Bytes> {
        if range.end > self.file_len || range.start > range.end {
            let reason = format!("{what} is said to lie at {range:?}, outside of the file");
            return Err(ColumnarError::file(self.name, reason));
        }
        if range.start < self.start {
            return Err(self.too_short(self.file_len - range.start));
        }
        let at = |n: u64| (n - self.start) as usize;
        Ok(self.bytes.slice(at(range.start)..at(range.end)))
    }

    fn too_short(&self, needed: u64) -> ColumnarError {
        if needed > TAIL_BYTES_MAX {
            let reason = format!("its footer is said to begin {needed} bytes before its end");
            return ColumnarError::file(self.name, reason);
        }
        let given = self.bytes.len() as u64;
        ColumnarError::TailTooShort { file: self.name.to_owned(), needed, given }
    }
}

pub(super) fn footer(name: &str, file_len: u64, bytes: &Bytes) -> Result<Inner> {
    let given = bytes.len() as u64;
    let bad = |reason: &str| ColumnarError::file(name, reason);
    let start = file_len.checked_sub(given).ok_or_else(|| bad("it is shorter than its tail"))?;
    let tail = Tail { name, file_len, start, bytes };
    if file_len < 12 {
        return Err(bad("it is too short for a Parquet file"));
    }
    let end = tail.slice(file_len - 8..file_len, "the footer's length")?;
    let (len, magic) = end.split_first_chunk::<4>().ok_or_else(|| bad("it is cut short"))?;
    if magic != MAGIC {
        return Err(bad("it does not end as a Parquet file does: cut short, or something else"));
    }
    let len = u64::from(u32::from_le_bytes(*len));
    let at = (file_len - 8).checked_sub(len).filter(|at| *at >= 4);
    let at = at.ok_or_else(|| bad("its footer is said to be longer than the file"))?;
    let meta = tail.slice(at..file_len - 8, "the footer")?;
    let unreadable = |Bad| bad("its footer can't be read");
    let (total, description) = first_pass(&meta).map_err(unreadable)?;
    let description = description.ok_or_else(|| {
        bad("its footer has no key \"periplus\": it was not written by this program")
    })?;
    let described: Description = serde_json::from_str(description)
        .map_err(|e| bad(&format!("its description can't be read: {e}")))?;
    if described.version != FORMAT_VERSION {
        let found = described.version;
        return Err(bad(&format!("it has version {found}; this program reads {FORMAT_VERSION}")));
    }
    if described.summary.meta.promoted.len() + described.summary.meta.external.len() > 4096 {
        return Err(bad("it claims more than 4096 label columns"));
    }
    let (file, summary) = (described.file, described.summary);
    let columns = schema::columns(file, &summary.meta);
    let raw = groups(&meta, &columns).map_err(|place| match place {
        Some((group, column)) => ColumnarError::corrupt(
            &Place {
                file: name.to_owned(),
                row_group: Some(group),
                column: column.and_then(|c| columns.get(c)).map(Column::path),
            },
            "its description in the footer makes no sense, or is of another schema",
        ),
        None => bad("its row groups can't be read"),
    })?;
    let mut groups = Vec::with_capacity(raw.len());
    let mut first_row = 0u64;
    for (number, raw) in raw.into_iter().enumerate() {
        let group = checked(&tail, file, &columns, number, raw, first_row)?;
        first_row = first_row.saturating_add(group.rows);
        groups.push(group);
    }
    if first_row != total {
        return Err(bad(&format!("its row groups have {first_row} rows, the footer says {total}")));
    }
    let mut inner =
        Inner { name: name.to_owned(), file, file_len, summary, columns, groups, heap_bytes: 0 };
    inner.heap_bytes = heap_bytes(&inner);
    Ok(inner)
}

fn heap_bytes(inner: &Inner) -> usize {
    let chunk = |c: &Chunk| {
        let bounds = c.bounds.as_ref().map_or(0, |(a, b)| a.len() + b.len());
        size_of::<Chunk>()
            + bounds
            + c.bloom.as_ref().map_or(0, Bytes::len)
            + c.pages.len() * size_of::<PageAt>()
    };
    let group = |g: &Group| {
        size_of::<Group>() + g.page_rows.len() * 8 + g.chunks.iter().map(chunk).sum::<usize>()
    };
    size_of::<Inner>()
        + inner.columns.len() * 64
        + inner.summary.names.as_bytes().len()
        + inner.summary.meta.sources.len() * 16
        + inner.groups.iter().map(group).sum::<usize>()
}

/// How many rows the file has, and its description.
fn first_pass(meta: &[u8]) -> Parsed<(u64, Option<&str>)> {
    let (mut rows, mut description) = (None, None);
    Reader::new(meta).fields(|r, id, kind| {
        match (id, kind) {
            (3, I64) => rows = Some(r.count()?),
            (5, LIST) => {
                for _ in 0..r.list(STRUCT)? {
                    let (mut key, mut value) = ("", None);
                    r.fields(|r, id, kind| {
                        match (id, kind) {
                            (1, BINARY) => key = r.text()?,
                            (2, BINARY) => value = Some(r.text()?),
                            _ => return Ok(false),
                        }
                        Ok(true)
                    })?;
                    if key == META_KEY {
                        description = value;
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((rows.ok_or(Bad)?, description))
}

struct RawGroup<'a> {
    rows: u64,
    chunks: Vec<RawChunk<'a>>,
}

#[derive(Default)]
struct RawChunk<'a> {
    values: u64,
    compressed: u64,
    data: u64,
    dictionary: Option<u64>,
    bounds: Option<(&'a [u8], &'a [u8])>,
    nulls: Option<u64>,
    bloom: Option<(u64, u64)>,
    offset_index: Option<(u64, u64)>,
}

/// Where it failed: row group and column, as far as that is known.
type At = Option<(usize, Option<usize>)>;

fn groups<'a>(meta: &'a [u8], columns: &[Column]) -> std::result::Result<Vec<RawGroup<'a>>, At> {
    let (mut out, mut at): (Vec<RawGroup<'a>>, At) = (Vec::new(), None);
    let read = Reader::new(meta).fields(|r, id, kind| {
        if (id, kind) != (4, LIST) {
            return Ok(false);
        }
        for number in 0..r.list(STRUCT)? {
            at = Some((number, None));
            let (mut rows, mut chunks) = (None, Vec::new());
            r.fields(|r, id, kind| {
                match (id, kind) {
                    (1, LIST) => {
                        if r.list(STRUCT)? != columns.len() {
                            return Err(Bad);
                        }
                        for (i, column) in columns.iter().enumerate() {
                            at = Some((number, Some(i)));
                            chunks.push(chunk(r, column)?);
                        }
                    }
                    (3, I64) => rows = Some(r.count()?),
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
            if chunks.len() != columns.len() {
                return Err(Bad);
            }
            out.push(RawGroup { rows: rows.ok_or(Bad)?, chunks });
        }
        Ok(true)
    });
    read.map(|()| out).map_err(|Bad| at)
}

fn chunk<'a>(r: &mut Reader<'a>, column: &Column) -> Parsed<RawChunk<'a>> {
    let mut out = RawChunk::default();
    let (mut offsets, mut has_meta) = ((None, None), false);
    r.fields(|r, id, kind| {
        match (id, kind) {
            (3, STRUCT) => {
                column_meta(r, column, &mut out)?;
                has_meta = true;
            }
            (4, I64) => offsets.0 = Some(r.count()?),
            (5, I32) => offsets.1 = Some(r.count()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if let (Some(offset), Some(len)) = offsets {
        out.offset_index = Some((offset, len));
    }
    if has_meta { Ok(out) } else { Err(Bad) }
}

fn column_meta<'a>(r: &mut Reader<'a>, column: &Column, out: &mut RawChunk<'a>) -> Parsed<()> {
    let (mut physical, mut codec, mut path) = (None, None, None);
    let (mut values, mut compressed, mut data, mut bloom) = (None, None, None, (None, None));
    r.fields(|r, id, kind| {
        match (id, kind) {
            (1, I32) => physical = Some(r.i32()?),
            (3, LIST) => {
                let mut parts = Vec::new();
                for _ in 0..r.list(BINARY)? {
                    parts.push(r.text()?);
                }
                path = Some(parts.join("."));
            }
            (4, I32) => codec = Some(r.i32()?),
            (5, I64) => values = Some(r.count()?),
            (7, I64) => compressed = Some(r.count()?),
            (9, I64) => data = Some(r.count()?),
            (11, I64) => out.dictionary = Some(r.count()?),
            (12, STRUCT) => {
                let (mut min, mut max) = (None, None);
                r.fields(|r, id, kind| {
                    match (id, kind) {
                        (3, I64) => out.nulls = Some(r.count()?),
                        (5, BINARY) => max = Some(r.binary()?),
                        (6, BINARY) => min = Some(r.binary()?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                out.bounds = min.zip(max);
            }
            (14, I64) => bloom.0 = Some(r.count()?),
            (15, I32) => bloom.1 = Some(r.count()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let expected = match column.physical {
        Physical::INT32 => 1,
        Physical::INT64 => 2,
        Physical::DOUBLE => 5,
        _ => 6,
    };
    if physical != Some(expected) || codec != Some(ZSTD) || path != Some(column.path()) {
        return Err(Bad);
    }
    out.values = values.ok_or(Bad)?;
    out.compressed = compressed.ok_or(Bad)?;
    out.data = data.ok_or(Bad)?;
    out.bloom = bloom.0.zip(bloom.1);
    Ok(())
}

/// Holds a row group against the file.
fn checked(
    tail: &Tail<'_>,
    file: PartFile,
    columns: &[Column],
    number: usize,
    raw: RawGroup<'_>,
    first_row: u64,
) -> Result<Group> {
    let mut place = Place { file: tail.name.to_owned(), row_group: Some(number), column: None };
    if file == PartFile::Series && raw.rows > GROUP_ROWS as u64 {
        let reason = format!("{} rows are more than the {GROUP_ROWS} of this format", raw.rows);
        return Err(ColumnarError::corrupt(&place, reason));
    }
    let mut group = Group { first_row, rows: raw.rows, chunks: Vec::new(), page_rows: Vec::new() };
    for (i, (raw, column)) in raw.chunks.into_iter().zip(columns).enumerate() {
        place.column = Some(column.path());
        let bad = |reason: String| ColumnarError::corrupt(&place, reason);
        let start = raw.dictionary.unwrap_or(raw.data);
        let end = start.checked_add(raw.compressed).filter(|end| *end <= tail.file_len);
        let end = end.filter(|end| start >= 4 && raw.data >= start && raw.data <= *end);
        let end = end.ok_or_else(|| bad("its bytes are said to lie outside of the file".into()))?;
        let repeats = column.shape.repeats();
        let is_too_many = file == PartFile::Series && raw.values > 4 * GROUP_LABELS as u64;
        if (!repeats && raw.values != group.rows) || raw.values < group.rows || is_too_many {
            return Err(bad(format!("{} values can't be for {} rows", raw.values, group.rows)));
        }
        let bloom = match raw.bloom {
            Some((offset, len)) => bloom(tail, offset, len)?,
            None => None,
        };
        let mut chunk = Chunk {
            range: start..end,
            data_start: raw.data,
            values: raw.values,
            bounds: raw.bounds.map(|(min, max)| (min.into(), max.into())),
            nulls: raw.nulls,
            bloom,
            pages: Vec::new(),
        };
        if file != PartFile::Series {
            let (offset, len) =
                raw.offset_index.ok_or_else(|| bad("it has no page index".to_owned()))?;
            let end = offset.saturating_add(len);
            let bytes = tail.slice(offset..end, "a page index")?;
            let rows = pages(&bytes, group.rows, &mut chunk)
                .ok_or_else(|| bad("its page index makes no sense".to_owned()))?;
            if i == 0 {
                group.page_rows = rows;
            } else if group.page_rows != rows {
                return Err(bad("its pages begin at other rows than those of others".to_owned()));
            }
        }
        group.chunks.push(chunk);
    }
    Ok(group)
}

/// The bits of a Bloom filter; `None` where it is of a kind that is not known.
fn bloom(tail: &Tail<'_>, offset: u64, len: u64) -> Result<Option<Bytes>> {
    let bytes = tail.slice(offset..offset.saturating_add(len), "a Bloom filter")?;
    let mut reader = Reader::new(&bytes);
    let mut bits = None;
    let read = reader.fields(|r, id, kind| {
        if (id, kind) == (1, I32) {
            bits = Some(r.count()?);
            return Ok(true);
        }
        Ok(false)
    });
    let left = reader.left();
    let known = read.is_ok() && bits == Some(left as u64) && left > 0 && left.is_multiple_of(32);
    // A copy, so that the footer does not keep the whole tail in memory.
    Ok(known.then(|| Bytes::copy_from_slice(bytes.get(bytes.len() - left..).unwrap_or_default())))
}

/// Reads page locations into the chunk; gives the first row of each page.
fn pages(bytes: &[u8], rows: u64, chunk: &mut Chunk) -> Option<Vec<u64>> {
    let mut first_rows: Vec<u64> = Vec::new();
    let mut offset_before = chunk.data_start;
    Reader::new(bytes)
        .fields(|r, id, kind| {
            if (id, kind) != (1, LIST) {
                return Ok(false);
            }
            for _ in 0..r.list(STRUCT)? {
                let (mut offset, mut len, mut row) = (None, None, None);
                r.fields(|r, id, kind| {
                    match (id, kind) {
                        (1, I64) => offset = Some(r.count()?),
                        (2, I32) => len = Some(u32::try_from(r.count()?).map_err(|_| Bad)?),
                        (3, I64) => row = Some(r.count()?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                let (offset, len) = (offset.ok_or(Bad)?, len.ok_or(Bad)?);
                let end = offset.checked_add(u64::from(len)).ok_or(Bad)?;
                if offset < offset_before || end > chunk.range.end {
                    return Err(Bad);
                }
                offset_before = end;
                chunk.pages.push(PageAt { offset, len });
                first_rows.push(row.ok_or(Bad)?);
            }
            Ok(true)
        })
        .ok()?;
    let ends = first_rows.iter().skip(1).copied().chain([rows]);
    let is_sound = first_rows.first() == Some(&0)
        && first_rows.iter().zip(ends).all(|(a, b)| *a < b && b - a <= PAGE_ROWS_MAX);
    is_sound.then_some(first_rows)
}
