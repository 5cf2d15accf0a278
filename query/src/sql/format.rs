//! An answer as JSON, CSV or Arrow IPC.

use std::io::Write as _;

use arrow::error::ArrowError;

use super::SqlAnswer;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// `{"status":"success","data":{"columns":[…],"rows":[{…},…]}}`.
    #[default]
    Json,
    /// A line of names, then a line for each row.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// By its name, as `format` says it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "arrow" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// By what a client says that it takes; JSON where it says nothing known.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let known = accept.split(',').find_map(|one| {
            match one.split(';').next().unwrap_or_default().trim() {
                "application/json" => Some(Self::Json),
                "text/csv" => Some(Self::Csv),
                "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
                _ => None,
            }
        });
        known.unwrap_or_default()
    }

    /// What it is called in HTTP.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Writes an answer.
///
/// # Errors
/// A column of a kind that the format has no form for.
pub fn write(answer: &SqlAnswer, format: Format) -> Result<Vec<u8>, ArrowError> {
    let mut out = Vec::new();
    match format {
        Format::Json => json(answer, &mut out)?,
        Format::Csv => csv(answer, &mut out)?,
        Format::Arrow => {
            let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut out, &answer.schema)?;
            for batch in &answer.batches {
                writer.write(batch)?;
            }
            writer.finish()?;
        }
    }
    Ok(out)
}

fn json(answer: &SqlAnswer, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let columns: Vec<serde_json::Value> = (answer.schema.fields().iter())
        .map(|f| serde_json::json!({ "name": f.name(), "type": f.data_type().to_string() }))
        .collect();
    let columns = serde_json::Value::Array(columns);
    write!(out, "{{\"status\":\"success\",\"data\":{{\"columns\":{columns},\"rows\":")?;
    let begin = out.len();
    let options = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = options.build::<_, arrow::json::writer::JsonArray>(&mut *out);
    for batch in &answer.batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    drop(writer);
    if out.len() == begin {
        out.extend_from_slice(b"[]");
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

/// Values in columns that CSV has no form for (maps, lists) are written as JSON.
fn csv(answer: &SqlAnswer, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let nested = |f: &arrow::datatypes::FieldRef| f.data_type().is_nested();
    if answer.schema.fields().iter().any(nested) {
        let names: Vec<&str> = answer
            .schema
            .fields()
            .iter()
            .filter(|f| nested(f))
            .map(|f| f.name().as_str())
            .collect();
        return Err(ArrowError::CsvError(format!(
            "CSV has no form for the columns {}: select single labels, such as labels['pod'], or ask \
             for JSON",
            names.join(", ")
        )));
    }
    let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut *out);
    if answer.batches.is_empty() {
        writer.write(&arrow::array::RecordBatch::new_empty(answer.schema.clone()))?;
    }
    for batch in &answer.batches {
        writer.write(batch)?;
    }
    Ok(())
}
