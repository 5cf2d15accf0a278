use periplus_model::{
    CounterResetHint, FloatHistogram, Histogram, STALE_NAN_BITS, Span, TimeRange, stale_nan,
};
use proptest::prelude::*;

use super::*;

fn all(encoding: ChunkEncoding, payload: &[u8]) -> ChunkSamples {
    let mut out = ChunkSamples::new();
    decode(encoding, payload, TimeRange::ALL, &mut out).unwrap();
    out
}

fn floats(ts: &[i64], values: &[f64]) -> Vec<u8> {
    let mut e = XorEncoder::new();
    for (t, v) in ts.iter().zip(values) {
        e.append(*t, *v).unwrap();
    }
    e.finish()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Values as they occur: repeated, near each other, and any bits at all.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => Just(1.0),
        3 => (0u32..2000).prop_map(f64::from),
        2 => (0u32..100_000).prop_map(|v| f64::from(v) / 1000.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop_oneof![Just(stale_nan()), Just(-0.0), Just(f64::INFINITY), Just(f64::NAN)],
    ]
}

fn step() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => Just(15_000),
        2 => 14_990i64..15_010,
        1 => 1i64..1_000_000,
        1 => 1i64..(1 << 50),
    ]
}

fn times(steps: &[i64]) -> Vec<i64> {
    steps
        .iter()
        .scan(1_759_996_800_000i64, |t, s| {
            *t += s;
            Some(*t)
        })
        .collect()
}

proptest! {
    #[test]
    fn xor_there_and_back(
        samples in proptest::collection::vec((step(), value()), 0..400),
        range in (0usize..400, 0usize..400),
    ) {
        let (steps, values): (Vec<i64>, Vec<f64>) = samples.into_iter().unzip();
        let ts = times(&steps);
        let payload = floats(&ts, &values);
        let back = all(ChunkEncoding::Xor, &payload);
        prop_assert_eq!(&back.ts, &ts);
        prop_assert_eq!(bits(&back.values), bits(&values));
        prop_assert!(back.start_ts.is_empty() && back.histograms.is_empty());

        // A range gives what lies in it, whatever stood in the buffer before.
        let at = |i: usize| ts.get(i.min(ts.len().saturating_sub(1))).copied().unwrap_or(0);
        let range = TimeRange::new(at(range.0), at(range.1));
        let mut part = ChunkSamples::new();
        part.push(1, 2.0, 3);
        decode(ChunkEncoding::Xor, &payload, range, &mut part).unwrap();
        let want: Vec<i64> = ts.iter().copied().filter(|t| range.contains(*t)).collect();
        prop_assert_eq!(&part.ts[1..], &want[..]);
        prop_assert_eq!(part.values.len(), part.ts.len());
        prop_assert_eq!(part.start_ts.len(), part.ts.len());
    }

    #[test]
    fn any_bytes_decode_or_fail(
        byte in 0u8..8,
        mut payload in proptest::collection::vec(any::<u8>(), 0..300),
        count in any::<u16>(),
    ) {
        if let Some(head) = payload.first_chunk_mut::<2>() {
            *head = (count & 0x1ff).to_be_bytes();
        }
        let encoding = ChunkEncoding::from_byte(if byte == 7 { 0xff } else { byte });
        if let Ok(encoding) = encoding {
            let mut out = ChunkSamples::new();
            out.push(1, 1.0, 0);
            let done = decode(encoding, &payload, TimeRange::ALL, &mut out);
            prop_assert!(done.is_ok() || out.len() == 1);
            prop_assert_eq!(out.ts.len(), out.values.len());
            if let Ok(parts) = AggregateChunk::parse(&payload) {
                for a in Aggregate::ALL {
                    let _ = parts.decode(a, TimeRange::ALL, &mut out);
                }
            }
        }
    }
}

#[test]
fn runs_longer_than_a_word_and_counts_that_lie() {
    let ts: Vec<i64> = (0..500).map(|i| i * 1000).collect();
    let values = vec![7.5; 500];
    let payload = floats(&ts, &values);
    let back = all(ChunkEncoding::Xor, &payload);
    assert_eq!((back.ts, back.values), (ts, values));
    for cut in 0..payload.len() {
        let mut out = ChunkSamples::new();
        let done = decode(ChunkEncoding::Xor, &payload[..cut], TimeRange::ALL, &mut out);
        assert_eq!(done, Err(ChunkError::Truncated { encoding: ChunkEncoding::Xor }));
        assert!(out.is_empty());
    }
}

