//! Encodes one column chunk, page by page.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type as Physical, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use crate::page::{PageEncoding, PageHeader, PageKind, crc32, delta, hybrid};

/// The levels of a page's values, none where the column has none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Levels<'a> {
    pub(crate) rep: Option<&'a [u32]>,
    pub(crate) def: Option<&'a [u32]>,
}

/// Compresses pages; shared by all columns, for its tables are large.
pub(crate) struct Codec {
    zstd: zstd::bulk::Compressor<'static>,
    body: Vec<u8>,
    packed: Vec<u8>,
}

impl Codec {
    pub(crate) fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(level)?, body: Vec::new(), packed: Vec::new() })
    }
}

/// A column chunk under way.
pub(crate) struct ChunkWriter {
    out: Vec<u8>,
    offsets: OffsetIndexBuilder,
    bounds: Option<ColumnIndexBuilder>,
    values: u64,
    rows: u64,
    uncompressed: u64,
    encodings: Vec<Encoding>,
    dictionary_at: Option<i64>,
    data_at: Option<i64>,
}

impl ChunkWriter {
    /// Begins one; with `bounds` each page has to say its smallest and largest value.
    pub(crate) fn new(bounds: Option<Physical>) -> Self {
        Self {
            out: Vec::new(),
            offsets: OffsetIndexBuilder::new(),
            bounds: bounds.map(ColumnIndexBuilder::new),
            values: 0,
            rows: 0,
            uncompressed: 0,
            encodings: vec![Encoding::RLE],
            dictionary_at: None,
            data_at: None,
        }
    }

    fn encoded(&mut self, encoding: Encoding) {
        if !self.encodings.contains(&encoding) {
            self.encodings.push(encoding);
        }
    }

    /// Compresses the codec's body and appends it behind its header.
    fn page(
        &mut self,
        codec: &mut Codec,
        kind: PageKind,
        values: usize,
        encoding: PageEncoding,
    ) -> std::io::Result<usize> {
        codec.packed.clear();
        codec.packed.reserve(zstd::zstd_safe::compress_bound(codec.body.len()));
        codec.zstd.compress_to_buffer(&codec.body, &mut codec.packed)?;
        let header = PageHeader {
            kind,
            uncompressed: codec.body.len(),
            compressed: codec.packed.len(),
            crc: Some(crc32(&codec.packed)),
            values,
            encoding,
        };
        let before = self.out.len();
        header.write(&mut self.out);
        self.uncompressed += (self.out.len() - before + codec.body.len()) as u64;
        self.out.extend_from_slice(&codec.packed);
        Ok(self.out.len() - before)
    }

