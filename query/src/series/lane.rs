//! One endpoint's series, in the order it sends them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use periplus_model::{Labels, TimeRange};
use periplus_promql::source::SelectRequest;
use periplus_proto::WireLimits;
use periplus_proto::convert::{labels_from_thanos, matchers_to_thanos};
use periplus_proto::thanos::series_response::Result as Frame;
use periplus_proto::thanos::store_client::StoreClient;
use periplus_proto::thanos::{self, SeriesRequest, SeriesResponse};
use prost::Message as _;
use tonic::{Code, Request, Streaming};

use super::chunks::EncodedChunk;
use crate::endpoints::probe::explain;
use crate::fanout::Question;
use crate::fanout::work::RequestWork;
use crate::plan::EndpointId;

/// A series as received.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) labels: Labels,
    pub(super) chunks: Vec<EncodedChunk>,
}

/// Why an endpoint's series are not whole.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    /// In words.
    pub(super) reason: String,
    /// Whether the question asks for more than the endpoint may give: then it is not the endpoint that is
    /// missing, but the question that is to be refused.
    pub(super) is_limit: bool,
}

impl Lost {
    fn broken(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_limit: false }
    }

    /// What a status means, with what was going on in front.
    fn of(doing: &str, status: &tonic::Status) -> Self {
        match status.code() {
            Code::ResourceExhausted => Self { reason: status.message().to_owned(), is_limit: true },
            _ => Self::broken(format!("{doing}{}", explain(status))),
        }
    }
}

/// An open answer.
pub(super) struct Lane {
    frames: Streaming<SeriesResponse>,
    address: String,
    waiting: VecDeque<thanos::Series>,
    /// Read already, but it may go on in the next message.
    pending: Option<Received>,
    last: Option<Labels>,
    patience: Duration,
    sorted: bool,
    q_notes: std::sync::Arc<crate::fanout::notes::Notes>,
    /// What it has done so far, where somebody wants to know.
    work: Option<Watched>,
}

/// What a lane has done so far; kept when the lane is closed, however that comes about.
struct Watched {
    notes: std::sync::Arc<crate::fanout::notes::Notes>,
    begun: Instant,
    work: RequestWork,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut work = std::mem::take(&mut self.work);
        work.time = self.begun.elapsed();
        self.notes.asked(work);
    }
}

/// The request for what the engine selects.
#[must_use]
pub(super) fn series_request(
    q: &Question,
    request: &SelectRequest,
    skip_chunks: bool,
) -> SeriesRequest {
    SeriesRequest {
        min_time: request.range.min_t,
        max_time: request.range.max_t,
        matchers: matchers_to_thanos(&request.matchers),
        partial_response_disabled: q.strict,
        partial_response_strategy: match q.strict {
            true => thanos::PartialResponseStrategy::Abort as i32,
            false => thanos::PartialResponseStrategy::Warn as i32,
        },
        skip_chunks,
        step: request.hints.step_ms,
        range: request.hints.range_ms,
        query_hints: Some(thanos::QueryHints {
            step_millis: request.hints.step_ms,
            func: request.hints.func.map(|f| thanos::Func { name: f.to_owned() }),
            range: Some(thanos::Range { millis: request.hints.range_ms }),
            ..thanos::QueryHints::default()
        }),
        without_replica_labels: q.fleet.replica_labels.clone(),
        ..SeriesRequest::default()
    }
}

impl Lane {
    /// Sends the request, again if the connection fails, and waits for the answer to begin.
    ///
    /// # Errors
    /// Why the endpoint can't be used.
    pub(super) async fn open_with(
        q: &Question,
        endpoint: EndpointId,
        message: SeriesRequest,
    ) -> Result<Self, Lost> {
        let target = q.snapshot.endpoints.get(endpoint);
        let Some((target, channel)) = target.and_then(|e| Some((e, e.channel.as_ref()?))) else {
            return Err(Lost::broken("it is no longer among the endpoints"));
        };
        let Ok(_place) = q.places.acquire().await else {
            return Err(Lost::broken("the query layer is shutting down"));
        };
        let patience = q.endpoint_timeout();
        let mut work = q.notes.is_watching().then(|| Watched {
            notes: std::sync::Arc::clone(&q.notes),
            begun: Instant::now(),
            work: RequestWork {
                address: target.address.clone(),
                query: selector(&message),
                path: "series".to_owned(),
                ..RequestWork::default()
            },
        });
        let mut attempt = 1;
        loop {
            q.notes.request();
            let mut client = StoreClient::new(channel.clone())
                .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
            let mut call = Request::new(message.clone());
            periplus_daemon::telemetry::inject(call.metadata_mut());
            let error = match tokio::time::timeout(patience, client.series(call)).await {
                Ok(Ok(answer)) => {
                    if let Some(w) = &mut work {
                        w.work.error = None;
                    }
                    return Ok(Self {
                        frames: answer.into_inner(),
                        address: target.address.clone(),
                        waiting: VecDeque::new(),
                        pending: None,
                        last: None,
                        patience,
                        sorted: false,
                        q_notes: std::sync::Arc::clone(&q.notes),
                        work: work.take(),
                    });
                }
                Ok(Err(e)) => e,
                Err(_) => {
                    q.registry.suspect(&target.address);
                    let reason = format!("did not answer within {patience:.1?}");
                    if let Some(w) = &mut work {
                        w.work.error = Some(reason.clone());
                    }
                    return Err(Lost::broken(reason));
                }
            };
            if let Some(w) = &mut work {
                w.work.error = Some(explain(&error));
            }
            let passing = matches!(error.code(), Code::Unavailable | Code::Unknown);
            if !passing || attempt >= q.config.attempts {
                let lost = Lost::of("", &error);
                if !lost.is_limit {
                    q.registry.suspect(&target.address);
                }
                return Err(lost);
            }
            attempt += 1;
            tokio::time::sleep(Duration::from_millis(rand::random_range(5..50))).await;
        }
    }

