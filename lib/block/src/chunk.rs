//! Chunks: up to 65,535 samples of one series, compressed.
//!
//! A chunk is an encoding and a payload. The payload is the same wherever a chunk is met: in a
//! block's chunk segments, in Prometheus's streamed remote read, in Thanos's `AggrChunk`. What
//! differs is the number that names the encoding: [`ChunkEncoding::from_byte`] reads the one of
//! blocks and of remote read, [`ChunkEncoding::from_store_api`] the one of Thanos's Store API.
//!
//! [`decode`] appends a payload's samples to a [`ChunkSamples`], optionally only those of a time
//! range; an aggregate chunk is split first ([`AggregateChunk`]). [`encode`] cuts columns of samples
//! into chunks; [`XorEncoder`] fills a float chunk sample by sample.

mod aggregate;
mod bit_writer;
mod bits;
mod encode;
mod flat_histogram;
mod float_histogram;
mod histogram;
mod histogram_encode;
mod layout;
mod query;
mod samples;
mod sink;
mod start_time;
mod varbit;
mod xor;
mod xor2;
mod xor_encode;

use periplus_model::TimeRange;

pub use aggregate::{Aggregate, AggregateChunk, CounterSeries, encode_aggregate};
pub use encode::{EncodedChunk, SAMPLES_PER_CHUNK, encode};
pub use query::decode_samples;
pub use samples::{ChunkSamples, HistogramValue};
pub use xor_encode::XorEncoder;

use bits::Bad;
use histogram::Frame;
use sink::Sink;

/// How a chunk's samples are written; the numbers are Prometheus's (and Thanos's for the last).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChunkEncoding {
    /// Floats.
    Xor = 1,
    /// Native histograms with integer counts.
    Histogram = 2,
    /// Native histograms with float counts.
    FloatHistogram = 3,
    /// Floats, denser, with optional start timestamps.
    Xor2 = 4,
    /// [`Histogram`](Self::Histogram) with start timestamps.
    HistogramSt = 5,
    /// [`FloatHistogram`](Self::FloatHistogram) with start timestamps.
    FloatHistogramSt = 6,
    /// Thanos's downsampled chunk, which holds others: see [`AggregateChunk`].
    Aggregate = 0xff,
}

impl ChunkEncoding {
    /// The encoding for a byte in a chunk segment, or for the number in Prometheus's `prompb.Chunk`.
    ///
    /// # Errors
    /// A number that is not known.
    pub const fn from_byte(byte: u8) -> Result<Self, ChunkError> {
        Ok(match byte {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramSt,
            6 => Self::FloatHistogramSt,
            0xff => Self::Aggregate,
            _ => return Err(ChunkError::UnknownEncoding { number: byte as u32 }),
        })
    }

    /// The encoding for the number in Thanos's `storepb.Chunk`, which is one less than
    /// Prometheus's.
    ///
    /// # Errors
    /// A number that is not known.
    pub const fn from_store_api(number: i32) -> Result<Self, ChunkError> {
        match number {
            0..=5 => Self::from_byte(number as u8 + 1),
            _ => Err(ChunkError::UnknownEncoding { number: number as u32 }),
        }
    }

    /// The number in a chunk segment and in `prompb.Chunk`.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The number in `storepb.Chunk`; `None` for aggregates, which are sent in parts.
    #[must_use]
    pub const fn store_api(self) -> Option<i32> {
        match self {
            Self::Aggregate => None,
            other => Some(other as i32 - 1),
        }
    }

    /// Prometheus's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xor => "XOR",
            Self::Histogram => "histogram",
            Self::FloatHistogram => "floathistogram",
            Self::Xor2 => "XOR2",
            Self::HistogramSt => "histogramST",
            Self::FloatHistogramSt => "floathistogramST",
            Self::Aggregate => "aggregate",
        }
    }
}

impl std::fmt::Display for ChunkEncoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a chunk's bytes are no samples. Who reads a block adds which series and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// An encoding of a later Prometheus, or nonsense.
    #[error("unknown chunk encoding {number}; this version reads 1 to 6 and 255")]
    UnknownEncoding {
        /// The number found.
        number: u32,
    },
    /// The payload ends too early, or its count promises more than it has.
    #[error("{encoding} chunk is cut short: its bytes end before its samples do")]
    Truncated {
        /// The chunk's encoding.
        encoding: ChunkEncoding,
    },
    /// No encoder writes such bytes.
    #[error("{encoding} chunk is corrupt: {reason}")]
    Corrupt {
        /// The chunk's encoding.
        encoding: ChunkEncoding,
        /// What is impossible.
        reason: &'static str,
    },
    /// The histograms would take more memory than one chunk is allowed.
    #[error("{encoding} chunk would take more than 64 MiB decoded")]
    TooLarge {
        /// The chunk's encoding.
        encoding: ChunkEncoding,
    },
    /// A histogram resolution nobody knows.
    #[error("{encoding} chunk has histogram schema {schema}; known are -9 to 52 and -53")]
    UnknownSchema {
        /// The chunk's encoding.
        encoding: ChunkEncoding,
        /// The schema found.
        schema: i64,
    },
    /// An aggregate chunk was given where samples were wanted.
    #[error("an aggregate chunk holds several columns: choose count, sum, min, max or counter")]
    IsAggregate,
    /// The aggregate that was asked for is not in the chunk.
    #[error("the aggregate chunk has no {name}")]
    NoAggregate {
        /// The aggregate's name.
        name: &'static str,
    },
    /// A chunk holds 65,535 samples at most.
    #[error("a chunk holds at most 65,535 samples")]
    Full,
}

