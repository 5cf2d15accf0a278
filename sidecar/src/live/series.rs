//! `thanos.Store`: raw series, straight from remote read.
//!
//! Chunks pass through undecoded. Nothing is held but the frame at hand, the few series whose turn has not
//! come, and what the channel to the client takes; when the client is slow, Prometheus waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_daemon::telemetry;
use periplus_model::{Labels, Matcher, TimeRange};
use periplus_proto::convert;
use periplus_proto::prometheus::{Chunk, ReadHints};
use periplus_proto::thanos::store_server::Store;
use periplus_proto::thanos::{self, SeriesRequest, SeriesResponse, series_response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;

use super::status::{from_client, from_read};
use super::{Shared, labels};
use crate::external::{External, Resolved};
use crate::order::HoldBack;
use crate::prometheus::Snapshot;
use crate::read::{ReadError, ReadRequest, Reading, Sorter};

/// Messages on their way to the client.
const CHANNEL: usize = 8;

/// A batch is sent once it holds this many bytes, however many series were asked for at once.
const BATCH_BYTES: usize = 1 << 20;

/// The most bytes held back while the order is not known.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Serves `thanos.Store`.
#[derive(Clone, Debug)]
pub struct StoreService {
    shared: Arc<Shared>,
}

impl StoreService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

/// Everything that can end a stream early.
enum Ended {
    Status(Status),
    /// The client left, or has what it wanted.
    Enough,
}

impl From<ReadError> for Ended {
    fn from(e: ReadError) -> Self {
        Self::Status(from_read(&e))
    }
}

#[tonic::async_trait]
impl Store for StoreService {
    type SeriesStream = ReceiverStream<Result<SeriesResponse, Status>>;

    async fn series(
        &self,
        request: Request<SeriesRequest>,
    ) -> Result<Response<Self::SeriesStream>, Status> {
        let span = tracing::info_span!("Store.Series");
        telemetry::adopt(&span, request.metadata());
        let begun = Instant::now();
        let timeout = self.shared.timeout(&request);
        let request = request.into_inner();
        let prepared = async {
            let snapshot = self.shared.snapshot()?;
            let matchers = convert::matchers_from_thanos(&request.matchers)
                .map_err(|e| Status::invalid_argument(e.to_string()))?;
            let external = External::new(&snapshot.external, &request.without_replica_labels);
            let resolved = external.resolve(&matchers);
            let place = self.shared.place(timeout).await?;
            Ok((snapshot, external, resolved, place))
        };
        let (snapshot, external, resolved, place) = prepared.await.inspect_err(|e: &Status| {
            self.shared.metrics.request("Series", e.code(), begun.elapsed());
        })?;
        let (tx, rx) = mpsc::channel(CHANNEL);
        let shared = Arc::clone(&self.shared);
        let task = async move {
            let _place = place;
            let mut job = Job::new(&shared, &request, external, tx.clone(), timeout);
            let run = job.run(&snapshot, resolved);
            let ended = tokio::select! {
                ended = run => ended,
                () = tx.closed() => Err(Ended::Enough),
            };
            let code = match ended {
                Ok(()) => Code::Ok,
                Err(Ended::Enough) if tx.is_closed() => Code::Cancelled,
                Err(Ended::Enough) => Code::Ok,
                Err(Ended::Status(status)) => {
                    tracing::info!(code = ?status.code(), message = status.message(), "Series ended");
                    let code = status.code();
                    let _ = tx.send(Err(status)).await;
                    code
                }
            };
            shared.metrics.request("Series", code, begun.elapsed());
        };
        tokio::spawn(task.instrument(span));
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn label_names(
        &self,
        request: Request<thanos::LabelNamesRequest>,
    ) -> Result<Response<thanos::LabelNamesResponse>, Status> {
        let (begun, timeout) = (Instant::now(), self.shared.timeout(&request));
        let answer = labels::names(&self.shared, request.into_inner(), timeout).await;
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.shared.metrics.request("LabelNames", code, begun.elapsed());
        answer.map(Response::new)
    }

    async fn label_values(
        &self,
        request: Request<thanos::LabelValuesRequest>,
    ) -> Result<Response<thanos::LabelValuesResponse>, Status> {
        let (begun, timeout) = (Instant::now(), self.shared.timeout(&request));
        let answer = labels::values(&self.shared, request.into_inner(), timeout).await;
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.shared.metrics.request("LabelValues", code, begun.elapsed());
        answer.map(Response::new)
    }
}

/// A series whose turn has not come.
struct Waiting {
    labels: Labels,
    chunks: Vec<Chunk>,
    bytes: usize,
}

/// One `Series` request at work.
struct Job<'a> {
    shared: &'a Shared,
    request: &'a SeriesRequest,
    external: External,
    timeout: Duration,
    out: Outgoing<'a>,
}

impl<'a> Job<'a> {
    fn new(
        shared: &'a Shared,
        request: &'a SeriesRequest,
        external: External,
        tx: mpsc::Sender<Result<SeriesResponse, Status>>,
        timeout: Duration,
    ) -> Self {
        let out = Outgoing {
            shared,
            tx,
            batch: Vec::new(),
            batch_bytes: 0,
            batch_size: usize::try_from(request.response_batch_size).unwrap_or(0).min(10_000),
            skip_chunks: request.skip_chunks,
            left: u64::try_from(request.limit).ok().filter(|l| *l > 0).unwrap_or(u64::MAX),
            last: None,
        };
        Self { shared, request, external, timeout, out }
    }

    async fn run(&mut self, snapshot: &Snapshot, resolved: Resolved) -> Result<(), Ended> {
        let range = TimeRange::new(self.request.min_time, self.request.max_time);
        let Resolved::Ask(matchers) = resolved else {
            return Ok(());
        };
        if range.is_empty() {
            return Ok(());
        }
        if self.external.needs_sort(&snapshot.shadowed)
            && self.carried(snapshot, &matchers).await.map_err(Ended::Status)?
        {
            self.sorted(range, &matchers).await?;
        } else {
            self.streamed(range, &matchers).await?;
        }
        self.out.flush().await
    }

    /// Whether some series of this selection carry a label that is added or dropped.
    async fn carried(&self, snapshot: &Snapshot, matchers: &[Matcher]) -> Result<bool, Status> {
        let dropped = self.request.without_replica_labels.iter();
        let names = dropped.chain(&snapshot.shadowed).filter(|n| !n.is_empty());
        for name in names {
            let values = labels::own_values(self.shared, name, matchers, self.timeout);
            if !values.await.map_err(|e| from_client(&e))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_request<'r>(&self, range: TimeRange, matchers: &'r [Matcher]) -> ReadRequest<'r>
    where
        'a: 'r,
    {
        // Prometheus knows this name: it then looks at no chunks.
        let func = if self.request.skip_chunks { "series" } else { "" };
        let hints = ReadHints {
            start_ms: range.min_t,
            end_ms: range.max_t,
            step_ms: self.request.step,
            range_ms: self.request.range,
            func: func.to_owned(),
            ..ReadHints::default()
        };
        let limits = &self.shared.config.limits;
        ReadRequest { range, matchers, hints, limits, timeout: self.timeout }
    }

    async fn streamed(&mut self, range: TimeRange, matchers: &[Matcher]) -> Result<(), Ended> {
        let request = self.read_request(range, matchers);
        let external = self.external.clone();
        let mut reading = Reading::begin(self.shared.watch.client(), &external, request).await?;
        let mut hold: HoldBack<Waiting> = HoldBack::new(&external.shown);
        let (mut held_bytes, mut ready) = (0usize, Vec::new());
        while let Some(piece) = reading.next().await? {
            let bytes = piece.bytes();
            if let Some(name) = &piece.shown.carries {
                self.shared.watch.mark_shadowed(name);
                let text = format!("a series carries the label {name:?} itself; ask again");
                return Err(Ended::Status(Status::unavailable(text)));
            }
            held_bytes += bytes;
            if held_bytes > HELD_BYTES_MAX {
                let text = format!("a series of more than {} MiB", HELD_BYTES_MAX >> 20);
                return Err(Ended::Status(Status::resource_exhausted(text)));
            }
            if piece.continued {
                if let Some(waiting) = hold.newest() {
                    waiting.chunks.extend(piece.chunks);
                    waiting.bytes += bytes;
                }
                continue;
            }
            let waiting = Waiting { labels: piece.shown.labels, chunks: piece.chunks, bytes };
            hold.push(piece.shown.own, waiting, |w| ready.push(w));
            for w in ready.drain(..) {
                held_bytes = held_bytes.saturating_sub(w.bytes);
                self.out.series(w.labels, w.chunks).await?;
            }
        }
        self.shared.metrics.received(reading.counted().received);
        hold.finish(|w| ready.push(w));
        for w in ready {
            self.out.series(w.labels, w.chunks).await?;
        }
        Ok(())
    }

    async fn sorted(&mut self, range: TimeRange, matchers: &[Matcher]) -> Result<(), Ended> {
        let request = self.read_request(range, matchers);
        let external = self.external.clone();
        let mut reading = Reading::begin(self.shared.watch.client(), &external, request).await?;
        let mut sorter = Sorter::default();
        while let Some(piece) = reading.next().await? {
            sorter.add(piece)?;
        }
        self.shared.metrics.received(reading.counted().received);
        for (labels, chunks) in sorter.finish() {
            self.out.series(labels, chunks).await?;
        }
        Ok(())
    }
}

/// Series on their way to the client.
struct Outgoing<'a> {
    shared: &'a Shared,
    tx: mpsc::Sender<Result<SeriesResponse, Status>>,
    batch: Vec<thanos::Series>,
    batch_bytes: usize,
    /// Series in one message; 0: one message each, as older clients want.
    batch_size: usize,
    skip_chunks: bool,
    /// How many more the client wants.
    left: u64,
    last: Option<Labels>,
}

impl Outgoing<'_> {
    async fn series(&mut self, labels: Labels, chunks: Vec<Chunk>) -> Result<(), Ended> {
        if self.last.as_ref().is_some_and(|last| *last >= labels) {
            // Only a series that carries an external label with its very value gets here unseen.
            self.shared.watch.mark_all_shadowed();
            let text = "series came out of order: some carry external labels themselves; ask again";
            return Err(Ended::Status(Status::unavailable(text)));
        }
        let mut size = labels.heap_bytes();
        let mut sent = Vec::with_capacity(if self.skip_chunks { 0 } else { chunks.len() });
        if !self.skip_chunks {
            for chunk in chunks {
                size += chunk.data.len() + 32;
                sent.push(aggregate(chunk).map_err(Ended::Status)?);
            }
        }
        self.shared.metrics.streamed(sent.len() as u64, size as u64);
        let series = thanos::Series { labels: convert::labels_to_thanos(&labels), chunks: sent };
        self.last = Some(labels);
        self.left = self.left.saturating_sub(1);
        if self.batch_size == 0 {
            self.send(series_response::Result::Series(series)).await?;
        } else {
            self.batch.push(series);
            self.batch_bytes += size;
            if self.batch.len() >= self.batch_size || self.batch_bytes >= BATCH_BYTES {
                self.flush().await?;
            }
        }
        if self.left == 0 {
            self.flush().await?;
            return Err(Ended::Enough);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let series = std::mem::take(&mut self.batch);
        self.send(series_response::Result::Batch(thanos::SeriesBatch { series })).await
    }

    async fn send(&mut self, result: series_response::Result) -> Result<(), Ended> {
        let message = SeriesResponse { result: Some(result) };
        self.tx.send(Ok(message)).await.map_err(|_| Ended::Enough)
    }
}

/// A chunk as Thanos has it; its bytes are the same bytes.
fn aggregate(chunk: Chunk) -> Result<thanos::AggrChunk, Status> {
    let Some(r#type) = convert::chunk_encoding_to_thanos(chunk.r#type) else {
        let text = format!("Prometheus sent a chunk of the unknown encoding {}", chunk.r#type);
        return Err(Status::unimplemented(text));
    };
    Ok(thanos::AggrChunk {
        min_time: chunk.min_time_ms,
        max_time: chunk.max_time_ms,
        raw: Some(thanos::Chunk { r#type, data: chunk.data, hash: 0 }),
        ..thanos::AggrChunk::default()
    })
}
