//! Rows as Loki's streams: which fields are labels, which lie beside the line.

use std::collections::BTreeMap;

use crate::store::{Field, Filter, Regions, Row};

/// The value of the label `source`, which every stream has.
pub const SOURCE: &str = "kubernetes-events";

/// Fields that are labels of a stream.
pub const STREAM: [Field; 6] =
    [Field::Cluster, Field::Region, Field::Namespace, Field::Kind, Field::Reason, Field::Type];

/// The level of a type, as Grafana colours it.
#[must_use]
pub fn level(type_: &str) -> &'static str {
    match type_ {
        "Normal" => "info",
        "Warning" => "warn",
        _ => "unknown",
    }
}

/// A stream's labels.
#[must_use]
pub fn stream(row: &Row, regions: &Regions) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([("source".to_owned(), SOURCE.to_owned())]);
    for field in STREAM {
        let value = match field {
            Field::Region => regions.get(&row.event.cluster).map_or("", String::as_str),
            _ => field.of(&row.event),
        };
        if !value.is_empty() {
            out.insert(field.as_str().to_owned(), value.to_owned());
        }
    }
    out
}

/// What lies beside a line.
#[must_use]
pub fn beside(row: &Row) -> BTreeMap<String, String> {
    let e = &row.event;
    let mut out = BTreeMap::from([
        ("count".to_owned(), e.count.to_string()),
        ("detected_level".to_owned(), level(&e.type_).to_owned()),
    ]);
    for (name, value) in [
        ("name", &e.name),
        ("uid", &e.uid),
        ("reporter", &e.reporter),
        ("instance", &e.reporter_instance),
        ("owner", &e.owner),
        ("field_path", &e.field_path),
    ] {
        if !value.is_empty() {
            out.insert(name.to_owned(), value.clone());
        }
    }
    out
}

/// The field whose values a label's are made of.
#[must_use]
pub fn field(label: &str) -> Option<Field> {
    match label {
        "level" | "detected_level" => Some(Field::Type),
        name => Field::parse(name),
    }
}

/// A label's value out of its field's.
#[must_use]
pub fn shown(label: &str, value: String) -> String {
    match label {
        "level" | "detected_level" => level(&value).to_owned(),
        _ => value,
    }
}

/// The labels that rows may have, a reader's filter or not.
#[must_use]
pub fn names(filter: &Filter) -> Vec<&'static str> {
    let has = |f: &Field| *f != Field::Region || !filter.regions.is_empty();
    let mut names: Vec<&str> =
        STREAM.iter().filter(|f| has(f)).map(|f| f.as_str()).chain(["source"]).collect();
    names.sort_unstable();
    names
}
