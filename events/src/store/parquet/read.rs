//! Row groups back into columns and rows.

use std::io::Read;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
    RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::reader::{ChunkReader, Length};

use super::super::columns::{Column, Columns, FIELDS, Row};
use super::super::filter::Field;
use super::{COLUMNS, FileError, Group};
use crate::event::Event;

/// Rows of a group are at most this many.
const ROWS_MAX: usize = 1 << 20;
/// Bytes of a group, decompressed, are at most this many.
const GROUP_BYTES_MAX: i64 = 1 << 30;

/// A part of a file, read as if it were the whole.
#[derive(Clone, Debug)]
struct Part {
    file_length: u64,
    start: u64,
    bytes: Bytes,
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.file_length
    }
}

impl Part {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        match at.filter(|at| *at <= self.bytes.len()) {
            Some(at) => Ok(self.bytes.slice(at..)),
            None => Err(ParquetError::General(format!("byte {start} is outside of what was read"))),
        }
    }
}

impl ChunkReader for Part {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(Box::new(self.from(start)?.reader()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF(format!("{length} bytes at {start}")));
        }
        Ok(bytes.slice(..length))
    }
}

/// Reads something that may be damaged: the decoders of Parquet answer most damage with an error, and some of it by
/// panicking. Nothing outlives a call but its result, so nothing half-done is seen afterwards.
fn guarded<T>(read: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or(Err(FileError::Shape("it is damaged")))
}

/// A file's own description.
#[derive(Clone, Debug)]
pub struct Metadata {
    inner: ArrowReaderMetadata,
    file_length: u64,
}

impl Metadata {
    /// How long the description at the end of a file is, out of its last eight bytes.
    ///
    /// # Errors
    /// It is no Parquet file.
    pub fn length(tail: &[u8]) -> Result<u64, FileError> {
        let (length, magic) =
            tail.split_at_checked(4).ok_or(FileError::Shape("it is too short"))?;
        match (length.try_into(), magic) {
            (Ok(length), b"PAR1") => Ok(u64::from(u32::from_le_bytes(length))),
            _ => Err(FileError::Shape("it does not end as Parquet")),
        }
    }

    /// Reads the description, given without the last eight bytes.
    ///
    /// # Errors
    /// It is none, or not of a file of events.
    pub fn parse(bytes: &[u8], file_length: u64) -> Result<Self, FileError> {
        guarded(|| Self::parse_unguarded(bytes, file_length))
    }

    fn parse_unguarded(bytes: &[u8], file_length: u64) -> Result<Self, FileError> {
        let metadata = ParquetMetaDataReader::decode_metadata(bytes)?;
        for group in metadata.row_groups() {
            let rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
            if rows > ROWS_MAX || group.total_byte_size() > GROUP_BYTES_MAX {
                return Err(FileError::Shape("a row group is too large"));
            }
        }
        // Our own schema: the one in the file is read by code that panics on nonsense.
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_schema(super::schema::schema());
        let inner = ArrowReaderMetadata::try_new(Arc::new(metadata), options)?;
        let named = |name: &&str| inner.schema().column_with_name(name).is_some();
        if !COLUMNS.iter().all(named) {
            return Err(FileError::Shape("it lacks columns"));
        }
        Ok(Self { inner, file_length })
    }

    /// How many row groups there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.inner.metadata().num_row_groups()
    }
}

/// Reads one row group whose bytes are there.
#[derive(Clone, Debug)]
pub struct GroupReader {
    metadata: Metadata,
    number: usize,
    rows: usize,
    part: Part,
}

/// The columns that decide, in the order of the schema.
const DECIDING: [&str; 9] =
    ["id", "cluster", "namespace", "kind", "reason", "type", "reporter", "last", "count"];

impl GroupReader {
    /// Of group `number`, described by `group`, whose bytes are `bytes`.
    #[must_use]
    pub fn new(metadata: &Metadata, number: usize, group: &Group, bytes: Bytes) -> Self {
        let part = Part { file_length: metadata.file_length, start: group.start, bytes };
        Self { metadata: metadata.clone(), number, rows: group.rows as usize, part }
    }

