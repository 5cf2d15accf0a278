//! Records: what the bytes of the log mean.

use periplus_model::{CounterResetHint, FloatHistogram, Histogram, Labels, Span};

use crate::cursor::Cursor;

/// A record that can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the record: {reason}")]
pub struct RecordError {
    /// Where in the record.
    pub offset: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// What a log tells. `series` is the head's reference number of a series; start timestamps are Unix
/// milliseconds, 0 for none.
pub trait Visitor {
    /// A reference number is a label set's from now on. A label set may have several.
    fn series(&mut self, series: u64, labels: Labels);
    /// A float sample.
    fn sample(&mut self, series: u64, start_ms: i64, t_ms: i64, value: f64);
    /// A native histogram sample; integer ones arrive as floats.
    fn histogram(&mut self, series: u64, start_ms: i64, t_ms: i64, histogram: FloatHistogram);
    /// Samples of a series were deleted by hand.
    fn tombstone(&mut self, series: u64, min_ms: i64, max_ms: i64);
}

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const TOMBSTONES: u8 = 3;
const EXEMPLARS: u8 = 4;
const MMAP_MARKERS: u8 = 5;
const METADATA: u8 = 6;
const HISTOGRAMS: u8 = 7;
const FLOAT_HISTOGRAMS: u8 = 8;
const CUSTOM_HISTOGRAMS: u8 = 9;
const CUSTOM_FLOAT_HISTOGRAMS: u8 = 10;
const SAMPLES_V2: u8 = 11;
const HISTOGRAMS_V2: u8 = 12;
const FLOAT_HISTOGRAMS_V2: u8 = 13;

/// Start timestamp markers of the V2 records.
const START_NONE: u8 = 0;
const START_SAME: u8 = 1;

/// The schema of histograms with custom bucket bounds.
const CUSTOM_SCHEMA: i64 = -53;

/// Decodes one record. Exemplars, metadata and m-map markers are passed over.
///
/// # Errors
/// A record of a type not known here, or one whose bytes don't add up. Calls already made stand.
pub fn decode(record: &[u8], to: &mut impl Visitor) -> Result<(), RecordError> {
    let mut c = Cursor::new(record);
    let kind = c.byte()?;
    match kind {
        SERIES => series(&mut c, to),
        SAMPLES => v1(&mut c, |c, series, t| {
            let v = c.float()?;
            to.sample(series, 0, t, v);
            Ok(())
        }),
        SAMPLES_V2 => v2(&mut c, |c, series, st, t| {
            let v = c.float()?;
            to.sample(series, st, t, v);
            Ok(())
        }),
        TOMBSTONES => tombstones(&mut c, to),
        HISTOGRAMS | CUSTOM_HISTOGRAMS => v1(&mut c, |c, series, t| {
            if let Some(h) = histogram(c)? {
                to.histogram(series, 0, t, h);
            }
            Ok(())
        }),
        HISTOGRAMS_V2 => v2(&mut c, |c, series, st, t| {
            if let Some(h) = histogram(c)? {
                to.histogram(series, st, t, h);
            }
            Ok(())
        }),
        FLOAT_HISTOGRAMS | CUSTOM_FLOAT_HISTOGRAMS => v1(&mut c, |c, series, t| {
            if let Some(h) = float_histogram(c)? {
                to.histogram(series, 0, t, h);
            }
            Ok(())
        }),
        FLOAT_HISTOGRAMS_V2 => v2(&mut c, |c, series, st, t| {
            if let Some(h) = float_histogram(c)? {
                to.histogram(series, st, t, h);
            }
            Ok(())
        }),
        EXEMPLARS | MMAP_MARKERS | METADATA => Ok(()),
        _ => Err(c.error("a record type that is not known here")),
    }
}

fn series(c: &mut Cursor<'_>, to: &mut impl Visitor) -> Result<(), RecordError> {
    while !c.is_empty() {
        let reference = c.be64()?;
        let n = c.count(2)?;
        let mut pairs = Vec::with_capacity(n);
        for _ in 0..n {
            pairs.push((c.string()?, c.string()?));
        }
        to.series(reference, Labels::from_pairs(pairs));
    }
    Ok(())
}

fn tombstones(c: &mut Cursor<'_>, to: &mut impl Visitor) -> Result<(), RecordError> {
    while !c.is_empty() {
        let (series, min, max) = (c.be64()?, c.varint()?, c.varint()?);
        to.tombstone(series, min, max);
    }
    Ok(())
}

/// The first form: a base reference and time, then differences to the base.
fn v1<'a>(
    c: &mut Cursor<'a>,
    mut item: impl FnMut(&mut Cursor<'a>, u64, i64) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    if c.is_empty() {
        return Ok(());
    }
    let (base_series, base_t) = (c.be64()?, c.be64()? as i64);
    while !c.is_empty() {
        let series = base_series.wrapping_add_signed(c.varint()?);
        let t = base_t.wrapping_add(c.varint()?);
        item(c, series, t)?;
    }
    Ok(())
}

