//! The requests a watcher makes, over kube's client: it knows how to find and to speak to an API server (in a pod,
//! or by a kubeconfig); what to ask and when is ours.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt as _;
use http::{Method, Request, StatusCode, header};

use super::object::{self, Line, Object, ObjectError, Status};
use super::split::{Items, ItemsError, Lines};

/// The longest answer read that is neither a list nor a watch, in bytes.
const SMALL_BYTES_MAX: usize = 1 << 20;

/// How long a server may take to begin an answer. (A server without storage lets lists hang for a minute.)
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a list may pause.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Which spelling of events to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `v1`
    Core,
    /// `events.k8s.io/v1`
    Events,
}

/// Something the API server did not do.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It refused.
    #[error("the API server answers {} {}: {}", .status.code, .status.reason, .status.message)]
    Refused {
        /// Why.
        status: Status,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// No connection, or a broken one.
    #[error("{doing}: {reason}")]
    Transport {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// It took too long.
    #[error("{doing}: nothing came for {} s", .waited.as_secs())]
    Silent {
        /// What was being done.
        doing: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// Not what an API server answers.
    #[error("listing events: {0}")]
    List(#[from] ItemsError),
    /// Not what an API server answers.
    #[error("{doing}: {source}")]
    Object {
        /// What was being done.
        doing: &'static str,
        /// What is wrong.
        source: ObjectError,
    },
}

impl ApiError {
    /// Whether a resourceVersion or a page token is too old: 410 in whatever form.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.status().is_some_and(is_expired)
    }

    /// Whether the server doesn't know or doesn't grant what was asked for.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.status().is_some_and(|s| matches!(s.code, 401 | 403 | 404 | 405))
    }

    /// Whether it can't be asked like this: the parameters are wrong.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.status().is_some_and(|s| {
            matches!(s.code, 400 | 422)
                || s.code == 500 && s.message.contains("resourceVersion: Invalid value")
        })
    }

    /// The answer, if there was one.
    #[must_use]
    pub const fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused { status, .. } => Some(status),
            _ => None,
        }
    }

    /// When the server wants to be asked again.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Whether a Status says that a resourceVersion is too old.
#[must_use]
pub fn is_expired(status: &Status) -> bool {
    status.code == 410 || matches!(status.reason.as_str(), "Expired" | "Gone")
}

/// An API server.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    namespace: Option<String>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Api {
    /// Asks for the events of one namespace, or of all.
    #[must_use]
    pub const fn new(client: kube::Client, namespace: Option<String>) -> Self {
        Self { client, namespace }
    }

    fn events_path(&self, resource: Resource) -> String {
        let root = match resource {
            Resource::Core => "/api/v1",
            Resource::Events => "/apis/events.k8s.io/v1",
        };
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{}/events", escape(namespace)),
            None => format!("{root}/events"),
        }
    }

    async fn send(
        &self,
        doing: &'static str,
        request: Request<Vec<u8>>,
    ) -> Result<http::Response<BodyDataStream>, ApiError> {
        let send = self.client.send(request.map(kube::client::Body::from));
        let answer = match tokio::time::timeout(ANSWER_TIMEOUT, send).await {
            Err(_) => return Err(ApiError::Silent { doing, waited: ANSWER_TIMEOUT }),
            Ok(Err(error)) => return Err(ApiError::Transport { doing, reason: chain(&error) }),
            Ok(Ok(answer)) => answer,
        };
        Ok(answer.map(|body| Body::new(body).into_data_stream()))
    }

    /// Sends a GET whose answer is a stream; anything but 200 becomes an error.
    async fn open(&self, doing: &'static str, target: &str) -> Result<BodyDataStream, ApiError> {
        let answer = self.send(doing, request(Method::GET, target, Vec::new(), doing)?).await?;
        let (parts, body) = answer.into_parts();
        if parts.status == StatusCode::OK {
            return Ok(body);
        }
        Err(refused(doing, parts, body).await)
    }

    /// Sends a request whose answer is small; gives the body of a 200 or 201.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn small(
        &self,
        doing: &'static str,
        method: Method,
        target: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ApiError> {
        let answer = self.send(doing, request(method, target, body, doing)?).await?;
        let (parts, body) = answer.into_parts();
        if !parts.status.is_success() {
            return Err(refused(doing, parts, body).await);
        }
        read_small(doing, body).await
    }

    /// The newest spelling of events that the server knows.
    ///
    /// # Errors
    /// The server can't be asked. (That it doesn't know the newer group is no error.)
    pub async fn newest(&self) -> Result<Resource, ApiError> {
        let doing = "asking for the versions of events.k8s.io";
        match self.small(doing, Method::GET, "/apis/events.k8s.io", Vec::new()).await {
            Ok(body) => {
                let group: serde_json::Value = serde_json::from_slice(&body)
                    .map_err(|e| ApiError::Object { doing, source: e.into() })?;
                let has_v1 = group["versions"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|v| v["version"] == "v1"));
                Ok(if has_v1 { Resource::Events } else { Resource::Core })
            }
            Err(error) if error.is_denied() => Ok(Resource::Core),
            Err(error) => Err(error),
        }
    }

    /// The server's minor version: 34 for 1.34. `None` where it does not say.
    pub async fn minor_version(&self) -> Option<u32> {
        let doing = "asking for the server's version";
        let body = self.small(doing, Method::GET, "/version", Vec::new()).await.ok()?;
        let version: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let minor: String =
            version["minor"].as_str()?.chars().take_while(char::is_ascii_digit).collect();
        minor.parse().ok()
    }

    /// One page of the list.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn list(
        &self,
        resource: Resource,
        limit: u32,
        token: &str,
    ) -> Result<ListPage, ApiError> {
        let mut target = format!("{}?limit={limit}", self.events_path(resource));
        if !token.is_empty() {
            target.push_str("&continue=");
            target.push_str(&escape(token));
        }
        let body = self.open("listing events", &target).await?;
        Ok(ListPage { body, items: Items::default() })
    }

    /// The newest resourceVersion, read from the storage: shows that server and storage are there.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn probe(&self, resource: Resource) -> Result<u64, ApiError> {
        let mut page = self.list(resource, 1, "").await?;
        let mut out = Vec::new();
        while page.next(&mut out).await? {
            out.clear();
        }
        Ok(page.finish()?.resource_version())
    }

    /// A watch after `resource_version`; with `None` one that begins with the whole state and says when that is
    /// complete (`sendInitialEvents`).
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn watch(
        &self,
        resource: Resource,
        resource_version: Option<u64>,
        timeout: Duration,
    ) -> Result<Watch, ApiError> {
        let from = match resource_version {
            Some(rv) => format!("resourceVersion={rv}"),
            None => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
        };
        let target = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&{from}",
            self.events_path(resource),
            timeout.as_secs().max(1),
        );
        let body = self.open("watching events", &target).await?;
        Ok(Watch { body, lines: Lines::default() })
    }
}

