//! Label matchers.

use std::fmt;
use std::sync::Arc;

use crate::re2::{self, Re2Error};

mod shape;

use shape::Shape;

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
    /// The regular expression is refused, in the words of Go's regexp.
    #[error(transparent)]
    Syntax(#[from] Re2Error),
    /// The regular expression compiles to too much.
    #[error("regular expression {pattern:?} can't be compiled, simplify it: {reason}")]
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

/// What a value is held against.
#[derive(Clone)]
enum Test {
    /// The matcher's value.
    Exact,
    /// The matcher's value is not UTF-8: no label's value is equal to it.
    Never,
    /// The regular expression, in whatever is cheapest to ask.
    Regex(Shape),
}

impl Matcher {
    /// The longest regular expression accepted, in bytes; a plain list of alternatives may be
    /// longer.
    pub const REGEX_BYTES_MAX: usize = re2::BYTES_MAX;

    /// A matcher; a regular expression is read as Prometheus reads it: in Go's syntax, anchored at
    /// both ends, with `.` matching newlines.
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
            MatchOp::Regex | MatchOp::NotRegex => Test::Regex(Shape::compile(&value)?),
        };
        Ok(Self { name, op, value, test })
    }

    /// As [`Matcher::new`], of a value that may not be UTF-8: nothing is equal to such a value, and
    /// a regular expression can only hold it in a plain list of values.
    ///
    /// # Errors
    /// As [`Matcher::new`].
    pub fn from_bytes(
        name: impl Into<Arc<str>>,
        op: MatchOp,
        value: &[u8],
    ) -> Result<Self, MatcherError> {
        match std::str::from_utf8(value) {
            Ok(value) => Self::new(name, op, value),
            Err(_) if matches!(op, MatchOp::Equal | MatchOp::NotEqual) => {
                let value = String::from_utf8_lossy(value).into_owned().into();
                Ok(Self { name: name.into(), op, value, test: Test::Never })
            }
            Err(_) => {
                re2::check(value)?;
                let test = Test::Regex(Shape::list(value));
                let value = String::from_utf8_lossy(value).into_owned().into();
                Ok(Self { name: name.into(), op, value, test })
            }
        }
    }

    /// `name="value"`, which can't fail.
    #[must_use]
    pub fn equal(name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), test: Test::Exact }
    }

    /// Whether a label value passes; give the empty string for an absent label.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let hit = match &self.test {
            Test::Exact => *self.value == *value,
            Test::Never => false,
            Test::Regex(shape) => shape.matches(value),
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

    /// For `=` and for a regular expression that only few values match: the only values that can
    /// pass, sorted.
    #[must_use]
    pub fn literal_values(&self) -> Option<Vec<&str>> {
        match (self.op, &self.test) {
            (MatchOp::Equal, Test::Never) => Some(Vec::new()),
            (MatchOp::Equal, _) => Some(vec![&self.value]),
            (MatchOp::Regex, Test::Regex(Shape::OneOf(set))) => {
                Some(set.iter().map(|s| &**s).collect())
            }
            _ => None,
        }
    }

    /// For `=~`: what every value that passes begins with; empty when nothing is known.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match (self.op, &self.test) {
            (MatchOp::Regex, Test::Regex(shape)) => shape.prefix(),
            _ => "",
        }
    }

    /// Matchers as a selector, as Prometheus's API takes it; names that are no identifiers stand in quotes.
    #[must_use]
    pub fn selector<'a>(matchers: impl IntoIterator<Item = &'a Self>) -> String {
        let mut out = String::from("{");
        for (i, m) in matchers.into_iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            let bare = m.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !m.name.starts_with(|c: char| c.is_ascii_digit());
            match bare {
                true => out.push_str(&m.name),
                false => quote(&m.name, &mut out),
            }
            out.push_str(m.op.as_str());
            quote(&m.value, &mut out);
        }
        out.push('}');
        out
    }
}

