//! Remote read: `POST /api/v1/read`, so that a Prometheus can read the fleet.
//!
//! The body is a snappy block of a `prometheus.ReadRequest`. The answer is samples (one snappy block) or, where
//! the client takes them, a stream of chunks: frames of a length (varint), a CRC-32C (big-endian) and a
//! `ChunkedReadResponse`, series in order of labels. Errors are plain text, as Prometheus has them here.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use periplus_model::{Matcher, SampleBuffer, TimeRange};
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_proto::convert::{
    labels_to_prometheus, matchers_from_prometheus, prometheus_histogram_to_wire,
};
use periplus_proto::prometheus::read_request::ResponseType;
use periplus_proto::prometheus::{
    Chunk, ChunkedReadResponse, ChunkedSeries, Query, QueryResult, ReadRequest, ReadResponse,
    Sample, TimeSeries,
};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::params::Params;
use super::samples::{self, broken, each};
use super::{Api, respond};
use crate::answer::Asked;
use crate::series::WholeSeries;

/// The largest request after decompression: selectors, never data.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Queries of one request.
const QUERIES_MAX: usize = 256;
/// A frame is sent once it holds this much, as Prometheus does.
const FRAME_BYTES: usize = 1 << 20;
/// How long a client may take to accept a frame.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

/// How long a remote read waits until others have ended.
const READER_PATIENCE: Duration = Duration::from_secs(10);

/// An error as plain text.
struct Refused(StatusCode, String);

impl Refused {
    fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    fn respond(self) -> Response<Body> {
        (self.0, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], self.1 + "\n").into_response()
    }
}

impl From<QueryError> for Refused {
    fn from(e: QueryError) -> Self {
        let status = match e.kind {
            ErrorKind::BadData | ErrorKind::Limit => StatusCode::BAD_REQUEST,
            ErrorKind::Timeout | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, e.message)
    }
}

/// The request out of its compressed form. Nothing is decompressed before its length is known to be right.
fn decode(headers: &HeaderMap, body: &[u8]) -> Result<ReadRequest, Refused> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if !matches!(encoding, None | Some(b"snappy" | b"")) {
        let text = "the body must be compressed with snappy (block format)";
        return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, text.to_owned()));
    }
    let declared = snap::raw::decompress_len(body)
        .map_err(|e| Refused::bad(format!("the body is not a snappy block: {e}")))?;
    if declared > REQUEST_BYTES_MAX {
        let text =
            format!("the body declares {declared} bytes; a request may have {REQUEST_BYTES_MAX}");
        return Err(Refused::bad(text));
    }
    let plain = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|e| Refused::bad(format!("the body is not a snappy block: {e}")))?;
    let request = ReadRequest::decode(plain.as_slice())
        .map_err(|e| Refused::bad(format!("the body is not a ReadRequest: {e}")))?;
    if request.queries.len() > QUERIES_MAX {
        let n = request.queries.len();
        return Err(Refused::bad(format!("{n} queries in one request; at most {QUERIES_MAX}")));
    }
    Ok(request)
}

/// The first form of answer that both sides know.
fn negotiate(accepted: &[i32]) -> Result<ResponseType, Refused> {
    if accepted.is_empty() {
        return Ok(ResponseType::Samples);
    }
    accepted.iter().find_map(|t| ResponseType::try_from(*t).ok()).ok_or_else(|| {
        Refused::bad(format!(
            "server does not support any of the requested response types: {accepted:?}; supported: \
             SAMPLES, STREAMED_XOR_CHUNKS"
        ))
    })
}

/// A query ready to be asked.
struct Part {
    matchers: Vec<Matcher>,
    range: TimeRange,
}

fn part(q: &Query) -> Result<Part, Refused> {
    let matchers =
        matchers_from_prometheus(&q.matchers).map_err(|e| Refused::bad(e.to_string()))?;
    let range = TimeRange::new(q.start_timestamp_ms, q.end_timestamp_ms);
    Ok(Part { matchers, range })
}

fn ask(api: &Api, range: TimeRange) -> Result<Asked, QueryError> {
    samples::ask(api, &Params::default(), range)
        .map_err(|e| QueryError::new(ErrorKind::Internal, e.text))
}

