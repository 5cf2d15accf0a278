//! What this process tells of itself and of the endpoints it knows.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::error::ApiError;
use super::json::Writer;
use super::{Api, respond, time};
use crate::endpoints::{Endpoint, StreamInfo};

/// The version of Prometheus whose API this is: what clients decide by.
const PROMETHEUS_VERSION: &str = "3.14.0";

fn send(value: &Value) -> Response<Body> {
    let mut w = Writer::new();
    w.raw(value.to_string().as_bytes());
    respond::data(w, &[], &[])
}

pub(super) async fn front() -> Response<Body> {
    const PAGE: &str = concat!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>periplus query</title>\n",
        "<h1>periplus query ",
        env!("CARGO_PKG_VERSION"),
        "</h1>\n<p>The Prometheus HTTP API over all clusters. Point Grafana's Prometheus data source here.\n",
        "<ul>\n<li><a href=\"api/v1/endpoints\">endpoints</a>: who is asked, and how they are\n",
        "<li><a href=\"api/v1/targets?state=active\">targets</a>, <a href=\"api/v1/rules\">rules</a>,\n",
        "<a href=\"api/v1/alerts\">alerts</a> of all clusters\n",
        "<li><a href=\"api/v1/cardinality\">cardinality</a>: series by metric, over the fleet\n",
        "<li><a href=\"api/v1/queries/active\">running queries</a>,\n",
        "<a href=\"api/v1/queries/top\">the costliest ones</a>\n",
        "<li><a href=\"api/v1/openapi.json\">OpenAPI document</a> of this API\n",
        "<li><a href=\"-/ready\">ready</a>, <a href=\"-/healthy\">healthy</a>\n</ul>\n</html>\n",
    );
    let head = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    (head, PAGE).into_response()
}

/// The document that describes this API.
pub(super) async fn openapi() -> Response<Body> {
    const DOCUMENT: &str = include_str!("openapi.json");
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

pub(super) async fn healthy() -> &'static str {
    "healthy\n"
}

pub(super) async fn ready(State(api): State<Api>) -> Response<Body> {
    let snapshot = api.answerer.registry.snapshot();
    match snapshot.endpoints.iter().any(|e| e.status.checked_ms > 0)
        || snapshot.endpoints.is_empty()
    {
        true => "ready\n".into_response(),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, "no endpoint has been asked yet\n").into_response()
        }
    }
}

pub(super) async fn nothing_here() -> Response<Body> {
    ApiError::not_found("there is nothing at this address").respond()
}

pub(super) async fn build() -> Response<Body> {
    send(&json!({
        "version": PROMETHEUS_VERSION,
        "revision": option_env!("PERIPLUS_REVISION").unwrap_or("unknown"),
        "branch": "main",
        "buildUser": concat!("periplus ", env!("CARGO_PKG_VERSION")),
        "buildDate": "",
        "goVersion": "",
        "application": "periplus",
    }))
}

pub(super) async fn runtime(State(api): State<Api>) -> Response<Body> {
    send(&json!({
        "startTime": time::rfc3339(api.started_ms),
        "CWD": "",
        "hostname": "",
        "serverTime": time::rfc3339(crate::endpoints::now_ms()),
        "reloadConfigSuccess": true,
        "lastConfigTime": time::rfc3339(api.started_ms),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": api.answerer.engine.workers(),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": "",
    }))
}

pub(super) async fn flags(State(api): State<Api>) -> Response<Body> {
    let all: serde_json::Map<String, Value> =
        api.flags.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect();
    send(&Value::from(all))
}

pub(super) async fn config(State(api): State<Api>) -> Response<Body> {
    let yaml: String = api.flags.iter().map(|(n, v)| format!("{n}: {v:?}\n")).collect();
    send(&json!({ "yaml": yaml }))
}

/// Every endpoint with its health, and every stream behind it.
pub(super) async fn endpoints(State(api): State<Api>) -> Response<Body> {
    let snapshot = api.answerer.registry.snapshot();
    let all: Vec<Value> = snapshot.endpoints.iter().map(|e| endpoint(e)).collect();
    send(&Value::from(all))
}

fn endpoint(e: &Endpoint) -> Value {
    let s = &e.status;
    let health = match (&s.refused, s.up, s.checked_ms) {
        (Some(_), _, _) => "refused",
        (None, true, _) => "up",
        (None, false, 0) if e.channel.is_some() => "unknown",
        (None, false, _) => "down",
    };
    json!({
        "address": e.address,
        "type": s.kind.as_str(),
        "version": s.version,
        "health": health,
        "since": optional_time(s.since_ms),
        "lastCheck": optional_time(s.checked_ms),
        "lastError": s.refused.clone().unwrap_or_else(|| s.last_error.clone()),
        "discovered": e.channel.is_some(),
        "streams": s.streams.iter().map(stream).collect::<Vec<_>>(),
    })
}

fn stream(s: &StreamInfo) -> Value {
    let labels: serde_json::Map<String, Value> =
        s.labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
    json!({
        "cluster": s.labels.value("cluster"),
        "labels": labels,
        "minTime": s.available.min_t,
        "maxTime": s.available.max_t,
        "lagMs": if s.lag_ms < 0 { Value::Null } else { s.lag_ms.into() },
        "problem": s.problem,
        "problemSince": optional_time(s.problem_since_ms),
        "gaps": s.gaps.iter().map(|g| [g.min_t, g.max_t]).collect::<Vec<_>>(),
        "prometheus": s.version,
        "address": s.address,
        "shadowedLabels": s.shadowed,
        "headSeries": s.head_series,
    })
}

fn optional_time(t_ms: i64) -> Value {
    if t_ms == 0 { Value::Null } else { time::rfc3339(t_ms).into() }
}
