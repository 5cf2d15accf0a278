//! Prometheus's HTTP API over the fleet.
//!
//! A request's way: [`params`] reads address and form, [`time`] the forms of times; `query` and `labels`
//! hold the endpoints that ask the fleet, [`coalesce`] asks once what many ask and [`kept`] what they ask soon after, `explain` tells how a question
//! is or was answered; `rules`, `targets`, `exemplars` and `heads` show what clusters tell of themselves; `read` and `federate` give samples to
//! other Prometheus servers; `status`, `features` and [`active`] tell of this process; [`json`] writes
//! answers from columns, [`error`] what went wrong. Bodies, concurrency, waiting, and with `room` what waits to be read are bounded here.
//!
//! What differs from Prometheus's own API, and why, is in `api/differences.md`; the API is described by
//! `api/openapi.json`. A `GET` never changes anything: the one thing that can be done, stopping a query, is
//! a `POST`.

mod about;
pub mod active;
pub mod coalesce;
pub mod error;
mod exemplars;
mod explain;
mod features;
mod federate;
mod heads;
pub mod json;
pub mod kept;
mod labels;
pub mod params;
mod query;
mod read;
mod respond;
mod room;
mod rules;
mod samples;
mod status;
mod targets;
pub mod time;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::about::Own;
use crate::answer::Answerer;
use crate::history::resolution::MaxResolution;
use crate::metrics::Metrics;
#[cfg(feature = "sql")]
use crate::sql::http::sql;
use active::Queries;
use coalesce::Coalesce;
use kept::Kept;
pub use room::Room;

/// What holds when a request does not say.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The longest a query may take, whatever it asks for.
    pub timeout: Duration,
    /// How long a sample is looked back for, in milliseconds.
    pub lookback_ms: i64,
    /// Labels that tell replicas apart.
    pub replica_labels: Vec<String>,
    /// Whether partial answers are errors.
    pub strict: bool,
    /// Whether metric names are dropped late.
    pub delayed_name_removal: bool,
    /// How coarse history may be.
    pub resolution: MaxResolution,
}

/// What all requests share.
#[derive(Clone)]
pub struct Api {
    /// Answers questions.
    pub answerer: Answerer,
    /// What holds when a request does not say.
    pub defaults: Defaults,
    /// Settings as they are shown, secrets left out.
    pub flags: Arc<Vec<(String, String)>>,
    /// When this process began, Unix milliseconds.
    pub started_ms: i64,
    /// Requests that are worked on at once; more wait, and then are refused.
    pub places: Arc<Semaphore>,
    /// Remote reads that are answered in chunks at once: each keeps a thread busy.
    pub readers: Arc<Semaphore>,
    /// Room for answers until they are read.
    pub room: Room,
    /// What is counted.
    pub metrics: Metrics,
    /// The rules of this process.
    pub own: Own,
    /// Queries that run, and what they cost.
    pub queries: Queries,
    /// Queries that several clients wait for.
    pub(crate) together: Coalesce<query::Same, query::Outcome>,
    /// Answers to questions of a moment ago.
    pub(crate) kept: Kept<query::Same>,
}

/// The largest body accepted, in bytes: a form with the longest query, every byte escaped.
const BODY_BYTES_MAX: usize = 4 << 20;
/// How long a client may take to send its body.
const BODY_PATIENCE: Duration = Duration::from_secs(15);
/// How long a request waits for a place.
const PLACE_PATIENCE: Duration = Duration::from_secs(10);
/// Remote reads that are answered in chunks at once.
pub const READERS: usize = 64;

/// Says that this build can't.
#[cfg(not(feature = "sql"))]
async fn sql() -> Response {
    let text = "this periplus was built without SQL: build it with the feature `sql`, which is in the defaults";
    let status = axum::http::StatusCode::NOT_IMPLEMENTED;
    error::ApiError { kind: "unavailable", status, text: text.to_owned() }.respond()
}

impl Api {
    /// The routes.
    pub fn router(self) -> Router {
        let v1 = Router::new()
            .route("/query", get(query::instant).post(query::instant))
            .route("/query_range", get(query::range).post(query::range))
            .route(
                "/query_exemplars",
                get(exemplars::query_exemplars).post(exemplars::query_exemplars),
            )
            .route("/format_query", get(query::format).post(query::format))
            .route("/parse_query", get(tree::parse_query).post(tree::parse_query))
            .route("/query_explain", get(explain::explain).post(explain::explain))
            .route("/query_analyze", get(explain::analyze).post(explain::analyze))
            .route("/series", get(labels::series).post(labels::series))
            .route("/labels", get(labels::names).post(labels::names))
            .route("/label/{name}/values", get(labels::values))
            .route("/sql", post(sql))
            .route("/metadata", get(targets::metadata))
            .route("/targets", get(targets::targets))
            .route("/targets/metadata", get(targets::target_metadata))
            .route("/scrape_pools", get(targets::scrape_pools))
            .route("/alertmanagers", get(targets::alertmanagers))
            .route("/rules", get(rules::rules))
            .route("/alerts", get(rules::alerts))
            .route("/read", post(read::read))
            .route("/cardinality", get(heads::cardinality))
            .route("/queries/active", get(active::active))
            .route("/queries/top", get(active::top))
            .route("/queries/cancel", post(active::cancel))
            .route("/endpoints", get(status::endpoints))
            .route("/stores", get(status::endpoints))
            .route("/status/buildinfo", get(status::build))
            .route("/status/runtimeinfo", get(status::runtime))
            .route("/status/flags", get(status::flags))
            .route("/status/config", get(status::config))
            .route("/status/tsdb", get(heads::tsdb))
            .route("/features", get(features::features))
            .route("/openapi.json", get(status::openapi));
        Router::new()
            .nest("/api/v1", v1)
            .route("/", get(status::front))
            .route("/federate", get(federate::federate))
            .route("/-/healthy", get(status::healthy))
            .route("/-/ready", get(status::ready))
            .fallback(status::nothing_here)
            .layer(from_fn_with_state(self.clone(), bounded))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(
                CompressionLayer::new().gzip(true).zstd(true).compress_when(SizeAbove::new(1024)),
            )
            .with_state(self)
    }
}

