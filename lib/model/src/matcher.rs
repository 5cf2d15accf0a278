//! Label matchers.

use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator as PromQL writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// Why a matcher can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MatcherError {
    /// The regular expression does not parse or compiles to too much.
    #[error("invalid regular expression {pattern:?}: {reason}")]
    Regex {
        /// The expression as given.
        pattern: String,
        /// What the regex compiler says.
        reason: String,
    },
    /// The regular expression is longer than [`Matcher::REGEX_BYTES_MAX`].
    #[error("regular expression of {length} bytes is longer than the limit of {max} bytes")]
    RegexTooLong {
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
}

/// A condition on one label. A label that is absent has the empty value.
#[derive(Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: Arc<str>,
    /// How to compare.
    pub op: MatchOp,
    /// The value or the regular expression, as written.
    pub value: Arc<str>,
    test: Test,
}

/// A matcher's regex, reduced to what is cheapest to ask.
#[derive(Clone)]
enum Test {
    Exact,
    /// The expression is an alternation of literals.
    OneOf(Arc<[Box<str>]>),
    /// `.*`
    Anything,
    /// `.+`
    Something,
    Regex(Regex),
}

impl Matcher {
    /// The longest regular expression accepted, in bytes.
    pub const REGEX_BYTES_MAX: usize = 64 * 1024;
    /// The largest compiled program accepted, in bytes.
    const REGEX_PROGRAM_BYTES_MAX: usize = 16 << 20;

    /// A matcher; for the regex operators the value is compiled, anchored at both ends, with `.`
    /// matching newlines, as Prometheus does.
    ///
    /// # Errors
    /// A regular expression that is malformed, too long or too large compiled.
    pub fn new(
        name: impl Into<Arc<str>>,
        op: MatchOp,
        value: impl Into<Arc<str>>,
    ) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Exact,
            MatchOp::Regex | MatchOp::NotRegex => Self::compile(&value)?,
        };
        Ok(Self { name, op, value, test })
    }

    /// `name="value"`, which can't fail.
    #[must_use]
    pub fn equal(name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), test: Test::Exact }
    }

    fn compile(pattern: &str) -> Result<Test, MatcherError> {
        if pattern.len() > Self::REGEX_BYTES_MAX {
            return Err(MatcherError::RegexTooLong {
                length: pattern.len(),
                max: Self::REGEX_BYTES_MAX,
            });
        }
        match pattern {
            ".*" => return Ok(Test::Anything),
            ".+" => return Ok(Test::Something),
            _ => {}
        }
        if !pattern.contains(|c| "\\.+*?()[]{}^$".contains(c)) {
            let parts: Vec<Box<str>> = pattern.split('|').map(Box::from).collect();
            return Ok(Test::OneOf(parts.into()));
        }
        RegexBuilder::new(&format!("^(?s:{pattern})$"))
            .size_limit(Self::REGEX_PROGRAM_BYTES_MAX)
            .build()
            .map(Test::Regex)
            .map_err(|e| MatcherError::Regex { pattern: pattern.to_owned(), reason: e.to_string() })
    }

    /// Whether a label value passes; give the empty string for an absent label.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let hit = match &self.test {
            Test::Exact => *self.value == *value,
            Test::OneOf(set) => set.iter().any(|s| **s == *value),
            Test::Anything => true,
            Test::Something => !value.is_empty(),
            Test::Regex(re) => re.is_match(value),
        };
        match self.op {
            MatchOp::Equal | MatchOp::Regex => hit,
            MatchOp::NotEqual | MatchOp::NotRegex => !hit,
        }
    }

    /// Whether a series without the label passes.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// For `=` and for a regex that is an alternation of literals: the only values that can pass.
    #[must_use]
    pub fn literal_values(&self) -> Option<Vec<&str>> {
        match (self.op, &self.test) {
            (MatchOp::Equal, _) => Some(vec![&self.value]),
            (MatchOp::Regex, Test::OneOf(set)) => Some(set.iter().map(|s| &**s).collect()),
            _ => None,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(op: MatchOp, pattern: &str, yes: &[&str], no: &[&str]) {
        let m = Matcher::new("l", op, pattern).unwrap();
        for v in yes {
            assert!(m.matches(v), "{m:?} should match {v:?}");
        }
        for v in no {
            assert!(!m.matches(v), "{m:?} should not match {v:?}");
        }
    }

    #[test]
    fn operators() {
        check(MatchOp::Equal, "a", &["a"], &["", "b"]);
        check(MatchOp::NotEqual, "a", &["", "b"], &["a"]);
        check(MatchOp::Regex, "a|b|", &["a", "b", ""], &["ab", "a|b"]);
        check(MatchOp::Regex, "a.*|b", &["a\nx", "b"], &["xb", "bx"]);
        check(MatchOp::NotRegex, ".+", &[""], &["x"]);
        check(MatchOp::Regex, ".*", &["", "\n"], &[]);
    }

    #[test]
    fn hostile_regexes_are_refused() {
        assert!(Matcher::new("l", MatchOp::Regex, "(").is_err());
        assert!(Matcher::new("l", MatchOp::Regex, "((a{1000}){1000}){1000}").is_err());
        assert!(Matcher::new("l", MatchOp::Regex, "a".repeat(1 << 20)).is_err());
    }
}