    fn read(&self, names: Option<&[&str]>, rows: Option<&[u32]>) -> Result<RecordBatch, FileError> {
        guarded(|| self.read_unguarded(names, rows))
    }

    fn read_unguarded(
        &self,
        names: Option<&[&str]>,
        rows: Option<&[u32]>,
    ) -> Result<RecordBatch, FileError> {
        let inner = &self.metadata.inner;
        let schema = inner.parquet_schema();
        let mask = match names {
            None => ProjectionMask::all(),
            Some(names) => ProjectionMask::columns(schema, names.iter().copied()),
        };
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.part.clone(), inner.clone())
                .with_row_groups(vec![self.number])
                .with_batch_size(ROWS_MAX.min(self.rows.max(1)))
                .with_projection(mask);
        if let Some(rows) = rows {
            builder = builder.with_row_selection(selection(rows));
        }
        let reader = builder.build()?;
        let schema = arrow::array::RecordBatchReader::schema(&reader);
        let batches = reader.collect::<Result<Vec<RecordBatch>, _>>()?;
        match batches.len() {
            0 => Ok(RecordBatch::new_empty(schema)),
            1 => Ok(batches.into_iter().next().unwrap_or_else(|| RecordBatch::new_empty(schema))),
            _ => Ok(arrow::compute::concat_batches(&schema, &batches)?),
        }
    }

    /// The columns that decide.
    ///
    /// # Errors
    /// The group is damaged.
    pub fn columns(&self) -> Result<Columns, FileError> {
        let batch = self.read(Some(&DECIDING), None)?;
        columns(&batch)
    }

    /// Some columns of these rows, ascending, in the order of the file.
    ///
    /// # Errors
    /// The group is damaged.
    pub fn batch(&self, names: &[&str], rows: &[u32]) -> Result<RecordBatch, FileError> {
        self.read(Some(names), Some(rows))
    }

    /// The texts of one column, of these rows.
    ///
    /// # Errors
    /// The group is damaged.
    pub fn texts(&self, name: &str, rows: &[u32]) -> Result<Vec<String>, FileError> {
        let batch = self.read(Some(&[name]), Some(rows))?;
        let texts = Texts::of(&batch, name)?;
        Ok((0..batch.num_rows()).map(|i| texts.get(i).to_owned()).collect())
    }

    /// Looks at the messages of these rows; keeps those that are taken.
    ///
    /// # Errors
    /// The group is damaged.
    pub fn keep_by(
        &self,
        name: &str,
        rows: &mut Vec<u32>,
        takes: impl Fn(&str) -> bool,
    ) -> Result<(), FileError> {
        let batch = self.read(Some(&[name]), Some(rows))?;
        let texts = Texts::of(&batch, name)?;
        let mut at = 0;
        rows.retain(|_| {
            at += 1;
            takes(texts.get(at - 1))
        });
        Ok(())
    }

    /// Whole rows: these, ascending, or all.
    ///
    /// # Errors
    /// The group is damaged.
    pub fn rows(&self, rows: Option<&[u32]>) -> Result<Vec<Row>, FileError> {
        let batch = self.read(None, rows)?;
        let columns = columns(&batch)?;
        let text = |name| Texts::of(&batch, name);
        let (uid, name, message) = (text("uid")?, text("name")?, text("message")?);
        let (event_name, object_uid) = (text("event_name")?, text("object_uid")?);
        let (field_path, action) = (text("field_path")?, text("action")?);
        let (instance, owner, labels) =
            (text("reporter_instance")?, text("owner")?, text("labels")?);
        let versions = numbers(&batch, "resource_version")?;
        let (first, received) = (numbers(&batch, "first")?, numbers(&batch, "received")?);
        let truncated = array(&batch, "truncated")?;
        let truncated = truncated.as_boolean_opt().ok_or(FileError::Shape("truncated"))?;
        let row = |i: usize| {
            let label = labels.get(i);
            let event = Event {
                uid: uid.get(i).to_owned(),
                resource_version: versions[i].cast_unsigned(),
                event_name: event_name.get(i).to_owned(),
                name: name.get(i).to_owned(),
                object_uid: object_uid.get(i).to_owned(),
                field_path: field_path.get(i).to_owned(),
                message: message.get(i).to_owned(),
                truncated: truncated.value(i),
                action: action.get(i).to_owned(),
                reporter_instance: instance.get(i).to_owned(),
                owner: owner.get(i).to_owned(),
                first_us: first[i],
                received_us: received[i],
                labels: if label.len() > 2 {
                    serde_json::from_str(label).unwrap_or_default()
                } else {
                    Default::default()
                },
                ..Event::default()
            };
            columns.fill(i, event)
        };
        Ok((0..batch.num_rows()).map(row).collect())
    }
}

