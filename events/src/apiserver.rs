//! An API server of our own for tests and the demo: events, leases and a few objects, listed and watched as a
//! kube-apiserver does it.
//!
//! It holds objects as the JSON they were given as, so what was recorded from a real server goes out byte for
//! byte. What it imitates was recorded: pages at one resourceVersion, page tokens that expire, 410 in its three
//! forms, streaming lists, watches without bookmarks that end at `timeoutSeconds`, leases with optimistic
//! locking. [`Faults`] lets it behave as one behaves on a bad day. The watcher knows nothing of it.

pub mod faults;
pub mod leases;
pub mod simulated;
pub mod store;
mod watches;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio_util::sync::CancellationToken;

use crate::watch::api::Resource;
pub use faults::Faults;
pub use store::{Kind, Store};

/// What the server is like.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Which spelling of events it has; the other one is not there. Objects must be given in this one.
    pub resource: Resource,
    /// The minor version it says it has. From 34 on watchers use streaming lists unasked.
    pub minor: u32,
    /// The token that clients must send; others get 401, none 403.
    pub token: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { resource: Resource::Core, minor: 36, token: None }
    }
}

/// A running server. It ends when the token is cancelled.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it serves.
    pub store: Arc<Store>,
    /// How it misbehaves.
    pub faults: Arc<Faults>,
}

#[derive(Clone)]
struct Shared {
    config: Arc<ServerConfig>,
    store: Arc<Store>,
    faults: Arc<Faults>,
}

type Parameters = Query<HashMap<String, String>>;

impl Server {
    /// Serves a store at a free port of this machine until `end` is cancelled.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(
        config: ServerConfig,
        store: Arc<Store>,
        end: CancellationToken,
    ) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let faults = Arc::new(Faults::default());
        let shared = Shared {
            config: Arc::new(config),
            store: Arc::clone(&store),
            faults: Arc::clone(&faults),
        };
        let router = router(shared);
        tokio::spawn(async move {
            let serving = axum::serve(listener, router);
            // Open watches are not waited for: a stopped server leaves them.
            tokio::select! {
                outcome = serving => if let Err(error) = outcome {
                    tracing::warn!(%error, "the API server for tests ended");
                },
                () = end.cancelled() => {}
            }
        });
        Ok(Self { address, store, faults })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn router(shared: Shared) -> Router {
    let root = match shared.config.resource {
        Resource::Core => "/api/v1",
        Resource::Events => "/apis/events.k8s.io/v1",
    };
    let lease = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases";
    Router::new()
        .route("/version", get(version))
        .route("/apis/events.k8s.io", get(group))
        .route(&format!("{root}/events"), get(all_events))
        .route(&format!("{root}/namespaces/{{namespace}}/events"), get(events_of))
        .route("/api/v1/namespaces/{namespace}/{plural}/{name}", get(object))
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}",
            any(object_or_lease),
        )
        .route(lease, axum::routing::post(new_lease))
        .fallback(|| async {
            status(
                StatusCode::NOT_FOUND,
                "NotFound",
                "the server could not find the requested resource",
                "",
            )
        })
        .with_state(shared)
}

/// A `metav1.Status` as an answer.
pub(crate) fn status(code: StatusCode, reason: &str, message: &str, token: &str) -> Response {
    let mut metadata = serde_json::json!({});
    if !token.is_empty() {
        metadata = serde_json::json!({ "continue": token });
    }
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    json(code, format!("{body}\n"))
}

fn json(code: StatusCode, body: impl Into<Body>) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// What stands before every answer: rights, and faults.
#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn admit(shared: &Shared, headers: &HeaderMap) -> Result<(), Response> {
    if let Some(token) = &shared.config.token {
        let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        match given {
            None => {
                return Err(status(
                    StatusCode::FORBIDDEN,
                    "Forbidden",
                    "system:anonymous cannot list resource \"events\"",
                    "",
                ));
            }
            Some(given) if given.strip_prefix("Bearer ") != Some(token) => {
                return Err(status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized", ""));
            }
            Some(_) => {}
        }
    }
    shared.faults.refusal().map_or(Ok(()), Err)
}

