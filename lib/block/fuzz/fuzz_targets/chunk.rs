//! One byte of encoding, then a payload: decodes to equally long columns or fails and leaves the
//! buffer alone. What decodes and ascends can be encoded again and reads back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use periplus_block::chunk::{
    Aggregate, AggregateChunk, ChunkEncoding, ChunkSamples, decode, encode,
};
use periplus_model::TimeRange;

fuzz_target!(|data: &[u8]| {
    let Some((byte, payload)) = data.split_first() else { return };
    let Ok(encoding) = ChunkEncoding::from_byte(*byte) else { return };
    let mut out = ChunkSamples::new();
    if encoding == ChunkEncoding::Aggregate {
        if let Ok(parts) = AggregateChunk::parse(payload) {
            for aggregate in Aggregate::ALL {
                let _ = parts.decode(aggregate, TimeRange::ALL, &mut out);
            }
        }
        return;
    }
    if decode(encoding, payload, TimeRange::ALL, &mut out).is_err() {
        assert!(out.is_empty());
        return;
    }
    assert_eq!(out.ts.len(), out.values.len());
    assert!(out.start_ts.is_empty() || out.start_ts.len() == out.ts.len());
    if let Ok(chunks) = encode(&out) {
        let mut again = ChunkSamples::new();
        for c in &chunks {
            decode(c.encoding, &c.payload, TimeRange::ALL, &mut again).expect("our own bytes");
        }
        assert_eq!(out.ts, again.ts);
        let bits = |s: &ChunkSamples| s.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&out), bits(&again));
    }
});
