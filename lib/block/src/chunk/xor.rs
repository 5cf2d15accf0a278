//! XOR chunks, the usual float chunk: delta-of-delta timestamps and XORed values.
//!
//! After two bytes of sample count: the first timestamp as a varint and the first value in full; the
//! second timestamp's delta as a uvarint and its value as a change; every further sample as a delta
//! of the delta (`0`; `10` + 14 bits; `110` + 17; `1110` + 20; `1111` + 64) and a change.

use super::bits::{Bad, BitReader};
use super::samples::ChunkSamples;
use super::varbit::{Window, read_xor, sign_extend_high};

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
    let mut s = State { pos: r.pos(), i: 2, t, delta, bits, window: Significant::of(window) };
    steps(&mut s, body, max_t, ts, values)?;
    // What lies in the last bytes goes through the same loop once more, with zeros behind it.
    let mut tail = [0u8; 3 * WINDOW];
    let whole = s.pos / 8;
    let rest = body.get(whole..).unwrap_or_default();
    let kept = rest.len().min(tail.len());
    if let (Some(to), Some(from)) = (tail.get_mut(..kept), rest.get(..kept)) {
        to.copy_from_slice(from);
    }
    s.pos -= whole * 8;
    steps(&mut s, &tail, max_t, ts, values)?;
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
    window: Significant,
}

/// Which bits of a float change, as the loop needs it.
#[derive(Clone, Copy)]
struct Significant {
    len: u32,
    leading: u32,
    /// The bits above the trailing zeros.
    mask: u64,
}

impl Significant {
    #[inline(always)]
    fn of(window: Window) -> Self {
        Self {
            len: window.len,
            leading: 64 - window.len - window.trailing,
            mask: u64::MAX << window.trailing,
        }
    }

    /// The change whose bits begin at the top of `w`, which has all of them.
    #[inline(always)]
    fn change(self, w: u64) -> u64 {
        (w >> self.leading) & self.mask
    }
}

/// Bits from `at` (at most 127) on, at least 57 of them valid.
#[inline(always)]
fn load(from: &[u8; WINDOW], at: u32) -> u64 {
    // The mask tells the compiler what is true anyway, so that it leaves out the check.
    let byte = (at >> 3) as usize & 15;
    let word = from.get(byte..byte + 8).and_then(|b| b.first_chunk::<8>());
    u64::from_be_bytes(*word.unwrap_or(&[0; 8])) << (at & 7)
}

/// All 64 bits from `at` (at most 95) on.
#[inline(always)]
fn load_whole(from: &[u8; WINDOW], at: u32) -> u64 {
    load(from, at) >> 32 << 32 | load(from, at + 32) >> 32
}

/// So many significant bits, a step of zero and what announces them lie in one load.
const NEAR: u32 = 54;

/// Decodes samples from the third on until the columns are full, one lies after `max_t`, or fewer
/// than [`WINDOW`] bytes are left.
///
/// Where the next sample begins is all that one sample has to wait for of the one before. Scrapes come
/// regularly, and a series keeps its window (a narrower one is not announced), so with these taken
/// for granted by branches the next position is an addition away, and the processor works at several
/// samples at once. Selecting without branches would chain two loads to each sample, which costs more
/// than the wrong guesses where values change now and then.
#[inline(never)]
#[expect(clippy::indexing_slicing, reason = "the hot loop: `i < n` and both slices have length n")]
fn steps(
    s: &mut State,
    data: &[u8],
    max_t: i64,
    ts: &mut [i64],
    values: &mut [f64],
) -> Result<(), Bad> {
    let n = ts.len().min(values.len());
    let (ts, values) = (&mut ts[..n], &mut values[..n]);
    let State { mut pos, mut i, mut t, mut delta, mut bits, mut window } = *s;
    while i < n && t <= max_t {
        let Some(from) = data.get(pos >> 3..).and_then(|d| d.first_chunk::<WINDOW>()) else {
            break;
        };
        let at = (pos & 7) as u32;
        let w = load(from, at);
        // The step as before, the value changed within the window.
        if w >> 61 == 0b010 && window.len <= NEAR {
            bits ^= window.change(w << 3);
            pos += 3 + window.len as usize;
        } else if w >> 62 == 0 {
            // Many samples in a row that repeat step and value, two zero bits each: the 57 bits at
            // hand tell up to 28 of them at once.
            if w >> 48 == 0 {
                let run = (w.leading_zeros() as usize / 2).min(28).min(n - i);
                t = repeat(&mut ts[i..i + run], &mut values[i..i + run], t, delta, bits);
                pos += 2 * run;
                i += run;
                continue;
            }
            pos += 2;
        } else {
            let (mut used, mut next) = (1, w << 1);
            if w >> 63 != 0 {
                let dod;
                (dod, used) = step(from, at, w);
                delta = delta.wrapping_add(dod);
                next = load(from, at + used);
            }
            pos += (used + value(from, at + used, next, &mut bits, &mut window)?) as usize;
        }
        t = t.wrapping_add(delta);
        (ts[i], values[i]) = (t, f64::from_bits(bits));
        i += 1;
    }
    *s = State { pos, i, t, delta, bits, window };
    Ok(())
}

/// Fills both columns (equally long) with a value that stays and times a step apart; gives the last.
#[inline(never)]
fn repeat(ts: &mut [i64], values: &mut [f64], mut t: i64, delta: i64, bits: u64) -> i64 {
    values.fill(f64::from_bits(bits));
    for to in ts {
        t = t.wrapping_add(delta);
        *to = t;
    }
    t
}

/// Applies how a value changed, which is told from `at` on (`w` has 56 bits of it at least), and says
/// how many bits tell it.
#[inline(always)]
fn value(
    from: &[u8; WINDOW],
    at: u32,
    w: u64,
    bits: &mut u64,
    window: &mut Significant,
) -> Result<u32, Bad> {
    if w >> 63 == 0 {
        return Ok(1);
    }
    let used = if w >> 62 == 0b10 {
        2
    } else {
        *window = Significant::of(Window::from_bits(w << 2 >> 53)?);
        13
    };
    let end = used + window.len;
    let w = match end {
        0..=56 => w << used,
        _ if window.len <= 57 => load(from, at + used),
        _ => load_whole(from, at + used),
    };
    *bits ^= window.change(w);
    Ok(end)
}

/// A delta of the delta that is not zero, and how many bits tell it; `w` is what lies at `at`.
#[inline(always)]
fn step(from: &[u8; WINDOW], at: u32, w: u64) -> (i64, u32) {
    match w >> 60 {
        0b1000..=0b1011 => (sign_extend_high(w << 2 >> 50, 14), 16),
        0b1100 | 0b1101 => (sign_extend_high(w << 3 >> 47, 17), 20),
        0b1110 => (sign_extend_high(w << 4 >> 44, 20), 24),
        _ => (load_whole(from, at + 4).cast_signed(), 68),
    }
}