async fn version(State(shared): State<Shared>) -> Response {
    let minor = shared.config.minor;
    let body = serde_json::json!({ "major": "1", "minor": minor.to_string(), "gitVersion": format!("v1.{minor}.0") });
    json(StatusCode::OK, body.to_string())
}

async fn group(State(shared): State<Shared>) -> Response {
    if shared.config.resource == Resource::Core {
        return status(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
            "",
        );
    }
    let v1 = serde_json::json!({ "groupVersion": "events.k8s.io/v1", "version": "v1" });
    let body = serde_json::json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": "events.k8s.io", "versions": [v1], "preferredVersion": v1,
    });
    json(StatusCode::OK, body.to_string())
}

async fn all_events(
    State(shared): State<Shared>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Response {
    events(&shared, &headers, &parameters, None).await
}

async fn events_of(
    State(shared): State<Shared>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Response {
    events(&shared, &headers, &parameters, Some(namespace)).await
}

async fn events(
    shared: &Shared,
    headers: &HeaderMap,
    parameters: &Parameters,
    namespace: Option<String>,
) -> Response {
    if let Err(refused) = admit(shared, headers) {
        return refused;
    }
    let get = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    if matches!(get("watch"), "1" | "true") {
        let from = get("resourceVersion");
        let initial = get("sendInitialEvents") == "true";
        let from = match from.parse::<u64>() {
            Ok(rv) => Some(rv).filter(|_| !initial),
            Err(_) if from.is_empty() => None,
            Err(_) => {
                let message = format!(
                    "resourceVersion: Invalid value: {from:?}: strconv.ParseUint: parsing {from:?}: invalid syntax"
                );
                return status(StatusCode::INTERNAL_SERVER_ERROR, "", &message, "");
            }
        };
        let timeout = Duration::from_secs(get("timeoutSeconds").parse().unwrap_or(1800));
        let store = Arc::clone(&shared.store);
        let faults = Arc::clone(&shared.faults);
        let body = watches::body(store, faults, shared.config.resource, namespace, from, timeout);
        return json(StatusCode::OK, body);
    }
    shared.faults.pause().await;
    let limit = get("limit").parse().unwrap_or(0);
    match shared.store.list(shared.config.resource, namespace.as_deref(), limit, get("continue")) {
        Ok(page) => json(StatusCode::OK, page),
        Err(expired) => status(
            StatusCode::GONE,
            "Expired",
            "The provided continue parameter is too old to display a consistent list result.",
            &expired.fresh_token,
        ),
    }
}

async fn object(
    State(shared): State<Shared>,
    Path((namespace, plural, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = admit(&shared, &headers) {
        return refused;
    }
    match shared.store.object(&plural, &namespace, &name) {
        Some(text) => json(StatusCode::OK, text),
        None => {
            status(StatusCode::NOT_FOUND, "NotFound", &format!("{plural} {name:?} not found"), "")
        }
    }
}

type ObjectPath = (String, String, String, String, String);

async fn object_or_lease(
    State(shared): State<Shared>,
    method: Method,
    Path(path): Path<ObjectPath>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = admit(&shared, &headers) {
        return refused;
    }
    let (group, _version, namespace, plural, name) = path;
    if group == "coordination.k8s.io" && plural == "leases" {
        return shared.store.leases.answer(&method, &namespace, &name, &body, &shared.store);
    }
    match shared.store.object(&plural, &namespace, &name) {
        Some(text) => json(StatusCode::OK, text),
        None => {
            status(StatusCode::NOT_FOUND, "NotFound", &format!("{plural} {name:?} not found"), "")
        }
    }
}

async fn new_lease(
    State(shared): State<Shared>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = admit(&shared, &headers) {
        return refused;
    }
    shared.store.leases.answer(&Method::POST, &namespace, "", &body, &shared.store)
}
