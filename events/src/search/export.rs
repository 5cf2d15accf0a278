//! Every row that a filter selects, as record batches in no order: for SQL, and for programs that count for themselves.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::page::rows_of;
use super::sources::{self, Found, Source, look};
use super::{Context, SearchError};
use crate::store::filter::Filter;
use crate::store::parquet;

/// Rows of a batch at most.
const BATCH_ROWS: usize = 8192;

/// The column that no row has: the region of its cluster.
const REGION: &str = "region";

/// What is asked.
#[derive(Clone, Debug)]
pub struct ExportQuery {
    /// What is selected.
    pub filter: Filter,
    /// The columns of the answer, of [`columns`].
    pub columns: Vec<&'static str>,
    /// Rows at most.
    pub limit: usize,
}

/// Why an export ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It took too long.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Rows can't be read: an answer without them would be wrong.
    #[error("{0}")]
    Missing(String),
    /// Rows can't be made columns.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// The columns there are, in order.
pub fn columns() -> impl Iterator<Item = &'static str> {
    parquet::COLUMNS.into_iter().chain([REGION])
}

/// The schema of some columns: as in the files, but texts are plain.
#[must_use]
pub fn schema(columns: &[&'static str]) -> SchemaRef {
    let stored = parquet::schema();
    let field = |name: &&'static str| {
        let data = match stored.field_with_name(name).map(|f| f.data_type().clone()) {
            Ok(DataType::Dictionary(_, value)) => *value,
            Ok(data) => data,
            Err(_) => DataType::Utf8,
        };
        Column::new(*name, data, false)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Gives batches until there are no more, or nobody takes them.
pub(super) fn run(
    context: &Context,
    query: &ExportQuery,
    mut give: impl FnMut(RecordBatch) -> bool,
) -> Result<(), ExportError> {
    let mut warnings = Vec::new();
    let mut all = sources::in_memory(context);
    all.extend(sources::in_files(context, &query.filter, |_| true, &mut warnings));
    if let Some(first) = warnings.into_iter().next() {
        return Err(ExportError::Missing(first));
    }
    let schema = schema(&query.columns);
    let mut left = query.limit;
    for source in &all {
        if context.is_late() {
            return Err(SearchError::Late(context.timeout).into());
        }
        let missing =
            |e: &dyn std::fmt::Display| ExportError::Missing(format!("rows are missing: {e}"));
        let (found, mut rows) = look(context, source, &query.filter).map_err(|e| missing(&e))?;
        rows.truncate(left);
        left -= rows.len();
        for part in rows.chunks(BATCH_ROWS) {
            let stored = stored(context, query, source, &found, part)?;
            if !give(shown(&stored, &schema, &query.filter)?) {
                return Ok(());
            }
        }
        if left == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Some rows as columns of the files.
fn stored(
    context: &Context,
    query: &ExportQuery,
    source: &Source,
    found: &Found<'_>,
    rows: &[u32],
) -> Result<RecordBatch, ExportError> {
    let mut names: Vec<&str> = query.columns.iter().copied().filter(|n| *n != REGION).collect();
    if names.is_empty() || query.columns.contains(&REGION) {
        names.push("cluster");
    }
    match (found, source) {
        // Of a file only what is wanted is read.
        (Found::Group(reader, _), Source::Group(meta, ..)) => {
            let batch = reader.batch(&names, rows).map_err(|e| context.files.wrong(meta, e));
            batch.map_err(|e| ExportError::Missing(format!("rows are missing: {e}")))
        }
        _ => {
            let rows = rows_of(context, source, rows).map_err(ExportError::Missing)?;
            Ok(parquet::batch(&rows, &names)?)
        }
    }
}

/// Columns of the files as they are asked for.
fn shown(
    stored: &RecordBatch,
    schema: &SchemaRef,
    filter: &Filter,
) -> Result<RecordBatch, ArrowError> {
    let column = |name: &str| -> Result<ArrayRef, ArrowError> {
        let named = |name: &str| {
            let column = stored.column_by_name(name).cloned();
            column.ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
        };
        let plain = |column: ArrayRef| match column.data_type() {
            DataType::Dictionary(_, value) => arrow::compute::cast(&column, value),
            _ => Ok(column),
        };
        if name != REGION {
            return plain(named(name)?);
        }
        let clusters = plain(named("cluster")?)?;
        let regions =
            clusters.as_string::<i32>().iter().map(|c| filter.region(c.unwrap_or_default()));
        Ok(Arc::new(StringArray::from_iter_values(regions)))
    };
    let columns =
        schema.fields().iter().map(|f| column(f.name())).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}
