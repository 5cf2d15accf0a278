//! Room for answers that clients take their time to read.
//!
//! Answers are held in memory until they are sent, and a client decides how fast that goes. So there is room for
//! so many bytes of them in all: an answer waits for its share before it begins, for a while, and is then refused.
//! Small ones are not counted: what they can come to is bounded by the number of connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Answers up to this are not counted, in bytes.
pub(super) const SMALL_BYTES: usize = 64 << 10;
/// What one permit is for, in bytes.
const UNIT_BYTES: usize = 4 << 10;
/// Answers that wait for room at once; more are refused.
const WAITING: usize = 16;
/// How long an answer waits for room.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are handed to a connection at once.
const PIECE_BYTES: usize = 64 << 10;

/// Room for answers. Clones share it.
#[derive(Clone, Debug)]
pub struct Room {
    places: Arc<Semaphore>,
    /// Answers that wait for their share: they are in memory already.
    waiting: Arc<Semaphore>,
    units: u32,
}

/// A share of the room; given back when it is dropped.
pub(super) type Share = OwnedSemaphorePermit;

impl Room {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES as u64).unwrap_or(u32::MAX >> 4);
        let units = units.clamp(1, u32::MAX >> 4);
        let places = Arc::new(Semaphore::new(units as usize));
        Self { places, waiting: Arc::new(Semaphore::new(WAITING)), units }
    }

    /// A share for an answer of so many bytes; all of the room for one that is larger.
    ///
    /// # Errors
    /// There is none for a while.
    pub(super) async fn share(&self, bytes: usize) -> Result<Share, ApiError> {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).clamp(1, self.units);
        if let Ok(share) = Arc::clone(&self.places).try_acquire_many_owned(units) {
            return Ok(share);
        }
        if let Ok(_waits) = self.waiting.try_acquire() {
            let share = Arc::clone(&self.places).acquire_many_owned(units);
            if let Ok(Ok(share)) = tokio::time::timeout(PATIENCE, share).await {
                return Ok(share);
            }
        }
        let text = "too many large answers are being read slowly; try again later";
        let mut e = ApiError::bad_data(text);
        (e.kind, e.status) = ("unavailable", StatusCode::SERVICE_UNAVAILABLE);
        Err(e)
    }

    /// The response as it is where it is small or comes in pieces; else one that holds a share of the room until
    /// the last of it is with the connection.
    pub(super) async fn hold(&self, response: Response<Body>) -> Response<Body> {
        let bytes = response.body().size_hint().exact().and_then(|n| usize::try_from(n).ok());
        let Some(bytes) = bytes.filter(|n| *n > SMALL_BYTES) else { return response };
        let share = match self.share(bytes).await {
            Ok(share) => share,
            Err(e) => return e.respond(),
        };
        let (mut head, body) = response.into_parts();
        let Ok(whole) = axum::body::to_bytes(body, bytes).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
        Response::from_parts(head, Body::from_stream(Pieces { whole, at: 0, _share: share }))
    }
}

/// Bytes that are copied out piece by piece, so that the whole is gone with the last of them.
struct Pieces {
    whole: Bytes,
    at: usize,
    _share: Share,
}

impl futures::Stream for Pieces {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let to = self.whole.len().min(self.at + PIECE_BYTES);
        let piece = self.whole.get(self.at..to).unwrap_or_default();
        let piece = Bytes::copy_from_slice(piece);
        self.at = to;
        if self.at == self.whole.len() {
            self.whole = Bytes::new();
            self.at = 0;
        }
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_answers_take_a_share_and_give_it_back() {
        let room = Room::new(1 << 20);
        let text = "x".repeat(300_000);
        let response = room.hold(Response::new(Body::from(text.clone()))).await;
        assert_eq!(response.headers()["content-length"], "300000");
        let left = room.places.available_permits();
        assert!(left < 256 - 70, "{left}");
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(bytes == text.as_bytes());
        assert_eq!(room.places.available_permits(), 256);
        // One that is never read gives it back too.
        drop(room.hold(Response::new(Body::from(text))).await);
        assert_eq!(room.places.available_permits(), 256);
        let small = room.hold(Response::new(Body::from("x"))).await;
        assert_eq!(room.places.available_permits(), 256);
        drop(small);
        // Larger than all of it: alone.
        let all = room.share(usize::MAX).await.unwrap();
        assert_eq!(room.places.available_permits(), 0);
        drop(all);
    }
}
