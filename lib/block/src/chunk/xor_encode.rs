//! Writing XOR chunks, bit for bit as Prometheus does.

use super::ChunkError;
use super::bit_writer::BitWriter;
use super::varbit::Window;

/// Fills one XOR chunk, sample by sample.
#[derive(Clone, Debug)]
pub struct XorEncoder {
    w: BitWriter,
    count: u16,
    t: i64,
    bits: u64,
    delta: i64,
    window: Option<Window>,
}

impl Default for XorEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl XorEncoder {
    /// An empty chunk.
    #[must_use]
    pub fn new() -> Self {
        let w = BitWriter::after(vec![0, 0]);
        Self { w, count: 0, t: 0, bits: 0, delta: 0, window: None }
    }

    /// Appends a sample; timestamps are to ascend, which is not checked here.
    ///
    /// # Errors
    /// The chunk already holds 65,535 samples.
    pub fn append(&mut self, t: i64, v: f64) -> Result<(), ChunkError> {
        let bits = v.to_bits();
        match self.count {
            u16::MAX => return Err(ChunkError::Full),
            0 => {
                self.w.varint(t);
                self.w.write(bits, 64);
            }
            1 => {
                self.delta = t.wrapping_sub(self.t);
                self.w.uvarint(self.delta.cast_unsigned());
                self.w.xor(bits ^ self.bits, &mut self.window);
            }
            _ => {
                let delta = t.wrapping_sub(self.t);
                self.step(delta.wrapping_sub(self.delta));
                self.delta = delta;
                self.w.xor(bits ^ self.bits, &mut self.window);
            }
        }
        (self.t, self.bits) = (t, bits);
        self.count += 1;
        Ok(())
    }

    fn step(&mut self, dod: i64) {
        let (prefix, prefix_len, width) = match dod {
            0 => (0b0, 1, 0),
            -8191..=8192 => (0b10, 2, 14),
            -65_535..=65_536 => (0b110, 3, 17),
            -524_287..=524_288 => (0b1110, 4, 20),
            _ => (0b1111, 4, 64),
        };
        self.w.write(prefix, prefix_len);
        self.w.write(dod.cast_unsigned(), width);
    }

    /// Samples so far.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of payload so far.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.w.len()
    }

    /// The payload.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = self.w.into_bytes();
        if let Some(count) = bytes.first_chunk_mut::<2>() {
            *count = self.count.to_be_bytes();
        }
        bytes
    }
}