fn quote(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
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
    fn regexes_follow_go() {
        check(MatchOp::Regex, r"\d+\.\Qa.b\E", &["12.a.b"], &["1x2.a.b", "٣.a.b", "1.aXb"]);
        check(MatchOp::Regex, r"a{,5}", &["a{,5}"], &["aa"]);
        check(MatchOp::Regex, r"[[a&&]+", &["[", "a&"], &["]"]);
        check(MatchOp::Regex, r"(?P<x>a)|(?<y>b)", &["a", "b"], &["ab"]);
        check(MatchOp::Regex, r"(?i)straße|K", &["STRAßE", "k", "\u{212a}"], &["STRASSE"]);
        check(MatchOp::Regex, r"(?i:a)b", &["Ab", "ab"], &["AB"]);
        check(MatchOp::Regex, r"\101\x42\x{43}\n", &["ABC\n"], &["ABCn"]);
        check(MatchOp::Regex, r"\pLl|\p{Greek}+|\PL", &["xl", "αβ", "1"], &["1l", "b"]);
        check(MatchOp::Regex, r"[[:alpha:][:^ascii:]]", &["a", "é"], &["1"]);
        check(MatchOp::Regex, r"^foo$|^$", &["foo", ""], &["foo\n", "f"]);
        check(MatchOp::Regex, r".*\bfoo\b.*", &["a foo b", "éfoo"], &["afoo"]);
        check(MatchOp::Regex, "(?-s:a.b)|c.d", &["axb", "c\nd"], &["a\nb"]);
        check(MatchOp::Regex, "(?i)a(?-i)b(?:(?i)c)d", &["AbCd", "abcd"], &["ABcd", "abcD"]);
    }

    #[test]
    fn every_shape_agrees_with_the_plain_regex() {
        let patterns = [
            "foo.*",
            "foo.+",
            ".*foo",
            ".+foo",
            ".*foo.*",
            "foo",
            "",
            ".*",
            ".+",
            "a|b|",
            "(a|b)c",
            "fo?o",
            "[ab]x",
            "(?i)ab",
            "foo.*bar",
            "foo.+bar|x",
            "a.*b.*c",
            "^foo.*$",
            "(foo|).*",
        ];
        let values = [
            "", "foo", "foox", "xfoo", "xfoox", "fo", "a", "b", "ac", "bc", "ax", "AB", "aB",
            "foobar", "fooxbar", "x", "abc", "axbxc", "foo\n", "\nfoo", "foo\nbar", "fofoo",
        ];
        for pattern in patterns {
            let plain = regex::Regex::new(&format!("^(?s:{pattern})$")).unwrap();
            for op in [MatchOp::Regex, MatchOp::NotRegex] {
                let m = Matcher::new("l", op, pattern).unwrap();
                for v in values {
                    let want = plain.is_match(v) == (op == MatchOp::Regex);
                    assert_eq!(m.matches(v), want, "{m:?} of {v:?}");
                    if let Some(only) = m.literal_values() {
                        assert_eq!(only.contains(&v), m.matches(v), "{m:?} of {v:?}");
                    }
                    assert!(!m.matches(v) || v.starts_with(m.literal_prefix()), "{m:?} of {v:?}");
                }
            }
        }
    }

    #[test]
    fn values_that_are_no_utf8_match_nothing() {
        let m = |op| Matcher::from_bytes("l", op, b"a\xff");
        assert!(!m(MatchOp::Equal).unwrap().matches("a\u{fffd}"));
        assert!(m(MatchOp::NotEqual).unwrap().matches("a\u{fffd}"));
        assert_eq!(m(MatchOp::Equal).unwrap().literal_values(), Some(vec![]));
        assert!(!m(MatchOp::Regex).unwrap().matches("a\u{fffd}"));
        assert!(Matcher::from_bytes("l", MatchOp::Regex, b"\xff|b").unwrap().matches("b"));
        assert!(Matcher::from_bytes("l", MatchOp::Regex, b"\xff.*").is_err());
    }

    #[test]
    fn long_lists_are_accepted() {
        let list: Vec<String> = (0..20_000).map(|i| format!("pod-{i}")).collect();
        let m = Matcher::new("pod", MatchOp::Regex, list.join("|")).unwrap();
        assert!(m.matches("pod-19999") && !m.matches("pod-20000"));
        assert_eq!(m.literal_values().unwrap().len(), 20_000);
    }

    #[test]
    fn hostile_regexes_are_refused() {
        for pattern in ["(".to_owned(), "((a{1000}){1000}){1000}".to_owned(), "a.".repeat(1 << 19)]
        {
            assert!(Matcher::new("l", MatchOp::Regex, pattern).is_err());
        }
    }
}
