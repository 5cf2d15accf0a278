//! The run-length and bit-packing hybrid: levels and dictionary indexes.

use crate::thrift::{Bad, Reader, put_uvarint};

/// Bits that numbers up to `max` need.
pub(crate) const fn width_of(max: u32) -> u32 {
    32 - max.leading_zeros()
}

/// Appends the encoding of `values`, each below `2^width`.
pub(crate) fn encode(values: &[u32], width: u32, out: &mut Vec<u8>) {
    let mut at = 0;
    let mut literal = 0..0;
    while let Some(rest) = values.get(at..).filter(|r| !r.is_empty()) {
        let first = rest.first().copied().unwrap_or(0);
        let run = rest.iter().take_while(|v| **v == first).count();
        if run >= 8 {
            flush(values.get(literal.clone()).unwrap_or_default(), width, out);
            put_uvarint(out, (run as u64) << 1);
            let bytes = first.to_le_bytes();
            out.extend_from_slice(bytes.get(..width.div_ceil(8) as usize).unwrap_or_default());
            at += run;
            literal = at..at;
        } else {
            at = (at + 8).min(values.len());
            literal.end = at;
        }
    }
    flush(values.get(literal).unwrap_or_default(), width, out);
}

/// Writes values bit-packed, padded to eight.
fn flush(values: &[u32], width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    put_uvarint(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * width as usize;
    let (mut bits, mut filled) = (0u64, 0u32);
    for value in values {
        bits |= u64::from(*value) << filled;
        filled += width;
        while filled >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(bits as u8);
    }
    out.resize(end, 0);
}

/// Appends exactly `count` values to `out`. The caller has bounded `count`.
pub(crate) fn decode(
    bytes: &[u8],
    width: u32,
    count: usize,
    out: &mut Vec<u32>,
) -> Result<(), Bad> {
    if width > 32 {
        return Err(Bad);
    }
    let (mut rest, mut left) = (bytes, count);
    while left > 0 {
        let mut reader = Reader::new(rest);
        let head = reader.uvarint()?;
        rest = rest.get(rest.len() - reader.left()..).unwrap_or_default();
        let many = usize::try_from(head >> 1).map_err(|_| Bad)?;
        if many == 0 {
            return Err(Bad);
        }
        if head & 1 == 0 {
            let (value, after) = rest.split_at_checked(width.div_ceil(8) as usize).ok_or(Bad)?;
            rest = after;
            let value = value.iter().rev().fold(0u32, |a, b| a << 8 | u32::from(*b));
            let n = many.min(left);
            out.resize(out.len() + n, value);
            left -= n;
        } else {
            let len = many.checked_mul(width as usize).ok_or(Bad)?;
            let n = many.saturating_mul(8).min(left);
            // The last group may be cut where its padding begins.
            let need = (n * width as usize).div_ceil(8);
            let packed = rest.get(..need).ok_or(Bad)?;
            rest = rest.get(len.min(rest.len())..).unwrap_or_default();
            unpack(packed, width, n, out);
            left -= n;
        }
    }
    Ok(())
}

fn unpack(packed: &[u8], width: u32, n: usize, out: &mut Vec<u32>) {
    let mask = ((1u64 << width) - 1) as u32;
    let (mut bits, mut have, mut bytes) = (0u64, 0u32, packed.iter());
    out.extend((0..n).map(|_| {
        while have < width {
            bits |= u64::from(bytes.next().copied().unwrap_or(0)) << have;
            have += 8;
        }
        let value = bits as u32 & mask;
        bits >>= width;
        have -= width;
        value
    }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_of_billions_is_cut() {
        let mut bytes = Vec::new();
        put_uvarint(&mut bytes, (1 << 40) << 1);
        bytes.push(1);
        let mut out = Vec::new();
        assert_eq!(decode(&bytes, 1, 5, &mut out), Ok(()));
        assert_eq!(out, [1; 5]);
    }

    proptest! {
        #[test]
        fn any_numbers(
            runs in proptest::collection::vec((any::<u32>(), 1usize..20), 0..60),
            width in 1u32..=32,
        ) {
            let values: Vec<u32> = runs
                .iter()
                .flat_map(|(v, n)| std::iter::repeat_n(v >> (32 - width), *n))
                .collect();
            let mut bytes = Vec::new();
            encode(&values, width, &mut bytes);
            let mut back = Vec::new();
            prop_assert_eq!(decode(&bytes, width, values.len(), &mut back), Ok(()));
            prop_assert_eq!(back, values);
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100), width in 0u32..40) {
            let mut out = Vec::new();
            let _any = decode(&bytes, width, 1000, &mut out);
            prop_assert!(out.len() <= 1000);
        }
    }
}