/// Counts a request and gives it a place.
async fn bounded(State(api): State<Api>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map_or("other", |m| known_route(m.as_str()));
    let begun = std::time::Instant::now();
    // A question about what may be asked; without an answer for other origins, which nobody has allowed.
    if request.method() == Method::OPTIONS {
        api.metrics.request(route, 204, begun.elapsed());
        return http::StatusCode::NO_CONTENT.into_response();
    }
    let request = match received(request).await {
        Ok(request) => request,
        Err(refused) => {
            api.metrics.request(route, refused.status().as_u16(), begun.elapsed());
            return *refused;
        }
    };
    let waits = !matches!(route, "other" | "/-/ready" | "/-/healthy");
    let place = match waits {
        false => None,
        true => {
            let place = Arc::clone(&api.places).acquire_owned();
            match tokio::time::timeout(PLACE_PATIENCE, place).await {
                Ok(Ok(place)) => Some(place),
                _ => {
                    let text = "too many requests at once; try again later";
                    let mut e = error::ApiError::bad_data(text);
                    (e.kind, e.status) = ("unavailable", http::StatusCode::SERVICE_UNAVAILABLE);
                    return e.respond();
                }
            }
        }
    };
    let response = next.run(request).await;
    api.metrics.request(route, response.status().as_u16(), begun.elapsed());
    drop(place);
    api.room.hold(response).await
}

/// The request with all of its body, so that none that comes slowly holds a place.
async fn received(request: Request) -> Result<Request, Box<Response>> {
    let refuse = |status: http::StatusCode, text: &'static str| {
        Err(Box::new((status, text).into_response()))
    };
    let too_large = "the body is larger than the 4 MiB that a request may have\n";
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return refuse(http::StatusCode::PAYLOAD_TOO_LARGE, too_large);
    }
    if body.is_end_stream() {
        return Ok(Request::from_parts(head, body));
    }
    let whole = axum::body::to_bytes(body, BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_PATIENCE, whole).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(head, bytes.into())),
        Ok(Err(e)) if is_too_large(&e) => refuse(http::StatusCode::PAYLOAD_TOO_LARGE, too_large),
        Ok(Err(_)) => refuse(http::StatusCode::BAD_REQUEST, "the body broke off\n"),
        Err(_) => refuse(http::StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n"),
    }
}

/// Whether a body was refused for its length.
fn is_too_large(e: &axum::Error) -> bool {
    std::error::Error::source(e).is_some_and(|s| s.to_string().contains("length limit"))
}

/// All routes.
const ROUTES: &[&str] = &[
    "/",
    "/-/healthy",
    "/-/ready",
    "/federate",
    "/api/v1/query",
    "/api/v1/query_range",
    "/api/v1/query_exemplars",
    "/api/v1/format_query",
    "/api/v1/parse_query",
    "/api/v1/query_explain",
    "/api/v1/query_analyze",
    "/api/v1/series",
    "/api/v1/labels",
    "/api/v1/label/{name}/values",
    "/api/v1/sql",
    "/api/v1/metadata",
    "/api/v1/targets",
    "/api/v1/targets/metadata",
    "/api/v1/scrape_pools",
    "/api/v1/alertmanagers",
    "/api/v1/rules",
    "/api/v1/alerts",
    "/api/v1/read",
    "/api/v1/cardinality",
    "/api/v1/queries/active",
    "/api/v1/queries/top",
    "/api/v1/queries/cancel",
    "/api/v1/endpoints",
    "/api/v1/stores",
    "/api/v1/status/buildinfo",
    "/api/v1/status/runtimeinfo",
    "/api/v1/status/flags",
    "/api/v1/status/config",
    "/api/v1/status/tsdb",
    "/api/v1/features",
    "/api/v1/openapi.json",
];

/// Only routes that exist become label values of metrics.
fn known_route(route: &str) -> &'static str {
    ROUTES.iter().find(|r| **r == route).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::ROUTES;

    #[test]
    fn the_document_describes_every_route() {
        let text = include_str!("api/openapi.json");
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        let described: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        let mut routes: Vec<&str> = ROUTES.to_vec();
        routes.sort_unstable();
        assert_eq!(described, routes);
    }
}
