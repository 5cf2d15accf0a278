//! Times as Prometheus's JSON has them.

use periplus_proto::Timestamp;

/// RFC 3339 with up to nine decimals. Go's zero time, which stands for "never", and text that is no time
/// give `None`.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let t: jiff::Timestamp = text.parse().ok()?;
    if t.as_second() <= ZERO_SECONDS {
        return None;
    }
    // Protocol buffers count nanoseconds forward from the second.
    let (mut seconds, mut nanos) = (t.as_second(), t.subsec_nanosecond());
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    Some(Timestamp { seconds, nanos })
}

/// `0001-01-01T00:00:00Z`.
const ZERO_SECONDS: i64 = -62_135_596_800;

/// As [`parse`], with the zero time for "never": Thanos's Go code does not know absence here.
pub(super) fn parse_or_zero(text: &str) -> Option<Timestamp> {
    Some(parse(text).unwrap_or(Timestamp { seconds: ZERO_SECONDS, nanos: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds() {
        let t = parse("2026-11-21T19:52:42.73126332Z").unwrap();
        assert_eq!((t.seconds, t.nanos), (1_795_290_762, 731_263_320));
        let t = parse("1969-12-31T23:59:59.5Z").unwrap();
        assert_eq!((t.seconds, t.nanos), (-1, 500_000_000));
        assert_eq!(parse("0001-01-01T00:00:00Z"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(parse_or_zero("").unwrap().seconds, ZERO_SECONDS);
        let shifted = parse("2026-11-21T20:52:42+01:00").unwrap();
        assert_eq!(shifted.seconds, 1_795_290_762);
    }
}
