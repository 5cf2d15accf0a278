//! XOR chunks, the usual float chunk: delta-of-delta timestamps and XORed values.
//!
//! After two bytes of sample count: the first timestamp as a varint and the first value in full; the
//! second timestamp's delta as a uvarint and its value as a change; every further sample as a delta
//! of the delta (`0`; `10` + 14 bits; `110` + 17; `1110` + 20; `1111` + 64) and a change.

use std::hint::select_unpredictable;

use super::bits::{Bad, BitReader};
use super::samples::ChunkSamples;
use super::varbit::{BAD_WINDOW, Window, read_xor, sign_extend_high};

/// Appends the samples of a chunk's body (behind the count) up to the first one after `max_t`,
/// which may be included, as may some that follow it.
pub(super) fn decode(
    body: &[u8],
    count: usize,
    max_t: i64,
    out: &mut ChunkSamples,
) -> Result<(), Bad> {
    if count == 0 {
        return Ok(());
    }
    // Two samples aside, each takes two bits at least; a count beyond that is a lie.
    if count > 2 + body.len() * 4 {
        return Err(Bad::Truncated);
    }
    let start = out.ts.len();
    out.ts.resize(start + count, 0);
    out.values.resize(start + count, 0.0);
    let ts = out.ts.get_mut(start..).unwrap_or_default();
    let values = out.values.get_mut(start..).unwrap_or_default();
    let filled = fill(body, max_t, ts, values)?;
    out.ts.truncate(start + filled);
    out.values.truncate(start + filled);
    Ok(())
}

/// Fills both columns (equally long) and says how far it came.
fn fill(body: &[u8], max_t: i64, ts: &mut [i64], values: &mut [f64]) -> Result<usize, Bad> {
    let mut r = BitReader::new(body);
    let mut t = r.varint()?;
    let mut bits = r.read(64);
    let mut window = Window::default();
    let n = ts.len();
    let mut put = |i: usize, t: i64, bits: u64| {
        if let (Some(to_t), Some(to_v)) = (ts.get_mut(i), values.get_mut(i)) {
            (*to_t, *to_v) = (t, f64::from_bits(bits));
        }
    };
    put(0, t, bits);
    if t > max_t || n < 2 {
        return r.check().map(|()| n.min(1));
    }
    let delta = r.uvarint()?.cast_signed();
    t = t.wrapping_add(delta);
    read_xor(&mut r, &mut bits, &mut window)?;
    put(1, t, bits);
    r.check()?;
    let window = window.trailing << 8 | window.len;
    let mut s = State { pos: r.pos(), i: 2, t, delta, bits, window, corrupt: 0 };
    steps(&mut s, body, max_t, ts, values);
    // What lies in the last bytes goes through the same loop once more, with zeros behind it.
    let mut tail = [0u8; 3 * WINDOW];
    let whole = s.pos / 8;
    let rest = body.get(whole..).unwrap_or_default();
    for (to, from) in tail.iter_mut().zip(rest) {
        *to = *from;
    }
    s.pos -= whole * 8;
    steps(&mut s, &tail, max_t, ts, values);
    if s.corrupt & BAD != 0 {
        return Err(BAD_WINDOW);
    }
    // Zeros read beyond the end look like samples.
    if s.pos > rest.len() * 8 || (s.i < ts.len() && s.t <= max_t) {
        return Err(Bad::Truncated);
    }
    Ok(s.i)
}

/// Bytes the loop looks at for one sample: at most 7 bits of the byte it begins in, 68 of the step,
/// 13 that announce a value and 64 of it are needed, in loads of eight bytes.
const WINDOW: usize = 32;

/// Where the loop is.
struct State {
    /// The next bit.
    pos: usize,
    /// The next sample.
    i: usize,
    t: i64,
    delta: i64,
    bits: u64,
    /// As in [`WINDOWS`].
    window: u32,
    /// All windows so far, one upon the other: has [`BAD`] if any had.
    corrupt: u32,
}

/// Marks what no encoder announces: more leading and significant bits than a float has.
const BAD: u32 = 1 << 16;

