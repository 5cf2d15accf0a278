//! Integer histogram chunks: every count, also each bucket's, as a delta of its delta.
//!
//! The reset flags sit in the third byte; in the form with start timestamps that byte is their
//! header and the flags are the top two bits of the sample count. See [`Frame`].

use periplus_model::{CounterResetHint, Histogram, TimeRange, is_stale};

use super::bits::{Bad, BitReader};
use super::layout::Layout;
use super::samples::{ChunkSamples, HistogramValue};
use super::start_time::StartTimes;
use super::varbit::{Window, read_int, read_uint, read_xor};

/// The three bytes every histogram chunk begins with, understood.
pub(super) struct Frame<'a> {
    pub(super) count: usize,
    pub(super) flags: u8,
    start: u8,
    pub(super) body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits the three bytes off a payload.
    pub(super) fn new(payload: &'a [u8], with_start: bool) -> Result<Self, Bad> {
        let Some((&[a, b, c], body)) = payload.split_first_chunk::<3>() else {
            return Err(Bad::Truncated);
        };
        Ok(if with_start {
            let count = usize::from(u16::from_be_bytes([a & 0x3f, b]));
            Self { count, flags: a & 0xc0, start: c, body }
        } else {
            let count = usize::from(u16::from_be_bytes([a, b]));
            Self { count, flags: c & 0xc0, start: 0, body }
        })
    }

    pub(super) fn starts(&self) -> StartTimes {
        StartTimes::new(self.start)
    }

    /// What may be said about a reset before sample `i`. Before the first nothing can: the chunk
    /// before may be missing or may have been written later, so the flags are no proof.
    pub(super) fn hint(&self, i: usize) -> CounterResetHint {
        match (self.flags, i) {
            (0xc0, _) => CounterResetHint::Gauge,
            (_, 0) => CounterResetHint::Unknown,
            _ => CounterResetHint::NotReset,
        }
    }
}

/// A count that moves by a delta that moves.
#[derive(Clone, Copy, Default)]
struct Moving {
    at: i64,
    delta: i64,
}

impl Moving {
    fn step(&mut self, r: &mut BitReader<'_>) -> i64 {
        self.delta = self.delta.wrapping_add(read_int(r));
        self.at = self.at.wrapping_add(self.delta);
        self.at
    }
}

/// Appends the samples inside `range`; reading ends with the first one after it.
pub(super) fn decode(
    frame: &Frame<'_>,
    range: TimeRange,
    out: &mut ChunkSamples,
) -> Result<(), Bad> {
    if frame.count == 0 {
        return Ok(());
    }
    let mut r = BitReader::new(frame.body);
    let mut starts = frame.starts();
    let mut layout = Layout::read(&mut r, 1)?;
    let mut t = Moving { at: read_int(&mut r), delta: 0 };
    let mut count = Moving { at: read_uint(&mut r).cast_signed(), delta: 0 };
    let mut zero_count = Moving { at: read_uint(&mut r).cast_signed(), delta: 0 };
    let mut sum = r.read(64);
    let mut window = Window::default();
    let mut positive = vec![Moving::default(); layout.positive];
    let mut negative = vec![Moving::default(); layout.negative];
    for b in positive.iter_mut().chain(&mut negative) {
        b.at = read_int(&mut r);
    }
    for i in 0..frame.count {
        let before = t.at;
        if i > 0 {
            t.step(&mut r);
            count.step(&mut r);
            zero_count.step(&mut r);
            read_xor(&mut r, &mut sum, &mut window)?;
            if !is_stale(f64::from_bits(sum)) {
                for b in positive.iter_mut().chain(&mut negative) {
                    b.step(&mut r);
                }
            }
        }
        starts.decode(&mut r, i, t.at, before)?;
        r.check()?;
        if t.at > range.max_t {
            break;
        }
        if t.at < range.min_t {
            continue;
        }
        let sum = f64::from_bits(sum);
        let mut h = Histogram { sum, ..Histogram::default() };
        if !is_stale(sum) {
            layout.take()?;
            h.counter_reset_hint = frame.hint(i);
            h.schema = layout.schema;
            h.zero_threshold = layout.zero_threshold;
            h.zero_count = zero_count.at.cast_unsigned();
            h.count = count.at.cast_unsigned();
            h.positive_spans.clone_from(&layout.positive_spans);
            h.negative_spans.clone_from(&layout.negative_spans);
            h.positive_buckets = positive.iter().map(|b| b.at).collect();
            h.negative_buckets = negative.iter().map(|b| b.at).collect();
            h.custom_values.clone_from(&layout.custom_values);
        }
        out.push_histogram(t.at, HistogramValue::Integer(h), starts.at());
    }
    Ok(())
}
