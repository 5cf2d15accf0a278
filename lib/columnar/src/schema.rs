//! The columns of the three files, for writing and for checking what is read.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::Result as ParquetResult;
use parquet::schema::types::{Type, TypePtr};

use crate::Aggregate;
use crate::part::{PartFile, PartMeta, Resolution};

/// How often a column has a value in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Once.
    One,
    /// Once or not at all.
    Maybe,
    /// Any number of times: a list's elements.
    Many,
    /// Any number of times: the keys of a map; its values follow as the next column.
    Keys,
    /// The values of the map whose keys came before.
    Values,
}

impl Shape {
    /// Whether the column has levels of repetition.
    pub(crate) const fn repeats(self) -> bool {
        matches!(self, Self::Many | Self::Keys | Self::Values)
    }

    /// Whether it has levels of definition.
    pub(crate) const fn may_lack(self) -> bool {
        !matches!(self, Self::One)
    }
}

/// What a column's numbers mean to other tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Number,
    Text,
    Time,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) physical: Physical,
    pub(crate) meaning: Meaning,
    pub(crate) shape: Shape,
}

impl Column {
    fn new(name: &str, physical: Physical, meaning: Meaning, shape: Shape) -> Self {
        Self { name: name.to_owned(), physical, meaning, shape }
    }

    fn text(name: &str) -> Self {
        Self::new(name, Physical::BYTE_ARRAY, Meaning::Text, Shape::One)
    }

    fn int(name: &str) -> Self {
        Self::new(name, Physical::INT64, Meaning::Number, Shape::One)
    }

    fn short(name: &str) -> Self {
        Self::new(name, Physical::INT32, Meaning::Number, Shape::One)
    }

    fn time(name: &str) -> Self {
        Self::new(name, Physical::INT64, Meaning::Time, Shape::One)
    }

    fn float(name: &str) -> Self {
        Self::new(name, Physical::DOUBLE, Meaning::Number, Shape::One)
    }

