//! Times and durations as Loki's clients write them.

use crate::api::Failure;
use crate::api::params;

/// Microseconds of a second.
pub const SECOND_US: i64 = 1_000_000;

/// A time as Loki reads it: nanoseconds, seconds with fractions, or RFC 3339.
///
/// # Errors
/// It is none of them.
pub fn time_us(text: &str) -> Result<i64, Failure> {
    match text.parse::<i64>() {
        // Ten digits are seconds until the year 2286.
        Ok(n) if text.trim_start_matches('-').len() > 10 => Ok(n / 1000),
        Ok(n) => Ok(n.saturating_mul(SECOND_US)),
        Err(_) => params::time_us(text),
    }
}

/// A duration: seconds with fractions, as Prometheus writes it, or as Go does (Grafana's step: `1m0s`, `14.4s`).
///
/// # Errors
/// It is none of them.
pub fn duration_us(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok(micros(seconds * 1e6));
    }
    let refuse = || {
        let text: String = text.chars().take(60).collect();
        format!("{text:?} is no duration; write 30s, 5m or 1h30m")
    };
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let us = match unit {
            "ns" => 1e-3,
            "us" | "µs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 60e6,
            "h" => 3_600e6,
            "d" => 86_400e6,
            "w" => 7.0 * 86_400e6,
            "y" => 365.0 * 86_400e6,
            _ => return Err(refuse()),
        };
        total += number.parse::<f64>().map_err(|_| refuse())? * us;
        rest = after;
    }
    if text.is_empty() { Err(refuse()) } else { Ok(micros(total)) }
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn micros(us: f64) -> i64 {
    us.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_grafana_logcli_and_people_write_them() {
        for (text, us) in [
            ("1m0s", 60_000_000),
            ("14.4s", 14_400_000),
            ("1h0m0s", 3_600_000_000),
            ("500ms", 500_000),
            ("2.5", 2_500_000),
            ("1d12h", 129_600_000_000),
            ("750µs", 750),
        ] {
            assert_eq!(duration_us(text), Ok(us), "{text}");
        }
        for text in ["", "m", "1", "5x", "1..2s", "s5", "1h-3m", "5m "] {
            assert_eq!(duration_us(text).is_ok(), text == "1", "{text:?}");
        }
        assert_eq!(time_us("1732186800123456789").unwrap(), 1_732_186_800_123_456);
        assert_eq!(time_us("1732186800.5").unwrap(), 1_732_186_800_500_000);
        assert!(time_us("now").is_err());
    }
}