pub(super) async fn read(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let run = async {
        let request = decode(&headers, &body)?;
        let kind = negotiate(&request.accepted_response_types)?;
        let parts = request.queries.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        match kind {
            ResponseType::Samples => whole(&api, parts).await,
            ResponseType::StreamedXorChunks => {
                let reader = Arc::clone(&api.readers).acquire_owned();
                match tokio::time::timeout(READER_PATIENCE, reader).await {
                    Ok(Ok(reader)) => Ok(chunks(&api, parts, reader)),
                    _ => {
                        let text = "too many remote reads at once; try again later".to_owned();
                        Err(Refused(StatusCode::SERVICE_UNAVAILABLE, text))
                    }
                }
            }
        }
    };
    run.await.unwrap_or_else(|e: Refused| {
        api.metrics.failed("remote_read");
        e.respond()
    })
}

/// What is left of a request's share of memory.
struct Budget {
    samples: u64,
    bytes: u64,
}

impl Budget {
    fn take(&mut self, samples: &SampleBuffer) -> Result<(), QueryError> {
        let n = samples.len() as u64;
        let bytes = n.saturating_mul(24).saturating_add(samples.histograms.len() as u64 * 512);
        let left = (self.samples.checked_sub(n), self.bytes.checked_sub(bytes));
        let (Some(samples), Some(bytes)) = left else {
            let text = "exceeded sample limit of a remote read; ask for chunks \
                        (STREAMED_XOR_CHUNKS), or for less";
            return Err(QueryError::new(ErrorKind::Limit, text));
        };
        (self.samples, self.bytes) = (samples, bytes);
        Ok(())
    }
}

async fn whole(api: &Api, parts: Vec<Part>) -> Result<Response<Body>, Refused> {
    let limits = &api.answerer.limits;
    let mut budget = Budget { samples: limits.samples, bytes: limits.memory_bytes };
    let (mut results, mut missing) = (Vec::with_capacity(parts.len()), Vec::new());
    for p in parts {
        let asked = ask(api, p.range)?;
        let range = p.range;
        let state = (budget, Vec::new(), SampleBuffer::new());
        let done = each(&asked, p.matchers, range, state, move |(budget, all, buffer), series| {
            series.samples(range, buffer).map_err(broken)?;
            budget.take(buffer)?;
            if !buffer.ts.is_empty() {
                all.push(time_series(&series, buffer));
            }
            Ok(true)
        });
        let (left, timeseries, _) = limited(api, done).await?;
        budget = left;
        results.push(QueryResult { timeseries });
        missing.extend(asked.question.notes.collected().missing);
    }
    let packed = tokio::task::spawn_blocking(move || {
        let plain = ReadResponse { results }.encode_to_vec();
        snap::raw::Encoder::new().compress_vec(&plain)
    });
    let failed = |e: String| Refused(StatusCode::INTERNAL_SERVER_ERROR, e);
    let packed = packed.await.map_err(|e| failed(e.to_string()))?;
    let packed = packed.map_err(|e| failed(e.to_string()))?;
    let mut response = Response::new(Body::from(packed));
    let h = response.headers_mut();
    h.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    h.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    respond::mark(&mut response, &missing);
    Ok(response)
}