#[test]
fn encodings_by_every_number() {
    for byte in 0..=255u8 {
        if let Ok(e) = ChunkEncoding::from_byte(byte) {
            assert_eq!(e.byte(), byte);
            if let Some(n) = e.store_api() {
                assert_eq!(ChunkEncoding::from_store_api(n), Ok(e));
            }
        }
    }
    assert!(ChunkEncoding::from_byte(0).is_err() && ChunkEncoding::from_byte(7).is_err());
    assert!(ChunkEncoding::from_store_api(-1).is_err());
}

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

/// The i-th of a counter histogram that grows a bucket on the way.
fn grown(i: u64) -> Histogram {
    let wide = i >= 3;
    Histogram {
        schema: 2,
        zero_threshold: 2f64.powi(-128),
        zero_count: i,
        count: 10 * i + 5,
        sum: i as f64 * 1.25,
        positive_spans: if wide { vec![span(-2, 1), span(3, 2)] } else { vec![span(-2, 1)] },
        positive_buckets: if wide { vec![i as i64, 2, -1] } else { vec![i as i64] },
        negative_spans: vec![span(0, 1)],
        negative_buckets: vec![1],
        ..Histogram::default()
    }
}

fn push(out: &mut ChunkSamples, t: i64, h: HistogramValue) {
    out.push_histogram(t, h, 0);
}

#[test]
fn histograms_share_their_buckets_and_cut_at_resets() {
    let mut samples = ChunkSamples::new();
    samples.push(0, 3.0, 0);
    for i in 0..6u64 {
        push(&mut samples, 1000 + i as i64 * 10, HistogramValue::Integer(grown(i)));
    }
    push(&mut samples, 2000, HistogramValue::Integer(Histogram { sum: stale_nan(), ..grown(9) }));
    push(&mut samples, 2010, HistogramValue::Integer(grown(1)));
    push(&mut samples, 2020, HistogramValue::Integer(grown(0)));
    samples.push(3000, 4.0, 0);
    let chunks = encode(&samples).unwrap();
    let shape: Vec<(&str, u16, u8)> =
        chunks.iter().map(|c| (c.encoding.name(), c.samples, c.payload[2])).collect();
    assert_eq!(
        shape.iter().map(|s| (s.0, s.1)).collect::<Vec<_>>(),
        [("XOR", 1), ("histogram", 7), ("histogram", 1), ("histogram", 1), ("XOR", 1)]
    );
    assert_eq!((shape[1].2, shape[2].2, shape[3].2), (0, 0, 0x80), "unknown, unknown, reset");

    let mut back = ChunkSamples::new();
    for c in &chunks {
        decode(c.encoding, &c.payload, TimeRange::ALL, &mut back).unwrap();
        assert_eq!(sample_count(c.encoding, &c.payload), Ok(c.samples));
    }
    assert_eq!(back.ts, samples.ts);
    assert_eq!(bits(&back.values), bits(&samples.values));
    let HistogramValue::Integer(first) = &back.histograms[0].1 else { panic!("integer") };
    assert_eq!(first.positive_spans, [span(-2, 1), span(3, 2)], "the chunk's spans");
    assert_eq!(first.positive_buckets, [0, 0, 0]);
    let HistogramValue::Integer(last) = &back.histograms[5].1 else { panic!("integer") };
    assert_eq!(*last, Histogram { counter_reset_hint: CounterResetHint::NotReset, ..grown(5) });
    assert_eq!(back.histograms[6].1.sum().to_bits(), STALE_NAN_BITS);
}

