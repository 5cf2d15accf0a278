//! Writing histogram chunks.
//!
//! All samples of a chunk share one set of spans, which its first bytes tell. So a chunk's samples
//! are gathered first and written when it is known which buckets they use together.

use std::collections::BTreeMap;

use periplus_model::{CounterResetHint, Span, TimeRange, is_stale};

use super::bit_writer::BitWriter;
use super::encode::{EncodedChunk, SAMPLES_PER_CHUNK};
use super::flat_histogram::{Count, Counts, Flat, GAUGE, NOT_RESET, RESET, UNKNOWN};
use super::layout::CUSTOM_BUCKETS;
use super::samples::HistogramValue;
use super::varbit::Window;
use super::{ChunkEncoding, ChunkError};

/// Cuts a run of histograms of one kind into chunks. `ts` has their times.
pub(super) fn encode(
    ts: &[i64],
    values: &[(u32, HistogramValue)],
    out: &mut Vec<EncodedChunk>,
) -> Result<(), ChunkError> {
    let kind = match values.first() {
        Some((_, HistogramValue::Integer(_))) => ChunkEncoding::Histogram,
        _ => ChunkEncoding::FloatHistogram,
    };
    let mut run: Vec<(i64, Flat<'_>)> = Vec::new();
    let mut flags = UNKNOWN;
    for (t, (_, value)) in ts.iter().zip(values) {
        let flat = match value {
            HistogramValue::Integer(h) if is_stale(h.sum) => {
                Flat::stale(kind, h.sum, h.counter_reset_hint)
            }
            HistogramValue::Float(h) if is_stale(h.sum) => {
                Flat::stale(kind, h.sum, h.counter_reset_hint)
            }
            HistogramValue::Integer(h) => Flat::of_integer(h)?,
            HistogramValue::Float(h) => Flat::of_float(h)?,
        };
        match run.last() {
            None => {
                flags = match flat.hint {
                    CounterResetHint::Gauge => GAUGE,
                    CounterResetHint::Reset => RESET,
                    _ => UNKNOWN,
                };
            }
            Some((_, before)) => {
                let gauge = flags == GAUGE;
                // A stale marker has lost whether it was a gauge: it stays where it is.
                let follows =
                    if gauge && flat.is_stale() { Ok(()) } else { flat.follows(before, gauge) };
                let full = run.len() >= SAMPLES_PER_CHUNK;
                if full || follows.is_err() {
                    let next = match follows {
                        Err(flags) => flags,
                        Ok(()) if gauge => GAUGE,
                        Ok(()) => NOT_RESET,
                    };
                    out.push(write(kind, flags, &run)?);
                    run.clear();
                    flags = next;
                }
            }
        }
        run.push((*t, flat));
    }
    if !run.is_empty() {
        out.push(write(kind, flags, &run)?);
    }
    Ok(())
}

/// The buckets any of the samples uses, and the spans that tell them. Where all samples have the
/// same spans these are kept as they are.
fn union(
    run: &[(i64, Flat<'_>)],
    which: usize,
    buckets: impl Fn(&Flat<'_>) -> Vec<i64>,
) -> (Vec<Span>, Vec<i64>) {
    let mut used: Vec<i64> = Vec::new();
    let mut kept: Option<&[Span]> = None;
    let mut same = true;
    for (_, flat) in run.iter().filter(|(_, f)| !f.is_stale()) {
        let spans = flat.spans.get(which).copied().unwrap_or_default();
        match kept {
            Some(k) if k == spans => continue,
            Some(_) => same = false,
            None => kept = Some(spans),
        }
        used.extend(buckets(flat));
    }
    used.sort_unstable();
    used.dedup();
    if same {
        return (kept.unwrap_or_default().to_vec(), used);
    }
    let mut spans: Vec<Span> = Vec::new();
    let mut end = 0i64;
    for &i in &used {
        match spans.last_mut() {
            Some(last) if i == end => last.length += 1,
            _ => spans.push(Span { offset: (i - end) as i32, length: 1 }),
        }
        end = i + 1;
    }
    (spans, used)
}

fn write(
    kind: ChunkEncoding,
    flags: u8,
    run: &[(i64, Flat<'_>)],
) -> Result<EncodedChunk, ChunkError> {
    let (Some((first_t, first)), Some((last_t, _))) = (run.first(), run.last()) else {
        return Err(ChunkError::Corrupt { encoding: kind, reason: "no samples" });
    };
    let samples = u16::try_from(run.len()).map_err(|_| ChunkError::Full)?;
    let [high, low] = samples.to_be_bytes();
    let mut w = BitWriter::after(vec![high, low, flags]);
    let (positive_spans, positive) = union(run, 0, |f| f.positive.keys().copied().collect());
    let (negative_spans, negative) = union(run, 1, |f| f.negative.keys().copied().collect());
    put_zero_threshold(&mut w, first.zero_threshold);
    w.varbit_int(i64::from(first.schema));
    for spans in [&positive_spans, &negative_spans] {
        w.varbit_uint(spans.len() as u64);
        for s in spans {
            w.varbit_uint(u64::from(s.length));
            w.varbit_int(i64::from(s.offset));
        }
    }
    if first.schema == CUSTOM_BUCKETS {
        w.varbit_uint(first.custom_values.len() as u64);
        first.custom_values.iter().for_each(|v| put_bound(&mut w, *v));
    }
    let rows = run.iter().map(|(t, f)| (*t, f, row(f, &positive, &negative)));
    match kind {
        ChunkEncoding::Histogram => put_integers(&mut w, rows),
        _ => put_floats(&mut w, rows),
    }
    Ok(EncodedChunk {
        encoding: kind,
        range: TimeRange::new(*first_t, *last_t),
        samples,
        payload: w.into_bytes(),
    })
}

/// A sample's absolute buckets in the order of the chunk's.
fn row(f: &Flat<'_>, positive: &[i64], negative: &[i64]) -> [Vec<Option<Count>>; 2] {
    let pick = |have: &BTreeMap<i64, Count>, want: &[i64]| {
        want.iter().map(|i| have.get(i).copied()).collect()
    };
    [pick(&f.positive, positive), pick(&f.negative, negative)]
}

/// Count, zero count and buckets as deltas of deltas, the sum as a change.
fn put_integers<'a>(
    w: &mut BitWriter,
    rows: impl Iterator<Item = (i64, &'a Flat<'a>, [Vec<Option<Count>>; 2])>,
) {
    // Time, count, zero count and then buckets: value and delta of the sample before.
    let mut before: Vec<(i64, i64)> = Vec::new();
    let mut sum = 0u64;
    let mut window = None;
    for (i, (t, flat, buckets)) in rows.enumerate() {
        let (count, zero) = match flat.counts {
            Counts::Integer(c, z) => (c, z),
            Counts::Float(..) => (0, 0),
        };
        let mut numbers = vec![t, count.cast_signed(), zero.cast_signed()];
        for side in &buckets {
            let mut last = 0i64;
            for b in side {
                let b = b.map_or(0, Count::integer);
                numbers.push(b.wrapping_sub(last));
                last = b;
            }
        }
        if i == 0 {
            sum = flat.sum.to_bits();
            w.varbit_int(t);
            w.varbit_uint(count);
            w.varbit_uint(zero);
            w.write(sum, 64);
            numbers.iter().skip(3).for_each(|b| w.varbit_int(*b));
            before = numbers.into_iter().map(|n| (n, 0)).collect();
            continue;
        }
        let stale = flat.is_stale();
        for (k, (n, (at, delta))) in numbers.iter().zip(&mut before).enumerate() {
            if k == 3 {
                w.xor(flat.sum.to_bits() ^ sum, &mut window);
            }
            if stale && k > 0 {
                // Counts do not move, and buckets are not written at all.
                if k < 3 {
                    w.varbit_int(0);
                }
                continue;
            }
            let d = n.wrapping_sub(*at);
            w.varbit_int(d.wrapping_sub(*delta));
            (*at, *delta) = (*n, d);
        }
        if numbers.len() == 3 {
            w.xor(flat.sum.to_bits() ^ sum, &mut window);
        }
        sum = flat.sum.to_bits();
    }
}

/// Everything as a change, each number in a window of its own.
fn put_floats<'a>(
    w: &mut BitWriter,
    rows: impl Iterator<Item = (i64, &'a Flat<'a>, [Vec<Option<Count>>; 2])>,
) {
    let mut before: Vec<(u64, Option<Window>)> = Vec::new();
    let (mut t_before, mut delta) = (0i64, 0i64);
    for (i, (t, flat, buckets)) in rows.enumerate() {
        let (count, zero) = match flat.counts {
            Counts::Float(c, z) => (c, z),
            Counts::Integer(..) => (0.0, 0.0),
        };
        let mut numbers = vec![count.to_bits(), zero.to_bits(), flat.sum.to_bits()];
        if !flat.is_stale() || i == 0 {
            numbers.extend(buckets.iter().flatten().map(|b| b.map_or(0, Count::bits)));
        }
        if i == 0 {
            w.varbit_int(t);
            numbers.iter().for_each(|b| w.write(*b, 64));
            before = numbers.into_iter().map(|b| (b, None)).collect();
        } else {
            let d = t.wrapping_sub(t_before);
            w.varbit_int(d.wrapping_sub(delta));
            delta = d;
            for (n, (at, window)) in numbers.iter().zip(&mut before) {
                w.xor(n ^ *at, window);
                *at = *n;
            }
        }
        t_before = t;
    }
}

/// See `read_zero_threshold` in [`layout`](super::layout).
fn put_zero_threshold(w: &mut BitWriter, v: f64) {
    let bits = v.to_bits();
    let exponent = bits >> 52;
    // A power of two has no mantissa; the byte must come out as 1 to 254.
    let byte = (exponent + 244).wrapping_sub(1023);
    if bits == 0 {
        w.write(0, 8);
    } else if bits << 12 == 0 && (1..=254).contains(&byte) {
        w.write(byte, 8);
    } else {
        w.write(255, 8);
        w.write(bits, 64);
    }
}

/// See `read_custom_values` in [`layout`](super::layout). What is short is written short only if it
/// reads back as the same bits.
fn put_bound(w: &mut BitWriter, v: f64) {
    let thousandths = (v * 1000.0).round();
    if v.to_bits() != (-0.0f64).to_bits()
        && (0.0..=33_554_430.0).contains(&thousandths)
        && (thousandths / 1000.0).to_bits() == v.to_bits()
    {
        w.varbit_uint(thousandths as u64 + 1);
    } else {
        w.write(0, 1);
        w.write(v.to_bits(), 64);
    }
}
