//! A subset of Loki's HTTP API, so that Grafana's Loki data source and clients like logcli show events.
//!
//! An event is a line: its message, at its last time. What it is told apart by ([`labels::STREAM`]) are the stream's
//! labels; name, count and the like lie beside the line as structured metadata. [`logql`] reads questions, [`metric`]
//! counts. What is not supported is refused by name, in plain text as Loki does.

pub mod labels;
pub mod logql;
pub mod metric;
mod tail;
pub mod time;

use std::collections::BTreeMap;

use axum::extract::{Path, RawForm, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::api::params::{self, Params};
use crate::api::{Failure, Reader};
use crate::hub::Hub;
use crate::log::commit::now_us;
use crate::search::{CountQuery, PageQuery};
use crate::store::{Filter, Regions, Row};

use logql::{Metric, Query};
use metric::Grid;
use time::{SECOND_US, duration_us, time_us};

/// Lines of an answer where it does not say.
const LIMIT: usize = 100;
/// Lines of an answer at most.
const LIMIT_MAX: usize = 5_000;
/// Bytes of a line, about.
const LINE_BYTES: u64 = 128;
/// How far back where it does not say.
const SINCE_US: i64 = 3_600_000_000;

/// A failure in plain text, as Loki writes it.
struct Plain(StatusCode, String);

impl IntoResponse for Plain {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<Failure> for Plain {
    fn from(failure: Failure) -> Self {
        let (status, text) = failure.into_parts();
        Self(status, text)
    }
}

impl From<crate::search::SearchError> for Plain {
    fn from(error: crate::search::SearchError) -> Self {
        Failure::from(error).into()
    }
}

fn bad(text: impl std::fmt::Display) -> Plain {
    Plain(StatusCode::BAD_REQUEST, text.to_string())
}

type Answer = Result<Response, Plain>;

/// The routes.
pub fn router(hub: Hub) -> Router {
    Router::new()
        .route("/loki/api/v1/query_range", get(query_range).post(query_range))
        .route("/loki/api/v1/query", get(query).post(query))
        .route("/loki/api/v1/labels", get(label_names).post(label_names))
        .route("/loki/api/v1/label", get(label_names).post(label_names))
        .route("/loki/api/v1/label/{name}/values", get(label_values).post(label_values))
        .route("/loki/api/v1/series", get(series).post(series))
        .route("/loki/api/v1/index/stats", get(stats).post(stats))
        .route("/loki/api/v1/tail", get(tail::tail))
        .route("/loki/api/v1/status/buildinfo", get(build_info))
        .with_state(hub)
}

fn parameters(form: &[u8]) -> Params {
    url::form_urlencoded::parse(form).map(|(n, v)| (n.into_owned(), v.into_owned())).collect()
}

/// A time range out of `start`, `end` and `since`.
fn range(p: &mut Params) -> Result<(i64, i64), Plain> {
    let end = params::take(p, "end").map(|t| time_us(&t)).transpose()?.unwrap_or_else(now_us);
    let since = params::take(p, "since").map(|t| duration_us(&t)).transpose().map_err(bad)?;
    let start = params::take(p, "start").map(|t| time_us(&t)).transpose()?;
    let start = start.unwrap_or_else(|| end.saturating_sub(since.unwrap_or(SINCE_US)));
    if start > end {
        return Err(bad("start is after end"));
    }
    Ok((start, end))
}

fn success(data: Value) -> Response {
    Json(json!({"status": "success", "data": data})).into_response()
}

/// Whether the client wants what lies beside lines to stay there.
fn categorized(headers: &HeaderMap) -> bool {
    let flags = headers.get("x-loki-response-encoding-flags").and_then(|h| h.to_str().ok());
    flags.is_some_and(|f| f.contains("categorize-labels"))
}

/// Rows as Loki's streams, lines in the order given.
fn streams(rows: &[Row], regions: &Regions, categorized: bool) -> Vec<Value> {
    let mut order: Vec<BTreeMap<String, String>> = Vec::new();
    let mut lines: std::collections::HashMap<BTreeMap<String, String>, Vec<Value>> =
        Default::default();
    for row in rows {
        let mut labels = labels::stream(row, regions);
        let beside = labels::beside(row);
        let time = row.event.last_us.saturating_mul(1000).to_string();
        let line = if categorized {
            json!([time, row.event.message, {"structuredMetadata": beside}])
        } else {
            labels.extend(beside);
            json!([time, row.event.message])
        };
        if !lines.contains_key(&labels) {
            order.push(labels.clone());
        }
        lines.entry(labels).or_default().push(line);
    }
    let stream = |labels: BTreeMap<String, String>| {
        let values = lines.remove(&labels).unwrap_or_default();
        json!({"stream": labels, "values": values})
    };
    order.into_iter().map(stream).collect()
}

async fn query_range(
    State(hub): State<Hub>,
    reader: Reader,
    headers: HeaderMap,
    RawForm(form): RawForm,
) -> Answer {
    let mut p = parameters(&form);
    let (start, end) = range(&mut p)?;
    let text = params::take(&mut p, "query").ok_or_else(|| bad("query is missing"))?;
    let step = params::take(&mut p, "step").map(|t| duration_us(&t)).transpose().map_err(bad)?;
    let step = step.unwrap_or(((end - start) / 250).max(SECOND_US));
    let parsed = logql::parse(&text, &reader.filter(&hub)?).map_err(bad)?;
    let active = hub.active().map_err(|why| Plain::from(Failure::unavailable(why)))?;
    match parsed {
        Query::Logs(filter) => {
            let limit = params::take_number(&mut p, "limit", LIMIT_MAX)?.unwrap_or(LIMIT);
            // Grafana writes it in small letters, logcli in capitals.
            let newest_first = !params::take(&mut p, "direction")
                .is_some_and(|direction| direction.eq_ignore_ascii_case("forward"));
            let filter = within(*filter, start, end);
            let query = PageQuery { filter, newest_first, limit, after: None };
            let page = active.searcher.page(query).await?;
            let categorized = categorized(&headers);
            let result = streams(&page.rows, &hub.shared.access.regions, categorized);
            let mut data = json!({"resultType": "streams", "result": result, "stats": {}});
            if categorized && let Some(data) = data.as_object_mut() {
                data.insert("encodingFlags".into(), json!(["categorize-labels"]));
            }
            Ok(warned(data, page.warnings))
        }
        Query::Metric(metric) => {
            if step <= 0 || (end - start) / step > metric::STEPS_MAX {
                return Err(bad(format!(
                    "more than {} steps; ask for a longer step",
                    metric::STEPS_MAX
                )));
            }
            let grid = Grid { start, end, step };
            let (series, warnings) = evaluate(&active, &metric, grid).await?;
            let result: Vec<Value> = series
                .into_iter()
                .map(|(labels, values)| {
                    let values: Vec<Value> = values.into_iter().map(point).collect();
                    json!({"metric": labels, "values": values})
                })
                .collect();
            Ok(warned(json!({"resultType": "matrix", "result": result, "stats": {}}), warnings))
        }
        Query::Number(n) => {
            let mut values = Vec::new();
            let mut t = start;
            while t <= end && values.len() < 11_000 {
                values.push(point((t, n)));
                t = t.saturating_add(step.max(SECOND_US));
            }
            let result = json!([{"metric": {}, "values": values}]);
            Ok(success(json!({"resultType": "matrix", "result": result, "stats": {}})))
        }
    }
}

async fn evaluate(
    active: &crate::hub::Active,
    metric: &Metric,
    grid: Grid,
) -> Result<(Vec<metric::Series>, Vec<String>), Plain> {
    let points = (grid.end - grid.start).saturating_add(metric.range_us)
        / grid.step.min(metric.range_us).max(1);
    if points > 100 * metric::STEPS_MAX {
        return Err(bad(
            "the range and the step make too many points; choose ones that divide each other",
        ));
    }
    Ok(metric::evaluate(&active.searcher, metric, grid).await?)
}

#[expect(clippy::cast_precision_loss, reason = "times, exact for centuries")]
fn point((t, value): (i64, f64)) -> Value {
    json!([t as f64 / 1e6, value.to_string()])
}

fn warned(data: Value, warnings: Vec<String>) -> Response {
    if warnings.is_empty() {
        return success(data);
    }
    Json(json!({"status": "success", "data": data, "warnings": warnings})).into_response()
}

/// The rows of a filter within a time; one that selects nothing stays so.
fn within(mut filter: Filter, start: i64, end: i64) -> Filter {
    filter.from_us = filter.from_us.max(start);
    filter.to_us = filter.to_us.min(end);
    filter
}

async fn query(State(hub): State<Hub>, reader: Reader, RawForm(form): RawForm) -> Answer {
    let mut p = parameters(&form);
    let text = params::take(&mut p, "query").ok_or_else(|| bad("query is missing"))?;
    let at = params::take(&mut p, "time").map(|t| time_us(&t)).transpose()?.unwrap_or_else(now_us);
    let active = hub.active().map_err(|why| Plain::from(Failure::unavailable(why)))?;
    let vector =
        |result: Vec<Value>| json!({"resultType": "vector", "result": result, "stats": {}});
    match logql::parse(&text, &reader.filter(&hub)?).map_err(bad)? {
        Query::Logs(_) => Err(bad(
            "log queries are not supported as an instant query type, please change your query to a range query type",
        )),
        Query::Number(n) => {
            Ok(success(vector(vec![json!({"metric": {}, "value": point((at, n))})])))
        }
        Query::Metric(metric) => {
            let grid = Grid { start: at, end: at, step: metric.range_us };
            let (series, warnings) = evaluate(&active, &metric, grid).await?;
            let result = series.into_iter().filter_map(|(labels, values)| {
                values.into_iter().next().map(|v| json!({"metric": labels, "value": point(v)}))
            });
            Ok(warned(vector(result.collect()), warnings))
        }
    }
}

/// A filter out of `query` or `match[]`, where there is one.
fn selector(text: Option<String>, base: Filter) -> Result<Filter, Plain> {
    match text.filter(|t| !t.trim().is_empty()) {
        None => Ok(base),
        Some(text) => match logql::parse(&text, &base).map_err(bad)? {
            Query::Logs(filter) => Ok(*filter),
            _ => Err(bad("a stream selector is wanted here")),
        },
    }
}

async fn label_names(State(hub): State<Hub>, reader: Reader) -> Answer {
    Ok(success(json!(labels::names(&reader.filter(&hub)?))))
}

async fn label_values(
    State(hub): State<Hub>,
    reader: Reader,
    Path(name): Path<String>,
    RawForm(form): RawForm,
) -> Answer {
    let mut p = parameters(&form);
    let (start, end) = range(&mut p)?;
    let filter = selector(params::take(&mut p, "query"), reader.filter(&hub)?)?;
    if name == "source" {
        return Ok(success(json!([labels::SOURCE])));
    }
    let Some(field) = labels::field(&name) else { return Ok(success(json!([]))) };
    let active = hub.active().map_err(|why| Plain::from(Failure::unavailable(why)))?;
    let query = crate::search::count::values_query(within(filter, start, end), field);
    let counted = active.searcher.count(query).await?;
    let values = counted.groups.into_iter().filter_map(|g| g.values.into_iter().next());
    let values: std::collections::BTreeSet<String> =
        values.map(|v| labels::shown(&name, v)).filter(|v| !v.is_empty()).collect();
    Ok(warned(json!(values), counted.warnings))
}

async fn series(State(hub): State<Hub>, reader: Reader, RawForm(form): RawForm) -> Answer {
    let mut p = parameters(&form);
    let (start, end) = range(&mut p)?;
    let mut matches = Vec::new();
    while let Some(text) = params::take(&mut p, "match[]").or_else(|| params::take(&mut p, "match"))
    {
        matches.push(text);
    }
    if matches.is_empty() {
        matches.push("{}".to_owned());
    }
    if matches.len() > 32 {
        return Err(bad("more than 32 selectors"));
    }
    let active = hub.active().map_err(|why| Plain::from(Failure::unavailable(why)))?;
    let (mut found, mut warnings) = (std::collections::BTreeSet::new(), Vec::new());
    for text in matches {
        let filter = within(selector(Some(text), reader.filter(&hub)?)?, start, end);
        let by = labels::STREAM.to_vec();
        let counted =
            active.searcher.count(CountQuery { filter, by, step_us: None, origin_us: 0 }).await?;
        warnings.extend(counted.warnings);
        for group in counted.groups {
            let named = labels::STREAM.iter().map(|f| f.as_str().to_owned()).zip(group.values);
            let mut labels: BTreeMap<String, String> =
                named.filter(|(_, v)| !v.is_empty()).collect();
            labels.insert("source".to_owned(), labels::SOURCE.to_owned());
            found.insert(labels);
        }
    }
    Ok(warned(json!(found), warnings))
}

/// What Grafana asks before it runs a query, to warn of expensive ones. There are no chunks; bytes are not known without
/// reading, so they are estimated, for a warning's sake.
async fn stats(State(hub): State<Hub>, reader: Reader, RawForm(form): RawForm) -> Answer {
    let mut p = parameters(&form);
    let (start, end) = range(&mut p)?;
    let filter = selector(params::take(&mut p, "query"), reader.filter(&hub)?)?;
    let active = hub.active().map_err(|why| Plain::from(Failure::unavailable(why)))?;
    let query = CountQuery {
        filter: within(filter, start, end),
        by: labels::STREAM.to_vec(),
        step_us: None,
        origin_us: 0,
    };
    let counted = active.searcher.count(query).await?;
    let entries: u64 = counted.groups.iter().flat_map(|g| g.points.values()).map(|p| p.0).sum();
    let answer = json!({
        "streams": counted.groups.len(), "chunks": 0, "entries": entries, "bytes": entries * LINE_BYTES,
    });
    Ok(Json(answer).into_response())
}

async fn build_info(_: Reader) -> Response {
    Json(json!({"version": "3.0.0", "revision": env!("CARGO_PKG_VERSION"), "branch": "periplus", "buildUser": "", "buildDate": "", "goVersion": ""}))
        .into_response()
}
