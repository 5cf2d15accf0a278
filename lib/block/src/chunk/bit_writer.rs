//! Writing single bits, most significant first.

use super::varbit::Window;

#[derive(Clone, Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are still free.
    free: u32,
}

impl BitWriter {
    /// A writer that continues behind whole bytes.
    pub(super) fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, free: 0 }
    }

    /// Appends the `n` lowest bits of `v`, `n` at most 64.
    pub(super) fn write(&mut self, v: u64, mut n: u32) {
        while n > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = n.min(self.free);
            let part = (v >> (n - take)) & ((1 << take) - 1);
            self.free -= take;
            n -= take;
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << self.free) as u8;
            }
        }
    }

    pub(super) fn varint(&mut self, v: i64) {
        let mut bytes = Vec::with_capacity(10);
        crate::varint::put_varint(&mut bytes, v);
        bytes.iter().for_each(|b| self.write(u64::from(*b), 8));
    }

    pub(super) fn uvarint(&mut self, v: u64) {
        let mut bytes = Vec::with_capacity(10);
        crate::varint::put_uvarint(&mut bytes, v);
        bytes.iter().for_each(|b| self.write(u64::from(*b), 8));
    }

    /// What [`varbit::read_int`](super::varbit::read_int) reads.
    pub(super) fn varbit_int(&mut self, v: i64) {
        let width = match v {
            0 => 0,
            -3..=4 => 3,
            -31..=32 => 6,
            -255..=256 => 9,
            -2047..=2048 => 12,
            -131_071..=131_072 => 18,
            -16_777_215..=16_777_216 => 25,
            -36_028_797_018_963_967..=36_028_797_018_963_968 => 56,
            _ => 64,
        };
        self.prefixed(v.cast_unsigned(), width);
    }

    /// What [`varbit::read_uint`](super::varbit::read_uint) reads.
    pub(super) fn varbit_uint(&mut self, v: u64) {
        let width = match 64 - v.leading_zeros() {
            0 => 0,
            1..=3 => 3,
            4..=6 => 6,
            7..=9 => 9,
            10..=12 => 12,
            13..=18 => 18,
            19..=25 => 25,
            26..=56 => 56,
            _ => 64,
        };
        self.prefixed(v, width);
    }

    fn prefixed(&mut self, v: u64, width: u32) {
        let (prefix, len) = match width {
            0 => (0b0, 1),
            3 => (0b10, 2),
            6 => (0b110, 3),
            9 => (0b1110, 4),
            12 => (0b1_1110, 5),
            18 => (0b11_1110, 6),
            25 => (0b111_1110, 7),
            56 => (0b1111_1110, 8),
            _ => (0b1111_1111, 8),
        };
        self.write(prefix, len);
        self.write(v, width);
    }

    /// What [`varbit::read_xor`](super::varbit::read_xor) reads: how a float's bits changed.
    /// `window` is `None` before the first one was written.
    pub(super) fn xor(&mut self, changed: u64, window: &mut Option<Window>) {
        if changed == 0 {
            self.write(0, 1);
            return;
        }
        // Five bits are all there is for the leading zeros.
        let leading = changed.leading_zeros().min(31);
        let trailing = changed.trailing_zeros();
        if let Some(w) = window
            && trailing >= w.trailing
            && leading >= 64 - w.len - w.trailing
        {
            self.write(0b10, 2);
            self.write(changed >> w.trailing, w.len);
            return;
        }
        let len = 64 - leading - trailing;
        *window = Some(Window { len, trailing });
        self.write(0b11, 2);
        self.write(u64::from(leading), 5);
        // 64 does not fit into six bits and wraps to 0, which a changed value can't need.
        self.write(u64::from(len), 6);
        self.write(changed >> trailing, len);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