#[test]
fn float_and_gauge_histograms() {
    let at = |i: i32| FloatHistogram {
        counter_reset_hint: CounterResetHint::Gauge,
        schema: -53,
        count: f64::from(i) + 0.5,
        sum: f64::from(10 - i),
        positive_spans: vec![span(i % 2, 2)],
        positive_buckets: vec![f64::from(i), 2.5],
        custom_values: vec![0.1, 2.0, 1e9, -1.0],
        ..FloatHistogram::default()
    };
    let mut samples = ChunkSamples::new();
    for i in 0..5 {
        push(&mut samples, i64::from(i), HistogramValue::Float(at(i)));
    }
    let chunks = encode(&samples).unwrap();
    assert_eq!(chunks.len(), 1, "a gauge may fall");
    let back = all(chunks[0].encoding, &chunks[0].payload);
    let HistogramValue::Float(second) = &back.histograms[1].1 else { panic!("float") };
    assert_eq!(second.positive_spans, [span(0, 3)]);
    assert_eq!(second.positive_buckets, [0.0, 1.0, 2.5]);
    assert_eq!(second.custom_values, at(1).custom_values);
    assert_eq!((second.count, second.sum), (1.5, 9.0));
    assert_eq!(second.counter_reset_hint, CounterResetHint::Gauge);

    let misfit = FloatHistogram { positive_buckets: vec![1.0], ..at(1) };
    let mut samples = ChunkSamples::new();
    push(&mut samples, 0, HistogramValue::Float(misfit));
    assert!(encode(&samples).is_err());
}

#[test]
fn few_bytes_do_not_become_gigabytes() {
    // One span of 2^32-1 buckets, then a sample: 7 bytes that ask for 32 GiB.
    let mut w = bit_writer::BitWriter::after(vec![0, 1, 0]);
    w.write(0, 8);
    w.varbit_int(0);
    w.varbit_uint(1);
    w.varbit_uint(u64::from(u32::MAX));
    w.varbit_int(0);
    w.write(0, 64);
    let payload = w.into_bytes();
    for e in [ChunkEncoding::Histogram, ChunkEncoding::FloatHistogram] {
        let done = decode(e, &payload, TimeRange::ALL, &mut ChunkSamples::new());
        assert_eq!(done, Err(ChunkError::Truncated { encoding: e }));
    }
    // 200 kB of custom bounds, repeated for 65,535 samples of four bits each: 25 GB.
    let mut w = bit_writer::BitWriter::after(vec![0xff, 0xff, 0]);
    w.write(0, 8);
    w.varbit_int(-53);
    w.write(0, 2);
    w.varbit_uint(50_000);
    (0..50_000).for_each(|_| w.varbit_uint(9));
    (0..4096).for_each(|_| w.write(0, 64));
    let done =
        decode(ChunkEncoding::Histogram, &w.into_bytes(), TimeRange::ALL, &mut ChunkSamples::new());
    assert_eq!(done, Err(ChunkError::TooLarge { encoding: ChunkEncoding::Histogram }));
}

#[test]
fn aggregates_by_part_and_the_counter_made_whole() {
    // Two chunks of a counter that was reset between them: raw 5, 8 | 2, 4.
    let count = floats(&[10, 20], &[1.0, 1.0]);
    let first = floats(&[10, 20, 20], &[5.0, 8.0, 8.0]);
    let second = floats(&[30, 40, 40], &[2.0, 4.0, 4.0]);
    let mut series = CounterSeries::default();
    let mut whole = ChunkSamples::new();
    for counter in [&first, &second] {
        let payload = encode_aggregate(&[
            Some((ChunkEncoding::Xor, &count)),
            None,
            None,
            None,
            Some((ChunkEncoding::Xor, counter)),
        ]);
        assert_eq!(sample_count(ChunkEncoding::Aggregate, &payload), Ok(2));
        let parts = AggregateChunk::parse(&payload).unwrap();
        let mut part = ChunkSamples::new();
        assert_eq!(
            parts.decode(Aggregate::Min, TimeRange::ALL, &mut part),
            Err(ChunkError::NoAggregate { name: "min" })
        );
        parts.decode(Aggregate::Counter, TimeRange::ALL, &mut part).unwrap();
        series.append(&part, &mut whole);
        assert_eq!(
            decode(ChunkEncoding::Aggregate, &payload, TimeRange::ALL, &mut part),
            Err(ChunkError::IsAggregate)
        );
    }
    assert_eq!(whole.ts, [10, 20, 30, 40]);
    assert_eq!(whole.values, [5.0, 8.0, 10.0, 12.0]);
}