/// How many samples a payload says it has, without decoding it; for an aggregate chunk those of its
/// first part.
///
/// # Errors
/// A payload too short to say.
pub fn sample_count(encoding: ChunkEncoding, payload: &[u8]) -> Result<u16, ChunkError> {
    if encoding == ChunkEncoding::Aggregate {
        let parts = AggregateChunk::parse(payload)?;
        return match Aggregate::ALL.iter().find_map(|a| parts.get(*a)) {
            Some((encoding, part)) => sample_count(encoding, part),
            None => Ok(0),
        };
    }
    let count = payload.first_chunk::<2>().ok_or(ChunkError::Truncated { encoding })?;
    let count = u16::from_be_bytes(*count);
    let started = matches!(encoding, ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt);
    Ok(if started { count & 0x3fff } else { count })
}

/// Appends the samples of a payload that lie in `range` to `out`, in the order they are stored.
///
/// Reading stops at the first sample after the range, so bytes behind it are not looked at. On an
/// error `out` is as it was before.
///
/// # Errors
/// Bytes that are no chunk of this encoding; an aggregate chunk.
pub fn decode(
    encoding: ChunkEncoding,
    payload: &[u8],
    range: TimeRange,
    out: &mut ChunkSamples,
) -> Result<(), ChunkError> {
    let start = out.len();
    let done = decode_into(encoding, payload, range, out);
    match done {
        Ok(()) => {
            out.pad_starts();
            trim(start, range, out);
            Ok(())
        }
        Err(bad) => {
            out.truncate(start);
            Err(bad)
        }
    }
}

fn decode_into(
    encoding: ChunkEncoding,
    payload: &[u8],
    range: TimeRange,
    out: &mut ChunkSamples,
) -> Result<(), ChunkError> {
    let floats = || {
        let (count, body) = payload.split_first_chunk::<2>().ok_or(Bad::Truncated)?;
        Ok((usize::from(u16::from_be_bytes(*count)), body))
    };
    match encoding {
        ChunkEncoding::Xor => {
            floats().and_then(|(count, body)| xor::decode(body, count, range.max_t, out))
        }
        ChunkEncoding::Xor2 => {
            floats().and_then(|(count, body)| xor2::decode(body, count, range.max_t, out))
        }
        ChunkEncoding::Histogram
        | ChunkEncoding::HistogramSt
        | ChunkEncoding::FloatHistogram
        | ChunkEncoding::FloatHistogramSt => decode_histograms(encoding, payload, range, out),
        ChunkEncoding::Aggregate => return Err(ChunkError::IsAggregate),
    }
    .map_err(|bad| bad.of(encoding))
}

/// Hands the samples of a histogram chunk inside `range` to `out`; some of them on an error, too.
fn decode_histograms(
    encoding: ChunkEncoding,
    payload: &[u8],
    range: TimeRange,
    out: &mut impl Sink,
) -> Result<(), Bad> {
    let started = matches!(encoding, ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt);
    let frame = Frame::new(payload, started)?;
    match encoding {
        ChunkEncoding::Histogram | ChunkEncoding::HistogramSt => {
            histogram::decode(&frame, range, out)
        }
        _ => float_histogram::decode(&frame, range, out),
    }
}

/// Drops what was decoded outside the range: the head that had to be read to get there, and what
/// the float decoders read beyond the end. The histogram decoders leave out both themselves.
fn trim(start: usize, range: TimeRange, out: &mut ChunkSamples) {
    let new = out.ts.get(start..).unwrap_or_default();
    let beyond = new.iter().rev().take_while(|t| **t > range.max_t).count();
    out.truncate(out.len() - beyond);
    let new = out.ts.get(start..).unwrap_or_default();
    let before = new.iter().take_while(|t| **t < range.min_t).count();
    out.remove(start, before);
}

#[cfg(test)]
mod tests;
