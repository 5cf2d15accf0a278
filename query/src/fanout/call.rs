//! One request to one endpoint: deadline, retries, and what its failure means.

use std::time::{Duration, Instant};

use periplus_promql::annotations::Severity;
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_proto::fleet::execute_response::Frame;
use periplus_proto::fleet::fleet_client::FleetClient;
use periplus_proto::fleet::{ExecuteRequest, Trailer};
use periplus_proto::rows::{BatchDecoder, ResultRow};
use periplus_proto::{WireError, WireLimits};
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::work::RequestWork;
use super::{Question, wire};
use crate::endpoints::probe::explain;
use crate::plan::EndpointId;

/// Why an endpoint's answer can't be used.
#[derive(Debug)]
pub enum CallError {
    /// The query itself is wrong, or asks for too much: every endpoint would say so.
    Query(QueryError),
    /// The endpoint is down, slow or broken.
    Endpoint {
        /// In words.
        reason: String,
        /// Whether asking again at once may help.
        again: bool,
    },
}

impl From<WireError> for CallError {
    fn from(e: WireError) -> Self {
        match e {
            WireError::TooLarge { .. } => {
                Self::Query(QueryError::new(ErrorKind::Limit, e.to_string()))
            }
            WireError::Malformed { .. } => Self::Endpoint { reason: e.to_string(), again: false },
        }
    }
}

impl CallError {
    fn broken(reason: impl Into<String>) -> Self {
        Self::Endpoint { reason: reason.into(), again: false }
    }

    /// What a gRPC status says of the query or of the endpoint.
    #[must_use]
    pub fn from_status(e: &tonic::Status) -> Self {
        let query = |kind| Self::Query(QueryError::new(kind, e.message()));
        match e.code() {
            Code::InvalidArgument => query(ErrorKind::BadData),
            Code::FailedPrecondition => query(ErrorKind::Execution),
            Code::ResourceExhausted => query(ErrorKind::Limit),
            code => Self::Endpoint {
                reason: explain(e),
                again: matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled),
            },
        }
    }
}

/// Sends `request` (whose query begins at byte `position` of the whole) to an endpoint, again if it fails in a way that may pass, until the endpoint's
/// deadline. Gives the rows of the whole answer; warnings, cost and what was missing below are noted.
///
/// # Errors
/// Why there is no usable answer.
pub async fn execute(
    q: &Question,
    endpoint: EndpointId,
    request: &ExecuteRequest,
    position: u32,
    columns: usize,
) -> Result<Vec<ResultRow>, CallError> {
    let target = q.snapshot.endpoints.get(endpoint);
    let Some((target, channel)) = target.and_then(|e| Some((e, e.channel.as_ref()?))) else {
        return Err(CallError::broken("it is no longer among the endpoints"));
    };
    let Ok(_place) = q.places.acquire().await else {
        return Err(CallError::broken("the query layer is shutting down"));
    };
    let timeout = q.endpoint_timeout();
    let begun = Instant::now();
    let until = begun + timeout;
    let mut attempt = 1;
    loop {
        q.notes.request();
        let left = until.saturating_duration_since(Instant::now());
        let answer = tokio::time::timeout(left, once(channel, request, columns, left)).await;
        let error = match answer {
            Ok(Ok(answer)) => {
                if q.notes.is_watching() {
                    q.notes.asked(done(&target.address, request, position, begun, Ok(&answer)));
                }
                note(q, &request.query, position, answer.trailer);
                return Ok(answer.rows);
            }
            Ok(Err(e)) => e,
            Err(_) => CallError::broken(format!("did not answer within {timeout:.1?}")),
        };
        if q.notes.is_watching() {
            q.notes.asked(done(&target.address, request, position, begun, Err(&error)));
        }
        match &error {
            CallError::Endpoint { again: true, .. } if attempt < q.config.attempts => {
                attempt += 1;
                let pause = Duration::from_millis(rand::random_range(5..50));
                tokio::time::sleep(pause).await;
            }
            CallError::Endpoint { reason, .. } => {
                tracing::debug!(endpoint = %target.address, %reason, attempt, "no answer");
                q.registry.suspect(&target.address);
                return Err(error);
            }
            CallError::Query(_) => return Err(error),
        }
    }
}

/// An answer that came to its end.
struct Whole {
    rows: Vec<ResultRow>,
    trailer: Trailer,
    /// Of its batches, as encoded.
    bytes: u64,
}

/// What a request did.
fn done(
    address: &str,
    request: &ExecuteRequest,
    position: u32,
    begun: Instant,
    outcome: Result<&Whole, &CallError>,
) -> RequestWork {
    let mut work = RequestWork {
        address: address.to_owned(),
        query: request.query.clone(),
        position: Some(position),
        time: begun.elapsed(),
        ..RequestWork::default()
    };
    match outcome {
        Ok(whole) => {
            (work.rows, work.bytes) = (whole.rows.len() as u64, whole.bytes);
            if let Some(stats) = &whole.trailer.stats {
                (work.samples, work.series) = (stats.samples, stats.series);
                work.time_there = Some(Duration::from_micros(stats.wall_us));
                work.path.clone_from(&stats.path);
            }
        }
        Err(CallError::Query(e)) => work.error = Some(e.message.clone()),
        Err(CallError::Endpoint { reason, .. }) => work.error = Some(reason.clone()),
    }
    work
}

async fn once(
    channel: &Channel,
    request: &ExecuteRequest,
    columns: usize,
    timeout: Duration,
) -> Result<Whole, CallError> {
    let mut client = FleetClient::new(channel.clone())
        .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
    let mut message = request.clone();
    message.timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    let mut message = Request::new(message);
    // A little more than we wait ourselves, so that it is we who say what happened.
    message.set_timeout(timeout + Duration::from_millis(500));
    periplus_daemon::telemetry::inject(message.metadata_mut());
    let answer = client.execute(message).await.map_err(|e| CallError::from_status(&e))?;
    let mut frames = answer.into_inner();
    let steps = steps_of(request);
    let mut decoder = BatchDecoder::new(steps, columns, WireLimits::default());
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let mut trailer = None;
    while let Some(frame) = frames.message().await.map_err(|e| CallError::from_status(&e))? {
        match frame.frame {
            _ if trailer.is_some() => return Err(CallError::broken("spoke on after its trailer")),
            Some(Frame::Batch(batch)) => {
                bytes += batch.encoded_len() as u64;
                rows.append(&mut decoder.decode(batch)?);
            }
            Some(Frame::Trailer(t)) => trailer = Some(t),
            None => return Err(CallError::broken("sent an empty frame")),
        }
    }
    match trailer {
        Some(trailer) => Ok(Whole { rows, trailer, bytes }),
        None => Err(CallError::Endpoint {
            reason: "stopped in the middle of its answer".to_owned(),
            again: true,
        }),
    }
}

fn steps_of(request: &ExecuteRequest) -> usize {
    periplus_promql::value::StepGrid {
        start_ms: request.start_ms,
        end_ms: request.end_ms,
        step_ms: request.step_ms.max(1),
    }
    .steps()
}

/// Endpoints count positions from the start of what they were sent (`position_offset` is 0); they
/// are moved here, where the whole query is known.
fn note(q: &Question, fragment: &str, position: u32, trailer: Trailer) {
    q.notes.from_endpoint(Severity::Warning, &trailer.warnings, fragment, position);
    q.notes.from_endpoint(Severity::Info, &trailer.infos, fragment, position);
    q.notes.missing(trailer.missing.into_iter().map(wire::missing_from_wire));
    if let Some(stats) = trailer.stats {
        q.notes.cost(stats.samples, stats.series);
    }
}
