//! Lists, counts, values, gaps and metrics.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::params::{self, Params, SELECTING};
use super::{Failure, Reader};
use crate::event::Event;
use crate::hub::Hub;
use crate::search::{CountQuery, PageQuery};
use crate::store::{Field, Regions, Row};
use crate::wire::Gap;

/// Rows of a page where it does not say.
const LIMIT: usize = 100;
/// Rows of a page at most.
const LIMIT_MAX: usize = 5_000;
/// Points of a count at most.
const STEPS_MAX: i64 = 11_000;

/// An event as it is answered.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Its number, as text: it does not fit into a JavaScript number.
    pub id: String,
    /// The region of its cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// First time, RFC 3339.
    pub first: String,
    /// Last time.
    pub last: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// `2026-11-21T10:00:00.123456Z`.
#[must_use]
pub fn time_text(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).unwrap_or_default().to_string()
}

impl Shown {
    /// A row as it is answered.
    #[must_use]
    pub fn new(row: Row, regions: &Regions) -> Self {
        Self {
            id: row.id.to_string(),
            region: regions.get(&row.event.cluster).cloned().unwrap_or_default(),
            first: time_text(row.event.first_us),
            last: time_text(row.event.last_us),
            event: row.event,
        }
    }
}

#[derive(Serialize)]
struct Answer<T> {
    status: &'static str,
    data: T,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

fn answer<T: Serialize>(data: T, warnings: Vec<String>) -> Response {
    Json(Answer { status: "success", data, warnings }).into_response()
}

#[derive(Serialize)]
struct Listed {
    events: Vec<Shown>,
    /// To be given as `cursor` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

fn cursor(text: &str) -> Result<(i64, i64), Failure> {
    let parse = |t: &str| t.parse::<i64>().ok();
    let read = text.split_once('_').and_then(|(last, id)| Some((parse(last)?, parse(id)?)));
    read.ok_or_else(|| Failure::bad("cursor: give what the page before answered as next"))
}

/// `GET /api/v1/events`.
pub(crate) async fn list(
    State(hub): State<Hub>,
    reader: Reader,
    Query(mut params): Query<Params>,
) -> Result<Response, Failure> {
    let filter = params::select(&mut params, reader.filter(&hub)?)?;
    let limit = params::take_number(&mut params, "limit", LIMIT_MAX)?.unwrap_or(LIMIT);
    let newest_first = match params::take(&mut params, "order").as_deref() {
        None | Some("desc") => true,
        Some("asc") => false,
        Some(_) => return Err(Failure::bad("order is desc (the newest first) or asc")),
    };
    let after = params::take(&mut params, "cursor").map(|t| cursor(&t)).transpose()?;
    params::nothing_left(&params, &format!("{SELECTING}, limit, order, cursor"))?;
    let active = hub.active().map_err(Failure::unavailable)?;
    let page = active.searcher.page(PageQuery { filter, newest_first, limit, after }).await?;
    let regions = &hub.shared.access.regions;
    let listed = Listed {
        next: page.next.map(|(last, id)| format!("{last}_{id}")),
        events: page.rows.into_iter().map(|r| Shown::new(r, regions)).collect(),
    };
    Ok(answer(listed, page.warnings))
}

#[derive(Serialize)]
struct Series {
    labels: std::collections::BTreeMap<&'static str, String>,
    /// Beginning (seconds), events, sum of their counts.
    points: Vec<(f64, u64, u64)>,
}

fn fields(text: &str) -> Result<Vec<Field>, Failure> {
    let names = text.split(',').map(str::trim).filter(|n| !n.is_empty());
    let parse = |name: &str| {
        Field::parse(name).ok_or_else(|| {
            let all: Vec<&str> = Field::ALL.iter().map(|(_, n)| *n).collect();
            let name: String = name.chars().take(60).collect();
            Failure::bad(format!("by: {name:?} is no field; there are {}", all.join(", ")))
        })
    };
    names.map(parse).collect()
}

/// `GET /api/v1/events/count`.
pub(crate) async fn count(
    State(hub): State<Hub>,
    reader: Reader,
    Query(mut params): Query<Params>,
) -> Result<Response, Failure> {
    let filter = params::select(&mut params, reader.filter(&hub)?)?;
    let by = fields(&params::take(&mut params, "by").unwrap_or_default())?;
    let step_us = params::take(&mut params, "step").map(|t| params::duration_us(&t)).transpose()?;
    params::nothing_left(&params, &format!("{SELECTING}, by, step"))?;
    if let Some(step) = step_us {
        let to = filter.to_us.min(crate::log::commit::now_us());
        let range = to.saturating_sub(filter.from_us);
        if step <= 0 || range / step > STEPS_MAX {
            let text = format!(
                "step: the range would have more than {STEPS_MAX} points; give start or since, and a longer step"
            );
            return Err(Failure::bad(text));
        }
    }
    let active = hub.active().map_err(Failure::unavailable)?;
    let query = CountQuery { filter, by: by.clone(), step_us, origin_us: 0 };
    let counted = active.searcher.count(query).await?;
    #[expect(clippy::cast_precision_loss, reason = "times, exact for centuries")]
    let seconds = |us: i64| us as f64 / 1e6;
    let series = counted.groups.into_iter().map(|group| Series {
        labels: by.iter().map(|f| f.as_str()).zip(group.values).collect(),
        points: group.points.into_iter().map(|(at, (n, sum))| (seconds(at), n, sum)).collect(),
    });
    Ok(answer(series.collect::<Vec<_>>(), counted.warnings))
}

/// `GET /api/v1/events/values?field=reason`: distinct values.
pub(crate) async fn values(
    State(hub): State<Hub>,
    reader: Reader,
    Query(mut params): Query<Params>,
) -> Result<Response, Failure> {
    let filter = params::select(&mut params, reader.filter(&hub)?)?;
    let field = params::take(&mut params, "field").unwrap_or_default();
    let [field] = fields(&field)?[..] else { return Err(Failure::bad("field: name one field")) };
    params::nothing_left(&params, &format!("{SELECTING}, field"))?;
    let active = hub.active().map_err(Failure::unavailable)?;
    let counted = active.searcher.count(crate::search::count::values_query(filter, field)).await?;
    let values = counted.groups.into_iter().filter_map(|g| g.values.into_iter().next());
    Ok(answer(values.collect::<Vec<_>>(), counted.warnings))
}

/// `GET /api/v1/events/gaps`.
pub(crate) async fn gaps(
    State(hub): State<Hub>,
    reader: Reader,
    Query(mut params): Query<Params>,
) -> Result<Response, Failure> {
    let filter = params::select(&mut params, reader.filter(&hub)?)?;
    params::nothing_left(&params, "start, end, since, cluster, region")?;
    let active = hub.active().map_err(Failure::unavailable)?;
    let fits = |gap: &Gap| {
        gap.to_us >= filter.from_us
            && gap.from_us < filter.to_us
            && (gap.cluster.is_empty() || reader.sees(&gap.cluster))
            && filter.takes(Field::Cluster, &gap.cluster)
            && filter.takes(Field::Region, &gap.cluster)
    };
    let mut gaps: Vec<Gap> = active.memory.read().gaps().into_iter().filter(fits).collect();
    gaps.sort_by_key(|g| (std::cmp::Reverse(g.to_us), g.id.clone()));
    Ok(answer(gaps, Vec::new()))
}

/// `GET /api/v1/events/metrics`: the counters, to be scraped with `honor_labels: true`. With `cluster=NAME` those of one
/// cluster without that label: what the Prometheus beside the cluster's sidecar scrapes, so that the counters lie with
/// the cluster's other series, and a question that joins them is answered there.
pub(crate) async fn metrics(
    State(hub): State<Hub>,
    reader: Reader,
    Query(mut params): Query<Params>,
) -> Result<Response, Failure> {
    let cluster = params::take(&mut params, "cluster");
    params::nothing_left(&params, "cluster")?;
    let active = hub.active().map_err(Failure::unavailable)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let takes = |c: &str| reader.sees(c) && cluster.as_ref().is_none_or(|only| only == c);
    let text = active.counters.text(|k| takes(&k.cluster), cluster.is_none());
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
