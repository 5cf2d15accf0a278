//! Label matchers. All protocols number the operators alike: 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.

use periplus_model::{MatchOp, Matcher};

use crate::error::WireError;
use crate::{fleet, prometheus, thanos};

/// The most matchers accepted in one selector.
const MATCHERS_MAX: usize = 1_000;

const fn number(op: MatchOp) -> i32 {
    match op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex => 2,
        MatchOp::NotRegex => 3,
    }
}

fn matcher(op: i32, name: &str, value: &str) -> Result<Matcher, WireError> {
    let op = match op {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => return Err(WireError::malformed("matcher", format!("unknown operator {other}"))),
    };
    if name.is_empty() {
        return Err(WireError::malformed("matcher", "no label name"));
    }
    Matcher::new(name, op, value).map_err(|e| WireError::malformed("matcher", e.to_string()))
}

/// Thanos's matchers, compiled.
///
/// # Errors
/// Too many of them, an unknown operator, an empty name, a regular expression that is invalid or too large.
pub fn matchers_from_thanos(matchers: &[thanos::LabelMatcher]) -> Result<Vec<Matcher>, WireError> {
    WireError::check("matchers of one selector", matchers.len(), MATCHERS_MAX)?;
    matchers.iter().map(|m| matcher(m.r#type, &m.name, &m.value)).collect()
}

/// Matchers of the fleet protocol, compiled.
///
/// # Errors
/// As [`matchers_from_thanos`].
pub fn matchers_from_fleet(matchers: &[fleet::Matcher]) -> Result<Vec<Matcher>, WireError> {
    WireError::check("matchers of one selector", matchers.len(), MATCHERS_MAX)?;
    matchers.iter().map(|m| matcher(m.op, &m.name, &m.value)).collect()
}

/// Matchers of remote read, compiled.
///
/// # Errors
/// As [`matchers_from_thanos`].
pub fn matchers_from_prometheus(
    matchers: &[prometheus::LabelMatcher],
) -> Result<Vec<Matcher>, WireError> {
    WireError::check("matchers of one selector", matchers.len(), MATCHERS_MAX)?;
    matchers.iter().map(|m| matcher(m.r#type, &m.name, &m.value)).collect()
}

/// Matchers as Thanos sends them.
#[must_use]
pub fn matchers_to_thanos(matchers: &[Matcher]) -> Vec<thanos::LabelMatcher> {
    let one = |m: &Matcher| thanos::LabelMatcher {
        r#type: number(m.op),
        name: m.name.to_string(),
        value: m.value.to_string(),
    };
    matchers.iter().map(one).collect()
}

/// Matchers as Prometheus's remote read takes them.
#[must_use]
pub fn matchers_to_prometheus(matchers: &[Matcher]) -> Vec<prometheus::LabelMatcher> {
    let one = |m: &Matcher| prometheus::LabelMatcher {
        r#type: number(m.op),
        name: m.name.to_string(),
        value: m.value.to_string(),
    };
    matchers.iter().map(one).collect()
}

/// Matchers as the fleet protocol has them.
#[must_use]
pub fn matchers_to_fleet(matchers: &[Matcher]) -> Vec<fleet::Matcher> {
    let one = |m: &Matcher| fleet::Matcher {
        op: number(m.op),
        name: m.name.to_string(),
        value: m.value.to_string(),
    };
    matchers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        let all: Vec<Matcher> =
            ops.iter().map(|op| Matcher::new("a", *op, "x.+").expect("valid")).collect();
        assert_eq!(matchers_from_thanos(&matchers_to_thanos(&all)), Ok(all.clone()));
        assert_eq!(matchers_from_fleet(&matchers_to_fleet(&all)), Ok(all));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let m = |op, name: &str, value: &str| fleet::Matcher {
            op,
            name: name.into(),
            value: value.into(),
        };
        assert!(matchers_from_fleet(&[m(4, "a", "")]).is_err());
        assert!(matchers_from_fleet(&[m(-1, "a", "")]).is_err());
        assert!(matchers_from_fleet(&[m(0, "", "")]).is_err());
        assert!(matchers_from_fleet(&[m(2, "a", "(")]).is_err());
        assert!(matchers_from_fleet(&vec![m(0, "a", "b"); 1_001]).is_err());
    }
}
