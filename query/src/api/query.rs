//! `query`, `query_range`, `format_query`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Response, header};
use periplus_promql::annotations::{Annotation, Severity};
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_promql::parse;
use periplus_promql::parse::ast::{Expr, ValueType};
use periplus_promql::value::{StepGrid, Value};
use tracing::Instrument;

use super::error::ApiError;
use super::json::Writer;
use super::params::Params;
use super::respond::Prepared;
use super::{Api, respond, room};
use crate::answer::{Answered, Options, When};
use crate::endpoints::now_ms;

/// The most steps a range query may have between its first and its last.
const STEPS_MAX: i64 = 11_000;

pub(super) async fn instant(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    headers: HeaderMap,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let limit = p.limit()?;
        let t = p.time_or("time", now_ms())?;
        let expr = parsed(&p)?;
        answer(&api, (&p, anew(&headers)), expr, When::instant(t), limit).await
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) async fn range(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    headers: HeaderMap,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let limit = p.limit()?;
        let grid = grid(&p)?;
        let expr = parsed(&p)?;
        fits_range(&expr)?;
        answer(&api, (&p, anew(&headers)), expr, When::range(grid), limit).await
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) fn grid(p: &Params) -> Result<StepGrid, ApiError> {
    let (start_ms, end_ms) = (p.time("start")?, p.time("end")?);
    if end_ms < start_ms {
        let text = "end timestamp must not be before start time";
        return Err(ApiError::parameter("end", text));
    }
    let step_ns = p.duration_ns("step")?;
    if step_ns <= 0 {
        let text = "zero or negative query resolution step widths are not accepted. Try a positive \
                    integer";
        return Err(ApiError::parameter("step", text));
    }
    let span_ns = i128::from(end_ms - start_ms) * 1_000_000;
    if span_ns / i128::from(step_ns) > i128::from(STEPS_MAX) {
        let text = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the \
                    query resolution (?step=XX)";
        return Err(ApiError::bad_data(text));
    }
    Ok(StepGrid { start_ms, end_ms, step_ms: (step_ns / 1_000_000).max(1) })
}

/// Only numbers and vectors can be evaluated at every step.
pub(super) fn fits_range(expr: &Expr) -> Result<(), ApiError> {
    let kind = expr.value_type();
    if matches!(kind, ValueType::Scalar | ValueType::Vector) {
        return Ok(());
    }
    let text = format!(
        "invalid expression type {:?} for range query, must be Scalar or instant Vector",
        kind.documented()
    );
    Err(ApiError::parameter("query", text))
}

/// What makes two questions the same: when they are evaluated, and everything else they say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Same {
    instant: bool,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
    parameters: Vec<(String, String)>,
}

/// An answer that several clients may wait for.
pub(crate) type Outcome = Result<Arc<Prepared>, ApiError>;

pub(super) fn parsed(p: &Params) -> Result<Expr, ApiError> {
    parse::parse(p.get("query")).map_err(|e| ApiError::parameter("query", e))
}

/// Whether the client wants no answer of a moment ago.
fn anew(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CACHE_CONTROL).and_then(|v| v.to_str().ok());
    said.is_some_and(|v| v.split(',').any(|d| d.trim().eq_ignore_ascii_case("no-cache")))
}

async fn answer(
    api: &Api,
    (p, anew): (&Params, bool),
    expr: Expr,
    when: When,
    limit: usize,
) -> Result<Response<Body>, ApiError> {
    let options = p.options(&api.defaults)?;
    let text = p.get("query");
    let same = Same {
        instant: when.instant,
        start_ms: when.grid.start_ms,
        end_ms: when.grid.end_ms,
        step_ms: when.grid.step_ms,
        parameters: p.sorted(&["time", "start", "end", "step"]),
    };
    if let Some(answer) = api.kept.get(&same).filter(|_| !anew) {
        api.metrics.kept();
        return Ok(respond::json_response(Body::from(answer)));
    }
    let question = Question {
        api: api.clone(),
        same: same.clone(),
        text: text.to_owned(),
        expr,
        when,
        options,
        limit,
        stats: p.get("stats").to_owned(),
    };
    let (outcome, joined) = api.together.ask(same, || question.run()).await;
    if joined {
        api.metrics.coalesced();
    }
    Ok(outcome?.respond())
}

/// A question that is asked once, whoever waits for it.
struct Question {
    api: Api,
    same: Same,
    text: String,
    expr: Expr,
    when: When,
    options: Options,
    limit: usize,
    stats: String,
}

impl Question {
    async fn run(self) -> Outcome {
        let (api, text, when) = (&self.api, self.text.as_str(), self.when);
        let _running = api.metrics.running();
        let mut active = api.queries.begin(text, when);
        let span = tracing::info_span!("query", query = text, instant = when.instant);
        let work = api.answerer.answer(&self.expr, text.into(), when, &self.options);
        let result = tokio::select! {
            result = work.instrument(span) => result,
            () = active.stop.clone().cancelled_owned() => {
                let text = "query was canceled in expression evaluation";
                Err(QueryError::new(ErrorKind::Canceled, text))
            }
        };
        let mut answered = result.map_err(|e| {
            api.metrics.failed(e.kind.error_type());
            ApiError::from(e)
        })?;
        active.answered(answered.stats.total_samples);
        api.metrics.answered(answered.requests, answered.missing.len());
        if self.limit > 0 && truncate(&mut answered.value, self.limit) {
            warn(&mut answered, "results truncated due to limit".to_owned());
        }
        let stats = self.stats.as_str();
        if !matches!(stats, "" | "true" | "all") {
            let text = format!(
                "value {stats:?} for parameter \"stats\" is deprecated and will be rejected in the next \
                 major release, use \"true\" or \"all\""
            );
            warn(&mut answered, text);
        }
        let instant = when.instant.then_some(when.grid.start_ms);
        let grid = (!stats.is_empty()).then_some(when.grid);
        let weight = respond::weight(&answered.value);
        let share = match weight > room::SMALL_BYTES {
            true => Some(api.room.share(weight).await?),
            false => None,
        };
        let prepared = Prepared::new(answered, instant, text, grid, (active, share));
        if let Some(answer) = prepared.keepable() {
            api.kept.put(self.same.clone(), answer);
        }
        Ok(Arc::new(prepared))
    }
}

fn warn(answered: &mut Answered<Value>, text: String) {
    answered.annotations.add(Annotation::external(Severity::Warning, text));
}

fn truncate(value: &mut Value, limit: usize) -> bool {
    match value {
        Value::Vector(m) => {
            m.series.retain(|s| s.present.ones().next().is_some());
            let more = m.series.len() > limit;
            m.series.truncate(limit);
            more
        }
        Value::Range(all) => {
            let more = all.len() > limit;
            all.truncate(limit);
            more
        }
        Value::Scalar { .. } | Value::String(_) => false,
    }
}

pub(super) async fn format(RawQuery(address): RawQuery, form: Bytes) -> Response<Body> {
    let run = || {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let expr = parse::parse(p.get("query")).map_err(|e| ApiError::parameter("query", e))?;
        let mut w = Writer::new();
        w.string(&parse::pretty(&expr));
        Ok(respond::data(w, &[], &[]))
    };
    run().unwrap_or_else(|e: ApiError| e.respond())
}
