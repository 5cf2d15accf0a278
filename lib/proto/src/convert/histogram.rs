//! Native histograms: in the fleet protocol (always float) and as Prometheus sends them (either form).

use periplus_model::{CounterResetHint, FloatHistogram, Histogram, Span};

use crate::error::{WireError, WireLimits};
use crate::{fleet, prometheus};

const WHAT: &str = "histogram";

const fn hint_number(hint: CounterResetHint) -> u32 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn hint(number: u32) -> Result<CounterResetHint, WireError> {
    match number {
        0 => Ok(CounterResetHint::Unknown),
        1 => Ok(CounterResetHint::Reset),
        2 => Ok(CounterResetHint::NotReset),
        3 => Ok(CounterResetHint::Gauge),
        n => Err(WireError::malformed(WHAT, format!("unknown counter reset hint {n}"))),
    }
}

/// Spans must account for every bucket; only the first may begin below zero, and indices stay in 32 bits.
fn checked_spans(
    spans: impl ExactSizeIterator<Item = (i32, u32)>,
    buckets: usize,
    limits: &WireLimits,
) -> Result<Vec<Span>, WireError> {
    WireError::check("spans of a histogram", spans.len(), limits.buckets_max)?;
    WireError::check("buckets of a histogram", buckets, limits.buckets_max)?;
    let mut out = Vec::with_capacity(spans.len());
    let (mut total, mut index) = (0u64, 0i64);
    for (i, (offset, length)) in spans.enumerate() {
        if i > 0 && offset < 0 {
            return Err(WireError::malformed(WHAT, "spans overlap"));
        }
        total += u64::from(length);
        index += i64::from(offset) + i64::from(length);
        if i32::try_from(index).is_err() {
            return Err(WireError::malformed(WHAT, "a bucket index beyond 32 bits"));
        }
        out.push(Span { offset, length });
    }
    if total != buckets as u64 {
        let problem = format!("spans hold {total} buckets, {buckets} are there");
        return Err(WireError::malformed(WHAT, problem));
    }
    Ok(out)
}

fn checked_shape(schema: i32, custom: &[f64], limits: &WireLimits) -> Result<(), WireError> {
    if schema != -53 && !(-9..=52).contains(&schema) {
        return Err(WireError::malformed(WHAT, format!("unknown schema {schema}")));
    }
    WireError::check("custom bounds of a histogram", custom.len(), limits.buckets_max)
}

/// A histogram of the fleet protocol and, for partial sums, its compensation.
///
/// # Errors
/// Spans and buckets that disagree, an unknown schema or hint, a compensation of a compensation, more
/// buckets than `limits` allows.
pub fn fleet_histogram_from_wire(
    h: fleet::Histogram,
    limits: &WireLimits,
) -> Result<(FloatHistogram, Option<FloatHistogram>), WireError> {
    let compensation = match h.compensation {
        None => None,
        Some(c) if c.compensation.is_some() => {
            return Err(WireError::malformed(WHAT, "a compensation with a compensation"));
        }
        Some(c) => Some(fleet_histogram_from_wire(*c, limits)?.0),
    };
    checked_shape(h.schema, &h.custom_values, limits)?;
    let pairs =
        |s: &[fleet::Span]| -> Vec<(i32, u32)> { s.iter().map(|s| (s.offset, s.length)).collect() };
    WireError::check("spans of a histogram", h.positive_spans.len(), limits.buckets_max)?;
    WireError::check("spans of a histogram", h.negative_spans.len(), limits.buckets_max)?;
    let (positive, negative) = (pairs(&h.positive_spans), pairs(&h.negative_spans));
    let histogram = FloatHistogram {
        counter_reset_hint: hint(h.counter_reset_hint)?,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count,
        count: h.count,
        sum: h.sum,
        positive_spans: checked_spans(positive.into_iter(), h.positive_buckets.len(), limits)?,
        negative_spans: checked_spans(negative.into_iter(), h.negative_buckets.len(), limits)?,
        positive_buckets: h.positive_buckets,
        negative_buckets: h.negative_buckets,
        custom_values: h.custom_values,
    };
    Ok((histogram, compensation))
}

/// A histogram as the fleet protocol has it.
#[must_use]
pub fn fleet_histogram_to_wire(
    h: &FloatHistogram,
    compensation: Option<&FloatHistogram>,
) -> fleet::Histogram {
    let spans = |s: &[Span]| -> Vec<fleet::Span> {
        s.iter().map(|s| fleet::Span { offset: s.offset, length: s.length }).collect()
    };
    fleet::Histogram {
        counter_reset_hint: hint_number(h.counter_reset_hint),
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count,
        count: h.count,
        sum: h.sum,
        positive_spans: spans(&h.positive_spans),
        negative_spans: spans(&h.negative_spans),
        positive_buckets: h.positive_buckets.clone(),
        negative_buckets: h.negative_buckets.clone(),
        custom_values: h.custom_values.clone(),
        compensation: compensation.map(|c| Box::new(fleet_histogram_to_wire(c, None))),
    }
}

