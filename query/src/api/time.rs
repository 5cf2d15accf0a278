//! Times and durations as Prometheus's API takes them.

use periplus_model::duration;
use periplus_model::float::parse_go_float;

/// The earliest time the API knows, Unix milliseconds: the default `start` of label requests.
pub const TIME_MIN_MS: i64 = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// The latest time the API knows, Unix milliseconds: the default `end` of label requests.
pub const TIME_MAX_MS: i64 = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;
const TIME_MIN_TEXT: &str = "-292273086-05-16T16:47:06Z";
const TIME_MAX_TEXT: &str = "+292277025-08-18T07:12:54.999999999Z";

/// Seconds with a fraction, or RFC 3339, to Unix milliseconds.
///
/// # Errors
/// In Prometheus's words.
pub fn parse_time(s: &str) -> Result<i64, String> {
    let fail = || format!("cannot parse {s:?} to a valid timestamp");
    if let Ok(t) = parse_go_float(s) {
        if !t.is_finite() || t.abs() > 9.2e15 {
            return Err(fail());
        }
        let (whole, fraction) = (t.trunc(), (t.fract() * 1000.0).round());
        return Ok(whole as i64 * 1000 + fraction as i64);
    }
    match s {
        TIME_MIN_TEXT => return Ok(TIME_MIN_MS),
        // Go prints it without the sign.
        TIME_MAX_TEXT | "292277025-08-18T07:12:54.999999999Z" => return Ok(TIME_MAX_MS),
        _ => {}
    }
    if s.as_bytes().get(10) != Some(&b'T') {
        return Err(fail());
    }
    s.parse::<jiff::Timestamp>().map(|t| t.as_millisecond()).map_err(|_| fail())
}

/// Seconds with a fraction, or a duration such as `5m`, to nanoseconds.
///
/// # Errors
/// In Prometheus's words.
pub fn parse_duration_ns(s: &str) -> Result<i64, String> {
    if let Ok(d) = parse_go_float(s) {
        let ns = d * 1e9;
        if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
            return Err(format!("cannot parse {s:?} to a valid duration. It overflows int64"));
        }
        return Ok(ns as i64);
    }
    match duration::parse_duration(s) {
        Ok(ms) => Ok(ms.saturating_mul(1_000_000)),
        Err(_) => Err(format!("cannot parse {s:?} to a valid duration")),
    }
}

/// A time for people, to the second.
#[must_use]
pub fn rfc3339(t_ms: i64) -> String {
    match jiff::Timestamp::from_second(t_ms.div_euclid(1000)) {
        Ok(t) => t.to_string(),
        Err(_) => format!("{}", t_ms.div_euclid(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_time() {
        let cases = [
            ("0", Ok(0)),
            ("1435781430.781", Ok(1_435_781_430_781)),
            ("1.2345", Ok(1_234)),
            ("-1.5", Ok(-1_500)),
            ("1e9", Ok(1_000_000_000_000)),
            ("2015-06-03T13:21:58.555Z", Ok(1_433_337_718_555)),
            ("2015-06-03T14:21:58.555+01:00", Ok(1_433_337_718_555)),
            (TIME_MIN_TEXT, Ok(TIME_MIN_MS)),
            ("", Err(())),
            ("foo", Err(())),
            ("30s", Err(())),
            ("NaN", Err(())),
            ("1e300", Err(())),
        ];
        for (text, expect) in cases {
            assert_eq!(parse_time(text).map_err(drop), expect, "{text}");
        }
    }

    #[test]
    fn all_forms_of_duration() {
        let cases = [
            ("5m", Ok(300_000_000_000)),
            ("123.5", Ok(123_500_000_000)),
            ("1h30m", Ok(5_400_000_000_000)),
            ("-5", Ok(-5_000_000_000)),
            ("1e30", Err(())),
            ("x", Err(())),
        ];
        for (text, expect) in cases {
            assert_eq!(parse_duration_ns(text).map_err(drop), expect, "{text}");
        }
    }

    #[test]
    fn for_people() {
        assert_eq!(rfc3339(1_433_337_718_555), "2015-06-03T13:21:58Z");
    }
}
