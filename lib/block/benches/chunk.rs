//! How fast chunks become columns. `reference` is a plain decoder that takes one bit at a time, run
//! over the same bytes in the same run: the ratio is what counts, the machine is what it is.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use periplus_block::chunk::{ChunkEncoding, ChunkSamples, XorEncoder, decode};
use periplus_model::TimeRange;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn main() {
    divan::main();
}

const CHUNKS: usize = 200;
const SAMPLES: usize = 120;

/// The kinds of series a cluster has.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// `up`: never changes.
    Constant,
    /// A request counter: grows by whole numbers.
    Counter,
    /// CPU seconds: grows by fractions.
    CpuSeconds,
    /// Memory in bytes: a gauge in pages, often unchanged.
    Memory,
    /// CPU seconds with cAdvisor's own timestamps, each a little off.
    Jitter,
    /// A mixture as a scrape of a cluster has it, series by series.
    Mixed,
}

const KINDS: [Kind; 6] =
    [Kind::Constant, Kind::Counter, Kind::CpuSeconds, Kind::Memory, Kind::Jitter, Kind::Mixed];

fn chunk(kind: Kind, rng: &mut StdRng) -> Vec<u8> {
    let mut e = XorEncoder::new();
    let mut v = rng.random_range(0..1_000_000) as f64;
    let mut t = 1_760_000_000_000;
    for _ in 0..SAMPLES {
        match kind {
            Kind::Constant | Kind::Mixed => {}
            Kind::Counter => v += f64::from(rng.random_range(0..500)),
            Kind::CpuSeconds | Kind::Jitter => v += rng.random_range(0.0..3.0),
            Kind::Memory => {
                if rng.random_bool(0.3) {
                    v += f64::from(rng.random_range(-200..200)) * 4096.0;
                }
            }
        }
        let off = if matches!(kind, Kind::Jitter) { rng.random_range(-900..900) } else { 0 };
        e.append(t + off, v).expect("room");
        t += 15_000;
    }
    e.finish()
}

fn chunks(kind: Kind) -> Vec<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(1);
    let mix = [Kind::Constant, Kind::Counter, Kind::Constant, Kind::CpuSeconds, Kind::Memory];
    (0..CHUNKS)
        .map(|i| {
            let kind = if matches!(kind, Kind::Mixed) { mix[i % mix.len()] } else { kind };
            chunk(kind, &mut rng)
        })
        .collect()
}

#[divan::bench(args = KINDS)]
fn xor(bencher: Bencher<'_, '_>, kind: Kind) {
    let chunks = chunks(kind);
    let mut out = ChunkSamples::new();
    bencher.counter(ItemsCount::new(CHUNKS * SAMPLES)).bench_local(|| {
        for payload in &chunks {
            out.clear();
            decode(ChunkEncoding::Xor, black_box(payload), TimeRange::ALL, &mut out)
                .expect("our own bytes");
            black_box(&out);
        }
    });
}

#[divan::bench(args = KINDS)]
fn reference(bencher: Bencher<'_, '_>, kind: Kind) {
    let chunks = chunks(kind);
    let mut out = (Vec::new(), Vec::new());
    let mut want = ChunkSamples::new();
    for payload in &chunks {
        decode(ChunkEncoding::Xor, payload, TimeRange::ALL, &mut want).expect("our own bytes");
        bit_by_bit(payload, &mut out);
    }
    assert!(out.0 == want.ts && out.1 == want.values, "the two decoders agree");
    bencher.counter(ItemsCount::new(CHUNKS * SAMPLES)).bench_local(|| {
        for payload in &chunks {
            out.0.clear();
            out.1.clear();
            bit_by_bit(black_box(payload), &mut out);
            black_box(&out);
        }
    });
}

/// The format as it reads, one bit at a time, on bytes known to be good.
fn bit_by_bit(payload: &[u8], out: &mut (Vec<i64>, Vec<f64>)) {
    let mut pos = 16usize;
    let mut bit = || {
        let b = payload[pos / 8] >> (7 - pos % 8) & 1;
        pos += 1;
        u64::from(b)
    };
    let mut read = |n: u32| (0..n).fold(0u64, |v, _| v << 1 | bit());
    let count = u16::from_be_bytes([payload[0], payload[1]]);
    let (mut t, mut v, mut delta) = (0i64, 0u64, 0i64);
    let (mut leading, mut len) = (0u32, 64u32);
    for i in 0..count {
        if i < 2 {
            let mut n = 0u64;
            for shift in (0..).step_by(7) {
                let byte = read(8);
                n |= (byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            if i == 0 {
                t = (n >> 1) as i64 ^ -((n & 1) as i64);
                v = read(64);
            } else {
                delta = n as i64;
                t += delta;
            }
        } else {
            let mut ones = 0;
            while ones < 4 && read(1) == 1 {
                ones += 1;
            }
            let width = [0, 14, 17, 20, 64][ones];
            let dod = read(width) as i64;
            let negative = width > 0 && width < 64 && dod > 1 << (width - 1);
            delta += if negative { dod - (1 << width) } else { dod };
            t += delta;
        }
        if i > 0 && read(1) == 1 {
            if read(1) == 1 {
                leading = read(5) as u32;
                len = match read(6) as u32 {
                    0 => 64,
                    n => n,
                };
            }
            v ^= read(len) << (64 - leading - len);
        }
        out.0.push(t);
        out.1.push(f64::from_bits(v));
    }
}
