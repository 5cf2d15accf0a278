//! What goes wrong, as Prometheus's API says it.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use periplus_promql::engine::{ErrorKind, QueryError};

use super::json::Writer;

/// An error of the API: its type, its status, its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// `errorType`.
    pub kind: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// `error`.
    pub text: String,
}

impl ApiError {
    /// `bad_data`, 400.
    #[must_use]
    pub fn bad_data(text: impl Into<String>) -> Self {
        Self { kind: "bad_data", status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    /// A parameter that makes no sense.
    #[must_use]
    pub fn parameter(name: &str, text: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {text}"))
    }

    /// `not_found`, 404.
    #[must_use]
    pub fn not_found(text: impl Into<String>) -> Self {
        Self { kind: "not_found", status: StatusCode::NOT_FOUND, text: text.into() }
    }

    /// The answer that says so.
    #[must_use]
    pub fn respond(&self) -> Response<Body> {
        let mut w = Writer::new();
        w.raw(b"{\"status\":\"error\",\"errorType\":");
        w.string(self.kind);
        w.raw(b",\"error\":");
        w.string(&self.text);
        w.raw(b"}");
        let mut response = Response::new(Body::from(w.finish()));
        *response.status_mut() = self.status;
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

impl From<QueryError> for ApiError {
    fn from(e: QueryError) -> Self {
        let status = match e.kind {
            ErrorKind::BadData => StatusCode::BAD_REQUEST,
            ErrorKind::Execution | ErrorKind::Limit => StatusCode::UNPROCESSABLE_ENTITY,
            // 499, as Prometheus and nginx have it: the client is gone.
            ErrorKind::Canceled => {
                StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
            ErrorKind::Timeout | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { kind: e.kind.error_type(), status, text: e.message }
    }
}