/// Within the time that a query may take.
async fn limited<T>(
    api: &Api,
    work: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, QueryError> {
    match tokio::time::timeout(api.defaults.timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(QueryError::new(ErrorKind::Timeout, "the remote read took too long")),
    }
}

fn time_series(series: &WholeSeries, samples: &SampleBuffer) -> TimeSeries {
    let mut out =
        TimeSeries { labels: labels_to_prometheus(&series.labels), ..TimeSeries::default() };
    for (i, (t, v)) in samples.ts.iter().zip(&samples.values).enumerate() {
        match samples.histogram_at(i) {
            Some(h) => out.histograms.push(prometheus_histogram_to_wire(h, *t)),
            None => out.samples.push(Sample { value: *v, timestamp: *t }),
        }
    }
    out
}

/// Frames on their way to the client.
struct Frames {
    to: mpsc::Sender<Result<Bytes, std::io::Error>>,
    runtime: tokio::runtime::Handle,
}

impl Frames {
    /// Whether the client took it.
    fn send(&self, message: &ChunkedReadResponse) -> bool {
        let body = message.encode_to_vec();
        let mut frame = Vec::with_capacity(body.len() + 16);
        prost::encoding::encode_varint(body.len() as u64, &mut frame);
        frame.extend(crc32c::crc32c(&body).to_be_bytes());
        frame.extend(body);
        let sent = tokio::time::timeout(CLIENT_PATIENCE, self.to.send(Ok(frame.into())));
        matches!(self.runtime.block_on(sent), Ok(Ok(())))
    }

    /// A series, in as many frames as it needs.
    fn series(
        &self,
        index: i64,
        series: &WholeSeries,
        range: TimeRange,
    ) -> Result<bool, QueryError> {
        let labels = labels_to_prometheus(&series.labels);
        let mut chunks = Vec::new();
        let mut bytes = 0;
        let message = |chunks: Vec<Chunk>| ChunkedReadResponse {
            chunked_series: vec![ChunkedSeries { labels: labels.clone(), chunks }],
            query_index: index,
        };
        for c in series.chunks(range).map_err(broken)? {
            bytes += c.data.len();
            chunks.push(Chunk {
                min_time_ms: c.range.min_t,
                max_time_ms: c.range.max_t,
                r#type: c.encoding,
                data: c.data,
            });
            if bytes >= FRAME_BYTES {
                bytes = 0;
                if !self.send(&message(std::mem::take(&mut chunks))) {
                    return Ok(false);
                }
            }
        }
        Ok(chunks.is_empty() || self.send(&message(chunks)))
    }
}

fn chunks(api: &Api, parts: Vec<Part>, reader: OwnedSemaphorePermit) -> Response<Body> {
    let (to, from) = mpsc::channel(4);
    let frames = Arc::new(Frames { to, runtime: tokio::runtime::Handle::current() });
    let api = api.clone();
    tokio::spawn(async move {
        let _reader = reader;
        for (i, p) in parts.into_iter().enumerate() {
            let index = i64::try_from(i).unwrap_or(i64::MAX);
            // What was sent can't be taken back: where a partial answer is an error, it breaks off, so that
            // the reader does not take it for the whole.
            let Ok(asked) = ask(&api, p.range) else { return };
            let (range, out) = (p.range, Arc::clone(&frames));
            let done = each(&asked, p.matchers, range, (), move |(), series| {
                out.series(index, &series, range)
            });
            let result = limited(&api, done).await;
            let missing = asked.question.notes.collected().missing;
            let error = match result {
                Err(e) => Some(e.message),
                Ok(()) => None,
            };
            if let Some(text) = error {
                tracing::info!(error = %text, "a remote read breaks off");
                let _ = frames.to.send(Err(std::io::Error::other(text))).await;
                return;
            }
            api.metrics.answered(asked.question.notes.collected().requests, missing.len());
        }
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(from));
    let mut response = Response::new(body);
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(plain).unwrap()
    }

    #[test]
    fn bombs_are_refused_before_they_are_unpacked() {
        let none = HeaderMap::new();
        // A block that declares 4 GiB less one byte.
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        let e = decode(&none, &bomb).unwrap_err();
        assert_eq!(e.0, StatusCode::BAD_REQUEST);
        assert!(e.1.contains("declares 4294967295 bytes"), "{}", e.1);
        let zeros = packed(&vec![0; REQUEST_BYTES_MAX + 1]);
        assert!(decode(&none, &zeros).is_err());
        assert!(
            decode(&none, b"").is_err() || decode(&none, b"").is_ok_and(|r| r.queries.is_empty())
        );
        assert!(decode(&none, &packed(&[0xff; 32])).unwrap_err().1.contains("ReadRequest"));
        let mut gzip = HeaderMap::new();
        gzip.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(decode(&gzip, &[]).unwrap_err().0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let many = ReadRequest { queries: vec![Query::default(); 257], ..Default::default() };
        assert!(decode(&none, &packed(&many.encode_to_vec())).unwrap_err().1.contains("257"));
    }

    #[test]
    fn the_first_form_both_know() {
        assert_eq!(negotiate(&[]).ok(), Some(ResponseType::Samples));
        assert_eq!(negotiate(&[9, 1, 0]).ok(), Some(ResponseType::StreamedXorChunks));
        assert!(negotiate(&[9]).is_err());
    }
}
