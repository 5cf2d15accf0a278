//! `query_explain`: what would be asked of whom. `query_analyze`: what each step of a question did.

use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::Response;
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_promql::explain::OperatorReport;
use periplus_promql::parse::ast::Expr;
use periplus_promql::value::Value;
use serde_json::{Value as Json, json};

use super::error::ApiError;
use super::json::Writer;
use super::params::Params;
use super::query::{fits_range, grid, parsed};
use super::{Api, respond};
use crate::answer::{Answered, Options, When};
use crate::endpoints::now_ms;
use crate::fanout::work::{LocalWork, RequestWork, Work};
use crate::plan::{Candidate, Plan, plan};

pub(super) async fn explain(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = || {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let expr = parsed(&p)?;
        let mut w = Writer::new();
        let plan = planned(&api, &expr, p.get("query"), &p.options(&api.defaults)?);
        w.raw(plan.to_string().as_bytes());
        Ok(respond::data(w, &[], &[]))
    };
    run().unwrap_or_else(|e: ApiError| e.respond())
}

/// Which parts of a query whom would be asked, and what stays here and why.
fn planned(api: &Api, expr: &Expr, text: &str, options: &Options) -> Json {
    let snapshot = api.answerer.registry.snapshot();
    let fleet = snapshot.fleet_with(&options.replica_labels);
    let plan = match options.pushdown {
        true => plan(expr, text, &fleet),
        false => Plan { residual: expr.clone(), fragments: Vec::new(), kept: Vec::new() },
    };
    let address = |c: &Candidate| snapshot.endpoints.get(c.endpoint).map_or("", |e| &e.address);
    let pushed = plan.fragments.iter().map(|f| {
        let parts = f.parts.iter().filter_map(|part| fleet.parts.get(part));
        let asked: Vec<Vec<&str>> =
            parts.map(|part| part.candidates.iter().map(address).collect()).collect();
        json!({
            "leaf": f.id,
            "query": &*f.text,
            "position": f.position,
            "partial": f.partial.as_ref().map(|(k, _)| format!("{k:?}")),
            "endpoints": asked,
        })
    });
    let kept = plan.kept.iter().map(|(span, why)| {
        let part = text.get(span.start as usize..span.end as usize).unwrap_or_default();
        json!({ "query": part, "reason": why })
    });
    json!({ "pushed": pushed.collect::<Json>(), "evaluated_here": kept.collect::<Json>() })
}

/// Runs a query and tells of the running instead of the result. With `start`, `end` and `step` it is a range
/// query, with `time` or without any an instant query. Nobody else's answer is waited for.
pub(super) async fn analyze(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let is_range = ["start", "end", "step"].iter().any(|n| !p.get(n).is_empty());
        let when = match is_range {
            true => When::range(grid(&p)?),
            false => When::instant(p.time_or("time", now_ms())?),
        };
        let expr = parsed(&p)?;
        if is_range {
            fits_range(&expr)?;
        }
        let options = p.options(&api.defaults)?;
        let text = p.get("query");
        let plan = planned(&api, &expr, text, &options);
        let _running = api.metrics.running();
        let mut active = api.queries.begin(text, when);
        let begun = Instant::now();
        let work = api.answerer.analyze(&expr, text.into(), when, &options);
        let result = tokio::select! {
            result = work => result,
            () = active.stop.clone().cancelled_owned() => {
                let text = "query was canceled in expression evaluation";
                Err(QueryError::new(ErrorKind::Canceled, text))
            }
        };
        let (answered, work) = result.map_err(|e| {
            api.metrics.failed(e.kind.error_type());
            ApiError::from(e)
        })?;
        active.answered(answered.stats.total_samples);
        api.metrics.answered(answered.requests, answered.missing.len());
        let mut w = Writer::new();
        w.raw(told(plan, &answered, &work, begun.elapsed()).to_string().as_bytes());
        let (warnings, infos) = respond::shown(&answered, text);
        let mut response = respond::data(w, &warnings, &infos);
        respond::mark(&mut response, &answered.missing);
        Ok(response)
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

fn told(plan: Json, answered: &Answered<Value>, work: &Work, took: Duration) -> Json {
    let (kind, series, points) = size(&answered.value);
    let s = &answered.stats;
    let fragments = work.fragments.iter().map(|f| {
        json!({
            "leaf": f.leaf,
            "query": f.query,
            "rows": f.series,
            "points": f.points,
            "seconds": f.time.as_secs_f64(),
        })
    });
    json!({
        "plan": plan,
        "requests": work.requests.iter().map(request).collect::<Json>(),
        "fragments": fragments.collect::<Json>(),
        "evaluations": work.local.iter().map(evaluation).collect::<Json>(),
        "result": { "type": kind, "rows": series, "points": points },
        "seconds": took.as_secs_f64(),
        "samples": s.total_samples,
        "peakSamples": s.peak_samples,
        "peakBytes": s.peak_bytes,
    })
}

fn request(r: &RequestWork) -> Json {
    json!({
        "endpoint": r.address,
        "query": r.query,
        "position": r.position,
        "path": r.path,
        "rows": r.rows,
        "series": r.series,
        "samples": r.samples,
        "bytes": r.bytes,
        "seconds": r.time.as_secs_f64(),
        "secondsThere": r.time_there.map(|t| t.as_secs_f64()),
        "error": r.error,
    })
}

fn evaluation(l: &LocalWork) -> Json {
    let operator = |o: &OperatorReport| {
        json!({
            "operator": o.operator,
            "depth": o.depth,
            "rows": o.series,
            "points": o.points,
            "samples": o.samples,
            "bytes": o.bytes,
            "seconds": o.time.as_secs_f64(),
        })
    };
    json!({
        "query": l.query,
        "from": l.from.as_str(),
        "seconds": l.time.as_secs_f64(),
        "operators": l.operators.iter().map(operator).collect::<Json>(),
    })
}

/// Kind, series and values of a result.
fn size(value: &Value) -> (&'static str, usize, usize) {
    match value {
        Value::Scalar { values, .. } => ("scalar", 1, values.len()),
        Value::String(_) => ("string", 1, 1),
        Value::Vector(m) => {
            let points = m.series.iter().map(|s| s.present.ones().count()).sum();
            ("vector", m.series.len(), points)
        }
        Value::Range(all) => ("matrix", all.len(), all.iter().map(|(_, s)| s.len()).sum()),
    }
}
