//! Every chunk encoding as Prometheus itself wrote it, against dumps Prometheus made.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use periplus_block::chunk::{self, ChunkEncoding, ChunkSamples, HistogramValue};
use periplus_block::varint;
use periplus_model::{FloatHistogram, Span, TimeRange};
use serde_json::{Value, json};

const BLOCKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/blocks");

fn hex(v: f64) -> String {
    format!("{:016x}", v.to_bits())
}

fn spans(spans: &[Span]) -> Value {
    if spans.is_empty() {
        return Value::Null;
    }
    spans.iter().map(|s| json!({"Offset": s.offset, "Length": s.length})).collect()
}

fn histogram(h: &FloatHistogram, integer: bool) -> Value {
    json!({
        "count": hex(h.count), "zero_count": hex(h.zero_count), "sum": hex(h.sum),
        "zero_threshold": hex(h.zero_threshold), "schema": h.schema, "integer": integer,
        "hint": h.counter_reset_hint as u8,
        "pos_spans": spans(&h.positive_spans), "neg_spans": spans(&h.negative_spans),
        "pos": h.positive_buckets.iter().map(|v| hex(*v)).collect::<Vec<_>>(),
        "neg": h.negative_buckets.iter().map(|v| hex(*v)).collect::<Vec<_>>(),
        "custom": h.custom_values.iter().map(|v| hex(*v)).collect::<Vec<_>>(),
    })
}

/// The samples in the dump's form.
fn rows(s: &ChunkSamples) -> Vec<Value> {
    let mut histograms = s.histograms.iter().peekable();
    (0..s.len())
        .map(|i| {
            let mut row = json!({"t": s.ts[i]});
            if let Some((_, h)) = histograms.next_if(|(at, _)| *at as usize == i) {
                row["h"] = histogram(&h.to_float(), matches!(h, HistogramValue::Integer(_)));
            } else {
                row["bits"] = hex(s.values[i]).into();
            }
            match s.start_ts.get(i) {
                None | Some(0) => {}
                Some(st) => row["st"] = (*st).into(),
            }
            row
        })
        .collect()
}

/// What our encoders make of a chunk's samples are the bytes Prometheus made of them; but for the
/// flags, which tell of the chunk before.
fn rewrites(encoding: ChunkEncoding, payload: &[u8]) {
    let mut samples = ChunkSamples::new();
    chunk::decode(encoding, payload, TimeRange::ALL, &mut samples).unwrap();
    match encoding {
        ChunkEncoding::Xor => {
            let mut again = chunk::XorEncoder::new();
            for (t, v) in samples.ts.iter().zip(&samples.values) {
                again.append(*t, *v).unwrap();
            }
            assert_eq!(again.finish(), payload);
        }
        ChunkEncoding::Histogram | ChunkEncoding::FloatHistogram
            if samples.len() <= chunk::SAMPLES_PER_CHUNK =>
        {
            let again = chunk::encode(&samples).unwrap();
            assert_eq!(again.len(), 1);
            assert_eq!(again[0].payload[..2], payload[..2]);
            assert_eq!(again[0].payload[3..], payload[3..]);
        }
        _ => {}
    }
}

#[test]
fn every_chunk_equals_the_dump() {
    for name in ["xor-tombstoned", "xor2", "start-timestamps"] {
        let Ok(dump) = std::fs::read_to_string(format!("{BLOCKS}/{name}.expected.jsonl")) else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the shared blocks are missing");
            println!("skipped: no shared blocks beside this checkout");
            return;
        };
        let segment = std::fs::read(format!("{BLOCKS}/{name}/chunks/000001")).unwrap();
        let mut at = &segment[8..];
        for line in dump.lines() {
            let series: Value = serde_json::from_str(line).unwrap();
            let mut samples = ChunkSamples::new();
            for meta in series["chunks"].as_array().unwrap() {
                let (len, rest) = varint::uvarint(at).unwrap();
                let encoding = ChunkEncoding::from_byte(rest[0]).unwrap();
                let payload = &rest[1..=len as usize];
                at = &rest[len as usize + 5..];
                assert_eq!(meta["encoding"], encoding.name());
                let before = samples.len();
                chunk::decode(encoding, payload, TimeRange::ALL, &mut samples).unwrap();
                assert_eq!(meta["samples"], samples.len() - before);
                rewrites(encoding, payload);
                assert_eq!(
                    usize::from(chunk::sample_count(encoding, payload).unwrap()),
                    samples.len() - before
                );
            }
            for (i, (got, want)) in
                rows(&samples).iter().zip(series["samples"].as_array().unwrap()).enumerate()
            {
                assert_eq!(got, want, "{name} {} sample {i}", series["labels"]);
            }
            // Where nothing but our encoder stood between, floats come out as Prometheus wrote them.
            assert_eq!(samples.len(), series["samples"].as_array().unwrap().len());
        }
    }
}
