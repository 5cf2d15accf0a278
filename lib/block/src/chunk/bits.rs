//! Reading single bits, most significant first.

use super::ChunkError;

/// Why reading bits stopped; the chunk's decoder adds its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The bytes end inside a sample.
    Truncated,
    /// What is there can't have been written by an encoder.
    Corrupt(&'static str),
    /// The decoded histograms would need more memory than one chunk may take.
    TooLarge,
    /// A schema number that no histogram has.
    Schema(i64),
}

impl Bad {
    pub(super) fn of(self, encoding: super::ChunkEncoding) -> ChunkError {
        match self {
            Self::Truncated => ChunkError::Truncated { encoding },
            Self::Corrupt(reason) => ChunkError::Corrupt { encoding, reason },
            Self::TooLarge => ChunkError::TooLarge { encoding },
            Self::Schema(schema) => ChunkError::UnknownSchema { encoding, schema },
        }
    }
}

/// A position in a run of bits.
///
/// Reads beyond the end give zeros and move on, so that the hot loops need no check per read; the
/// position tells afterwards ([`check`](Self::check)). Every loop over this reader is bounded by a
/// count that was checked against the bytes there are, so the zeros can't make one run long.
///
/// The position is a bit number and every read loads its eight bytes anew: the position depends
/// on few earlier loads (a delta's width is known before its bits are), so the processor overlaps
/// the loads of neighbouring samples. A buffered word that is shifted and refilled would chain them.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    data: &'a [u8],
    pos: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, pos: 0 }
    }

    /// The next bits, the first one highest. At least 57 of the 64 are valid; the rest is zero or
    /// stale, so use no more.
    #[inline(always)]
    pub(super) fn peek(&self) -> u64 {
        let byte = self.pos >> 3;
        match self.data.get(byte..byte + 8).and_then(|b| b.first_chunk::<8>()) {
            Some(b) => u64::from_be_bytes(*b) << (self.pos & 7),
            None => self.peek_tail(byte),
        }
    }

    #[cold]
    fn peek_tail(&self, byte: usize) -> u64 {
        let mut b = [0u8; 8];
        for (to, from) in b.iter_mut().zip(self.data.get(byte..).unwrap_or_default()) {
            *to = *from;
        }
        u64::from_be_bytes(b) << (self.pos & 7)
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, bits: u32) {
        self.pos += bits as usize;
    }

    /// The next `bits` (at most 64) as an unsigned number.
    #[inline(always)]
    pub(super) fn read(&mut self, bits: u32) -> u64 {
        if bits == 0 {
            return 0;
        }
        if bits <= 57 {
            let v = self.peek() >> (64 - bits);
            self.skip(bits);
            return v;
        }
        let high = self.peek() >> 32;
        self.skip(32);
        let low_bits = bits - 32;
        let low = self.peek() >> (64 - low_bits);
        self.skip(low_bits);
        high << low_bits | low
    }

    /// The number of the next bit.
    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// Whether everything read so far was there.
    #[inline(always)]
    pub(super) fn check(&self) -> Result<(), Bad> {
        if self.pos > self.data.len() * 8 { Err(Bad::Truncated) } else { Ok(()) }
    }

    /// Bits not yet read.
    pub(super) fn remaining(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.pos)
    }

    /// Go's unsigned varint: seven bits a byte, lowest first.
    pub(super) fn uvarint(&mut self) -> Result<u64, Bad> {
        // Mostly it ends within the seven bytes at hand.
        let w = self.peek();
        let last = (!w & 0x8080_8080_8080_8000).leading_zeros() / 8;
        if last > 6 {
            return self.long_uvarint();
        }
        self.skip(8 * (last + 1));
        Ok((0..=last).fold(0, |v, i| v | (w >> (56 - 8 * i) & 0x7f) << (7 * i)))
    }

    #[cold]
    fn long_uvarint(&mut self) -> Result<u64, Bad> {
        let mut v = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.read(8);
            let part = byte & 0x7f;
            if shift == 63 && part > 1 {
                break;
            }
            v |= part << shift;
            if byte < 0x80 {
                return Ok(v);
            }
        }
        self.check()?;
        Err(Bad::Corrupt("a varint longer than 64 bits"))
    }

    /// Go's signed varint: zigzag over [`uvarint`](Self::uvarint).
    pub(super) fn varint(&mut self) -> Result<i64, Bad> {
        let v = self.uvarint()?;
        Ok((v >> 1).cast_signed() ^ -((v & 1).cast_signed()))
    }

    pub(super) fn f64(&mut self) -> f64 {
        f64::from_bits(self.read(64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_at_every_offset() {
        let data: Vec<u8> = (0..40u8).map(|i| i.wrapping_mul(151).wrapping_add(17)).collect();
        let bit = |i: usize| u64::from(data[i / 8] >> (7 - i % 8) & 1);
        for offset in 0..70 {
            for width in 0..=64u32 {
                let mut r = BitReader::new(&data);
                r.skip(offset);
                let want = (0..width as usize).fold(0, |v, i| v << 1 | bit(offset as usize + i));
                assert_eq!(r.read(width), want, "offset {offset} width {width}");
            }
        }
    }

    #[test]
    fn beyond_the_end_are_zeros_and_an_error() {
        let mut r = BitReader::new(&[0xff]);
        assert_eq!(r.read(16), 0xff00);
        assert_eq!(r.check(), Err(Bad::Truncated));
        let mut r = BitReader::new(&[0x80; 3]);
        assert_eq!((r.uvarint(), r.check()), (Ok(0), Err(Bad::Truncated)));
        assert_eq!(
            BitReader::new(&[0xff; 12]).uvarint(),
            Err(Bad::Corrupt("a varint longer than 64 bits"))
        );
    }
}