    /// From now on series out of order are an error: they are to be merged with another lane's.
    pub(super) fn must_be_sorted(&mut self) {
        self.sorted = true;
    }

    /// The next series, whole: what comes in several messages is put together.
    pub(super) async fn next(&mut self) -> Result<Option<Received>, Lost> {
        loop {
            let Some(series) = self.watched_message().await? else {
                let last = self.pending.take();
                if let Some(last) = &last {
                    self.in_order(&last.labels)?;
                }
                return Ok(last);
            };
            if let Some(w) = &mut self.work {
                w.work.bytes += series.encoded_len() as u64;
            }
            let received = receive(series)?;
            match &mut self.pending {
                Some(p) if p.labels == received.labels => p.chunks.extend(received.chunks),
                pending => {
                    if let Some(w) = &mut self.work {
                        (w.work.rows, w.work.series) = (w.work.rows + 1, w.work.series + 1);
                    }
                    let whole = pending.replace(received);
                    if let Some(whole) = whole {
                        self.in_order(&whole.labels)?;
                        return Ok(Some(whole));
                    }
                }
            }
        }
    }

    /// Replicas can only be merged when both send in order.
    fn in_order(&mut self, labels: &Labels) -> Result<(), Lost> {
        if self.sorted && self.last.as_ref().is_some_and(|last| last >= labels) {
            let last = &self.last;
            return Err(Lost::broken(format!(
                "sent series out of order: {labels:?} after {last:?}"
            )));
        }
        self.last = Some(labels.clone());
        Ok(())
    }

    async fn watched_message(&mut self) -> Result<Option<thanos::Series>, Lost> {
        let next = self.next_message().await;
        if let (Err(lost), Some(w)) = (&next, &mut self.work) {
            w.work.error = Some(lost.reason.clone());
        }
        next
    }

    async fn next_message(&mut self) -> Result<Option<thanos::Series>, Lost> {
        loop {
            if let Some(s) = self.waiting.pop_front() {
                return Ok(Some(s));
            }
            let frame = tokio::time::timeout(self.patience, self.frames.message()).await;
            let frame = match frame {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(e)) => return Err(Lost::of("broke off: ", &e)),
                Err(_) => {
                    let patience = self.patience;
                    return Err(Lost::broken(format!("stalled for {patience:.1?} in its answer")));
                }
            };
            match frame.result {
                Some(Frame::Series(s)) => return Ok(Some(s)),
                Some(Frame::Batch(b)) => self.waiting.extend(b.series),
                Some(Frame::Warning(text)) => {
                    self.q_notes.warn(format!("{}: {text}", self.address));
                }
                Some(Frame::Hints(_)) | None => {}
            }
        }
    }
}

/// A request's matchers as a selector.
fn selector(r: &SeriesRequest) -> String {
    let matcher = |m: &thanos::LabelMatcher| {
        let op = match m.r#type() {
            thanos::label_matcher::Type::Eq => "=",
            thanos::label_matcher::Type::Neq => "!=",
            thanos::label_matcher::Type::Re => "=~",
            thanos::label_matcher::Type::Nre => "!~",
        };
        format!("{}{op}{:?}", m.name, m.value)
    };
    let all: Vec<String> = r.matchers.iter().map(matcher).collect();
    format!("{{{}}}", all.join(","))
}

fn receive(s: thanos::Series) -> Result<Received, Lost> {
    let labels = labels_from_thanos(&s.labels, &WireLimits::default())
        .map_err(|e| Lost::broken(e.to_string()))?;
    let chunks = s
        .chunks
        .into_iter()
        .filter_map(|c| {
            let raw = c.raw?;
            let range = TimeRange::new(c.min_time, c.max_time);
            Some(EncodedChunk { range, encoding: raw.r#type, data: raw.data })
        })
        .collect();
    Ok(Received { labels, chunks })
}