    fn shaped(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Its path as a footer has it.
    pub(crate) fn path(&self) -> String {
        match self.shape {
            Shape::One | Shape::Maybe => self.name.clone(),
            Shape::Many => format!("{}.list.element", self.name),
            Shape::Keys => format!("{}.key_value.key", self.name),
            Shape::Values => format!("{}.key_value.value", self.name),
        }
    }

    fn leaf(&self, name: &str, repetition: Repetition) -> ParquetResult<Type> {
        let logical = match self.meaning {
            Meaning::Number => None,
            Meaning::Text => Some(LogicalType::String),
            Meaning::Time => Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
        };
        Type::primitive_type_builder(name, self.physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
    }
}

/// Column numbers of `samples.parquet`.
pub(crate) mod samples {
    pub(crate) const SID: usize = 0;
    pub(crate) const TS: usize = 1;
    /// Raw: the value. Aggregated: the first of the five.
    pub(crate) const VALUE: usize = 2;
    pub(crate) const START: usize = 3;
}

/// Column numbers of `histograms.parquet`.
pub(crate) mod histograms {
    pub(crate) const SID: usize = 0;
    pub(crate) const AGGREGATE: usize = 1;
    pub(crate) const FORM: usize = 2;
    pub(crate) const SCHEMA: usize = 3;
    pub(crate) const ZERO_THRESHOLD: usize = 4;
    pub(crate) const T_MIN: usize = 5;
    /// The four lists of span numbers begin here.
    pub(crate) const SPANS: usize = 7;
    pub(crate) const SPANS_LAST: usize = 10;
    pub(crate) const CUSTOM: usize = 11;
    pub(crate) const TS: usize = 12;
    pub(crate) const START: usize = 13;
    pub(crate) const HINT: usize = 14;
    pub(crate) const COUNT: usize = 15;
    pub(crate) const SUM: usize = 16;
    pub(crate) const ZERO_COUNT: usize = 17;
    pub(crate) const POSITIVE: usize = 18;
    pub(crate) const NEGATIVE: usize = 19;
    pub(crate) const OBSERVATIONS: usize = 20;
}

/// The numbers that each row of `series.parquet` ends with, in order.
pub(crate) const SERIES_NUMBERS: [&str; 9] = [
    "t_min",
    "t_max",
    "row_start",
    "n",
    "histogram_row_start",
    "histogram_rows",
    "histogram_n",
    "checksum",
    "histogram_checksum",
];

/// The columns of a file.
pub(crate) fn columns(file: PartFile, meta: &PartMeta) -> Vec<Column> {
    match file {
        PartFile::Series => series(meta),
        PartFile::Samples if meta.resolution == Resolution::Raw => {
            vec![Column::int("sid"), Column::time("ts"), Column::float("v"), Column::int("st")]
        }
        PartFile::Samples => {
            let values = Aggregate::ALL.map(|a| Column::float(a.name()).shaped(Shape::Maybe));
            [Column::int("sid"), Column::time("ts")].into_iter().chain(values).collect()
        }
        PartFile::Histograms => {
            let many = |c: Column| c.shaped(Shape::Many);
            vec![
                Column::int("sid"),
                Column::text("aggregate"),
                Column::text("form"),
                Column::short("schema"),
                Column::float("zero_threshold"),
                Column::time("t_min"),
                Column::time("t_max"),
                many(Column::short("positive_offsets")),
                many(Column::short("positive_lengths")),
                many(Column::short("negative_offsets")),
                many(Column::short("negative_lengths")),
                many(Column::float("custom_values")),
                many(Column::time("ts")),
                many(Column::int("st")),
                many(Column::short("hint")),
                many(Column::float("count")),
                many(Column::float("sum")),
                many(Column::float("zero_count")),
                many(Column::float("positive")),
                many(Column::float("negative")),
                many(Column::float("observations")),
            ]
        }
    }
}

fn series(meta: &PartMeta) -> Vec<Column> {
    let mut out = vec![Column::int("sid"), Column::text("__name__")];
    for label in &meta.promoted {
        out.push(Column::text(&format!("label_{label}")).shaped(Shape::Maybe));
    }
    for label in meta.external.keys() {
        out.push(Column::text(&format!("external_{label}")));
    }
    out.push(Column::text("labels").shaped(Shape::Keys));
    out.push(Column::text("labels").shaped(Shape::Values));
    out.push(Column::text("kind"));
    out.push(Column::short("window"));
    for name in SERIES_NUMBERS {
        let is_time = name.starts_with("t_");
        out.push(if is_time { Column::time(name) } else { Column::int(name) });
    }
    out.push(Column::time("counter_first_t").shaped(Shape::Maybe));
    out.push(Column::float("counter_first_v").shaped(Shape::Maybe));
    out.push(Column::float("counter_last_v").shaped(Shape::Maybe));
    out
}

/// The schema as Parquet has it.
pub(crate) fn parquet(file: PartFile, columns: &[Column]) -> ParquetResult<TypePtr> {
    let mut fields: Vec<TypePtr> = Vec::new();
    let mut keys: Option<Type> = None;
    for column in columns {
        let field = match column.shape {
            Shape::One => column.leaf(&column.name, Repetition::REQUIRED)?,
            Shape::Maybe => column.leaf(&column.name, Repetition::OPTIONAL)?,
            Shape::Many => {
                let element = column.leaf("element", Repetition::REQUIRED)?;
                group(&column.name, "list", vec![element], LogicalType::List)?
            }
            Shape::Keys => {
                keys = Some(column.leaf("key", Repetition::REQUIRED)?);
                continue;
            }
            Shape::Values => {
                let value = column.leaf("value", Repetition::REQUIRED)?;
                let pair = keys.take().into_iter().chain([value]).collect();
                group(&column.name, "key_value", pair, LogicalType::Map)?
            }
        };
        fields.push(Arc::new(field));
    }
    let name = file.name().trim_end_matches(".parquet");
    Ok(Arc::new(Type::group_type_builder(name).with_fields(fields).build()?))
}

fn group(name: &str, inner: &str, leaves: Vec<Type>, logical: LogicalType) -> ParquetResult<Type> {
    let repeated = Type::group_type_builder(inner)
        .with_repetition(Repetition::REPEATED)
        .with_fields(leaves.into_iter().map(Arc::new).collect())
        .build()?;
    Type::group_type_builder(name)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(logical))
        .with_fields(vec![Arc::new(repeated)])
        .build()
}
