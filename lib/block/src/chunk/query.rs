//! Decoding for queries: the same columns, histograms as floats.

use std::mem::take;

use periplus_model::{SampleBuffer, TimeRange};

use super::{ChunkEncoding, ChunkError, ChunkSamples, decode, decode_histograms};

/// [`decode`] into the buffer that range functions read; the columns are lent, not copied, and
/// histograms get their final form at once.
///
/// # Errors
/// As [`decode`]; `out` is then as it was before.
pub fn decode_samples(
    encoding: ChunkEncoding,
    payload: &[u8],
    range: TimeRange,
    out: &mut SampleBuffer,
) -> Result<(), ChunkError> {
    if !matches!(encoding, ChunkEncoding::Xor | ChunkEncoding::Xor2 | ChunkEncoding::Aggregate) {
        let before = out.len();
        return decode_histograms(encoding, payload, range, out).map_err(|bad| {
            out.truncate(before);
            bad.of(encoding)
        });
    }
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
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::HistogramValue;
    use crate::chunk::{XorEncoder, encode};
    use periplus_model::{FloatHistogram, Histogram, Span, stale_nan};

    /// Integer and float chunks, stale markers and starts: the short way gives what the long one does.
    #[test]
    fn histograms_are_the_same_both_ways() {
        for float in [false, true] {
            let mut all = ChunkSamples::new();
            for i in 0..300i64 {
                let sum = if i % 90 == 7 { stale_nan() } else { i as f64 / 3.0 };
                let wide = (i * i * 7919) % 1_000_003;
                let integer = Histogram {
                    schema: 3,
                    zero_threshold: 1e-9,
                    zero_count: i as u64,
                    count: (i * 1000 + wide) as u64,
                    sum,
                    positive_spans: vec![
                        Span { offset: -3, length: 3 },
                        Span { offset: 4, length: 2 },
                    ],
                    negative_spans: vec![Span { offset: 1, length: 1 }],
                    positive_buckets: vec![i, i % 5, wide, -wide, 1],
                    negative_buckets: vec![i * 100_000],
                    ..Histogram::default()
                };
                let h = match float {
                    true => HistogramValue::Float(integer.to_float()),
                    false => HistogramValue::Integer(integer),
                };
                all.push_histogram(i * 1000, h, 0);
            }
            let range = TimeRange::new(5_000, 280_000);
            let (mut long, mut short) = (ChunkSamples::new(), SampleBuffer::new());
            for chunk in encode(&all).unwrap() {
                decode(chunk.encoding, &chunk.payload, range, &mut long).unwrap();
                decode_samples(chunk.encoding, &chunk.payload, range, &mut short).unwrap();
            }
            assert_eq!(long.len(), 276);
            assert_eq!(long.ts, short.ts);
            for ((i, a), (j, b)) in long.histograms.into_iter().zip(&short.histograms) {
                assert_eq!((i, format!("{:?}", a.into_float())), (*j, format!("{b:?}")));
            }
        }
    }

    /// What a fuzzer would do, for a bounded time: chunks of every kind with bytes changed decode both
    /// ways to the same, or fail both ways and leave the buffers alone.
    #[test]
    fn changed_bytes_are_the_same_both_ways() {
        let mut state = 88_172_645_463_325_252u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let (mut floats, mut integers) = (ChunkSamples::new(), ChunkSamples::new());
        let mut histograms = ChunkSamples::new();
        for i in 0..40i64 {
            floats.push(i * 1000 + i % 3, (i * i) as f64 / 7.0, 0);
            let h = Histogram {
                count: (3 * i) as u64,
                sum: i as f64,
                positive_spans: vec![Span { offset: 1, length: 3 }],
                positive_buckets: vec![i, 2, -1],
                ..Histogram::default()
            };
            histograms.push_histogram(i * 1000, HistogramValue::Float(h.to_float()), 0);
            integers.push_histogram(i * 1000, HistogramValue::Integer(h), 0);
        }
        let chunks: Vec<_> =
            [floats, integers, histograms].iter().flat_map(|s| encode(s).unwrap()).collect();
        let (mut good, mut bad) = (0, 0);
        for _ in 0..20_000 {
            let chunk = &chunks[next(chunks.len())];
            let mut bytes = chunk.payload.clone();
            for _ in 0..1 + next(3) {
                let at = next(bytes.len());
                match next(8) {
                    0 => bytes.truncate(at + 1),
                    1 => bytes[at] = 0xff,
                    _ => bytes[at] ^= 1 << next(8),
                }
            }
            // The forms with start timestamps read the same bytes in another way.
            let encodings = [1u8, 2, 3, 4, 5, 6].map(|b| ChunkEncoding::from_byte(b).unwrap());
            let encoding = if next(3) > 0 { chunk.encoding } else { encodings[next(6)] };
            let (mut long, mut short) = (ChunkSamples::new(), SampleBuffer::new());
            let a = decode(encoding, &bytes, TimeRange::ALL, &mut long);
            let b = decode_samples(encoding, &bytes, TimeRange::ALL, &mut short);
            assert_eq!(a, b, "{encoding}: {bytes:?}");
            assert_eq!(long.ts, short.ts, "{encoding}: {bytes:?}");
            assert_eq!(long.start_ts, short.start_ts, "{encoding}: {bytes:?}");
            assert_eq!(long.histograms.len(), short.histograms.len());
            for ((_, x), (_, y)) in long.histograms.into_iter().zip(&short.histograms) {
                assert_eq!(format!("{:?}", x.into_float()), format!("{y:?}"), "{bytes:?}");
            }
            if a.is_ok() { good += 1 } else { bad += 1 }
        }
        assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
    }

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
