//! Where the engine's samples come from: the one trait that live fan-out, history and tests
//! implement.
//!
//! The engine runs on its own CPU workers and *pulls*: [`Source::select`] gives a stream of blocks of
//! series, and each series decodes itself into a buffer the worker owns, so that decode, range
//! function and partial aggregation touch the samples once, while they are in cache. A source that
//! needs the network or the disk does that elsewhere and hands blocks over a bounded channel;
//! blocking in [`SeriesStream::next_block`] is allowed, since no async runtime runs there.

use std::sync::Arc;

use periplus_model::{Labels, Matcher, SampleBuffer, TimeRange};

/// What a selector asks for.
#[derive(Clone, Debug)]
pub struct SelectRequest {
    /// All must match. A label that is absent has the empty value.
    pub matchers: Vec<Matcher>,
    /// The only samples the engine can look at, both ends included (left-open windows are already
    /// accounted for). Samples outside may be returned; they are ignored.
    pub range: TimeRange,
    /// What the samples are for; a source may ignore it.
    pub hints: SelectHints,
}

/// What a selector's samples are for, so that a source can leave out what can't matter.
#[derive(Clone, Debug, Default)]
pub struct SelectHints {
    /// The step between evaluations in milliseconds; 0 for an instant query.
    pub step_ms: i64,
    /// The window of a range selector in milliseconds; 0 for an instant selector.
    pub range_ms: i64,
    /// The function right above the selector (`rate`, …), when there is one.
    pub func: Option<&'static str>,
    /// The labels that matter above, when not all do (label projection): `by` ones when
    /// `grouping_by`, else all but these; the name always matters. A source that leaves others out
    /// still has to give each series by itself: two may then have equal labels.
    pub grouping: Option<Vec<String>>,
    /// See `grouping`.
    pub grouping_by: bool,
}

/// A series that can decode its samples.
///
/// Contract: `decode` appends samples in ascending order of time, without two of one time, and may
/// append ones outside of `range`. It may be called more than once, from any thread.
pub trait EncodedSeries: Send + Sync {
    /// Appends the samples of `range` (and maybe more) to `out`.
    ///
    /// # Errors
    /// [`SourceError`] naming the series and what is broken.
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError>;

    /// Bytes held, for memory accounting.
    fn encoded_bytes(&self) -> usize;
}

/// A series: who it is and its samples.
#[derive(Clone)]
pub struct SeriesEntry {
    /// Its labels.
    pub labels: Labels,
    /// Its samples.
    pub samples: Arc<dyn EncodedSeries>,
}

/// Series, a block at a time.
pub trait SeriesStream: Send {
    /// The next block (a few hundred series is a good size); `None` at the end, and ever after.
    /// Series come in any order; the same label set may come only once in the whole stream.
    ///
    /// # Errors
    /// After an error the stream has ended.
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError>;
}

/// Selects series.
pub trait Source: Send + Sync {
    /// Begins a selection; the work may already run when this returns. Called on a CPU worker.
    ///
    /// # Errors
    /// What can be known at once (a matcher that can't be served, a source that is gone).
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError>;
}

/// Why a source can't answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// Stored or received bytes are broken.
    #[error("{0}")]
    Corrupt(String),
    /// The other side is gone or too slow.
    #[error("{0}")]
    Unavailable(String),
    /// A limit was reached; the text names the limit and the value.
    #[error("{0}")]
    Limit(String),
    /// The query was cancelled or ran out of time.
    #[error("query was cancelled")]
    Cancelled,
}

/// A series whose samples are already decoded.
impl EncodedSeries for SampleBuffer {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        out.extend_range(self, range);
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.capacity_bytes()
    }
}
