//! The hub over HTTP: `/api/v1/events` and what lies below it.
//!
//! [`params`] reads questions, [`events`] answers them, [`tail`] streams what is new, [`export`] gives all as columns, [`write`] takes in batches;
//! `openapi.json` beside this file is what `GET /api/v1/events/openapi.json` answers. GET never changes anything. Text
//! is answered as JSON or plain text with `nosniff`, so hostile text in an event stays text in a browser.

pub mod events;
pub mod export;
pub mod params;
pub mod tail;
pub mod write;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::hub::access::{Clusters, Shown};
use crate::hub::{Hub, Identity};
use crate::search::SearchError;
use crate::store::{Field, Filter};
use crate::wire::Problem;

/// A refusal or failure, as every API here answers it.
#[derive(Clone, Debug)]
pub struct Failure {
    status: StatusCode,
    kind: &'static str,
    text: String,
    retry_after_s: Option<u32>,
}

impl Failure {
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        text: impl std::fmt::Display,
    ) -> Self {
        Self { status, kind, text: text.to_string(), retry_after_s: None }
    }

    /// Status and text.
    pub(crate) fn into_parts(self) -> (StatusCode, String) {
        (self.status, self.text)
    }

    pub(crate) fn bad(text: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_data", text)
    }

    pub(crate) fn unavailable(text: impl std::fmt::Display) -> Self {
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text);
        Self { retry_after_s: Some(1), ..failure }
    }
}

impl From<SearchError> for Failure {
    fn from(error: SearchError) -> Self {
        match &error {
            SearchError::Late(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", error),
            SearchError::TooManyGroups(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", error)
            }
            SearchError::Busy | SearchError::Cut => Self::unavailable(error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            status: "error".to_owned(),
            error_type: self.kind.to_owned(),
            error: self.text,
        };
        let mut response = (self.status, axum::Json(problem)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// What a request shows of who it is from.
fn shown(parts: &Parts) -> Shown<'_> {
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok());
    let certificate = parts.extensions.get::<periplus_daemon::http::ClientCertificate>();
    Shown { authorization, certificate: certificate.map(|c| c.0.as_ref()) }
}

fn nobody() -> Failure {
    let text = "show who you are: a bearer token or a client certificate that the hub knows";
    Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
}

/// Somebody who may read.
#[derive(Clone, Debug)]
pub(crate) struct Reader(Identity);

impl FromRequestParts<Hub> for Reader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, Failure> {
        hub.shared.access.reader(shown(parts)).map(Self).ok_or_else(nobody)
    }
}

/// Somebody who may write.
#[derive(Clone, Debug)]
pub(crate) struct Sender(pub(crate) Identity);

impl FromRequestParts<Hub> for Sender {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, Failure> {
        hub.shared.access.sender(shown(parts)).map(Self).ok_or_else(nobody)
    }
}

impl Reader {
    /// A filter that selects what this reader may see.
    pub(crate) fn filter(&self, hub: &Hub) -> Result<Filter, Failure> {
        let mut filter = Filter {
            regions: std::sync::Arc::clone(&hub.shared.access.regions),
            ..Filter::default()
        };
        if let Clusters::Some(names) = &self.0.clusters {
            let names: Vec<String> = names.iter().cloned().collect();
            filter.one_of(Field::Cluster, &names).map_err(Failure::unavailable)?;
        }
        Ok(filter)
    }

    /// Whether this reader may see a cluster's gaps and counts.
    pub(crate) fn sees(&self, cluster: &str) -> bool {
        self.0.clusters.holds(cluster)
    }
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What there is, as OpenAPI.
const OPENAPI: &str = include_str!("api/openapi.json");

/// The routes.
pub fn router(hub: Hub) -> Router {
    Router::new()
        .route("/api/v1/events", get(events::list).post(write::post))
        .route("/api/v1/events/count", get(events::count))
        .route("/api/v1/events/values", get(events::values))
        .route("/api/v1/events/tail", get(tail::tail))
        .route("/api/v1/events/export", get(export::export))
        .route("/api/v1/events/gaps", get(events::gaps))
        .route("/api/v1/events/metrics", get(events::metrics))
        .route(
            "/api/v1/events/openapi.json",
            get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI)),
        )
        .layer(axum::middleware::from_fn(guard))
        .with_state(hub)
}
