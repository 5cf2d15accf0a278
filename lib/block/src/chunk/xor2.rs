//! XOR2 chunks, Prometheus 3's denser float chunk, with optional start timestamps.
//!
//! After the count comes a byte that tells which samples carry a start timestamp
//! ([`StartTimes`]). The first two samples are as in [`xor`](super::xor); from the third on one
//! prefix tells of step and value together: `0` both as before, `10` a new value, `110` + 13 bits and
//! `1110` + 20 bits a delta of the delta (two's complement), `11110` + 64 bits one that fits no less,
//! `11111` a stale marker. Stale markers leave the value that later ones are XORed with alone.

use periplus_model::STALE_NAN_BITS;

use super::bits::{Bad, BitReader};
use super::samples::ChunkSamples;
use super::start_time::StartTimes;
use super::varbit::{Window, sign_extend};

/// What the value of a sample is told from.
struct Value {
    /// The value itself.
    bits: u64,
    /// The last value that was not a stale marker.
    base: u64,
    window: Window,
}

impl Value {
    fn within(&mut self, r: &mut BitReader<'_>) {
        self.base ^= r.read(self.window.len) << self.window.trailing;
        self.bits = self.base;
    }

    fn new_window(&mut self, r: &mut BitReader<'_>) -> Result<(), Bad> {
        self.window = Window::from_bits(r.read(11))?;
        self.within(r);
        Ok(())
    }

    /// A value beside a changed step: `0` as before, `10` within the window, `110` in a new one,
    /// `111` a stale marker.
    #[inline]
    fn any(&mut self, r: &mut BitReader<'_>) -> Result<(), Bad> {
        match r.peek() >> 61 {
            0b000..=0b011 => {
                r.skip(1);
                self.bits = self.base;
            }
            0b100 | 0b101 => {
                r.skip(2);
                self.within(r);
            }
            0b110 => {
                r.skip(3);
                self.new_window(r)?;
            }
            _ => {
                r.skip(3);
                self.bits = STALE_NAN_BITS;
            }
        }
        Ok(())
    }

    /// A value known to have changed: `0` within the window, `1` in a new one.
    #[inline]
    fn changed(&mut self, r: &mut BitReader<'_>) -> Result<(), Bad> {
        if r.read(1) == 0 {
            self.within(r);
            return Ok(());
        }
        self.new_window(r)
    }
}

/// Appends the samples of a chunk's body (behind the count) up to the first one after `max_t`.
pub(super) fn decode(
    body: &[u8],
    count: usize,
    max_t: i64,
    out: &mut ChunkSamples,
) -> Result<(), Bad> {
    let Some((&header, body)) = body.split_first() else { return Err(Bad::Truncated) };
    if count > 2 + body.len() * 8 {
        return Err(Bad::Truncated);
    }
    if count == 0 {
        return Ok(());
    }
    let mut start = StartTimes::new(header);
    out.reserve(count, start.any());
    let mut r = BitReader::new(body);
    let mut t = r.varint()?;
    let bits = r.read(64);
    let base = if bits == STALE_NAN_BITS { 0 } else { bits };
    let mut value = Value { bits, base, window: Window::default() };
    start.decode(&mut r, 0, t, t)?;
    out.push(t, f64::from_bits(bits), start.at());
    let mut delta = 0i64;
    for i in 1..count {
        if t > max_t {
            break;
        }
        let before = t;
        if i == 1 {
            delta = r.uvarint()?.cast_signed();
            value.any(&mut r)?;
        } else {
            delta = delta.wrapping_add(step(&mut r, &mut value)?);
        }
        t = t.wrapping_add(delta);
        start.decode(&mut r, i, t, before)?;
        out.push(t, f64::from_bits(value.bits), start.at());
    }
    r.check()
}

/// One sample's joint prefix and value; gives the delta of the delta.
#[inline(always)]
fn step(r: &mut BitReader<'_>, value: &mut Value) -> Result<i64, Bad> {
    let w = r.peek();
    let dod = match w >> 59 {
        0b00000..=0b01111 => {
            r.skip(1);
            value.bits = value.base;
            return Ok(0);
        }
        0b10000..=0b10111 => {
            r.skip(2);
            value.changed(r)?;
            return Ok(0);
        }
        0b11000..=0b11011 => {
            r.skip(16);
            sign_extend(w << 3 >> 51, 13)
        }
        0b11100 | 0b11101 => {
            r.skip(24);
            sign_extend(w << 4 >> 44, 20)
        }
        0b11110 => {
            r.skip(5);
            r.read(64).cast_signed()
        }
        _ => {
            r.skip(5);
            value.bits = STALE_NAN_BITS;
            return Ok(0);
        }
    };
    value.any(r)?;
    Ok(dod)
}
