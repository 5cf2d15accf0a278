//! The columns of a file.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::super::columns::Row;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Time,
    Text,
    /// Text with few values.
    Word,
    Flag,
}

/// The columns in order.
pub const COLUMNS: [&str; 23] = [
    "id",
    "cluster",
    "namespace",
    "kind",
    "reason",
    "type",
    "reporter",
    "last",
    "count",
    "name",
    "message",
    "uid",
    "resource_version",
    "event_name",
    "object_uid",
    "field_path",
    "truncated",
    "action",
    "reporter_instance",
    "owner",
    "labels",
    "first",
    "received",
];

fn kind(name: &str) -> Kind {
    match name {
        "id" | "count" | "resource_version" => Kind::Number,
        "last" | "first" | "received" => Kind::Time,
        "cluster" | "namespace" | "kind" | "reason" | "type" | "reporter" | "field_path"
        | "action" | "reporter_instance" | "labels" => Kind::Word,
        "truncated" => Kind::Flag,
        _ => Kind::Text,
    }
}

/// The schema of a file.
#[must_use]
pub fn schema() -> SchemaRef {
    let field = |name: &str| {
        let data = match kind(name) {
            Kind::Number => DataType::Int64,
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Text => DataType::Utf8,
            Kind::Word => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Kind::Flag => DataType::Boolean,
        };
        Field::new(name, data, false)
    };
    Arc::new(Schema::new(COLUMNS.iter().map(|name| field(name)).collect::<Vec<_>>()))
}

fn number(name: &str, row: &Row) -> i64 {
    let e = &row.event;
    match name {
        "id" => row.id,
        "count" => i64::from(e.count),
        // Numbers of resources are far below; one above keeps its bits.
        "resource_version" => e.resource_version.cast_signed(),
        "last" => e.last_us,
        "first" => e.first_us,
        _ => e.received_us,
    }
}

fn text<'a>(name: &str, row: &'a Row) -> &'a str {
    let e = &row.event;
    match name {
        "cluster" => &e.cluster,
        "namespace" => &e.namespace,
        "kind" => &e.kind,
        "reason" => &e.reason,
        "type" => &e.type_,
        "reporter" => &e.reporter,
        "name" => &e.name,
        "message" => &e.message,
        "uid" => &e.uid,
        "event_name" => &e.event_name,
        "object_uid" => &e.object_uid,
        "field_path" => &e.field_path,
        "action" => &e.action,
        "reporter_instance" => &e.reporter_instance,
        _ => &e.owner,
    }
}

/// Rows as columns: these of [`COLUMNS`], in the order given.
///
/// # Errors
/// A name that is none of them.
pub fn batch(rows: &[Row], names: &[&str]) -> Result<RecordBatch, ArrowError> {
    let column = |name: &str| -> ArrayRef {
        match kind(name) {
            Kind::Number => Arc::new(rows.iter().map(|r| number(name, r)).collect::<Int64Array>()),
            Kind::Time => {
                let times = rows.iter().map(|r| number(name, r));
                Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
            }
            Kind::Text => {
                Arc::new(StringArray::from_iter_values(rows.iter().map(|r| text(name, r))))
            }
            Kind::Word if name == "labels" => {
                let json = |r: &Row| match r.event.labels.is_empty() {
                    true => "{}".to_owned(),
                    false => serde_json::to_string(&r.event.labels).unwrap_or_default(),
                };
                let texts: Vec<String> = rows.iter().map(json).collect();
                Arc::new(texts.iter().map(String::as_str).collect::<DictionaryArray<Int32Type>>())
            }
            Kind::Word => {
                Arc::new(rows.iter().map(|r| text(name, r)).collect::<DictionaryArray<Int32Type>>())
            }
            Kind::Flag => {
                Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.event.truncated))))
            }
        }
    };
    let schema = schema();
    let places = names.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let schema = Arc::new(schema.project(&places)?);
    RecordBatch::try_new(schema, names.iter().map(|name| column(name)).collect())
}
