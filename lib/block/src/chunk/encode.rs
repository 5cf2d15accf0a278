//! Cutting columns of samples into chunks.

use periplus_model::TimeRange;

use super::histogram_encode;
use super::samples::{ChunkSamples, HistogramValue};
use super::{ChunkEncoding, ChunkError, XorEncoder};

/// Where a chunk is cut though more would fit: what Prometheus aims at.
pub const SAMPLES_PER_CHUNK: usize = 120;

/// A finished chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChunk {
    /// How the payload is written.
    pub encoding: ChunkEncoding,
    /// Times of the first and the last sample.
    pub range: TimeRange,
    /// How many samples it holds.
    pub samples: u16,
    /// The bytes, without length, encoding and checksum.
    pub payload: Vec<u8>,
}

/// Cuts samples, ascending by time, into XOR, histogram and float histogram chunks.
///
/// A chunk ends after [`SAMPLES_PER_CHUNK`], where the kind of sample changes, and for histograms
/// where Prometheus would cut: at counter resets and where schema, zero threshold or custom bounds
/// change. Buckets that come and go within a chunk are written as empty ones, so they read back
/// as zeros where they were absent. Start timestamps are not written.
///
/// # Errors
/// Timestamps that do not ascend; a histogram whose buckets do not fit its spans.
pub fn encode(samples: &ChunkSamples) -> Result<Vec<EncodedChunk>, ChunkError> {
    if samples.ts.windows(2).any(|w| matches!(w, [a, b] if a >= b)) {
        return Err(ChunkError::Corrupt {
            encoding: ChunkEncoding::Xor,
            reason: "the samples to encode do not ascend in time",
        });
    }
    let mut out = Vec::new();
    let mut floats_from = 0;
    let mut histograms = samples.histograms.as_slice();
    while let Some(((first, value), _)) = histograms.split_first() {
        let first = *first as usize;
        encode_floats(samples, floats_from, first, &mut out)?;
        // The run of histograms of one kind at consecutive places.
        let run = histograms
            .iter()
            .enumerate()
            .take_while(|(k, (i, h))| {
                *i as usize == first + k
                    && matches!(h, HistogramValue::Integer(_))
                        == matches!(value, HistogramValue::Integer(_))
            })
            .count();
        let (these, rest) = histograms.split_at(run);
        histograms = rest;
        let ts = samples.ts.get(first..first + run).unwrap_or_default();
        histogram_encode::encode(ts, these, &mut out)?;
        floats_from = first + run;
    }
    encode_floats(samples, floats_from, samples.len(), &mut out)?;
    Ok(out)
}

fn encode_floats(
    samples: &ChunkSamples,
    from: usize,
    to: usize,
    out: &mut Vec<EncodedChunk>,
) -> Result<(), ChunkError> {
    let ts = samples.ts.get(from..to).unwrap_or_default();
    let values = samples.values.get(from..to).unwrap_or_default();
    for (ts, values) in ts.chunks(SAMPLES_PER_CHUNK).zip(values.chunks(SAMPLES_PER_CHUNK)) {
        let mut chunk = XorEncoder::new();
        for (t, v) in ts.iter().zip(values) {
            chunk.append(*t, *v)?;
        }
        let (Some(first), Some(last)) = (ts.first(), ts.last()) else { continue };
        out.push(EncodedChunk {
            encoding: ChunkEncoding::Xor,
            range: TimeRange::new(*first, *last),
            samples: chunk.count(),
            payload: chunk.finish(),
        });
    }
    Ok(())
}