    /// The dictionary; before any data.
    pub(crate) fn dictionary<'a>(
        &mut self,
        codec: &mut Codec,
        strings: impl Iterator<Item = &'a str>,
    ) -> std::io::Result<()> {
        codec.body.clear();
        let mut count = 0;
        for text in strings {
            codec.body.extend_from_slice(&(text.len() as u32).to_le_bytes());
            codec.body.extend_from_slice(text.as_bytes());
            count += 1;
        }
        self.dictionary_at = Some(self.out.len() as i64);
        self.encoded(Encoding::PLAIN);
        self.page(codec, PageKind::Dictionary, count, PageEncoding::Plain)?;
        Ok(())
    }

    fn data(
        &mut self,
        codec: &mut Codec,
        rows: usize,
        values: usize,
        encoding: PageEncoding,
    ) -> std::io::Result<()> {
        let at = self.out.len() as i64;
        self.data_at.get_or_insert(at);
        self.encoded(match encoding {
            PageEncoding::Plain => Encoding::PLAIN,
            PageEncoding::Rle => Encoding::RLE,
            PageEncoding::DeltaBinaryPacked => Encoding::DELTA_BINARY_PACKED,
            PageEncoding::RleDictionary => Encoding::RLE_DICTIONARY,
        });
        let len = self.page(codec, PageKind::Data, values, encoding)?;
        self.offsets.append_offset_and_size(at, len as i32);
        self.offsets.append_row_count(rows as i64);
        self.rows += rows as u64;
        self.values += values as u64;
        Ok(())
    }

    /// A page of integers, packed as differences; smallest and largest are noted where wanted.
    pub(crate) fn delta_page(
        &mut self,
        codec: &mut Codec,
        rows: usize,
        levels: Levels<'_>,
        values: &[i64],
    ) -> std::io::Result<()> {
        let count = begin(codec, levels, values.len());
        delta::encode(values, &mut codec.body);
        if let Some(bounds) = &mut self.bounds {
            let (min, max) = (values.iter().min(), values.iter().max());
            let bytes = |v: Option<&i64>| v.copied().unwrap_or(0).to_le_bytes().to_vec();
            bounds.append(values.is_empty(), bytes(min), bytes(max), 0);
        }
        self.data(codec, rows, count, PageEncoding::DeltaBinaryPacked)
    }

    /// A page of 32-bit integers, stored plainly.
    pub(crate) fn i32_page(
        &mut self,
        codec: &mut Codec,
        rows: usize,
        levels: Levels<'_>,
        values: &[i32],
    ) -> std::io::Result<()> {
        let count = begin(codec, levels, values.len());
        codec.body.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        self.data(codec, rows, count, PageEncoding::Plain)
    }

    /// A page of floats, stored plainly.
    pub(crate) fn f64_page(
        &mut self,
        codec: &mut Codec,
        rows: usize,
        levels: Levels<'_>,
        values: &[f64],
    ) -> std::io::Result<()> {
        let count = begin(codec, levels, values.len());
        let at = codec.body.len();
        codec.body.resize(at + values.len() * 8, 0);
        let to = codec.body.get_mut(at..).unwrap_or_default();
        for (to, value) in to.chunks_exact_mut(8).zip(values) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        self.data(codec, rows, count, PageEncoding::Plain)
    }

    /// A page of indexes into the dictionary.
    pub(crate) fn index_page(
        &mut self,
        codec: &mut Codec,
        rows: usize,
        levels: Levels<'_>,
        indexes: &[u32],
    ) -> std::io::Result<()> {
        let count = begin(codec, levels, indexes.len());
        let width = hybrid::width_of(indexes.iter().copied().max().unwrap_or(0)).max(1);
        codec.body.push(width as u8);
        hybrid::encode(indexes, width, &mut codec.body);
        self.data(codec, rows, count, PageEncoding::RleDictionary)
    }

    /// What the Parquet writer needs to take the chunk over.
    pub(crate) fn finish(
        self,
        descr: ColumnDescPtr,
        statistics: Option<Statistics>,
        bloom_filter: Option<Sbbf>,
    ) -> ParquetResult<(Bytes, ColumnCloseResult)> {
        let mut metadata = ColumnChunkMetaData::builder(descr)
            .set_encodings(self.encodings)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_num_values(self.values as i64)
            .set_total_compressed_size(self.out.len() as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_data_page_offset(self.data_at.unwrap_or(0))
            .set_dictionary_page_offset(self.dictionary_at);
        if let Some(statistics) = statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: self.out.len() as u64,
            rows_written: self.rows,
            metadata: metadata.build()?,
            bloom_filter,
            column_index: self.bounds.map(ColumnIndexBuilder::build).transpose()?,
            offset_index: Some(self.offsets.build()),
        };
        Ok((Bytes::from(self.out), close))
    }
}

/// Begins a page's body with its levels; says how many values it counts.
fn begin(codec: &mut Codec, levels: Levels<'_>, values: usize) -> usize {
    codec.body.clear();
    for kind in [levels.rep, levels.def].into_iter().flatten() {
        let at = codec.body.len();
        codec.body.extend_from_slice(&[0; 4]);
        hybrid::encode(kind, 1, &mut codec.body);
        let len = (codec.body.len() - at - 4) as u32;
        if let Some(to) = codec.body.get_mut(at..at + 4) {
            to.copy_from_slice(&len.to_le_bytes());
        }
    }
    levels.def.or(levels.rep).map_or(values, <[u32]>::len)
}
