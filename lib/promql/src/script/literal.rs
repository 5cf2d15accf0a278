//! Histograms as a script writes them: `{{schema:1 sum:5 count:3 buckets:[1 2]}}`.

use periplus_model::{CounterResetHint, FloatHistogram, Span};

/// A histogram, and whether its counter reset hint was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Literal {
    pub(super) histogram: FloatHistogram,
    pub(super) hint_set: bool,
}

/// Reads the histogram that `text` begins with, and gives the rest.
///
/// # Errors
/// What is wrong with it.
pub(super) fn split(text: &str) -> Result<(Literal, &str), String> {
    let inner = text.strip_prefix("{{").ok_or_else(|| format!("expected {{{{ at {text:?}"))?;
    let (inner, rest) = inner.split_once("}}").ok_or("a histogram is not closed by }}")?;
    Ok((parse(inner)?, rest))
}

fn parse(mut rest: &str) -> Result<Literal, String> {
    let mut h = FloatHistogram::default();
    let mut hint_set = false;
    let (mut offset, mut n_offset) = (0, 0);
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let (key, tail) =
            rest.split_once(':').ok_or_else(|| format!("expected key:value at {rest:?}"))?;
        let (value, tail) = split_value(tail)?;
        rest = tail;
        match key.to_ascii_lowercase().as_str() {
            "schema" => h.schema = integer(value)?,
            "sum" => h.sum = number(value)?,
            "count" => h.count = number(value)?,
            "z_bucket" => h.zero_count = number(value)?,
            "z_bucket_w" => h.zero_threshold = number(value)?,
            "custom_values" => h.custom_values = numbers(value)?,
            "buckets" => h.positive_buckets = numbers(value)?,
            "offset" => offset = integer(value)?,
            "n_buckets" => h.negative_buckets = numbers(value)?,
            "n_offset" => n_offset = integer(value)?,
            "counter_reset_hint" => {
                h.counter_reset_hint = hint(value)?;
                hint_set = true;
            }
            other => return Err(format!("unknown histogram key {other:?}")),
        }
    }
    h.positive_spans = spans(offset, h.positive_buckets.len());
    h.negative_spans = spans(n_offset, h.negative_buckets.len());
    Ok(Literal { histogram: h, hint_set })
}

fn spans(offset: i32, buckets: usize) -> Vec<Span> {
    if buckets == 0 {
        return Vec::new();
    }
    vec![Span { offset, length: u32::try_from(buckets).unwrap_or(u32::MAX) }]
}

/// A value ends at a space, a list at its bracket.
fn split_value(text: &str) -> Result<(&str, &str), String> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or("a list is not closed by ]")?;
        return Ok(text.split_at(end + 1));
    }
    Ok(text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())))
}

fn number(text: &str) -> Result<f64, String> {
    periplus_model::float::parse_go_float(text)
        .map_err(|e| format!("{text:?} is not a number: {e}"))
}

fn numbers(text: &str) -> Result<Vec<f64>, String> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    inner
        .ok_or_else(|| format!("expected a list at {text:?}"))?
        .split_whitespace()
        .map(number)
        .collect()
}

fn integer(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number"))
}

fn hint(text: &str) -> Result<CounterResetHint, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "unknown" => CounterResetHint::Unknown,
        "reset" => CounterResetHint::Reset,
        "not_reset" => CounterResetHint::NotReset,
        "gauge" => CounterResetHint::Gauge,
        other => return Err(format!("unknown counter reset hint {other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_and_printed_back() {
        let text = "{{schema:1 count:11 sum:-3.5 z_bucket:2 z_bucket_w:0.001 \
                    counter_reset_hint:gauge offset:-2 buckets:[1 2] n_offset:3 n_buckets:[4]}}";
        let repeated = format!("{text}x3");
        let (literal, rest) = split(&repeated).unwrap();
        assert_eq!((rest, literal.hint_set), ("x3", true));
        assert_eq!(literal.histogram.to_test_expression(), text);
        let text = "{{schema:-53 count:3 custom_values:[5 10] buckets:[1 2]}}";
        assert_eq!(split(text).unwrap().0.histogram.to_test_expression(), text);
        assert_eq!(split("{{}}").unwrap().0.histogram, FloatHistogram::default());
        assert_eq!(split("{{ }}").unwrap().0.histogram, FloatHistogram::default());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "{{", "{{foo:1}}", "{{sum}}", "{{sum:x}}", "{{buckets:[1}}", "{{schema:1.5}}"]
        {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
