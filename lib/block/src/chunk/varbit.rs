//! The variable-width numbers inside chunks: an integer whose width is told by a unary prefix, and
//! a float stored as what changed of it.

use super::bits::{Bad, BitReader};

/// Bits of the number behind a prefix of so many ones.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

#[inline]
fn prefixed(r: &mut BitReader<'_>) -> (u64, u32) {
    let ones = (!r.peek()).leading_zeros().min(8);
    // Eight ones are a whole prefix; a shorter one ends with a zero.
    r.skip(ones + u32::from(ones < 8));
    let width = WIDTHS.get(ones as usize).copied().unwrap_or(64);
    (r.read(width), width)
}

/// A signed integer; of the two ends of a width the positive one is included
/// (three bits hold −3..=4).
#[inline]
pub(super) fn read_int(r: &mut BitReader<'_>) -> i64 {
    let w = r.peek();
    let ones = (!w).leading_zeros();
    if ones <= SHORT {
        let (v, used) = short(w, ones);
        r.skip(used);
        return v;
    }
    let (v, width) = prefixed(r);
    sign_extend_high(v, width)
}

/// Two of [`read_int`], which mostly lie in one load.
#[inline]
pub(super) fn read_two_ints(r: &mut BitReader<'_>) -> (i64, i64) {
    let w = r.peek();
    let ones = (!w).leading_zeros();
    // At most 24 bits, so at least 33 are left, and a short one takes 32.
    if ones < SHORT {
        let (first, used) = short(w, ones);
        let w = w << used;
        let ones = (!w).leading_zeros();
        if ones <= SHORT {
            let (second, more) = short(w, ones);
            r.skip(used + more);
            return (first, second);
        }
        r.skip(used);
        return (first, read_int(r));
    }
    (read_int(r), read_int(r))
}

/// Up to so many ones stand before a number that is short enough to be had with its prefix.
const SHORT: u32 = 6;

/// [`WIDTHS`] of the short ones, a byte each: a shift is quicker than a table.
const SHORT_WIDTHS: u64 = {
    let (mut all, mut i) = (0, 0);
    while i <= SHORT {
        all |= (WIDTHS[i as usize] as u64) << (8 * i);
        i += 1;
    }
    all
};

/// The number at the beginning of `w` behind `ones` ones, and the bits both take.
#[inline(always)]
fn short(w: u64, ones: u32) -> (i64, u32) {
    let width = (SHORT_WIDTHS >> (8 * ones)) as u32 & 0xff;
    let v = w << (ones + 1) >> 1 >> (63 - width);
    let negative = v > (1 << width) >> 1;
    (v.wrapping_sub(u64::from(negative) << width).cast_signed(), ones + 1 + width)
}

/// The unsigned sibling of [`read_int`].
#[inline]
pub(super) fn read_uint(r: &mut BitReader<'_>) -> u64 {
    prefixed(r).0
}

/// Reads `v` of `width` bits as the signed number in `-(2^(width-1)-1) ..= 2^(width-1)`.
#[inline(always)]
pub(super) fn sign_extend_high(v: u64, width: u32) -> i64 {
    if width == 0 || width >= 64 {
        return v.cast_signed();
    }
    if v > 1 << (width - 1) { v.wrapping_sub(1 << width).cast_signed() } else { v.cast_signed() }
}

/// Reads `v` of `width` bits as a number in two's complement.
#[inline(always)]
pub(super) fn sign_extend(v: u64, width: u32) -> i64 {
    if width == 0 || width >= 64 {
        return v.cast_signed();
    }
    (v << (64 - width)).cast_signed() >> (64 - width)
}

/// Leading zeros and significant bits that no float has.
pub(super) const BAD_WINDOW: Bad = Bad::Corrupt("a value's leading and significant bits exceed 64");

/// Which bits of a float change from sample to sample: `len` bits above `trailing` zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) len: u32,
    pub(super) trailing: u32,
}

impl Default for Window {
    /// Before any window was written all bits count.
    fn default() -> Self {
        Self { len: 64, trailing: 0 }
    }
}

impl Window {
    /// From the eleven bits that announce a window: five of leading zeros, six of length, where no
    /// length means 64.
    #[inline(always)]
    pub(super) fn from_bits(eleven: u64) -> Result<Self, Bad> {
        let leading = (eleven >> 6 & 0x1f) as u32;
        let len = match (eleven & 0x3f) as u32 {
            0 => 64,
            len => len,
        };
        if leading + len > 64 {
            return Err(BAD_WINDOW);
        }
        Ok(Self { len, trailing: 64 - leading - len })
    }
}

/// Reads how a float changed, `0` not at all, `10` within the window, `11` in a new one, and
/// applies it to `bits`.
#[inline(always)]
pub(super) fn read_xor(
    r: &mut BitReader<'_>,
    bits: &mut u64,
    window: &mut Window,
) -> Result<(), Bad> {
    let w = r.peek();
    if w >> 63 == 0 {
        r.skip(1);
        return Ok(());
    }
    if w >> 62 == 0b10 {
        r.skip(2);
    } else {
        *window = Window::from_bits(w << 2 >> 53)?;
        r.skip(13);
    }
    *bits ^= r.read(window.len) << window.trailing;
    Ok(())
}
