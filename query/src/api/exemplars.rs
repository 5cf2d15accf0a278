//! `query_exemplars`.

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use periplus_model::float::format_json;
use periplus_promql::parse::{parse, selectors};

use super::Api;
use super::about::{ask, counted, send};
use super::error::ApiError;
use super::json::Writer;
use super::params::Params;
use super::time::{TIME_MAX_MS, TIME_MIN_MS};
use crate::about::exemplars::exemplars as gather;

pub(super) async fn query_exemplars(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let (start, end) = (p.time_or("start", TIME_MIN_MS)?, p.time_or("end", TIME_MAX_MS)?);
        if end < start {
            let text = "end timestamp must not be before start timestamp";
            return Err(ApiError::bad_data(text));
        }
        let expr = parse(p.get("query")).map_err(|e| ApiError::bad_data(e.to_string()))?;
        if selectors(&expr).is_empty() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let asked = ask(&api, &p)?;
        let found = gather(&asked.question, &expr, start, end).await;
        let all = counted(&api, &asked, found)?;
        let mut w = Writer::new();
        w.list(&all, |w, (labels, some)| {
            w.raw(b"{");
            w.field("seriesLabels");
            w.labels(labels);
            w.field("exemplars");
            w.list(some, |w, e| {
                w.raw(b"{");
                w.field("labels");
                w.label_set(e.labels.as_ref());
                w.text_field("value", &format_json(e.value));
                w.field("timestamp");
                w.timestamp(e.ts);
                w.raw(b"}");
            });
            w.raw(b"}");
        });
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}
