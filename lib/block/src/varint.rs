//! Go's variable-length integers over byte slices, as the index, tombstones, chunk segments and
//! write-ahead log records use them.

/// Splits an unsigned varint off; `None` where the bytes end or it exceeds 64 bits.
#[must_use]
pub fn uvarint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut v = 0u64;
    for (i, &b) in bytes.iter().take(10).enumerate() {
        let part = u64::from(b & 0x7f);
        if i == 9 && part > 1 {
            return None;
        }
        v |= part << (7 * i);
        if b < 0x80 {
            return Some((v, bytes.get(i + 1..)?));
        }
    }
    None
}

/// Splits a signed (zigzag) varint off.
#[must_use]
pub fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (v, rest) = uvarint(bytes)?;
    Some(((v >> 1).cast_signed() ^ -((v & 1).cast_signed()), rest))
}

/// Appends an unsigned varint.
pub fn put_uvarint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v & 0x7f) as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends a signed (zigzag) varint.
pub fn put_varint(out: &mut Vec<u8>, v: i64) {
    put_uvarint(out, (v << 1 ^ v >> 63).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut b = Vec::new();
            put_uvarint(&mut b, v);
            b.push(7);
            assert_eq!(uvarint(&b), Some((v, &[7u8][..])));
        }
        for v in [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX] {
            let mut b = Vec::new();
            put_varint(&mut b, v);
            assert_eq!(varint(&b), Some((v, &[][..])));
        }
    }

    #[test]
    fn refuses_endless_and_cut_ones() {
        assert_eq!(uvarint(&[]), None);
        assert_eq!(uvarint(&[0x80]), None);
        assert_eq!(uvarint(&[0xff; 11]), None);
        assert_eq!(uvarint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None);
    }
}