/// The second form: references as differences to the one before, times to the first, and a start
/// timestamp.
fn v2<'a>(
    c: &mut Cursor<'a>,
    mut item: impl FnMut(&mut Cursor<'a>, u64, i64, i64) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    if c.is_empty() {
        return Ok(());
    }
    let mut series = c.varint()? as u64;
    let first_t = c.varint()?;
    let first_start = c.varint()?;
    let (mut t, mut start) = (first_t, first_start);
    loop {
        item(c, series, start, t)?;
        if c.is_empty() {
            return Ok(());
        }
        series = series.wrapping_add_signed(c.varint()?);
        t = first_t.wrapping_add(c.varint()?);
        start = match c.byte()? {
            START_NONE => 0,
            START_SAME => start,
            _ => first_start.wrapping_add(c.varint()?),
        };
    }
}

fn hint(byte: u8) -> CounterResetHint {
    match byte {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}

fn spans(c: &mut Cursor<'_>) -> Result<Vec<Span>, RecordError> {
    let n = c.count(2)?;
    (0..n)
        .map(|_| {
            let offset =
                i32::try_from(c.varint()?).map_err(|_| c.error("a span's offset overflows"))?;
            let length =
                u32::try_from(c.uvarint()?).map_err(|_| c.error("a span's length overflows"))?;
            Ok(Span { offset, length })
        })
        .collect()
}

fn floats(c: &mut Cursor<'_>) -> Result<Vec<f64>, RecordError> {
    let n = c.count(8)?;
    (0..n).map(|_| c.float()).collect()
}

fn deltas(c: &mut Cursor<'_>) -> Result<Vec<i64>, RecordError> {
    let n = c.count(1)?;
    (0..n).map(|_| c.varint()).collect()
}

/// A schema the engine can compute with; Prometheus skips others in the log as well.
fn known_schema(schema: i64) -> Option<i32> {
    i32::try_from(schema).ok().filter(|s| (-4..=8).contains(s) || schema == CUSTOM_SCHEMA)
}

fn histogram(c: &mut Cursor<'_>) -> Result<Option<FloatHistogram>, RecordError> {
    let counter_reset_hint = hint(c.byte()?);
    let schema = c.varint()?;
    let zero_threshold = c.float()?;
    let (zero_count, count, sum) = (c.uvarint()?, c.uvarint()?, c.float()?);
    let (positive_spans, negative_spans) = (spans(c)?, spans(c)?);
    let (positive_buckets, negative_buckets) = (deltas(c)?, deltas(c)?);
    let custom_values = if schema == CUSTOM_SCHEMA { floats(c)? } else { Vec::new() };
    Ok(known_schema(schema).map(|schema| {
        Histogram {
            counter_reset_hint,
            schema,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values,
        }
        .to_float()
    }))
}

fn float_histogram(c: &mut Cursor<'_>) -> Result<Option<FloatHistogram>, RecordError> {
    let counter_reset_hint = hint(c.byte()?);
    let schema = c.varint()?;
    let (zero_threshold, zero_count, count, sum) = (c.float()?, c.float()?, c.float()?, c.float()?);
    let (positive_spans, negative_spans) = (spans(c)?, spans(c)?);
    let (positive_buckets, negative_buckets) = (floats(c)?, floats(c)?);
    let custom_values = if schema == CUSTOM_SCHEMA { floats(c)? } else { Vec::new() };
    Ok(known_schema(schema).map(|schema| FloatHistogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        custom_values,
    }))
}

#[cfg(test)]
mod tests;