/// By the eleven bits that announce a window: its length in the lowest byte, its trailing zeros in the
/// next, and above these [`BAD`].
static WINDOWS: [u32; 2048] = {
    let mut all = [0u32; 2048];
    let mut i = 0;
    while i < 2048 {
        let (leading, len) = (i as u32 >> 6, (i as u32 + 63) % 64 + 1);
        all[i] = if leading + len > 64 { BAD | len } else { (64 - leading - len) << 8 | len };
        i += 1;
    }
    all
};

/// Bits from `at` (at most 127) on, at least 57 of them valid.
#[inline(always)]
fn load(from: &[u8; WINDOW], at: u32) -> u64 {
    // The mask tells the compiler what is true anyway, so that it leaves out the check.
    let byte = (at >> 3) as usize & 15;
    let word = from.get(byte..byte + 8).and_then(|b| b.first_chunk::<8>());
    u64::from_be_bytes(*word.unwrap_or(&[0; 8])) << (at & 7)
}

#[cold]
#[inline(never)]
fn load_wide(from: &[u8; WINDOW], at: u32, len: u32) -> u64 {
    (load(from, at) >> 32 << 32 | load(from, at + 32) >> 32) >> (64 - len)
}

/// Decodes samples from the third on until the columns are full, one lies after `max_t`, or fewer
/// than [`WINDOW`] bytes are left.
///
/// Scrapes come regularly, so what a step does is predicted well and branched on. What a value does
/// is not, and a wrong guess costs as much as two samples: there everything is computed and the
/// results are selected.
#[inline(never)]
#[expect(clippy::indexing_slicing, reason = "the hot loop: `i < n` and both slices have length n")]
fn steps(s: &mut State, data: &[u8], max_t: i64, ts: &mut [i64], values: &mut [f64]) {
    let n = ts.len().min(values.len());
    let (ts, values) = (&mut ts[..n], &mut values[..n]);
    let State { mut pos, mut i, mut t, mut delta, mut bits, mut window, mut corrupt } = *s;
    while i < n && t <= max_t {
        let Some(from) = data.get(pos >> 3..).and_then(|d| d.first_chunk::<WINDOW>()) else {
            break;
        };
        let mut at = (pos & 7) as u32;
        let mut w = load(from, at);
        // Many samples in a row that repeat step and value, two zero bits each: the 57 bits at hand
        // tell up to 28 of them at once.
        if w >> 48 == 0 {
            let run = (w.leading_zeros() as usize / 2).min(28).min(n - i);
            let v = f64::from_bits(bits);
            for (ts, value) in ts[i..i + run].iter_mut().zip(&mut values[i..i + run]) {
                t = t.wrapping_add(delta);
                (*ts, *value) = (t, v);
            }
            pos += 2 * run;
            i += run;
            continue;
        }
        if w >> 63 == 0 {
            at += 1;
            w <<= 1;
        } else {
            let (dod, used) = step(from, at, w);
            delta = delta.wrapping_add(dod);
            at += used;
            w = load(from, at);
        }
        let changed = (w >> 63) as u32;
        let anew = w >> 62 == 0b11;
        let announced = WINDOWS[(w >> 51 & 0x7ff) as usize];
        window = select_unpredictable(anew, announced, window);
        corrupt |= window;
        let len = window & 0xff;
        at += select_unpredictable(anew, 13, 1 + changed);
        let change = if len <= 57 {
            load(from, at) >> (len.wrapping_neg() & 63)
        } else {
            load_wide(from, at, len)
        };
        bits ^= select_unpredictable(changed != 0, change << (window >> 8 & 63), 0);
        at += select_unpredictable(changed != 0, len, 0);
        pos = (pos & !7) + at as usize;
        t = t.wrapping_add(delta);
        (ts[i], values[i]) = (t, f64::from_bits(bits));
        i += 1;
    }
    *s = State { pos, i, t, delta, bits, window, corrupt };
}

/// A delta of the delta that is not zero, and how many bits tell it; `w` is what lies at `at`.
#[inline(always)]
fn step(from: &[u8; WINDOW], at: u32, w: u64) -> (i64, u32) {
    match w >> 60 {
        0b1000..=0b1011 => (sign_extend_high(w << 2 >> 50, 14), 16),
        0b1100 | 0b1101 => (sign_extend_high(w << 3 >> 47, 17), 20),
        0b1110 => (sign_extend_high(w << 4 >> 44, 20), 24),
        _ => (load_wide(from, at + 4, 64).cast_signed(), 68),
    }
}