fn selection(rows: &[u32]) -> RowSelection {
    let (mut selectors, mut next) = (Vec::new(), 0_usize);
    for run in rows.chunk_by(|a, b| a + 1 == *b) {
        let start = run.first().map_or(0, |r| *r as usize);
        if start > next {
            selectors.push(RowSelector::skip(start - next));
        }
        selectors.push(RowSelector::select(run.len()));
        next = start + run.len();
    }
    RowSelection::from(selectors)
}

fn array(batch: &RecordBatch, name: &'static str) -> Result<ArrayRef, FileError> {
    batch.column_by_name(name).cloned().ok_or(FileError::Shape(name))
}

fn numbers(batch: &RecordBatch, name: &'static str) -> Result<Vec<i64>, FileError> {
    let array = array(batch, name)?;
    if let Some(numbers) = array.as_primitive_opt::<Int64Type>() {
        return Ok(numbers.values().to_vec());
    }
    let times = array.as_primitive_opt::<TimestampMicrosecondType>();
    times.map(|t| t.values().to_vec()).ok_or(FileError::Shape(name))
}

/// A column of texts, as dictionary or plain.
struct Texts(ArrayRef, bool);

impl Texts {
    fn of(batch: &RecordBatch, name: &str) -> Result<Self, FileError> {
        let array = batch
            .column_by_name(name)
            .cloned()
            .ok_or(FileError::Shape("it lacks a column of text"))?;
        match array.data_type() {
            DataType::Utf8 => Ok(Self(array, false)),
            DataType::Dictionary(key, value)
                if **key == DataType::Int32 && **value == DataType::Utf8 =>
            {
                Ok(Self(array, true))
            }
            _ => Err(FileError::Shape("a column of text is something else")),
        }
    }

    fn get(&self, row: usize) -> &str {
        if row >= self.0.len() || self.0.is_null(row) {
            return "";
        }
        if !self.1 {
            return self.0.as_string::<i32>().value(row);
        }
        let dictionary = self.0.as_dictionary::<Int32Type>();
        let values = dictionary.values().as_string::<i32>();
        match usize::try_from(dictionary.keys().value(row)) {
            Ok(key) if key < values.len() => values.value(key),
            _ => "",
        }
    }
}

fn columns(batch: &RecordBatch) -> Result<Columns, FileError> {
    let column = |field: Field| -> Result<Column, FileError> {
        let texts = Texts::of(batch, field.as_str())?;
        if !texts.1 {
            return Ok(Column::new((0..batch.num_rows()).map(|i| texts.get(i))));
        }
        let dictionary = texts.0.as_dictionary::<Int32Type>();
        let values = dictionary.values().as_string::<i32>();
        let values: Vec<Box<str>> =
            values.iter().map(|v| Box::from(v.unwrap_or_default())).collect();
        let codes = dictionary.keys().values().iter().map(|k| k.cast_unsigned()).collect();
        Ok(Column::from_codes(values, codes))
    };
    let [a, b, c, d, e, f] = FIELDS;
    Ok(Columns {
        ids: numbers(batch, "id")?.into(),
        last: numbers(batch, "last")?.into(),
        count: numbers(batch, "count")?
            .into_iter()
            .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
            .collect(),
        fields: [column(a)?, column(b)?, column(c)?, column(d)?, column(e)?, column(f)?],
    })
}
