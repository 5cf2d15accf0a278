//! A remote read as a stream of whole series: frames of one series put together, labels as they are to be
//! shown, limits kept. The one way in which both `Series` and the engine get their chunks.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use periplus_model::{Labels, Matcher, TimeRange};
use periplus_proto::WireLimits;
use periplus_proto::prometheus::{Chunk, ChunkedSeries, Label, ReadHints};

use crate::config::RequestLimits;
use crate::external::{External, Shown};
use crate::prometheus::frames::Frames;
use crate::prometheus::{Client, ClientError};

/// Why a read ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Prometheus did not answer as it should.
    #[error("remote read: {0}")]
    Prometheus(#[from] ClientError),
    /// More than a request may have.
    #[error("{0}")]
    Limit(String),
}

/// What is read.
#[derive(Debug)]
pub(crate) struct ReadRequest<'a> {
    pub(crate) range: TimeRange,
    /// Already resolved against external labels.
    pub(crate) matchers: &'a [Matcher],
    pub(crate) hints: ReadHints,
    pub(crate) limits: &'a RequestLimits,
    pub(crate) timeout: Duration,
}

/// A piece of a series: all frames of one series follow one another.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) shown: Shown,
    /// Whether it continues the series before.
    pub(crate) continued: bool,
    pub(crate) chunks: Vec<Chunk>,
}

impl Piece {
    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.shown.labels.heap_bytes()
            + self.chunks.iter().map(|c| c.data.len() + 64).sum::<usize>()
    }
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) series: u64,
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) received: u64,
}

/// A read at work.
pub(crate) struct Reading<'a> {
    frames: Frames<BoxStream<'static, Result<Bytes, ClientError>>>,
    external: &'a External,
    limits: &'a RequestLimits,
    wire: WireLimits,
    counted: Counted,
    /// Series of the frame at hand.
    pending: std::vec::IntoIter<ChunkedSeries>,
    /// Labels of the series before, as they came and as they are shown.
    before: Option<(Vec<Label>, Shown)>,
}

impl<'a> Reading<'a> {
    /// Asks Prometheus.
    ///
    /// # Errors
    /// What Prometheus answers at once.
    pub(crate) async fn begin(
        client: &Client,
        external: &'a External,
        request: ReadRequest<'a>,
    ) -> Result<Self, ReadError> {
        let ReadRequest { range, matchers, hints, limits, timeout } = request;
        let frames = client.remote_read(range, matchers, hints, timeout).await?;
        Ok(Self {
            frames,
            external,
            limits,
            wire: WireLimits::default(),
            counted: Counted::default(),
            pending: Vec::new().into_iter(),
            before: None,
        })
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// What ends the read early.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, ReadError> {
        loop {
            if let Some(series) = self.pending.next() {
                return self.piece(series).map(Some);
            }
            match self.frames.next().await? {
                None => return Ok(None),
                Some(series) => self.pending = series.into_iter(),
            }
        }
    }

    fn piece(&mut self, series: ChunkedSeries) -> Result<Piece, ReadError> {
        let ChunkedSeries { labels, chunks } = series;
        self.counted.chunks += chunks.len() as u64;
        self.counted.bytes += chunks.iter().map(|c| c.data.len() as u64).sum::<u64>();
        self.counted.received = self.frames.received();
        if let Some((before, shown)) = &self.before
            && *before == labels
        {
            check(&self.counted, self.limits)?;
            return Ok(Piece { shown: shown.clone(), continued: true, chunks });
        }
        self.counted.series += 1;
        check(&self.counted, self.limits)?;
        let shown = self
            .external
            .show(&labels, &self.wire)
            .map_err(|e| ClientError::Unexpected { what: "remote read", problem: e.to_string() })?;
        self.before = Some((labels, shown.clone()));
        Ok(Piece { shown, continued: false, chunks })
    }

    /// What was counted so far.
    pub(crate) fn counted(&self) -> Counted {
        self.counted
    }
}

fn check(counted: &Counted, limits: &RequestLimits) -> Result<(), ReadError> {
    let over = |what: &str, max: u64, flag: &str| {
        Err(ReadError::Limit(format!(
            "the selector wants more than {max} {what}; narrow it or raise --{flag}"
        )))
    };
    if counted.series > limits.series_max {
        return over("series", limits.series_max, "series-max");
    }
    if counted.chunks > limits.chunks_max {
        return over("chunks", limits.chunks_max, "chunks-max");
    }
    if counted.bytes > limits.bytes_max {
        return over("bytes of chunks", limits.bytes_max, "bytes-max");
    }
    Ok(())
}

/// Sorts what can't be streamed in order, within a bound.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    series: std::collections::BTreeMap<Labels, Vec<Chunk>>,
    bytes: usize,
}

impl Sorter {
    /// The most bytes held to be sorted.
    pub(crate) const BYTES_MAX: usize = 256 << 20;

    /// Adds a piece; pieces of series that are the same when shown become one.
    ///
    /// # Errors
    /// More than [`BYTES_MAX`](Self::BYTES_MAX).
    pub(crate) fn add(&mut self, piece: Piece) -> Result<(), ReadError> {
        self.bytes += piece.bytes();
        if self.bytes > Self::BYTES_MAX {
            return Err(ReadError::Limit(format!(
                "series carry labels that are added or dropped here, so they have to be sorted, and \
                 that would take more than {} MiB; narrow the selector or remove the labels from \
                 the series",
                Self::BYTES_MAX >> 20
            )));
        }
        self.series.entry(piece.shown.labels).or_default().extend(piece.chunks);
        Ok(())
    }

    /// The series in order; chunks in order of their start.
    pub(crate) fn finish(self) -> impl Iterator<Item = (Labels, Vec<Chunk>)> {
        self.series.into_iter().map(|(labels, mut chunks)| {
            chunks.sort_by_key(|c| (c.min_time_ms, c.max_time_ms));
            (labels, chunks)
        })
    }
}
