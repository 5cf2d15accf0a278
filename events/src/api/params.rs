//! Reading questions.

use super::Failure;
use crate::log::commit::now_us;
use crate::store::{Field, Filter, Text};

/// Parameters in the order given; names may repeat.
pub type Params = Vec<(String, String)>;

/// Reads a time: seconds since 1970 with fractions, or RFC 3339.
///
/// # Errors
/// It is neither.
pub fn time_us(text: &str) -> Result<i64, Failure> {
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        return Ok((seconds * 1e6).round() as i64);
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        Failure::bad(format!(
            "{:?} is no time; write 2026-11-21T10:00:00Z or seconds since 1970",
            text.chars().take(60).collect::<String>()
        ))
    })?;
    Ok(time.as_microsecond())
}

/// Reads a duration as Prometheus writes it, or seconds.
///
/// # Errors
/// It is neither.
pub fn duration_us(text: &str) -> Result<i64, Failure> {
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        return Ok((seconds * 1e6) as i64);
    }
    let ms = periplus_model::duration::parse_duration(text)
        .map_err(|e| Failure::bad(format!("{e}; write a duration as 30s, 5m or 1h")))?;
    Ok(ms.saturating_mul(1000))
}

/// Takes the parameters that select rows out of `params`, into `filter`.
///
/// # Errors
/// Values that are none.
pub fn select(params: &mut Params, mut filter: Filter) -> Result<Filter, Failure> {
    let mut left = Params::new();
    let mut values: std::collections::BTreeMap<Field, Vec<String>> = Default::default();
    for (name, value) in params.drain(..) {
        match name.as_str() {
            "start" => filter.from_us = time_us(&value)?,
            "end" => filter.to_us = time_us(&value)?,
            "since" => filter.from_us = now_us().saturating_sub(duration_us(&value)?),
            "text" => {
                filter.texts.push(Text::holds(&value, true, false).map_err(Failure::bad)?);
            }
            other => match Field::parse(other) {
                Some(field) => values.entry(field).or_default().push(value),
                None => left.push((name, value)),
            },
        }
    }
    for (field, values) in values {
        filter.one_of(field, &values).map_err(Failure::bad)?;
    }
    *params = left;
    Ok(filter)
}

/// Takes one parameter.
pub fn take(params: &mut Params, name: &str) -> Option<String> {
    let at = params.iter().position(|(n, _)| n == name)?;
    Some(params.remove(at).1)
}

/// Takes a number between 1 and `max`.
///
/// # Errors
/// It is none.
pub fn take_number(params: &mut Params, name: &str, max: usize) -> Result<Option<usize>, Failure> {
    let Some(text) = take(params, name) else { return Ok(None) };
    match text.parse() {
        Ok(n) if (1..=max).contains(&n) => Ok(Some(n)),
        _ => Err(Failure::bad(format!("{name} is a number from 1 to {max}"))),
    }
}

/// Refuses what is left: a parameter that is misspelt would select too much.
///
/// # Errors
/// Something is left.
pub fn nothing_left(params: &Params, known: &str) -> Result<(), Failure> {
    match params.first() {
        None => Ok(()),
        Some((name, _)) => {
            let name: String = name.chars().take(60).collect();
            Err(Failure::bad(format!("unknown parameter {name:?}; there are {known}")))
        }
    }
}

/// The parameters that select.
pub const SELECTING: &str =
    "start, end, since, cluster, region, namespace, kind, name, reason, type, reporter, text";
