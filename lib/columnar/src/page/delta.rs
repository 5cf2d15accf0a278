//! `DELTA_BINARY_PACKED`: integers as differences, packed in as few bits as each run of them needs.
//!
//! Blocks of 128 values have a smallest difference and four widths; 32 values share a width. Equal
//! distances, as those of scrapes, take no bits at all.

use crate::thrift::{Bad, Reader, put_uvarint, put_varint};

const BLOCK: usize = 128;
const MINI: usize = 32;

/// Appends the encoding of `values`.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    put_uvarint(out, BLOCK as u64);
    put_uvarint(out, (BLOCK / MINI) as u64);
    put_uvarint(out, values.len() as u64);
    put_varint(out, values.first().copied().unwrap_or(0));
    let mut deltas = [0i64; BLOCK];
    let mut before = values.first().copied().unwrap_or(0);
    for block in values.get(1..).unwrap_or_default().chunks(BLOCK) {
        let mut min = i64::MAX;
        for (delta, value) in deltas.iter_mut().zip(block) {
            *delta = value.wrapping_sub(before);
            before = *value;
            min = min.min(*delta);
        }
        put_varint(out, min);
        let widths_at = out.len();
        out.extend_from_slice(&[0; BLOCK / MINI]);
        let filled = deltas.get(..block.len()).unwrap_or_default();
        for (i, mini) in filled.chunks(MINI).enumerate() {
            let all = mini.iter().fold(0u64, |a, d| a | d.wrapping_sub(min).cast_unsigned());
            let width = 64 - all.leading_zeros();
            if let Some(at) = out.get_mut(widths_at + i) {
                *at = width as u8;
            }
            pack(mini, min, width, out);
        }
    }
}

/// Packs the differences above `min`, padded to 32 values.
fn pack(deltas: &[i64], min: i64, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut bits, mut filled) = (0u128, 0u32);
    let end = out.len() + MINI * width as usize / 8;
    for delta in deltas {
        bits |= u128::from(delta.wrapping_sub(min).cast_unsigned()) << filled;
        filled += width;
        while filled >= 32 {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            filled -= 32;
        }
    }
    out.extend_from_slice(&(bits as u32).to_le_bytes());
    out.resize(end, 0);
}

/// Appends exactly `count` decoded values to `out`.
pub(crate) fn decode(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), Bad> {
    let mut reader = Reader::new(bytes);
    let (block, minis) = (reader.uvarint()?, reader.uvarint()?);
    let total = reader.uvarint()?;
    let first = reader.i64()?;
    if total != count as u64
        || minis == 0
        || minis > 64
        || block > 8192
        || block % (32 * minis) != 0
    {
        return Err(Bad);
    }
    let mini = (block / minis) as usize;
    if mini == 0 {
        return Err(Bad);
    }
    if count == 0 {
        return Ok(());
    }
    out.reserve(count);
    out.push(first);
    let (mut value, mut left) = (first, count - 1);
    let mut rest = bytes.get(bytes.len() - reader.left()..).unwrap_or_default();
    while left > 0 {
        let mut head = Reader::new(rest);
        let min = head.i64()?;
        rest = rest.get(rest.len() - head.left()..).unwrap_or_default();
        let (widths, data) = rest.split_at_checked(minis as usize).ok_or(Bad)?;
        rest = data;
        for width in widths {
            if left == 0 {
                break;
            }
            let width = u32::from(*width);
            if width > 64 {
                return Err(Bad);
            }
            let (packed, after) = rest.split_at_checked(mini / 8 * width as usize).ok_or(Bad)?;
            rest = after;
            let n = mini.min(left);
            value = unpack(packed, width, n, min, value, out);
            left -= n;
        }
    }
    Ok(())
}

/// Appends `n` values; `packed` holds at least that many differences of `width` bits.
fn unpack(packed: &[u8], width: u32, n: usize, min: i64, value: i64, out: &mut Vec<i64>) -> i64 {
    let mut value = value;
    if width == 0 {
        out.extend((0..n).map(|_| {
            value = value.wrapping_add(min);
            value
        }));
        return value;
    }
    if width <= 32 {
        let mask = (1u64 << width) - 1;
        // Whole words first, then what the last bytes hold.
        let (mut bits, mut have, mut words) = (0u64, 0u32, packed.chunks(4));
        out.extend((0..n).map(|_| {
            if have < width {
                let word = words.next().map_or(0, |w| match w.first_chunk::<4>() {
                    Some(w) => u32::from_le_bytes(*w),
                    None => w.iter().rev().fold(0, |a, b| a << 8 | u32::from(*b)),
                });
                bits |= u64::from(word) << have;
                have += 32;
            }
            let delta = bits & mask;
            bits >>= width;
            have -= width;
            value = value.wrapping_add(min).wrapping_add(delta.cast_signed());
            value
        }));
        return value;
    }
    let mask = u64::MAX >> (64 - width);
    for i in 0..n {
        let at = i * width as usize;
        let mut wide = [0u8; 16];
        let tail = packed.get(at / 8..).unwrap_or_default();
        for (to, from) in wide.iter_mut().zip(tail.iter().take(9)) {
            *to = *from;
        }
        let delta = (u128::from_le_bytes(wide) >> (at % 8)) as u64 & mask;
        value = value.wrapping_add(min).wrapping_add(delta.cast_signed());
        out.push(value);
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(values: &[i64]) {
        let mut bytes = Vec::new();
        encode(values, &mut bytes);
        let mut back = Vec::new();
        assert_eq!(decode(&bytes, values.len(), &mut back), Ok(()));
        assert_eq!(back, values);
        for cut in 0..bytes.len().min(64) {
            let mut out = Vec::new();
            let _any = decode(&bytes[..cut], values.len(), &mut out);
        }
    }

    #[test]
    fn regular_times_cost_nothing() {
        let values: Vec<i64> = (0..1000).map(|i| 1_700_000_000_000 + i * 30_000).collect();
        round(&values);
        let mut bytes = Vec::new();
        encode(&values, &mut bytes);
        assert!(bytes.len() < 100, "{}", bytes.len());
        round(&[]);
        round(&[i64::MIN, i64::MAX, 0, -1]);
    }

    #[test]
    fn claims_beyond_the_bytes_are_refused() {
        let mut bytes = Vec::new();
        put_uvarint(&mut bytes, 128);
        put_uvarint(&mut bytes, 4);
        put_uvarint(&mut bytes, 1 << 40);
        put_varint(&mut bytes, 0);
        assert_eq!(decode(&bytes, 10, &mut Vec::new()), Err(Bad));
    }

    proptest! {
        #[test]
        fn any_numbers(values in proptest::collection::vec(any::<i64>(), 0..400), shift in 0u32..63) {
            let values: Vec<i64> = values.iter().map(|v| v >> shift).collect();
            round(&values);
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0usize..300) {
            let mut out = Vec::new();
            let _any = decode(&bytes, count, &mut out);
            prop_assert!(out.len() <= count);
        }
    }
}