/// A histogram of Prometheus's protocol, integer or float, in its float form.
///
/// # Errors
/// Spans and buckets that disagree, an unknown schema or hint, more buckets than `limits` allows.
pub fn prometheus_histogram_from_wire(
    h: prometheus::Histogram,
    limits: &WireLimits,
) -> Result<FloatHistogram, WireError> {
    use prometheus::histogram::{Count, ZeroCount};
    checked_shape(h.schema, &h.custom_values, limits)?;
    let counter_reset_hint = hint(u32::try_from(h.reset_hint).unwrap_or(u32::MAX))?;
    let is_float = matches!(h.count, Some(Count::CountFloat(_)));
    let buckets = |floats: usize, deltas: usize| if is_float { floats } else { deltas };
    let (p, n) = (
        buckets(h.positive_counts.len(), h.positive_deltas.len()),
        buckets(h.negative_counts.len(), h.negative_deltas.len()),
    );
    let spans = |s: Vec<prometheus::BucketSpan>, buckets| {
        checked_spans(s.into_iter().map(|s| (s.offset, s.length)), buckets, limits)
    };
    let (positive_spans, negative_spans) =
        (spans(h.positive_spans, p)?, spans(h.negative_spans, n)?);
    if is_float {
        return Ok(FloatHistogram {
            counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: match h.zero_count {
                Some(ZeroCount::ZeroCountFloat(z)) => z,
                Some(ZeroCount::ZeroCountInt(z)) => z as f64,
                None => 0.0,
            },
            count: match h.count {
                Some(Count::CountFloat(c)) => c,
                _ => 0.0,
            },
            sum: h.sum,
            positive_spans,
            negative_spans,
            positive_buckets: h.positive_counts,
            negative_buckets: h.negative_counts,
            custom_values: h.custom_values,
        });
    }
    let integer = Histogram {
        counter_reset_hint,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: match h.zero_count {
            Some(ZeroCount::ZeroCountInt(z)) => z,
            _ => 0,
        },
        count: match h.count {
            Some(Count::CountInt(c)) => c,
            _ => 0,
        },
        sum: h.sum,
        positive_spans,
        negative_spans,
        positive_buckets: h.positive_deltas,
        negative_buckets: h.negative_deltas,
        custom_values: h.custom_values,
    };
    Ok(integer.to_float())
}

/// A float histogram as Prometheus sends it, at a time in Unix milliseconds.
#[must_use]
pub fn prometheus_histogram_to_wire(h: &FloatHistogram, t_ms: i64) -> prometheus::Histogram {
    use prometheus::histogram::{Count, ZeroCount};
    let spans = |s: &[Span]| -> Vec<prometheus::BucketSpan> {
        s.iter().map(|s| prometheus::BucketSpan { offset: s.offset, length: s.length }).collect()
    };
    prometheus::Histogram {
        count: Some(Count::CountFloat(h.count)),
        sum: h.sum,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: Some(ZeroCount::ZeroCountFloat(h.zero_count)),
        negative_spans: spans(&h.negative_spans),
        negative_deltas: Vec::new(),
        negative_counts: h.negative_buckets.clone(),
        positive_spans: spans(&h.positive_spans),
        positive_deltas: Vec::new(),
        positive_counts: h.positive_buckets.clone(),
        reset_hint: hint_number(h.counter_reset_hint) as i32,
        timestamp: t_ms,
        custom_values: h.custom_values.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FloatHistogram {
        FloatHistogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: 3,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 7.5,
            sum: 9.0,
            positive_spans: vec![Span { offset: -2, length: 1 }, Span { offset: 3, length: 2 }],
            positive_buckets: vec![1.0, 2.0, 2.5],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn round_trips() {
        let (h, limits) = (sample(), WireLimits::default());
        let c = FloatHistogram { count: 1e-17, schema: 3, ..FloatHistogram::default() };
        let back = fleet_histogram_from_wire(fleet_histogram_to_wire(&h, Some(&c)), &limits);
        assert_eq!(back, Ok((h.clone(), Some(c))));
        let wire = prometheus_histogram_to_wire(&h, 5);
        assert_eq!(prometheus_histogram_from_wire(wire, &limits), Ok(h));
    }

    #[test]
    fn refuses_what_does_not_add_up() {
        let limits = WireLimits { buckets_max: 8, ..WireLimits::default() };
        let broken: [fn(&mut fleet::Histogram); 6] = [
            |h| h.positive_buckets.push(1.0),
            |h| h.positive_spans.push(fleet::Span { offset: 0, length: u32::MAX }),
            |h| h.positive_spans[1].offset = -1,
            |h| h.positive_spans[0].offset = i32::MAX,
            |h| h.schema = 99,
            |h| h.custom_values = vec![0.0; 9],
        ];
        for (i, spoil) in broken.iter().enumerate() {
            let mut h = fleet_histogram_to_wire(&sample(), None);
            spoil(&mut h);
            assert!(fleet_histogram_from_wire(h, &limits).is_err(), "case {i}");
        }
    }
}
