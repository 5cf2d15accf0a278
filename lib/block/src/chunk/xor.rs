//! XOR chunks, the usual float chunk: delta-of-delta timestamps and XORed values.
//!
//! After two bytes of sample count: the first timestamp as a varint and the first value in full; the
//! second timestamp's delta as a uvarint and its value as a change; every further sample as a delta
//! of the delta (`0`; `10` + 14 bits; `110` + 17; `1110` + 20; `1111` + 64) and a change.

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
#[expect(clippy::indexing_slicing, reason = "the hot loop: `i < n` and both slices have length n")]
fn fill(body: &[u8], max_t: i64, ts: &mut [i64], values: &mut [f64]) -> Result<usize, Bad> {
    let n = ts.len().min(values.len());
    let (ts, values) = (&mut ts[..n], &mut values[..n]);
    if n == 0 {
        return Ok(0);
    }
    let mut r = BitReader::new(body);
    let mut t = r.varint()?;
    let mut bits = r.read(64);
    let mut window = Window::default();
    (ts[0], values[0]) = (t, f64::from_bits(bits));
    if n == 1 || t > max_t {
        return r.check().map(|()| 1);
    }
    let mut delta = r.uvarint()?.cast_signed();
    t = t.wrapping_add(delta);
    read_xor(&mut r, &mut bits, &mut window)?;
    (ts[1], values[1]) = (t, f64::from_bits(bits));

    let mut corrupt = false;
    let mut i = 2;
    while i < n && t <= max_t {
        let mut w = r.peek();
        // Many samples in a row that repeat step and value, two zero bits each: the 57 bits at hand
        // tell up to 28 of them at once.
        if w >> 48 == 0 {
            let run = (w.leading_zeros() as usize / 2).min(28).min(n - i);
            let v = f64::from_bits(bits);
            for (ts, value) in ts[i..i + run].iter_mut().zip(&mut values[i..i + run]) {
                t = t.wrapping_add(delta);
                (*ts, *value) = (t, v);
            }
            r.skip(2 * run as u32);
            i += run;
            continue;
        }
        // Scrapes come regularly, so this branch is well predicted; what the value does is not, so
        // there everything is computed and nothing is branched on.
        if w >> 63 == 0 {
            r.skip(1);
            w <<= 1;
        } else {
            delta = delta.wrapping_add(read_dod(&mut r, w));
            w = r.peek();
        }
        let changed = w >> 63;
        let anew = changed & (w >> 62);
        let leading = (w >> 57 & 0x1f) as u32;
        let len = ((w >> 51) as u32).wrapping_sub(1) % 64 + 1;
        corrupt |= anew != 0 && leading + len > 64;
        let announced = Window { len, trailing: 64u32.wrapping_sub(leading + len) };
        window = if anew != 0 { announced } else { window };
        let head = 1 + changed as u32 + 11 * anew as u32;
        let change = r.peek_at(head, window.len) << (window.trailing % 64);
        bits ^= change & changed.wrapping_neg();
        r.skip(head + window.len * changed as u32);
        t = t.wrapping_add(delta);
        (ts[i], values[i]) = (t, f64::from_bits(bits));
        i += 1;
    }
    if corrupt {
        return Err(BAD_WINDOW);
    }
    r.check().map(|()| i)
}

/// A delta of the delta that is not zero; `w` is what lies ahead of `r`.
#[inline(always)]
fn read_dod(r: &mut BitReader<'_>, w: u64) -> i64 {
    let (prefix, width) = match w >> 60 {
        0b1000..=0b1011 => (2, 14),
        0b1100 | 0b1101 => (3, 17),
        0b1110 => (4, 20),
        _ => {
            r.skip(4);
            return r.read(64).cast_signed();
        }
    };
    r.skip(prefix + width);
    sign_extend_high(w << prefix >> (64 - width), width)
}
