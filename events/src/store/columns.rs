//! The fields of a run of rows that questions are decided by, as columns of small numbers.

use std::collections::HashMap;

use super::filter::{Field, Filter};
use crate::event::Event;

/// A row: an event and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number in the log: when the hub received this state, microseconds since 1970, made unique.
    pub id: i64,
    /// The event, with its cluster.
    pub event: Event,
}

/// The fields that are kept as columns.
pub const FIELDS: [Field; 6] =
    [Field::Cluster, Field::Namespace, Field::Kind, Field::Reason, Field::Type, Field::Reporter];

/// Numbers of values, as narrow as they can be.
#[derive(Clone, Debug)]
pub enum Codes {
    /// One value for all rows.
    Same,
    /// Up to 256 values.
    Narrow(Box<[u8]>),
    /// More.
    Wide(Box<[u32]>),
}

/// A column of texts with few values.
#[derive(Clone, Debug)]
pub struct Column {
    /// The values.
    pub values: Box<[Box<str>]>,
    codes: Codes,
}

impl Column {
    /// Puts texts into a column.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let (mut numbers, mut values, mut codes) = (HashMap::new(), Vec::new(), Vec::new());
        for text in texts {
            let code = *numbers.entry(text).or_insert_with(|| {
                values.push(Box::from(text));
                values.len() - 1
            });
            codes.push(u32::try_from(code).unwrap_or(u32::MAX));
        }
        Self::from_codes(values, codes)
    }

    /// A column of values and each row's number of its value.
    #[must_use]
    pub fn from_codes(values: Vec<Box<str>>, codes: Vec<u32>) -> Self {
        let codes = match values.len() {
            0 | 1 => Codes::Same,
            #[expect(clippy::cast_possible_truncation, reason = "at most 256 values")]
            2..=256 => Codes::Narrow(codes.into_iter().map(|c| c as u8).collect()),
            _ => Codes::Wide(codes.into()),
        };
        Self { values: values.into(), codes }
    }

    /// The number of a row's value.
    #[must_use]
    pub fn code(&self, row: usize) -> usize {
        match &self.codes {
            Codes::Same => 0,
            Codes::Narrow(codes) => codes.get(row).map_or(0, |c| usize::from(*c)),
            Codes::Wide(codes) => codes.get(row).map_or(0, |c| *c as usize),
        }
    }

    /// A row's value.
    #[must_use]
    pub fn get(&self, row: usize) -> &str {
        self.values.get(self.code(row)).map_or("", |v| v)
    }

    fn heap_bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::Same => 0,
            Codes::Narrow(codes) => codes.len(),
            Codes::Wide(codes) => codes.len() * 4,
        };
        codes + self.values.iter().map(|v| v.len() + 16).sum::<usize>()
    }

    /// Leaves of `rows` those whose value is taken. `false`: none is.
    fn keep(&self, takes: impl Fn(&str) -> bool, rows: &mut Vec<u32>) -> bool {
        let taken: Vec<bool> = self.values.iter().map(|v| takes(v)).collect();
        if taken.iter().all(|t| *t) {
            return true;
        }
        if !taken.iter().any(|t| *t) {
            rows.clear();
            return false;
        }
        rows.retain(|row| taken.get(self.code(*row as usize)).copied().unwrap_or(false));
        !rows.is_empty()
    }
}

/// The columns of a run of rows.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Numbers.
    pub ids: Box<[i64]>,
    /// Last times.
    pub last: Box<[i64]>,
    /// Counts.
    pub count: Box<[u32]>,
    /// As [`FIELDS`].
    pub fields: [Column; 6],
}

impl Columns {
    /// Of rows.
    pub fn new<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Self {
        let column = |field: Field| Column::new(rows.clone().map(move |r| field.of(&r.event)));
        Self {
            ids: rows.clone().map(|r| r.id).collect(),
            last: rows.clone().map(|r| r.event.last_us).collect(),
            count: rows.clone().map(|r| r.event.count).collect(),
            fields: FIELDS.map(column),
        }
    }

    /// How many rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.ids.len()
    }

    /// The column of a field; none for a name. That of a region is the cluster's.
    #[must_use]
    pub fn column(&self, field: Field) -> Option<&Column> {
        let kept = if field == Field::Region { Field::Cluster } else { field };
        FIELDS.iter().zip(&self.fields).find(|(f, _)| **f == kept).map(|(_, c)| c)
    }

    /// Rows that the columns don't speak against.
    #[must_use]
    pub fn candidates(&self, filter: &Filter) -> Vec<u32> {
        let in_time = |row: usize| {
            let last = self.last.get(row).copied().unwrap_or(i64::MIN);
            last >= filter.from_us
                && last < filter.to_us
                && self.ids.get(row).is_some_and(|id| *id > filter.after_id)
        };
        let count = u32::try_from(self.rows()).unwrap_or(u32::MAX);
        // Fields first where there are any: most runs are decided by their few values.
        let mut rows: Vec<u32> = Vec::new();
        let mut begun = false;
        for field in [Field::Region].iter().chain(&FIELDS).copied() {
            if !filter.asks(field) {
                continue;
            }
            let Some(column) = self.column(field) else { continue };
            if !begun {
                if !column.values.iter().any(|v| filter.takes(field, v)) {
                    return Vec::new();
                }
                rows = (0..count).collect();
                begun = true;
            }
            if !column.keep(|v| filter.takes(field, v), &mut rows) {
                return rows;
            }
        }
        if begun {
            rows.retain(|row| in_time(*row as usize));
            return rows;
        }
        (0..count).filter(|row| in_time(*row as usize)).collect()
    }

    /// Bytes it takes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.rows() * 20 + self.fields.iter().map(Column::heap_bytes).sum::<usize>()
    }

    /// An event with the columns' part of a row.
    #[must_use]
    pub fn fill(&self, row: usize, mut event: Event) -> Row {
        let text = |i: usize| self.fields.get(i).map_or("", |c| c.get(row)).to_owned();
        event.cluster = text(0);
        event.namespace = text(1);
        event.kind = text(2);
        event.reason = text(3);
        event.type_ = text(4);
        event.reporter = text(5);
        event.last_us = self.last.get(row).copied().unwrap_or_default();
        event.count = self.count.get(row).copied().unwrap_or(1);
        Row { id: self.ids.get(row).copied().unwrap_or_default(), event }
    }
}
