//! `POST /api/v1/sql`.
//!
//! The statement is the form's field `query`, or the whole body where that is no form. `format`
//! says `json`, `csv` or `arrow`; without it the header Accept does.

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::format::{Format, write};
use super::{SqlError, SqlLimits, run};
use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::params::Params;

/// Rows of an answer where a request does not ask for fewer.
const ROWS_MAX: usize = 1_000_000;
/// Bytes that one statement may hold, whatever the limit of queries is.
const MEMORY_MAX: u64 = 256 << 20;

/// Answers a statement.
pub async fn sql(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let answered = answer(&api, address.as_deref().unwrap_or_default(), &headers, &body).await;
    answered.unwrap_or_else(|e| e.respond())
}

async fn answer(
    api: &Api,
    address: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response<Body>, ApiError> {
    let text_of = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let is_form = text_of(header::CONTENT_TYPE)
        .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
    let params = Params::new(if is_form { body } else { b"" }, address)?;
    let text = match is_form {
        true => params.get("query"),
        false => std::str::from_utf8(body)
            .map_err(|_| ApiError::bad_data("the statement is not UTF-8"))?,
    };
    if text.trim().is_empty() {
        return Err(ApiError::parameter("query", "there is no statement"));
    }
    let format = match params.get("format") {
        "" => Format::accepted(text_of(header::ACCEPT).unwrap_or_default()),
        name => Format::named(name)
            .ok_or_else(|| ApiError::parameter("format", "it is json, csv or arrow"))?,
    };
    let options = params.options(&api.defaults)?;
    let limit = params.limit()?;
    let limits = SqlLimits {
        rows: if limit > 0 { limit.min(ROWS_MAX) } else { ROWS_MAX },
        memory_bytes: usize::try_from(api.answerer.limits.memory_bytes.min(MEMORY_MAX))
            .unwrap_or(usize::MAX),
        time: options.deadline.saturating_duration_since(std::time::Instant::now()),
        workers: api.answerer.engine.workers(),
    };
    let history = api.answerer.history.as_ref().ok_or(SqlError::NoHistory)?;
    let reading = history.reading(options.resolution);
    let _place = api.answerer.running.acquire().await;
    let answer = run(&reading, &options.replica_labels, text, &limits).await?;
    let written = tokio::task::spawn_blocking(move || write(&answer, format)).await;
    let bytes = match written {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(e)) => return Err(ApiError::bad_data(e.to_string())),
        Err(e) => return Err(SqlError::Failed(e.to_string()).into()),
    };
    let mut response = Response::new(Body::from(bytes));
    let kind = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

impl From<SqlError> for ApiError {
    fn from(e: SqlError) -> Self {
        let (kind, status) = match e {
            SqlError::Refused(_) | SqlError::NoHistory => ("bad_data", StatusCode::BAD_REQUEST),
            SqlError::Limit(_) => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
            SqlError::Timeout(_) => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
            SqlError::Failed(_) => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
        };
        Self { kind, status, text: e.to_string() }
    }
}
