//! Series as they arrive, from an endpoint or from the bucket.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use periplus_block::chunk::{ChunkSamples, HistogramValue, encode};
use periplus_model::{Labels, SampleBuffer, TimeRange, is_stale};
use periplus_promql::source::{EncodedSeries, SelectRequest, SeriesEntry, SourceError};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::chunks::{ChunkSeries, EncodedChunk};
use super::lane::{Lane, Lost, series_request};
use crate::fanout::Question;
use crate::history::resolution::Reads;
use crate::history::{Reading, fleet_streams, source};
use crate::plan::EndpointId;

/// Blocks of the bucket that wait.
const BLOCKS_WAITING: usize = 2;

/// A series and its samples, still encoded.
pub(super) struct Arrived {
    pub(super) labels: Labels,
    pub(super) samples: Samples,
}

/// Samples in one of their forms.
pub(super) enum Samples {
    /// Chunks as an endpoint sent them.
    Chunks(Vec<EncodedChunk>),
    /// The bucket's.
    Stored(Arc<dyn EncodedSeries>),
}

impl Arrived {
    /// Its samples as the engine wants them.
    pub(super) fn decodable(self) -> Arc<dyn EncodedSeries> {
        match self.samples {
            Samples::Chunks(chunks) => Arc::new(ChunkSeries::new(self.labels, chunks)),
            Samples::Stored(samples) => samples,
        }
    }

    /// Whether it came from an endpoint.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.samples, Samples::Chunks(_))
    }

    /// Its chunks: those that came, or the samples of `range` made into chunks.
    ///
    /// # Errors
    /// What is stored can't be read.
    pub(super) async fn chunks(self, range: TimeRange) -> Result<Vec<EncodedChunk>, Lost> {
        let samples = match self.samples {
            Samples::Chunks(chunks) => return Ok(chunks),
            Samples::Stored(samples) => samples,
        };
        let made = tokio::task::spawn_blocking(move || encoded(&*samples, range)).await;
        let made = made.unwrap_or_else(|e| Err(e.to_string()));
        made.map_err(|reason| Lost { reason, is_limit: false })
    }
}

fn encoded(samples: &dyn EncodedSeries, range: TimeRange) -> Result<Vec<EncodedChunk>, String> {
    let mut decoded = SampleBuffer::new();
    samples.decode(range, &mut decoded).map_err(|e| e.to_string())?;
    let mut out = ChunkSamples::new();
    for (i, (t, v)) in decoded.ts.iter().zip(&decoded.values).enumerate() {
        if !range.contains(*t) {
            continue;
        }
        match decoded.histogram_at(i) {
            Some(h) => out.push_histogram(*t, HistogramValue::Float((**h).clone()), 0),
            None => out.push(*t, *v, 0),
        }
    }
    let chunks = encode(&out).map_err(|e| e.to_string())?;
    let sent = chunks.into_iter().filter_map(|c| {
        let encoding = c.encoding.store_api()?;
        Some(EncodedChunk { range: c.range, encoding, data: Bytes::from(c.payload) })
    });
    Ok(sent.collect())
}

/// Samples as scraped, of which each counts one: what downsampled ones are counted with.
pub(super) struct Counted(pub(super) Arc<dyn EncodedSeries>);

impl EncodedSeries for Counted {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        let begin = out.len();
        self.0.decode(range, out)?;
        out.histograms.retain(|(i, _)| (*i as usize) < begin);
        let added = out.values.iter_mut().skip(begin);
        added.filter(|v| !is_stale(**v)).for_each(|v| *v = 1.0);
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.0.encoded_bytes()
    }
}

/// An open answer.
pub(super) enum Arriving {
    /// Of an endpoint.
    Endpoint(Box<Lane>),
    /// Of the bucket.
    Bucket(Stored),
}

/// The bucket's series, in order of labels.
pub(super) struct Stored {
    from: mpsc::Receiver<Result<Vec<SeriesEntry>, SourceError>>,
    waiting: VecDeque<SeriesEntry>,
    task: AbortHandle,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Arriving {
    /// Asks for the series of some parts.
    ///
    /// # Errors
    /// Why the endpoint can't be used.
    pub(super) async fn open(
        q: &Arc<Question>,
        endpoint: EndpointId,
        parts: &[usize],
        request: &SelectRequest,
        skip_chunks: bool,
    ) -> Result<Self, Lost> {
        match &q.history {
            Some(reading) if q.is_history(endpoint) => Ok(stored(q, reading, parts, request)),
            _ => {
                let mut request = request.clone();
                (_, request.matchers) = Reads::take(&request.matchers);
                let message = series_request(q, &request, skip_chunks);
                let lane = Lane::open_with(q, endpoint, message).await?;
                Ok(Self::Endpoint(Box::new(lane)))
            }
        }
    }

    /// From now on series out of order are an error.
    pub(super) fn must_be_sorted(&mut self) {
        if let Self::Endpoint(lane) = self {
            lane.must_be_sorted();
        }
    }

    /// The next series, whole.
    pub(super) async fn next(&mut self) -> Result<Option<Arrived>, Lost> {
        match self {
            Self::Endpoint(lane) => {
                let next = lane.next().await?;
                Ok(next.map(|r| Arrived { labels: r.labels, samples: Samples::Chunks(r.chunks) }))
            }
            Self::Bucket(stored) => loop {
                if let Some(e) = stored.waiting.pop_front() {
                    let samples = Samples::Stored(e.samples);
                    return Ok(Some(Arrived { labels: e.labels, samples }));
                }
                match stored.from.recv().await {
                    Some(Ok(block)) => stored.waiting.extend(block),
                    Some(Err(error)) => {
                        let is_limit = matches!(error, SourceError::Limit(_));
                        return Err(Lost { reason: error.to_string(), is_limit });
                    }
                    None => return Ok(None),
                }
            },
        }
    }
}

fn stored(
    q: &Arc<Question>,
    reading: &Arc<Reading>,
    parts: &[usize],
    request: &SelectRequest,
) -> Arriving {
    let among = fleet_streams(q, reading, parts.iter().copied());
    let (to, from) = mpsc::channel(BLOCKS_WAITING);
    let (q, reading, request) = (Arc::clone(q), Arc::clone(reading), request.clone());
    let work = async move { source::read(&q, &reading, &request, among, &to).await };
    let task = tokio::spawn(work).abort_handle();
    Arriving::Bucket(Stored { from, waiting: VecDeque::new(), task })
}
