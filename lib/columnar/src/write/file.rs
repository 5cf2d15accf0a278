//! One Parquet file under way.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{BloomFilterPosition, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;

use super::chunk::ChunkWriter;
use super::sinks::{Count, Counted, Sinks};
use crate::error::{ColumnarError, Result};
use crate::part::{FileSummary, PartFile, PartMeta};
use crate::schema::{self, Column};

/// Under this key the footers hold the part's description.
pub(crate) const META_KEY: &str = "periplus";

/// An encoded column chunk and what the footer says of it.
pub(super) struct Chunk {
    pub(super) writer: ChunkWriter,
    pub(super) statistics: Option<Statistics>,
    pub(super) bloom: Option<Sbbf>,
}

impl From<ChunkWriter> for Chunk {
    fn from(writer: ChunkWriter) -> Self {
        Self { writer, statistics: None, bloom: None }
    }
}

pub(super) struct FileWriter {
    file: PartFile,
    columns: Vec<Column>,
    writer: SerializedFileWriter<Counted>,
    count: Arc<Mutex<Count>>,
    rows: u64,
}

pub(super) fn failed(file: PartFile) -> impl Fn(&dyn Display) -> ColumnarError {
    move |reason| ColumnarError::Write { file: file.name().to_owned(), reason: reason.to_string() }
}

impl FileWriter {
    pub(super) fn create(sinks: &mut dyn Sinks, file: PartFile, meta: &PartMeta) -> Result<Self> {
        let failed = failed(file);
        let sink = sinks.create(file).map_err(|e| failed(&e))?;
        let (sink, count) = Counted::new(sink);
        let columns = schema::columns(file, meta);
        let schema = schema::parquet(file, &columns).map_err(|e| failed(&e))?;
        let properties = WriterProperties::builder()
            .set_created_by("periplus".to_owned())
            .set_bloom_filter_position(BloomFilterPosition::End)
            .build();
        let writer = SerializedFileWriter::new(sink, schema, Arc::new(properties))
            .map_err(|e| failed(&e))?;
        Ok(Self { file, columns, writer, count, rows: 0 })
    }

    /// Writes a row group; `encode` is asked for one column after the other.
    pub(super) fn group(
        &mut self,
        mut encode: impl FnMut(usize, &Column) -> std::io::Result<Chunk>,
    ) -> Result<()> {
        let failed = failed(self.file);
        let descr = self.writer.schema_descr().clone();
        let mut group = self.writer.next_row_group().map_err(|e| failed(&e))?;
        for (i, column) in self.columns.iter().enumerate() {
            let chunk = encode(i, column).map_err(|e| failed(&e))?;
            let (bytes, close) = chunk
                .writer
                .finish(descr.column(i), chunk.statistics, chunk.bloom)
                .map_err(|e| failed(&e))?;
            group.append_column(&bytes, close).map_err(|e| failed(&e))?;
        }
        let closed = group.close().map_err(|e| failed(&e))?;
        self.rows += u64::try_from(closed.num_rows()).unwrap_or(0);
        Ok(())
    }

    /// Writes the footer, with the part's description in it.
    pub(super) fn finish(mut self, description: String) -> Result<FileSummary> {
        let failed = failed(self.file);
        self.writer.flush().map_err(|e| failed(&e))?;
        let data_end = {
            let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            count.tail = Some((count.bytes, flate2::Crc::new()));
            count.bytes
        };
        let pair = KeyValue::new(META_KEY.to_owned(), description);
        self.writer.append_key_value_metadata(pair);
        self.writer.finish().map_err(|e| failed(&e))?;
        drop(self.writer);
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(FileSummary {
            file: self.file,
            size: count.bytes,
            tail_len: count.bytes - data_end,
            tail_crc32: count.tail.as_ref().map_or(0, |(_, crc)| crc.sum()),
            rows: self.rows,
        })
    }
}
