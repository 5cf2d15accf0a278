//! Numbers for people, as Prometheus prints them.

use periplus_model::float::parse_go_float;

use super::printf::format_precise;
use super::value::Value;
use super::{clock, quoted};

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const LARGE_1024: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn g4(v: f64) -> String {
    format_precise(v, 'g', 4)
}

/// A number out of what templates have.
///
/// # Errors
/// It is none.
pub(super) fn to_float(v: &Value) -> Result<f64, String> {
    match v {
        Value::Float(v) => Ok(*v),
        Value::Int(n) => Ok(*n as f64),
        Value::Text(s) => parse_go_float(s)
            .map_err(|_| format!("strconv.ParseFloat: parsing {}: invalid syntax", quoted(s))),
        Value::Nothing | Value::Nil => Err("can't convert <nil> to float".to_owned()),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn scaled(mut v: f64, prefixes: &[&'static str], base: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for p in prefixes {
        if v.abs() < base {
            break;
        }
        prefix = p;
        v /= base;
    }
    (v, prefix)
}

fn small(mut v: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for p in SMALL {
        if v.abs() >= 1.0 {
            break;
        }
        prefix = p;
        v *= 1000.0;
    }
    (v, prefix)
}

pub(super) fn humanize(v: &Value) -> Result<String, String> {
    let v = to_float(v)?;
    if v == 0.0 || !v.is_finite() {
        return Ok(g4(v));
    }
    let (v, prefix) = if v.abs() >= 1.0 { scaled(v, &LARGE, 1000.0) } else { small(v) };
    Ok(g4(v) + prefix)
}

pub(super) fn humanize_1024(v: &Value) -> Result<String, String> {
    let v = to_float(v)?;
    if v.abs() <= 1.0 || !v.is_finite() {
        return Ok(g4(v));
    }
    let (v, prefix) = scaled(v, &LARGE_1024, 1024.0);
    Ok(g4(v) + prefix)
}

pub(super) fn percentage(v: &Value) -> Result<String, String> {
    Ok(g4(to_float(v)? * 100.0) + "%")
}

#[expect(clippy::cast_possible_truncation, reason = "as Go does; saturates instead of wrapping")]
pub(super) fn duration(v: &Value) -> Result<String, String> {
    let v = to_float(v)?;
    if !v.is_finite() {
        return Ok(g4(v));
    }
    if v == 0.0 {
        return Ok(g4(v) + "s");
    }
    if v.abs() < 1.0 {
        let (v, prefix) = small(v);
        return Ok(g4(v) + prefix + "s");
    }
    let sign = if v < 0.0 { "-" } else { "" };
    let whole = v.abs() as i64;
    let (s, m, h, d) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    Ok(match (d, h, m) {
        (0, 0, 0) => format!("{sign}{}s", g4(v.abs())),
        (0, 0, m) => format!("{sign}{m}m {s}s"),
        (0, h, m) => format!("{sign}{h}h {m}m {s}s"),
        (d, h, m) => format!("{sign}{d}d {h}h {m}m {s}s"),
    })
}

/// Nanoseconds since 1970 of a number of seconds, whole milliseconds as Prometheus has it.
///
/// # Errors
/// No time a 64-bit number of nanoseconds can hold.
#[expect(clippy::cast_possible_truncation, reason = "in range where it is done")]
pub(super) fn to_time(v: f64) -> Result<i128, String> {
    if !v.is_finite() {
        return Err("value is NaN or Inf".to_owned());
    }
    let ns = v * 1e9;
    if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            periplus_model::float::format_g(v)
        ));
    }
    Ok(i128::from(ns as i64 / 1_000_000) * 1_000_000)
}

pub(super) fn timestamp(v: &Value) -> Result<String, String> {
    let v = to_float(v)?;
    if !v.is_finite() {
        return Ok(g4(v));
    }
    to_time(v).map(clock::print)
}

/// A duration of seconds in nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub(super) fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}
