//! Errors as gRPC statuses, and what every request needs before it begins.

use std::sync::Arc;
use std::time::Duration;

use periplus_promql::engine::{ErrorKind, QueryError};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::Shared;
use crate::prometheus::{ClientError, Snapshot};
use crate::read::ReadError;

/// One mapping of failures to codes, so that a client can tell a mistake of the query from a fault here.
pub(super) fn from_client(error: &ClientError) -> Status {
    match error {
        ClientError::Unreachable(_) => Status::unavailable(format!("Prometheus: {error}")),
        ClientError::Api { kind, message } => match kind.as_str() {
            "bad_data" => Status::invalid_argument(message.clone()),
            "limit" => Status::resource_exhausted(message.clone()),
            "execution" => Status::failed_precondition(message.clone()),
            "timeout" => Status::deadline_exceeded(message.clone()),
            "canceled" => Status::cancelled(message.clone()),
            "unavailable" => Status::unavailable(message.clone()),
            _ => Status::internal(format!("Prometheus: {message}")),
        },
        ClientError::Unexpected { .. } => Status::data_loss(error.to_string()),
        ClientError::Settings(_) => Status::internal(error.to_string()),
    }
}

pub(super) fn from_read(error: &ReadError) -> Status {
    match error {
        ReadError::Prometheus(e) => from_client(e),
        ReadError::Limit(text) => Status::resource_exhausted(text.clone()),
    }
}

pub(super) fn from_query(error: &QueryError) -> Status {
    let text = error.message.clone();
    match error.kind {
        ErrorKind::BadData => Status::invalid_argument(text),
        ErrorKind::Execution => Status::failed_precondition(text),
        ErrorKind::Timeout => Status::deadline_exceeded(text),
        ErrorKind::Canceled => Status::cancelled(text),
        ErrorKind::Limit => Status::resource_exhausted(text),
        ErrorKind::Unavailable => Status::unavailable(text),
        ErrorKind::Internal => Status::internal(text),
    }
}

impl Shared {
    /// The snapshot, once the labels are known: without them nothing can be answered right.
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, Status> {
        let snapshot = self.watch.current();
        if snapshot.known {
            return Ok(snapshot);
        }
        let why = snapshot.problem.clone().unwrap_or_default();
        Err(Status::unavailable(format!("Prometheus has not been reached yet: {why}")))
    }

    /// A place among the requests at work; waits for one at most `timeout`.
    pub(super) async fn place(&self, timeout: Duration) -> Result<OwnedSemaphorePermit, Status> {
        let wait = tokio::time::timeout(timeout, Arc::clone(&self.places).acquire_owned());
        match wait.await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Status::resource_exhausted(format!(
                "{} requests are at work already; ask again later or raise --concurrent-max",
                self.config.limits.concurrent_max
            ))),
        }
    }

    /// How long a request may take: what its client grants, within our own bound.
    pub(super) fn timeout<T>(&self, request: &tonic::Request<T>) -> Duration {
        let own = self.config.limits.request_timeout;
        grpc_timeout(request).map_or(own, |t| t.min(own))
    }
}

/// The `grpc-timeout` header: digits and a unit.
fn grpc_timeout<T>(request: &tonic::Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n.saturating_mul(3600)),
        "M" => Duration::from_secs(n.saturating_mul(60)),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}
