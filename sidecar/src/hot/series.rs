//! One series of the window: sealed chunks of older samples, and the newest ones open.

use std::mem::take;
use std::sync::Arc;

use periplus_block::chunk;
use periplus_model::{FloatHistogram, Labels, SampleBuffer, TimeRange};

/// Samples after which the open ones are sealed, as Prometheus cuts its chunks.
const SEAL_AT: usize = 120;

/// Samples that will not change any more.
#[derive(Clone)]
pub(super) enum Sealed {
    /// Floats without start timestamps, XOR-encoded.
    Xor { range: TimeRange, bytes: Arc<[u8]> },
    /// Anything else, as it is.
    Plain { range: TimeRange, samples: Arc<SampleBuffer> },
}

impl Sealed {
    fn range(&self) -> TimeRange {
        match self {
            Self::Xor { range, .. } | Self::Plain { range, .. } => *range,
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Xor { bytes, .. } => bytes.len(),
                Self::Plain { samples, .. } => buffer_bytes(samples),
            }
    }

    /// Appends the samples to `out`.
    pub(super) fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), String> {
        match self {
            Self::Xor { bytes, .. } => {
                chunk::decode_samples(chunk::ChunkEncoding::Xor, bytes, range, out)
                    .map_err(|e| e.to_string())
            }
            Self::Plain { samples, .. } => {
                out.extend_range(samples, range);
                Ok(())
            }
        }
    }
}

fn buffer_bytes(b: &SampleBuffer) -> usize {
    let histograms: usize = b.histograms.iter().map(|(_, h)| histogram_bytes(h)).sum();
    b.capacity_bytes() + histograms
}

fn histogram_bytes(h: &FloatHistogram) -> usize {
    size_of::<FloatHistogram>()
        + (h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len()) * 8
        + (h.positive_spans.len() + h.negative_spans.len()) * 8
}

fn xor(samples: &SampleBuffer) -> Result<Arc<[u8]>, chunk::ChunkError> {
    let mut encoder = chunk::XorEncoder::new();
    for (t, v) in samples.ts.iter().zip(&samples.values) {
        encoder.append(*t, *v)?;
    }
    Ok(encoder.finish().into())
}

/// A series.
pub(super) struct HotSeries {
    /// Its labels as Prometheus stores them.
    pub(super) labels: Labels,
    /// Its labels with external ones, for the set of external labels asked for last.
    pub(super) dressed: Option<Labels>,
    sealed: Vec<Sealed>,
    open: SampleBuffer,
    last_t: i64,
}

/// What became of a sample.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Taken,
    /// The same time again: Prometheus keeps the first.
    Double,
    /// Older than the newest: Prometheus may or may not have kept it.
    OutOfOrder,
}

impl HotSeries {
    pub(super) fn new(labels: Labels) -> Self {
        Self {
            labels,
            dressed: None,
            sealed: Vec::new(),
            open: SampleBuffer::new(),
            last_t: i64::MIN,
        }
    }

    /// The time of the newest sample, `i64::MIN` when there never was one.
    pub(super) fn last_t(&self) -> i64 {
        self.last_t
    }

    pub(super) fn push(&mut self, start_ms: i64, t: i64, sample: Sample) -> Pushed {
        if t == self.last_t {
            return Pushed::Double;
        }
        if t < self.last_t {
            return Pushed::OutOfOrder;
        }
        self.last_t = t;
        match sample {
            Sample::Float(v) => self.open.push(t, v),
            Sample::Histogram(h) => self.open.push_histogram(t, Arc::new(h)),
        }
        if start_ms != 0 {
            self.open.set_last_start(start_ms);
        }
        if self.open.len() >= SEAL_AT {
            self.seal();
        }
        Pushed::Taken
    }

    fn seal(&mut self) {
        let range = self.open.time_range();
        let sealed = if self.open.histograms.is_empty() && self.open.start_ts.is_empty() {
            match xor(&self.open) {
                Ok(bytes) => {
                    self.open.clear();
                    Sealed::Xor { range, bytes }
                }
                Err(_) => Sealed::Plain { range, samples: Arc::new(take(&mut self.open)) },
            }
        } else {
            Sealed::Plain { range, samples: Arc::new(take(&mut self.open)) }
        };
        self.sealed.push(sealed);
    }

    /// Lets go of what lies wholly before `horizon`; true when nothing is left.
    pub(super) fn trim(&mut self, horizon: i64) -> bool {
        self.sealed.retain(|s| s.range().max_t >= horizon);
        if self.last_t < horizon && !self.open.is_empty() {
            self.open = SampleBuffer::new();
        }
        self.sealed.is_empty() && self.open.is_empty()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let dressed = self.dressed.as_ref().map_or(0, Labels::heap_bytes);
        let sealed: usize = self.sealed.iter().map(Sealed::bytes).sum();
        size_of::<Self>() + self.labels.heap_bytes() + dressed + sealed + buffer_bytes(&self.open)
    }

    /// What a selection of `range` needs; `None` when there is nothing in it.
    pub(super) fn snapshot(&self, range: TimeRange) -> Option<Snapshot> {
        let sealed: Vec<Sealed> =
            self.sealed.iter().filter(|s| s.range().overlaps(&range)).cloned().collect();
        let mut open = SampleBuffer::new();
        open.extend_range(&self.open, range);
        (!sealed.is_empty() || !open.is_empty()).then_some(Snapshot { sealed, open })
    }
}

/// A sample's value.
pub(super) enum Sample {
    Float(f64),
    Histogram(FloatHistogram),
}

/// A series' samples at one moment.
pub(super) struct Snapshot {
    pub(super) sealed: Vec<Sealed>,
    pub(super) open: SampleBuffer,
}

impl Snapshot {
    pub(super) fn bytes(&self) -> usize {
        self.sealed.iter().map(Sealed::bytes).sum::<usize>() + buffer_bytes(&self.open)
    }
}
