//! The HTTP API of a ruler process: rules, alerts, Alertmanagers, reload.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use periplus_model::float::format_e;
use serde_json::{Value, json};

use super::alert::Alert;
use super::group::{Health, RuleState, Running};
use super::rule::Rule;
use super::service::Ruler;
use super::template::rfc3339;

/// The routes.
pub fn router(ruler: Ruler) -> Router {
    Router::new()
        .route("/", get(async || "periplus ruler: /api/v1/rules, /api/v1/alerts\n"))
        .route("/api/v1/rules", get(rules))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/alertmanagers", get(alertmanagers))
        .route("/-/healthy", get(async || "healthy\n"))
        .route("/-/ready", get(async || "ready\n"))
        .route("/-/reload", post(reload).put(reload))
        .with_state(Arc::new(ruler))
}

fn send(data: &Value) -> Response {
    let body = json!({ "status": "success", "data": data }).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn rules(State(r): State<Arc<Ruler>>) -> Response {
    let groups: Vec<Value> = r.manager.groups().iter().map(|g| group(g)).collect();
    send(&json!({ "groups": groups }))
}

async fn alerts(State(r): State<Arc<Ruler>>) -> Response {
    let mut all = Vec::new();
    for g in r.manager.groups() {
        let state = g.state.lock();
        all.extend(state.rules.iter().flat_map(|r| r.alerts.current().map(alert)));
    }
    send(&json!({ "alerts": all }))
}

async fn alertmanagers(State(r): State<Arc<Ruler>>) -> Response {
    let active: Vec<Value> = r.notifier.addresses().iter().map(|u| json!({ "url": u })).collect();
    send(&json!({ "activeAlertmanagers": active, "droppedAlertmanagers": [] }))
}

async fn reload(State(r): State<Arc<Ruler>>) -> Response {
    match r.manager.load().await {
        Ok(groups) => format!("{groups} groups\n").into_response(),
        Err(errors) => {
            let text: String = errors.iter().map(|e| format!("{e}\n")).collect();
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

fn time(ms: Option<i64>) -> String {
    ms.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339)
}

fn group(g: &Running) -> Value {
    let state = g.state.lock();
    let rules = g.group.rules.iter().zip(&state.rules);
    json!({
        "name": g.group.name,
        "file": g.group.file.display().to_string(),
        "rules": rules.map(|(r, s)| rule(r, s)).collect::<Vec<_>>(),
        "interval": g.group.interval_ms as f64 / 1000.0,
        "limit": g.group.limit,
        "evaluationTime": state.took.as_secs_f64(),
        "lastEvaluation": time(state.evaluated_ms),
        "partialResponseStrategy": g.group.strategy.map(super::rule::Strategy::as_str),
    })
}

fn map<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    pairs.map(|(n, v)| (n.to_owned(), Value::from(v))).collect::<serde_json::Map<_, _>>().into()
}

fn rule(r: &Rule, s: &RuleState) -> Value {
    let mut out = json!({
        "name": r.name,
        "query": &*r.query,
        "labels": map(r.labels.iter()),
        "health": s.health.as_str(),
        "evaluationTime": s.took.as_secs_f64(),
        "lastEvaluation": time(s.evaluated_ms),
        "type": if r.alerting.is_some() { "alerting" } else { "recording" },
    });
    if let Some(e) = &s.last_error {
        out["lastError"] = e.as_str().into();
    }
    if let Some(a) = &r.alerting {
        out["state"] = match s.health {
            Health::Unknown => "unknown",
            _ => s.alerts.state().as_str(),
        }
        .into();
        out["duration"] = (a.for_ms as f64 / 1000.0).into();
        out["keepFiringFor"] = (a.keep_firing_for_ms as f64 / 1000.0).into();
        out["annotations"] = map(a.annotations.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        out["alerts"] = s.alerts.current().map(alert).collect();
        out["missing"] = s.missing.iter().map(|l| map(l.iter())).collect();
    }
    out
}

fn alert(a: &Alert) -> Value {
    let mut out = json!({
        "labels": map(a.labels.iter()),
        "annotations": map(a.annotations.iter().map(|(n, v)| (n.as_str(), v.as_str()))),
        "state": a.state.as_str(),
        "activeAt": rfc3339(a.active_at),
        "value": format_e(a.value),
    });
    if let Some(t) = a.keep_firing_since {
        out["keepFiringSince"] = rfc3339(t).into();
    }
    if a.held {
        out["held"] = true.into();
    }
    out
}
