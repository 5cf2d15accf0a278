//! The engine's source: remote read of our Prometheus, chunks decoded by who needs them.

use std::sync::Arc;
use std::time::Duration;

use periplus_block::chunk::{ChunkEncoding, decode_samples};
use periplus_model::{Labels, SampleBuffer, TimeRange};
use periplus_promql::source::{
    EncodedSeries, SelectRequest, SeriesEntry, SeriesStream, Source, SourceError,
};
use periplus_proto::prometheus::{Chunk, ReadHints};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Job;
use crate::config::RequestLimits;
use crate::external::{External, Resolved};
use crate::live::Shared;
use crate::prometheus::ClientError;
use crate::read::{ReadError, ReadRequest, Reading, Sorter};

/// Series handed over at once.
const BLOCK_SERIES: usize = 256;

/// A block is handed over once it holds this many bytes.
const BLOCK_BYTES: usize = 1 << 20;

/// Blocks on their way to the engine.
const CHANNEL: usize = 2;

/// Selects from our Prometheus.
pub(super) struct RemoteSource {
    shared: Arc<Shared>,
    external: External,
    limits: RequestLimits,
    timeout: Duration,
    runtime: Handle,
    token: CancellationToken,
}

impl RemoteSource {
    pub(super) fn new(shared: &Arc<Shared>, job: &Job, token: CancellationToken) -> Self {
        Self {
            shared: Arc::clone(shared),
            external: job.external.clone(),
            limits: job.limits.clone(),
            timeout: job.timeout,
            runtime: Handle::current(),
            token,
        }
    }
}

enum Message {
    Block(Vec<SeriesEntry>),
    /// Nothing is missing.
    End,
}

impl Source for RemoteSource {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let (tx, rx) = mpsc::channel(CHANNEL);
        let resolved = self.external.resolve(&request.matchers);
        let (Resolved::Ask(matchers), false) = (resolved, request.range.is_empty()) else {
            return Ok(Box::new(Blocks { rx, ended: true }));
        };
        let hints = ReadHints {
            step_ms: request.hints.step_ms,
            func: request.hints.func.unwrap_or_default().to_owned(),
            start_ms: request.range.min_t,
            end_ms: request.range.max_t,
            grouping: request.hints.grouping.clone().unwrap_or_default(),
            by: request.hints.grouping_by,
            range_ms: request.hints.range_ms,
        };
        let reader = Reader {
            shared: Arc::clone(&self.shared),
            external: self.external.clone(),
            limits: self.limits.clone(),
            tx,
        };
        let (range, timeout) = (request.range, self.timeout);
        let token = self.token.clone();
        self.runtime.spawn(async move {
            let request =
                ReadRequest { range, matchers: &matchers, hints, limits: &reader.limits, timeout };
            let done = tokio::select! {
                done = reader.run(request) => done,
                () = reader.tx.closed() => return,
                () = token.cancelled() => return,
            };
            let last = match done {
                Ok(bytes) => {
                    reader.shared.metrics.received(bytes);
                    Ok(Message::End)
                }
                Err(e) => Err(e),
            };
            let _ = reader.tx.send(last).await;
        });
        Ok(Box::new(Blocks { rx, ended: false }))
    }
}

/// One selection at work.
struct Reader {
    shared: Arc<Shared>,
    external: External,
    limits: RequestLimits,
    tx: mpsc::Sender<Result<Message, SourceError>>,
}

impl Reader {
    /// Reads and hands over; gives the bytes received.
    async fn run(&self, request: ReadRequest<'_>) -> Result<u64, SourceError> {
        let client = self.shared.watch.client();
        let begun = Reading::begin(client, &self.external, request).await;
        let mut reading = begun.map_err(|e| source_error(&e))?;
        let mut block = Block::default();
        if self.shared.watch.current().shadowed.is_empty() {
            self.streamed(&mut reading, &mut block).await?;
        } else {
            // Series may become the same once the external label has won: they are put together.
            let mut sorter = Sorter::default();
            while let Some(piece) = reading.next().await.map_err(|e| source_error(&e))? {
                sorter.add(piece).map_err(|e| source_error(&e))?;
            }
            for (labels, chunks) in sorter.finish() {
                block.add(labels, chunks);
                if block.is_full() {
                    self.send(block.take()).await?;
                }
            }
        }
        if !block.series.is_empty() {
            self.send(block.take()).await?;
        }
        Ok(reading.counted().received)
    }

    async fn streamed(
        &self,
        reading: &mut Reading<'_>,
        block: &mut Block,
    ) -> Result<(), SourceError> {
        let mut current: Option<(Labels, Vec<Chunk>)> = None;
        while let Some(piece) = reading.next().await.map_err(|e| source_error(&e))? {
            if let Some(name) = &piece.shown.carries {
                self.shared.watch.mark_shadowed(name);
                let text = format!("a series carries the label {name:?} itself; ask again");
                return Err(SourceError::Unavailable(text));
            }
            if let (Some((_, chunks)), true) = (&mut current, piece.continued) {
                chunks.extend(piece.chunks);
                continue;
            }
            if let Some((labels, chunks)) = current.replace((piece.shown.labels, piece.chunks)) {
                block.add(labels, chunks);
            }
            if block.is_full() {
                self.send(block.take()).await?;
            }
        }
        if let Some((labels, chunks)) = current {
            block.add(labels, chunks);
        }
        Ok(())
    }