/// One object of a list or a watch; `None` where it was too large to be taken.
pub type Taken<T> = Option<Result<T, ObjectError>>;

/// A page of a list that is being read.
#[derive(Debug)]
pub struct ListPage {
    body: BodyDataStream,
    items: Items,
}

impl ListPage {
    /// Reads on and appends the items that came; `false`: that was all.
    ///
    /// # Errors
    /// The connection broke, or this is no list.
    pub async fn next(&mut self, out: &mut Vec<Taken<Object>>) -> Result<bool, ApiError> {
        let doing = "listing events";
        let chunk = match tokio::time::timeout(PAUSE_TIMEOUT, self.body.next()).await {
            Err(_) => return Err(ApiError::Silent { doing, waited: PAUSE_TIMEOUT }),
            Ok(None) => return Ok(false),
            Ok(Some(Err(e))) => return Err(ApiError::Transport { doing, reason: chain(&e) }),
            Ok(Some(Ok(chunk))) => chunk,
        };
        self.items.push(&chunk, |item| out.push(item.map(object::object)))?;
        Ok(true)
    }

    /// The list without its items: its resourceVersion and the token of the next page.
    ///
    /// # Errors
    /// It was cut off.
    pub fn finish(self) -> Result<Object, ApiError> {
        let skeleton = self.items.finish()?;
        object::object(&skeleton)
            .map_err(|source| ApiError::Object { doing: "listing events", source })
    }
}

/// An open watch.
#[derive(Debug)]
pub struct Watch {
    body: BodyDataStream,
    lines: Lines,
}

impl Watch {
    /// Waits for more and appends the lines that came, perhaps none; `false`: the server has ended the stream.
    /// Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// The connection broke. What came of a line before that is no line.
    pub async fn next(&mut self, out: &mut Vec<Taken<Line>>) -> Result<bool, ApiError> {
        match self.body.next().await {
            None => Ok(false),
            Some(Err(e)) => {
                Err(ApiError::Transport { doing: "watching events", reason: chain(&e) })
            }
            Some(Ok(chunk)) => {
                self.lines.push(&chunk, |line| out.push(line.map(object::line)));
                Ok(true)
            }
        }
    }
}

fn request(
    method: Method,
    target: &str,
    body: Vec<u8>,
    doing: &'static str,
) -> Result<Request<Vec<u8>>, ApiError> {
    let mut builder = Request::builder()
        .method(method)
        .uri(target)
        .header(header::ACCEPT, "application/json")
        // Newer servers compress a watch line by line, as members that few decoders read on from.
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, concat!("periplus/", env!("CARGO_PKG_VERSION")));
    if !body.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    builder.body(body).map_err(|e| ApiError::Transport { doing, reason: e.to_string() })
}

async fn read_small(doing: &'static str, mut body: BodyDataStream) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(PAUSE_TIMEOUT, body.next()).await {
            Err(_) => return Err(ApiError::Silent { doing, waited: PAUSE_TIMEOUT }),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(e))) => return Err(ApiError::Transport { doing, reason: chain(&e) }),
            Ok(Some(Ok(chunk))) if bytes.len() + chunk.len() > SMALL_BYTES_MAX => {
                let reason = format!("the answer has more than {SMALL_BYTES_MAX} bytes");
                return Err(ApiError::Transport { doing, reason });
            }
            Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
        }
    }
}

/// A refusal is a Status, or plain text where a filter in front of the API answers (429).
async fn refused(
    doing: &'static str,
    parts: http::response::Parts,
    body: BodyDataStream,
) -> ApiError {
    let code = parts.status.as_u16();
    let retry_after = parts
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.trim().parse().ok())
        .map(Duration::from_secs);
    let bytes = read_small(doing, body).await.unwrap_or_default();
    let status = match object::object(&bytes) {
        Ok(object) => object.into_status(code),
        Err(_) => {
            let mut message = String::from_utf8_lossy(&bytes).into_owned();
            crate::event::clean_name(&mut message, 512);
            let reason = parts.status.canonical_reason().unwrap_or_default().to_owned();
            Status { code, reason, message }
        }
    };
    ApiError::Refused { status, retry_after }
}

/// An error with its causes: the outermost alone rarely says why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// Makes text safe within a path or a query.
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(b));
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}
