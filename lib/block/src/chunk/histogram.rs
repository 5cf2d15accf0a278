//! Integer histogram chunks: every count, also each bucket's, as a delta of its delta.
//!
//! The reset flags sit in the third byte; in the form with start timestamps that byte is their
//! header and the flags are the top two bits of the sample count. See [`Frame`].

use periplus_model::{CounterResetHint, FloatHistogram, Histogram, TimeRange, is_stale};

use super::bits::{Bad, BitReader};
use super::layout::Layout;
use super::sink::Sink;
use super::start_time::StartTimes;
use super::varbit::{Window, read_int, read_two_ints, read_uint, read_xor};

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
pub(super) struct Moving {
    at: i64,
    delta: i64,
}

impl Moving {
    #[inline]
    fn step(&mut self, r: &mut BitReader<'_>) -> i64 {
        self.by(read_int(r));
        self.at
    }

    #[inline(always)]
    fn by(&mut self, change: i64) {
        self.delta = self.delta.wrapping_add(change);
        self.at = self.at.wrapping_add(self.delta);
    }
}

/// Moves all buckets of a side.
fn step_all(r: &mut BitReader<'_>, buckets: &mut [Moving]) {
    let (pairs, last) = buckets.as_chunks_mut::<2>();
    for [a, b] in pairs {
        let (change_a, change_b) = read_two_ints(r);
        a.by(change_a);
        b.by(change_b);
    }
    for b in last {
        b.step(r);
    }
}

/// A sample before it is a histogram of one form or the other.
pub(super) struct Sample<'a> {
    layout: &'a Layout,
    hint: CounterResetHint,
    count: i64,
    zero_count: i64,
    sum: f64,
    /// Each as the difference to the bucket before.
    positive: &'a [Moving],
    negative: &'a [Moving],
}

impl Sample<'_> {
    /// As it was stored. A stale one has its sum alone.
    pub(super) fn integer(&self) -> Histogram {
        if is_stale(self.sum) {
            return Histogram { sum: self.sum, ..Histogram::default() };
        }
        let deltas = |side: &[Moving]| side.iter().map(|b| b.at).collect();
        Histogram {
            counter_reset_hint: self.hint,
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.zero_count.cast_unsigned(),
            count: self.count.cast_unsigned(),
            sum: self.sum,
            positive_spans: self.layout.positive_spans.clone(),
            negative_spans: self.layout.negative_spans.clone(),
            positive_buckets: deltas(self.positive),
            negative_buckets: deltas(self.negative),
            custom_values: self.layout.custom_values.clone(),
        }
    }

    /// As queries compute with it.
    pub(super) fn float(&self) -> FloatHistogram {
        if is_stale(self.sum) {
            return FloatHistogram { sum: self.sum, ..FloatHistogram::default() };
        }
        let absolute = |side: &[Moving]| {
            let mut count = 0i64;
            let step = |b: &Moving| {
                count = count.wrapping_add(b.at);
                count as f64
            };
            side.iter().map(step).collect()
        };
        FloatHistogram {
            counter_reset_hint: self.hint,
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.zero_count.cast_unsigned() as f64,
            count: self.count.cast_unsigned() as f64,
            sum: self.sum,
            positive_spans: self.layout.positive_spans.clone(),
            negative_spans: self.layout.negative_spans.clone(),
            positive_buckets: absolute(self.positive),
            negative_buckets: absolute(self.negative),
            custom_values: self.layout.custom_values.clone(),
        }
    }
}

/// Hands over the samples inside `range`; reading ends with the first one after it.
pub(super) fn decode(frame: &Frame<'_>, range: TimeRange, out: &mut impl Sink) -> Result<(), Bad> {
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
                step_all(&mut r, &mut positive);
                step_all(&mut r, &mut negative);
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
        if !is_stale(sum) {
            layout.take()?;
        }
        let sample = Sample {
            layout: &layout,
            hint: frame.hint(i),
            count: count.at,
            zero_count: zero_count.at,
            sum,
            positive: &positive,
            negative: &negative,
        };
        out.integer(t.at, &sample, starts.at());
    }
    Ok(())
}
