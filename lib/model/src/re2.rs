//! Regular expressions as Prometheus reads them.

/// What is known of a regular expression without compiling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether it matches the empty string when anchored at both ends.
    pub matches_empty: bool,
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct Re2Error(String);

/// Checks an expression.
///
/// # Errors
/// What Go's regexp/syntax refuses.
pub fn check(pattern: &[u8]) -> Result<Facts, Re2Error> {
    let text = std::str::from_utf8(pattern).map_err(|_| Re2Error("invalid UTF-8".into()))?;
    let re = regex::Regex::new(&format!("^(?s:{text})$")).map_err(|e| Re2Error(e.to_string()))?;
    Ok(Facts { matches_empty: re.is_match("") })
}