    async fn send(&self, block: Vec<SeriesEntry>) -> Result<(), SourceError> {
        self.tx.send(Ok(Message::Block(block))).await.map_err(|_| SourceError::Cancelled)
    }
}

fn source_error(e: &ReadError) -> SourceError {
    match e {
        ReadError::Limit(text) => SourceError::Limit(text.clone()),
        ReadError::Prometheus(ClientError::Unexpected { .. }) => {
            SourceError::Corrupt(e.to_string())
        }
        ReadError::Prometheus(_) => SourceError::Unavailable(e.to_string()),
    }
}

/// Series on their way.
#[derive(Default)]
struct Block {
    series: Vec<SeriesEntry>,
    bytes: usize,
}

impl Block {
    fn add(&mut self, labels: Labels, chunks: Vec<Chunk>) {
        let samples = RemoteSeries { labels: labels.clone(), chunks };
        self.bytes += samples.encoded_bytes();
        self.series.push(SeriesEntry { labels, samples: Arc::new(samples) });
    }

    fn is_full(&self) -> bool {
        self.series.len() >= BLOCK_SERIES || self.bytes >= BLOCK_BYTES
    }

    fn take(&mut self) -> Vec<SeriesEntry> {
        self.bytes = 0;
        std::mem::take(&mut self.series)
    }
}

struct Blocks {
    rx: mpsc::Receiver<Result<Message, SourceError>>,
    ended: bool,
}

impl SeriesStream for Blocks {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        match self.rx.blocking_recv() {
            Some(Ok(Message::Block(block))) => Ok(Some(block)),
            Some(Ok(Message::End)) => {
                self.ended = true;
                Ok(None)
            }
            Some(Err(e)) => {
                self.ended = true;
                Err(e)
            }
            // The reader left without saying that it is done.
            None => {
                self.ended = true;
                Err(SourceError::Cancelled)
            }
        }
    }
}

/// A series' chunks as they came.
#[derive(Debug)]
struct RemoteSeries {
    labels: Labels,
    /// In order of their start; they may overlap.
    chunks: Vec<Chunk>,
}

impl RemoteSeries {
    fn decode_chunk(
        &self,
        chunk: &Chunk,
        range: TimeRange,
        out: &mut SampleBuffer,
    ) -> Result<(), SourceError> {
        let byte = u8::try_from(chunk.r#type).unwrap_or(0);
        let encoding = ChunkEncoding::from_byte(byte);
        encoding
            .and_then(|e| decode_samples(e, &chunk.data, range, out))
            .map_err(|e| SourceError::Corrupt(format!("a chunk of {:?}: {e}", self.labels)))
    }
}

impl EncodedSeries for RemoteSeries {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        let begin = out.len();
        for chunk in &self.chunks {
            if !TimeRange::new(chunk.min_time_ms, chunk.max_time_ms).overlaps(&range) {
                continue;
            }
            let before = out.len();
            self.decode_chunk(chunk, range, out)?;
            let overlaps = before > begin
                && matches!((out.ts.get(before - 1), out.ts.get(before)), (Some(a), Some(b)) if b <= a);
            if overlaps {
                merge_tail(out, begin, before);
            }
        }
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.chunks.iter().map(|c| c.data.len() + 64).sum::<usize>() + self.labels.heap_bytes()
    }
}

/// Puts the samples from `middle` on among those from `begin` to `middle`, by time; of two of one time the
/// first one stays, as Prometheus has it.
fn merge_tail(out: &mut SampleBuffer, begin: usize, middle: usize) {
    let mut merged = SampleBuffer::new();
    let (mut a, mut b) = (begin, middle);
    (0..begin).for_each(|i| merged.push_from(out, i));
    while a < middle || b < out.len() {
        let (ta, tb) = (
            out.ts.get(a).filter(|_| a < middle).copied().unwrap_or(i64::MAX),
            out.ts.get(b).copied().unwrap_or(i64::MAX),
        );
        if a < middle && (ta <= tb || b >= out.len()) {
            merged.push_from(out, a);
            a += 1;
            if ta == tb {
                b += 1;
            }
        } else {
            merged.push_from(out, b);
            b += 1;
        }
    }
    *out = merged;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_runs_become_one() {
        let mut out = SampleBuffer::new();
        for (t, v) in [(1, 0.0), (10, 1.0), (30, 3.0), (20, 2.0), (30, 9.0), (40, 4.0)] {
            out.push(t, v);
        }
        merge_tail(&mut out, 1, 3);
        assert_eq!(out.ts, [1, 10, 20, 30, 40]);
        assert_eq!(out.values, [0.0, 1.0, 2.0, 3.0, 4.0]);
    }
}
