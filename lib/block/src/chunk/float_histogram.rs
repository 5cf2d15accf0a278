//! Float histogram chunks: as the integer ones, but every count and bucket is XORed with the one
//! before, each in a window of its own.

use periplus_model::{FloatHistogram, TimeRange, is_stale};

use super::bits::{Bad, BitReader};
use super::histogram::Frame;
use super::layout::Layout;
use super::sink::Sink;
use super::varbit::{Window, read_int, read_xor};

/// A float and the window it changes in.
#[derive(Clone, Copy, Default)]
struct Xored {
    bits: u64,
    window: Window,
}

impl Xored {
    fn first(r: &mut BitReader<'_>) -> Self {
        Self { bits: r.read(64), window: Window::default() }
    }

    fn step(&mut self, r: &mut BitReader<'_>) -> Result<(), Bad> {
        read_xor(r, &mut self.bits, &mut self.window)
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// Hands over the samples inside `range`; reading ends with the first one after it.
pub(super) fn decode(frame: &Frame<'_>, range: TimeRange, out: &mut impl Sink) -> Result<(), Bad> {
    if frame.count == 0 {
        return Ok(());
    }
    let mut r = BitReader::new(frame.body);
    let mut starts = frame.starts();
    let mut layout = Layout::read(&mut r, 64)?;
    let mut t = read_int(&mut r);
    let mut delta = 0i64;
    let mut count = Xored::first(&mut r);
    let mut zero_count = Xored::first(&mut r);
    let mut sum = Xored::first(&mut r);
    let mut positive: Vec<Xored> = (0..layout.positive).map(|_| Xored::first(&mut r)).collect();
    let mut negative: Vec<Xored> = (0..layout.negative).map(|_| Xored::first(&mut r)).collect();
    for i in 0..frame.count {
        let before = t;
        if i > 0 {
            delta = delta.wrapping_add(read_int(&mut r));
            t = t.wrapping_add(delta);
            count.step(&mut r)?;
            zero_count.step(&mut r)?;
            sum.step(&mut r)?;
            if !is_stale(sum.get()) {
                for b in positive.iter_mut().chain(&mut negative) {
                    b.step(&mut r)?;
                }
            }
        }
        starts.decode(&mut r, i, t, before)?;
        r.check()?;
        if t > range.max_t {
            break;
        }
        if t < range.min_t {
            continue;
        }
        let mut h = FloatHistogram { sum: sum.get(), ..FloatHistogram::default() };
        if !is_stale(sum.get()) {
            layout.take()?;
            h.counter_reset_hint = frame.hint(i);
            h.schema = layout.schema;
            h.zero_threshold = layout.zero_threshold;
            h.zero_count = zero_count.get();
            h.count = count.get();
            h.positive_spans.clone_from(&layout.positive_spans);
            h.negative_spans.clone_from(&layout.negative_spans);
            h.positive_buckets = positive.iter().map(Xored::get).collect();
            h.negative_buckets = negative.iter().map(Xored::get).collect();
            h.custom_values.clone_from(&layout.custom_values);
        }
        out.float(t, h, starts.at());
    }
    Ok(())
}
