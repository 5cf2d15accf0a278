//! `series.parquet`: what is known of each series and window.

use std::collections::HashMap;

use parquet::bloom_filter::Sbbf;
use parquet::data_type::ByteArray;
use parquet::file::statistics::Statistics;
use periplus_model::{Labels, METRIC_NAME};

use super::chunk::{ChunkWriter, Codec, Levels};
use super::file::{Chunk, FileWriter};
use super::samples::{statistics, widen};
use crate::error::Result;
use crate::part::PartMeta;
use crate::schema::{Column, Meaning, SERIES_NUMBERS, Shape};

/// Rows of a row group, which is what a reader fetches and keeps at a time.
pub(crate) const GROUP_ROWS: usize = 32_768;
/// Labels of all rows of a row group.
pub(crate) const GROUP_LABELS: usize = 1 << 19;
/// Bytes of a row group's distinct label names and values.
const GROUP_TEXT_BYTES: usize = 8 << 20;
/// Longer bounds of text are left out.
const BOUND_BYTES_MAX: usize = 128;

/// A row.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) sid: i64,
    pub(super) kind: &'static str,
    pub(super) window: i32,
    /// In the order of [`SERIES_NUMBERS`].
    pub(super) numbers: [i64; SERIES_NUMBERS.len()],
    pub(super) counter_first: Option<(i64, f64)>,
    pub(super) counter_last: Option<f64>,
}

/// Distinct texts, numbered in the order in which they came.
#[derive(Default)]
struct Texts {
    numbers: HashMap<Box<str>, u32, ahash::RandomState>,
    texts: Vec<Box<str>>,
    bytes: usize,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.into(), number);
        self.texts.push(text.into());
        self.bytes += text.len();
        number
    }

    fn clear(&mut self) {
        self.numbers.clear();
        self.texts.clear();
        self.bytes = 0;
    }
}

/// A text column: which text each row has.
#[derive(Default)]
struct TextColumn {
    texts: Texts,
    /// Only of the rows that have one.
    numbers: Vec<u32>,
    /// 1 where a row has one.
    present: Vec<u32>,
}

impl TextColumn {
    fn push(&mut self, text: Option<&str>) {
        self.present.push(u32::from(text.is_some()));
        if let Some(text) = text {
            let number = self.texts.number(text);
            self.numbers.push(number);
        }
    }

    fn clear(&mut self) {
        self.texts.clear();
        self.numbers.clear();
        self.present.clear();
    }
}

/// Rows that wait until there are enough for a row group.
pub(super) struct SeriesRows {
    promoted: Vec<String>,
    external: Vec<String>,
    rows: Vec<Row>,
    name: TextColumn,
    labels: Vec<TextColumn>,
    keys: TextColumn,
    values: TextColumn,
    /// For keys and values alike.
    rep: Vec<u32>,
}

impl SeriesRows {
    pub(super) fn new(meta: &PartMeta) -> Self {
        Self {
            promoted: meta.promoted.clone(),
            external: meta.external.values().cloned().collect(),
            rows: Vec::new(),
            name: TextColumn::default(),
            labels: meta.promoted.iter().map(|_| TextColumn::default()).collect(),
            keys: TextColumn::default(),
            values: TextColumn::default(),
            rep: Vec::new(),
        }
    }

