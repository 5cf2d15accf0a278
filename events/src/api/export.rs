//! `GET /api/v1/events/export`: every selected row, as an Arrow IPC stream.
//!
//! Rows come in no order, one for each (cluster, uid), as fast as they are taken; nothing is buffered but a few batches.
//! An answer that can't be completed breaks off without the stream's end mark, so that nobody takes a part for the whole.

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures::stream;

use super::params::{self, Params, SELECTING};
use super::{Failure, Reader};
use crate::hub::Hub;
use crate::search::export::{self, ExportError, ExportQuery};

/// The stream's media type.
const ARROW: &str = "application/vnd.apache.arrow.stream";

type Writer = StreamWriter<Vec<u8>>;

/// The stream.
pub(crate) async fn export(
    State(hub): State<Hub>,
    reader: Reader,
    Query(mut params): Query<Params>,
) -> Result<Response, Failure> {
    let filter = params::select(&mut params, reader.filter(&hub)?)?;
    let limit = params::take_number(&mut params, "limit", usize::MAX)?.unwrap_or(usize::MAX);
    let columns = match params::take(&mut params, "columns") {
        None => export::columns().collect(),
        Some(names) => columns(&names)?,
    };
    params::nothing_left(&params, &format!("{SELECTING}, columns, limit"))?;
    let active = hub.active().map_err(Failure::unavailable)?;
    let schema = export::schema(&columns);
    let writer = StreamWriter::try_new(Vec::new(), &schema)
        .map_err(|e| Failure::bad(format!("columns: {e}")))?;
    let rows = active.searcher.export(ExportQuery { filter, columns, limit }).await?;
    let body = stream::unfold(Some((rows, writer)), async |state| {
        let (mut rows, mut writer) = state?;
        match rows.recv().await {
            Some(Ok(batch)) => match write(&mut writer, &batch) {
                Ok(piece) => Some((Ok(piece), Some((rows, writer)))),
                Err(error) => Some((Err(broken(&error.into())), None)),
            },
            Some(Err(error)) => Some((Err(broken(&error)), None)),
            None => {
                let end = writer.finish().map(|()| Bytes::from(std::mem::take(writer.get_mut())));
                Some((end.map_err(|e| broken(&e.into())), None))
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, ARROW)], Body::from_stream(body)).into_response())
}

fn write(writer: &mut Writer, batch: &RecordBatch) -> Result<Bytes, arrow::error::ArrowError> {
    writer.write(batch)?;
    Ok(std::mem::take(writer.get_mut()).into())
}

fn broken(error: &ExportError) -> std::io::Error {
    tracing::warn!(%error, "an export of events breaks off");
    std::io::Error::other(error.to_string())
}

fn columns(names: &str) -> Result<Vec<&'static str>, Failure> {
    let mut out = Vec::new();
    for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let Some(known) = export::columns().find(|c| *c == name) else {
            let name: String = name.chars().take(60).collect();
            let all: Vec<&str> = export::columns().collect();
            let text = format!("columns: {name:?} is none; there are {}", all.join(", "));
            return Err(Failure::bad(text));
        };
        if !out.contains(&known) {
            out.push(known);
        }
    }
    if out.is_empty() { Err(Failure::bad("columns: name at least one")) } else { Ok(out) }
}
