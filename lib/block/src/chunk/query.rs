//! Decoding for queries: the same columns, histograms as floats.

use std::mem::take;
use std::sync::Arc;

use periplus_model::TimeRange;

use super::{ChunkEncoding, ChunkError, ChunkSamples, decode};

/// [`decode`] into the buffer that range functions read; the columns are lent, not copied.
///
/// # Errors
/// As [`decode`]; `out` is then as it was before.
pub fn decode_samples(
    encoding: ChunkEncoding,
    payload: &[u8],
    range: TimeRange,
    out: &mut periplus_model::SampleBuffer,
) -> Result<(), ChunkError> {
    let mut columns = ChunkSamples {
        ts: take(&mut out.ts),
        values: take(&mut out.values),
        histograms: Vec::new(),
        start_ts: take(&mut out.start_ts),
    };
    let done = decode(encoding, payload, range, &mut columns);
    out.ts = columns.ts;
    out.values = columns.values;
    out.start_ts = columns.start_ts;
    out.histograms
        .extend(columns.histograms.into_iter().map(|(i, h)| (i, Arc::new(h.into_float()))));
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::HistogramValue;
    use crate::chunk::{XorEncoder, encode};
    use periplus_model::FloatHistogram;

    #[test]
    fn appends_floats_and_histograms() {
        let mut out = periplus_model::SampleBuffer::new();
        let mut xor = XorEncoder::new();
        for i in 0..5 {
            xor.append(i * 10, i as f64).unwrap();
        }
        let range = TimeRange::new(10, 30);
        decode_samples(ChunkEncoding::Xor, &xor.finish(), range, &mut out).unwrap();
        let mut h = ChunkSamples::new();
        let value = FloatHistogram { count: 2.0, sum: 3.0, zero_count: 2.0, ..Default::default() };
        h.push_histogram(100, HistogramValue::Float(value.clone()), 0);
        h.push_histogram(110, HistogramValue::Float(value.clone()), 0);
        let chunk = encode(&h).unwrap().remove(0);
        decode_samples(chunk.encoding, &chunk.payload, TimeRange::new(105, 200), &mut out).unwrap();
        assert_eq!(out.ts, [10, 20, 30, 110]);
        assert_eq!(out.histograms.len(), 1);
        assert_eq!(out.histogram_at(3).unwrap().sum, 3.0);
        assert!(decode_samples(ChunkEncoding::Xor, &[0, 9, 1], TimeRange::ALL, &mut out).is_err());
        assert_eq!(out.len(), 4);
    }
}
