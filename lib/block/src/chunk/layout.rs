//! What all samples of a histogram chunk share: schema, zero threshold, spans, custom bounds.

use periplus_model::Span;

use super::bits::{Bad, BitReader};
use super::varbit::{read_int, read_uint};

/// The schema whose bucket bounds are listed.
pub(super) const CUSTOM_BUCKETS: i32 = -53;

/// What one chunk's decoded histograms may take, in bytes: a chunk repeats spans and bounds per
/// sample when decoded, so few bytes could otherwise become gigabytes. Real chunks stay below one
/// megabyte.
const DECODED_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive_spans: Vec<Span>,
    pub(super) negative_spans: Vec<Span>,
    pub(super) custom_values: Vec<f64>,
    /// Buckets in the positive spans.
    pub(super) positive: usize,
    /// Buckets in the negative spans.
    pub(super) negative: usize,
    /// Bytes that decoded samples may still take.
    budget: usize,
}

impl Layout {
    /// Reads the layout. `bucket_bits` is what the first sample takes per bucket at least: spans
    /// that promise more buckets than there are bits are refused before memory is taken for them.
    pub(super) fn read(r: &mut BitReader<'_>, bucket_bits: usize) -> Result<Self, Bad> {
        let zero_threshold = read_zero_threshold(r);
        let schema = read_int(r);
        r.check()?;
        let schema = match i32::try_from(schema) {
            Ok(s) if s == CUSTOM_BUCKETS || (-9..=52).contains(&s) => s,
            _ => return Err(Bad::Schema(schema)),
        };
        let (positive_spans, positive) = read_spans(r, bucket_bits)?;
        let (negative_spans, negative) = read_spans(r, bucket_bits)?;
        let custom_values =
            if schema == CUSTOM_BUCKETS { read_custom_values(r)? } else { Vec::new() };
        if positive.saturating_add(negative).saturating_mul(bucket_bits) > r.remaining() {
            return Err(Bad::Truncated);
        }
        Ok(Self {
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_values,
            positive,
            negative,
            budget: DECODED_BYTES_MAX,
        })
    }

    /// Accounts for one more decoded sample.
    pub(super) fn take(&mut self) -> Result<(), Bad> {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        let numbers = self.positive + self.negative + spans + self.custom_values.len();
        self.budget = self.budget.checked_sub(8 * numbers).ok_or(Bad::TooLarge)?;
        Ok(())
    }
}

/// One byte: 0 for zero, 255 for eight bytes that follow, else a power of two.
fn read_zero_threshold(r: &mut BitReader<'_>) -> f64 {
    match r.read(8) {
        0 => 0.0,
        255 => r.f64(),
        // 2^(b-244); 244 below and 1023 above: the exponent's own bias.
        b => f64::from_bits((b + 1023 - 244) << 52),
    }
}

fn read_spans(r: &mut BitReader<'_>, bucket_bits: usize) -> Result<(Vec<Span>, usize), Bad> {
    let count = read_uint(r);
    let mut spans = Vec::new();
    let mut buckets = 0usize;
    for _ in 0..count {
        let length = read_uint(r);
        let offset = read_int(r);
        // Also what ends the loop when the count is a lie.
        r.check()?;
        let (Ok(length), Ok(offset)) = (u32::try_from(length), i32::try_from(offset)) else {
            return Err(Bad::Corrupt("a bucket span beyond 32 bits"));
        };
        buckets = buckets.saturating_add(length as usize);
        if buckets.saturating_mul(bucket_bits) > r.remaining() {
            return Err(Bad::Truncated);
        }
        spans.push(Span { offset, length });
    }
    r.check()?;
    Ok((spans, buckets))
}

/// Each bound is a thousandth's multiple plus one, or 0 and eight bytes.
fn read_custom_values(r: &mut BitReader<'_>) -> Result<Vec<f64>, Bad> {
    let count = read_uint(r);
    let mut bounds = Vec::new();
    for _ in 0..count {
        let bound = match read_uint(r) {
            0 => r.f64(),
            n => (n - 1) as f64 / 1000.0,
        };
        r.check()?;
        bounds.push(bound);
    }
    r.check()?;
    Ok(bounds)
}
