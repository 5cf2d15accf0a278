//! `POST /api/v1/events`.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Failure, Sender};
use crate::hub::Hub;
use crate::hub::ingest::IngestError;
use crate::wire::Encoding;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        match &error {
            IngestError::Wire(wire) if wire.is_too_large() => too_large(error),
            IngestError::Wire(crate::wire::WireError::Encoding(_)) => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data", error)
            }
            IngestError::Wire(_) => Self::bad(error),
            IngestError::Forged(_) => Self::new(StatusCode::FORBIDDEN, "forbidden", error),
            IngestError::Unavailable(_) | IngestError::Waiting(_) => Self::unavailable(error),
        }
    }
}

fn too_large(text: impl std::fmt::Display) -> Failure {
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
}

/// Takes in a batch. The sender is known before a byte of the body is read.
pub(crate) async fn post(
    State(hub): State<Hub>,
    sender: Sender,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let metrics = hub.shared.metrics.clone();
    match take(&hub, &sender, &headers, body).await {
        Ok(ack) => {
            metrics.batch("acknowledged");
            metrics.events("changed", ack.changed);
            metrics.events("unchanged", ack.unchanged);
            metrics.events("refused", ack.refused.len());
            Json(ack).into_response()
        }
        Err(failure) => {
            metrics.batch(match failure.status {
                StatusCode::FORBIDDEN => "forged",
                StatusCode::PAYLOAD_TOO_LARGE => "too_large",
                s if s.is_server_error() => "failed",
                _ => "malformed",
            });
            tracing::info!(
                status = failure.status.as_u16(),
                reason = failure.text,
                "a batch was not taken"
            );
            failure.into_response()
        }
    }
}

async fn take(
    hub: &Hub,
    sender: &Sender,
    headers: &HeaderMap,
    body: Body,
) -> Result<crate::wire::Ack, Failure> {
    // Before the body is taken in: who waits here costs nothing.
    hub.active().map_err(Failure::unavailable)?;
    let encoding = headers.get(header::CONTENT_ENCODING).map(|h| h.to_str().unwrap_or("?"));
    let encoding = Encoding::parse(encoding.unwrap_or_default()).map_err(IngestError::Wire)?;
    let limits = hub.shared.config.wire_limits();
    let max = limits.body_bytes_max;
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|h| h.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|n| n > max) {
        return Err(too_large(format!("the body has more than {max} bytes; send smaller batches")));
    }
    // Room for what it may become: compressed bodies are taken to grow eightfold, and to the limit at most.
    let expected = declared.unwrap_or(max).saturating_mul(8).min(limits.decoded_bytes_max);
    let all = hub.shared.config.max_bodies_bytes >> 10;
    let places = u32::try_from((expected >> 10).clamp(1, all.max(1))).unwrap_or(u32::MAX);
    let turn = std::sync::Arc::clone(&hub.shared.bodies).acquire_many_owned(places);
    let Ok(Ok(_room)) = tokio::time::timeout(TURN_TIMEOUT, turn).await else {
        let failure = Failure::unavailable("too many batches are being taken in; send it again");
        return Err(Failure { status: StatusCode::TOO_MANY_REQUESTS, ..failure });
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, max));
    let body = match read.await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return Err(too_large(format!("the body has more than {max} bytes, or broke off")));
        }
        Err(_) => {
            let text = format!("the body took longer than {BODY_TIMEOUT:?}");
            return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", text));
        }
    };
    Ok(hub.ingest(&sender.0, encoding, body).await?)
}
