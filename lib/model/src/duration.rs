//! Prometheus durations: `1h30m`, in milliseconds.
//!
//! A year has 365 days, a week 7, a day 24 hours. Units come in order, largest first, each at most
//! once. The largest duration is what fits into 64 bits of nanoseconds (about 292 years), though
//! milliseconds are counted here: what Prometheus refuses is refused.

use std::fmt;

/// The longest duration, in milliseconds: 2⁶³−1 nanoseconds.
pub const DURATION_MS_MAX: i64 = i64::MAX / 1_000_000;

/// Units in the order they must come in: name, milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is not a duration; the texts are those Prometheus gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is nothing to read.
    #[error("empty duration string")]
    Empty,
    /// It does not follow the grammar, or its units are not in order.
    #[error("not a valid duration string: {}", crate::float::Quoted(.0))]
    Invalid(String),
    /// A unit that does not exist: the unit, the whole text.
    #[error("unknown unit {} in duration {}", crate::float::Quoted(.0), crate::float::Quoted(.1))]
    UnknownUnit(String, String),
    /// Longer than [`DURATION_MS_MAX`].
    #[error("duration out of range")]
    OutOfRange,
}

/// Reads a duration such as `1h30m`, `90d` or `0`; the result is in milliseconds and not negative.
///
/// # Errors
/// Anything that Prometheus's `ParseDuration` refuses: see [`DurationError`].
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    match text {
        "0" => return Ok(0),
        "" => return Err(DurationError::Empty),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let (mut rest, mut sum_ms, mut next_unit) = (text, 0u64, 0usize);
    while !rest.is_empty() {
        let (digits, tail) = split_while(rest, |b| b.is_ascii_digit());
        let count: u64 = digits.parse().map_err(|_| invalid())?;
        let (name, tail) = split_while(tail, |b| !b.is_ascii_digit());
        if name.is_empty() {
            return Err(invalid());
        }
        rest = tail;
        let Some(at) = UNITS.iter().position(|u| u.0 == name) else {
            return Err(DurationError::UnknownUnit(name.to_owned(), text.to_owned()));
        };
        if at < next_unit {
            return Err(invalid());
        }
        next_unit = at + 1;
        sum_ms = UNITS
            .get(at)
            .and_then(|u| count.checked_mul(u.1))
            .and_then(|ms| sum_ms.checked_add(ms))
            .filter(|ms| *ms <= DURATION_MS_MAX.unsigned_abs())
            .ok_or(DurationError::OutOfRange)?;
    }
    i64::try_from(sum_ms).map_err(|_| DurationError::OutOfRange)
}

fn split_while(s: &str, pass: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = s.bytes().position(|b| !pass(b)).unwrap_or(s.len());
    s.split_at_checked(end).unwrap_or((s, ""))
}

/// A duration of milliseconds as Prometheus prints it; years and weeks appear only where nothing
/// smaller remains (`90d`, not `12w6d`).
#[must_use]
pub fn format_duration(ms: i64) -> String {
    Milliseconds(ms).to_string()
}

/// Prints as [`format_duration`] does, without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milliseconds(pub i64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut left = self.0.unsigned_abs();
        for (i, (name, unit)) in UNITS.into_iter().enumerate() {
            let whole_only = i < 2;
            if (whole_only && !left.is_multiple_of(unit)) || left < unit {
                continue;
            }
            write!(f, "{}{name}", left / unit)?;
            left %= unit;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, ms: i64, printed: &str) {
        assert_eq!(parse_duration(text), Ok(ms), "{text}");
        assert_eq!(format_duration(ms), printed);
    }

    #[test]
    fn reads_and_prints() {
        check("0", 0, "0s");
        check("0s", 0, "0s");
        check("324ms", 324, "324ms");
        check("90m", 5_400_000, "1h30m");
        check("1h0m5s1ms", 3_605_001, "1h5s1ms");
        check("14d", 14 * 86_400_000, "2w");
        check("15d", 15 * 86_400_000, "15d");
        check("2y", 730 * 86_400_000, "2y");
        check("1y1d", 366 * 86_400_000, "366d");
        assert_eq!(format_duration(-61_000), "-1m1s");
        assert_eq!(format_duration(i64::MIN), "-106751991167d7h12m55s808ms");
    }

    #[test]
    fn refuses_with_the_expected_words() {
        for (text, says) in [
            ("", "empty duration string"),
            ("1", r#"not a valid duration string: "1""#),
            ("m", r#"not a valid duration string: "m""#),
            ("-1m", r#"not a valid duration string: "-1m""#),
            ("1m1d", r#"not a valid duration string: "1m1d""#),
            ("1m1m", r#"not a valid duration string: "1m1m""#),
            ("1.5d", r#"unknown unit "." in duration "1.5d""#),
            ("1mé", r#"unknown unit "mé" in duration "1mé""#),
            ("1hs", r#"unknown unit "hs" in duration "1hs""#),
            ("293y", "duration out of range"),
            ("100000000000000000y", "duration out of range"),
            ("99999999999999999999s", r#"not a valid duration string: "99999999999999999999s""#),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), says);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ms in 0..=DURATION_MS_MAX) {
            prop_assert_eq!(parse_duration(&format_duration(ms)), Ok(ms));
        }

        #[test]
        fn never_panics(text in ".{0,12}") {
            let _ = parse_duration(&text);
        }
    }
}
