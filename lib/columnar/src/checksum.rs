//! What the `checksum` columns of `series.parquet` hold: XXH3 (64 bits) over what a window decodes to.
//!
//! Everything is hashed as little-endian words of eight bytes, in this order. Floats: how many; all
//! times; all bits of the values (for aggregates column by column, each preceded by how many there
//! are); how many start timestamps (0 where none is known), and they. Histograms: one after the
//! other, every field, each list preceded by its length.

use periplus_block::chunk::HistogramValue;
use periplus_model::{CounterResetHint, FloatHistogram, Span};
use xxhash_rust::xxh3::Xxh3;

pub(crate) struct Checksum(Xxh3);

impl Checksum {
    pub(crate) fn new() -> Self {
        Self(Xxh3::new())
    }

    pub(crate) fn word(&mut self, word: u64) {
        self.0.update(&word.to_le_bytes());
    }

    /// A list: its length and its words.
    pub(crate) fn words(&mut self, len: usize, mut words: impl Iterator<Item = u64>) {
        self.word(len as u64);
        let mut buffer = [0u8; 4096];
        loop {
            let mut filled = 0;
            for (to, word) in buffer.chunks_exact_mut(8).zip(&mut words) {
                to.copy_from_slice(&word.to_le_bytes());
                filled += 8;
            }
            self.0.update(buffer.get(..filled).unwrap_or_default());
            if filled < buffer.len() {
                return;
            }
        }
    }

    pub(crate) fn ints(&mut self, values: &[i64]) {
        self.words(values.len(), values.iter().map(|v| v.cast_unsigned()));
    }

    pub(crate) fn floats(&mut self, values: &[f64]) {
        self.words(values.len(), values.iter().map(|v| v.to_bits()));
    }

    fn spans(&mut self, spans: &[Span]) {
        let word = |s: &Span| u64::from(s.offset.cast_unsigned()) << 32 | u64::from(s.length);
        self.words(spans.len(), spans.iter().map(word));
    }

    pub(crate) fn float_histogram(&mut self, h: &FloatHistogram) {
        self.word(hint_number(h.counter_reset_hint) as u64);
        self.word(i64::from(h.schema).cast_unsigned());
        for value in [h.zero_threshold, h.zero_count, h.count, h.sum] {
            self.word(value.to_bits());
        }
        self.spans(&h.positive_spans);
        self.spans(&h.negative_spans);
        self.floats(&h.positive_buckets);
        self.floats(&h.negative_buckets);
        self.floats(&h.custom_values);
    }

    /// A raw histogram; an integer one as the float one it means, and that it is one.
    pub(crate) fn histogram(&mut self, ts: i64, start: i64, integer: bool, h: &HistogramValue) {
        self.word(ts.cast_unsigned());
        self.word(start.cast_unsigned());
        self.word(u64::from(integer));
        match h {
            HistogramValue::Integer(h) => self.float_histogram(&h.to_float()),
            HistogramValue::Float(h) => self.float_histogram(h),
        }
    }

    pub(crate) fn finish(&self) -> i64 {
        self.0.digest().cast_signed()
    }
}

/// The number a hint has in `histograms.parquet`.
pub(crate) const fn hint_number(hint: CounterResetHint) -> i32 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

/// The hint of a number.
pub(crate) const fn hint_of(number: i32) -> Option<CounterResetHint> {
    Some(match number {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => return None,
    })
}