    /// Whether a row group is full.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() + 3 > GROUP_ROWS
            || self.rep.len() > GROUP_LABELS / 2
            || self.keys.texts.bytes + self.values.texts.bytes > GROUP_TEXT_BYTES
    }

    pub(super) fn push(&mut self, labels: &Labels, row: Row) {
        self.name.push(Some(labels.metric_name().unwrap_or("")));
        for (column, label) in self.labels.iter_mut().zip(&self.promoted) {
            column.push(labels.get(label));
        }
        let mut first = true;
        for (name, value) in labels {
            self.keys.push(Some(name));
            self.values.push(Some(value));
            self.rep.push(u32::from(!first));
            first = false;
        }
        if first {
            self.keys.push(None);
            self.values.push(None);
            self.rep.push(0);
        }
        self.rows.push(row);
    }

    /// Writes what waits as a row group.
    pub(super) fn flush(&mut self, file: &mut FileWriter, codec: &mut Codec) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let this = &*self;
        file.group(|number, column| this.encode(codec, number, column))?;
        self.rows.clear();
        self.rep.clear();
        self.labels.iter_mut().for_each(TextColumn::clear);
        for column in [&mut self.name, &mut self.keys, &mut self.values] {
            column.clear();
        }
        Ok(())
    }

    fn encode(&self, codec: &mut Codec, number: usize, column: &Column) -> std::io::Result<Chunk> {
        let (rows, labels) = (self.rows.len(), self.labels.len());
        match (column.shape, column.meaning) {
            (Shape::Keys, _) => self.map(codec, &self.keys),
            (Shape::Values, _) => self.map(codec, &self.values),
            (Shape::Maybe, Meaning::Text) => {
                let text = number.checked_sub(2).and_then(|i| self.labels.get(i));
                text.map_or_else(
                    || Ok(ChunkWriter::new(None).into()),
                    |t| selecting(codec, t, true),
                )
            }
            (_, Meaning::Text) if column.name == METRIC_NAME => selecting(codec, &self.name, false),
            (_, Meaning::Text) if column.name == "kind" => {
                let mut kinds = TextColumn::default();
                self.rows.iter().for_each(|r| kinds.push(Some(r.kind)));
                text(codec, rows, Levels::default(), &kinds)
            }
            (_, Meaning::Text) => {
                let mut constant = TextColumn::default();
                let value = number.checked_sub(2 + labels).and_then(|i| self.external.get(i));
                let value = value.map_or("", String::as_str);
                self.rows.iter().for_each(|_| constant.push(Some(value)));
                text(codec, rows, Levels::default(), &constant)
            }
            _ => self.numbers(codec, column),
        }
    }

    fn map(&self, codec: &mut Codec, column: &TextColumn) -> std::io::Result<Chunk> {
        let levels = Levels { rep: Some(&self.rep), def: Some(&column.present) };
        text(codec, self.rows.len(), levels, column)
    }

    fn numbers(&self, codec: &mut Codec, column: &Column) -> std::io::Result<Chunk> {
        let (rows, mut chunk) = (self.rows.len(), ChunkWriter::new(None));
        let floats = |chunk: &mut ChunkWriter,
                      codec: &mut Codec,
                      of: &dyn Fn(&Row) -> Option<f64>| {
            let present: Vec<u32> = self.rows.iter().map(|r| u32::from(of(r).is_some())).collect();
            let values: Vec<f64> = self.rows.iter().filter_map(of).collect();
            let levels = Levels { rep: None, def: Some(&present) };
            chunk.f64_page(codec, rows, levels, &values)
        };
        match column.name.as_str() {
            "window" => {
                let values: Vec<i32> = self.rows.iter().map(|r| r.window).collect();
                chunk.i32_page(codec, rows, Levels::default(), &values)?;
            }
            "counter_first_t" => {
                let first = |r: &Row| r.counter_first.map(|(t, _)| t);
                let present: Vec<u32> =
                    self.rows.iter().map(|r| u32::from(first(r).is_some())).collect();
                let values: Vec<i64> = self.rows.iter().filter_map(first).collect();
                let levels = Levels { rep: None, def: Some(&present) };
                chunk.delta_page(codec, rows, levels, &values)?;
            }
            "counter_first_v" => floats(&mut chunk, codec, &|r| r.counter_first.map(|(_, v)| v))?,
            "counter_last_v" => floats(&mut chunk, codec, &|r| r.counter_last)?,
            name => {
                let at = SERIES_NUMBERS.iter().position(|n| *n == name);
                let of = |r: &Row| at.map_or(r.sid, |i| r.numbers.get(i).copied().unwrap_or(0));
                let values: Vec<i64> = self.rows.iter().map(of).collect();
                let mut bounds = None;
                widen(&mut bounds, &values);
                chunk.delta_page(codec, rows, Levels::default(), &values)?;
                return Ok(Chunk { statistics: statistics(bounds), ..chunk.into() });
            }
        }
        Ok(chunk.into())
    }
}

fn text(
    codec: &mut Codec,
    rows: usize,
    levels: Levels<'_>,
    column: &TextColumn,
) -> std::io::Result<Chunk> {
    let mut chunk = ChunkWriter::new(None);
    chunk.dictionary(codec, column.texts.texts.iter().map(AsRef::as_ref))?;
    chunk.index_page(codec, rows, levels, &column.numbers)?;
    Ok(chunk.into())
}

/// A text column that questions select by: with bounds and a Bloom filter.
fn selecting(codec: &mut Codec, column: &TextColumn, optional: bool) -> std::io::Result<Chunk> {
    let levels = Levels { rep: None, def: optional.then_some(&column.present[..]) };
    let chunk = text(codec, column.present.len(), levels, column)?;
    let texts = &column.texts.texts;
    let short = |t: &&str| t.len() <= BOUND_BYTES_MAX;
    let bound = |t: Option<&str>| t.filter(short).map(|t| ByteArray::from(t.as_bytes().to_vec()));
    let nulls = column.present.len() - column.numbers.len();
    let (min, max) =
        (bound(texts.iter().map(|t| &**t).min()), bound(texts.iter().map(|t| &**t).max()));
    // One bound alone says nothing to our reader.
    let (min, max) = if min.is_some() && max.is_some() { (min, max) } else { (None, None) };
    let statistics = Statistics::byte_array(min, max, None, Some(nulls as u64), false);
    let bloom = match texts.len() {
        0 => None,
        n => Sbbf::new_with_ndv_fpp(n as u64, 0.01).ok().map(|mut filter| {
            texts.iter().for_each(|t| filter.insert(t.as_bytes()));
            filter
        }),
    };
    Ok(Chunk { statistics: Some(statistics), bloom, ..chunk })
}
