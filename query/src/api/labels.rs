//! `series`, `labels`, `label/<name>/values`.

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::Response;
use periplus_model::TimeRange;
use periplus_promql::annotations::{Annotation, Severity};
use periplus_promql::engine::QueryError;

use super::error::ApiError;
use super::json::Writer;
use super::params::{Params, unescape_name};
use super::time::{TIME_MAX_MS, TIME_MIN_MS};
use super::{Api, respond};
use crate::answer::{Asked, describe};
use crate::fanout::QueryTimes;
use crate::series::{LabelQuery, label_names, label_values, series_labels};

fn ask(api: &Api, p: &Params, limit: usize) -> Result<(Asked, LabelQuery), ApiError> {
    let range = TimeRange::new(p.time_or("start", TIME_MIN_MS)?, p.time_or("end", TIME_MAX_MS)?);
    let sets = p.matches()?;
    let options = p.options(&api.defaults)?;
    let times = QueryTimes { start_ms: range.min_t, end_ms: range.max_t, step_ms: 0 };
    Ok((api.answerer.ask("".into(), times, &options), LabelQuery { sets, range, limit }))
}

/// Sends a list of at most `limit` (0: all) things; says when there are more, and who is missing.
fn send<T>(
    asked: &Asked,
    mut all: Vec<T>,
    limit: usize,
    write: impl Fn(&mut Writer, &T),
) -> Response<Body> {
    let collected = asked.question.notes.collected();
    let mut annotations = collected.annotations;
    let mut warn = |text| annotations.add(Annotation::external(Severity::Warning, text));
    if limit > 0 && all.len() > limit {
        all.truncate(limit);
        warn("results truncated due to limit".to_owned());
    }
    collected.missing.iter().for_each(|m| warn(describe(m)));
    let mut w = Writer::new();
    w.raw(b"[");
    for (i, item) in all.iter().enumerate() {
        if i > 0 {
            w.raw(b",");
        }
        write(&mut w, item);
    }
    w.raw(b"]");
    let (warnings, infos) = annotations.to_strings("", 10 + collected.missing.len());
    let mut response = respond::data(w, &warnings, &infos);
    respond::mark(&mut response, &collected.missing);
    response
}

fn count(api: &Api, asked: &Asked, error: Option<&QueryError>) {
    let collected = asked.question.notes.collected();
    match error {
        Some(e) => api.metrics.failed(e.kind.error_type()),
        None => api.metrics.answered(collected.requests, collected.missing.len()),
    }
}

pub(super) async fn names(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let limit = p.limit()?;
        let (asked, query) = ask(&api, &p, limit)?;
        let found = label_names(&asked.question, &query).await;
        count(&api, &asked, found.as_ref().err());
        Ok(send(&asked, found?, limit, |w, name| w.string(name)))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) async fn values(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(address): RawQuery,
) -> Response<Body> {
    let run = async {
        let p = Params::new(b"", address.as_deref().unwrap_or_default())?;
        let name = unescape_name(&name);
        if name.is_empty() {
            return Err(ApiError::bad_data(format!("invalid label name: {name:?}")));
        }
        let limit = p.limit()?;
        let (asked, query) = ask(&api, &p, limit)?;
        let found = label_values(&asked.question, &name, &query).await;
        count(&api, &asked, found.as_ref().err());
        Ok(send(&asked, found?, limit, |w, value| w.string(value)))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) async fn series(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        if p.all("match[]").next().is_none() {
            return Err(ApiError::bad_data("no match[] parameter provided"));
        }
        let limit = p.limit()?;
        p.matches().map_err(|e| ApiError::parameter("match[]", e.text))?;
        let (asked, query) = ask(&api, &p, limit)?;
        let found = series_labels(&asked.question, &query).await;
        count(&api, &asked, found.as_ref().err());
        Ok(send(&asked, found?, limit, Writer::labels))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}
