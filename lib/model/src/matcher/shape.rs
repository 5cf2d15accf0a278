//! Regular expressions, reduced to what is cheapest to ask.
//!
//! Most expressions in queries are lists of values, prefixes or `.*something.*`. Those need no
//! automaton, and lists of values can be looked up in an index.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::{Matcher, MatcherError};
use crate::re2;

/// The largest compiled program accepted, in bytes.
const PROGRAM_BYTES_MAX: usize = 4 << 20;
/// How deep the parsed expression may be: groups, and what stands between them.
const NEST_MAX: u32 = 4 * re2::GROUPS_MAX as u32;
/// The most values a list of alternatives is spelled out to.
const ALTERNATIVES_MAX: usize = 10_000;
/// The most values that parts in sequence are multiplied out to.
const PRODUCT_MAX: usize = 256;

/// An anchored regular expression.
#[derive(Clone)]
pub(super) enum Shape {
    /// Exactly these values, sorted.
    OneOf(Arc<[Box<str>]>),
    /// `literal.*`; with the number of bytes that must at least follow, 0 or 1.
    Prefix(Arc<str>, usize),
    /// `.*literal`; with the number of bytes that must at least come before, 0 or 1.
    Suffix(Arc<str>, usize),
    /// `.*literal.*`
    Contains(Arc<str>),
    /// Anything else, with the literals that values must begin and end with.
    Automaton { regex: Regex, prefix: Arc<str>, suffix: Arc<str> },
}

impl Shape {
    pub(super) fn compile(pattern: &str) -> Result<Self, MatcherError> {
        if re2::is_plain(pattern.as_bytes()) {
            return Ok(Self::list(pattern.as_bytes()));
        }
        if pattern.len() > Matcher::REGEX_BYTES_MAX {
            return Err(MatcherError::RegexTooLong {
                length: pattern.len(),
                max: Matcher::REGEX_BYTES_MAX,
            });
        }
        let refuse = |e: &dyn std::fmt::Display| MatcherError::Regex {
            pattern: pattern.to_owned(),
            reason: e.to_string(),
        };
        let translated = re2::translate(pattern)?;
        let mut parser = regex_syntax::ParserBuilder::new().nest_limit(NEST_MAX).build();
        let hir = parser.parse(&translated).map_err(|e| refuse(&e))?;
        let parts = unanchored(&hir);
        if let Some(shape) = Self::without_automaton(parts) {
            return Ok(shape);
        }
        let regex = RegexBuilder::new(&format!("^(?:{translated})$"))
            .nest_limit(NEST_MAX + 1)
            .size_limit(PROGRAM_BYTES_MAX)
            .build()
            .map_err(|e| refuse(&e))?;
        let edge = |part: Option<&Hir>| part.and_then(literal).unwrap_or("").into();
        let (prefix, suffix) = (edge(parts.first()), edge(parts.last()));
        Ok(Self::Automaton { regex, prefix, suffix })
    }

    /// A plain list of values; those that are not UTF-8 are left out.
    pub(super) fn list(pattern: &[u8]) -> Self {
        let values = pattern.split(|b| *b == b'|').filter_map(|v| std::str::from_utf8(v).ok());
        Self::one_of(values.map(Box::from).collect())
    }

    fn one_of(mut values: Vec<Box<str>>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self::OneOf(values.into())
    }

    fn without_automaton(parts: &[Hir]) -> Option<Self> {
        if let Some(values) = sequence(parts) {
            return Some(Self::one_of(values.into_iter().map(Box::from).collect()));
        }
        match parts {
            [a] => anything(a).map(|least| Self::Prefix("".into(), least)),
            [a, b] => match (literal(a), literal(b)) {
                (Some(text), None) => anything(b).map(|least| Self::Prefix(text.into(), least)),
                (None, Some(text)) => anything(a).map(|least| Self::Suffix(text.into(), least)),
                _ => None,
            },
            [a, b, c] if anything(a) == Some(0) && anything(c) == Some(0) => {
                literal(b).map(|text| Self::Contains(text.into()))
            }
            _ => None,
        }
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        match self {
            Self::OneOf(set) => set.binary_search_by(|s| (**s).cmp(value)).is_ok(),
            Self::Prefix(text, least) => {
                value.len() >= text.len() + least && value.starts_with(&**text)
            }
            Self::Suffix(text, least) => {
                value.len() >= text.len() + least && value.ends_with(&**text)
            }
            Self::Contains(text) => value.contains(&**text),
            Self::Automaton { regex, prefix, suffix } => {
                value.starts_with(&**prefix) && value.ends_with(&**suffix) && regex.is_match(value)
            }
        }
    }

    /// What every value that matches begins with.
    pub(super) fn prefix(&self) -> &str {
        match self {
            Self::Prefix(text, _) | Self::Automaton { prefix: text, .. } => text,
            Self::OneOf(set) => match &**set {
                [only] => only,
                _ => "",
            },
            Self::Suffix(..) | Self::Contains(_) => "",
        }
    }
}

/// The parts of an expression in sequence, without anchors at its ends, which change nothing.
fn unanchored(hir: &Hir) -> &[Hir] {
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        HirKind::Empty => &[],
        _ => std::slice::from_ref(hir),
    };
    while let [first, rest @ ..] = parts
        && matches!(first.kind(), HirKind::Look(Look::Start))
    {
        parts = rest;
    }
    while let [rest @ .., last] = parts
        && matches!(last.kind(), HirKind::Look(Look::End))
    {
        parts = rest;
    }
    parts
}

fn literal(hir: &Hir) -> Option<&str> {
    match hir.kind() {
        HirKind::Literal(text) => std::str::from_utf8(&text.0).ok(),
        _ => None,
    }
}

/// For `.*` and `.+`: how many bytes there must at least be.
fn anything(hir: &Hir) -> Option<usize> {
    let HirKind::Repetition(repetition) = hir.kind() else { return None };
    let HirKind::Class(Class::Unicode(class)) = repetition.sub.kind() else { return None };
    let all = class.ranges().first().is_some_and(|r| r.start() == '\0' && r.end() == char::MAX);
    match (all, repetition.min, repetition.max) {
        (true, min @ (0 | 1), None) => Some(min as usize),
        _ => None,
    }
}

/// All values an expression matches, if they are few.
fn values(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(_) => Some(vec![literal(hir)?.to_owned()]),
        HirKind::Class(Class::Unicode(class)) => {
            let count: usize =
                class.ranges().iter().map(regex_syntax::hir::ClassUnicodeRange::len).sum();
            (count <= PRODUCT_MAX).then(|| {
                let ranges = class.ranges().iter();
                ranges.flat_map(|r| r.start()..=r.end()).map(String::from).collect()
            })
        }
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => None,
        HirKind::Capture(capture) => values(&capture.sub),
        HirKind::Repetition(r) if r.max == Some(1) => {
            let mut out = values(&r.sub)?;
            if r.min == 0 {
                out.push(String::new());
            }
            Some(out)
        }
        HirKind::Repetition(_) => None,
        HirKind::Concat(parts) => sequence(parts),
        HirKind::Alternation(parts) => {
            let mut out = Vec::new();
            for part in parts {
                out.append(&mut values(part)?);
                if out.len() > ALTERNATIVES_MAX {
                    return None;
                }
            }
            Some(out)
        }
    }
}

fn sequence(parts: &[Hir]) -> Option<Vec<String>> {
    let mut out = vec![String::new()];
    for part in parts {
        let next = values(part)?;
        if let [only] = next.as_slice() {
            out.iter_mut().for_each(|s| s.push_str(only));
        } else if out.len() == 1 {
            let head = out.pop().unwrap_or_default();
            out = next.into_iter().map(|tail| head.clone() + &tail).collect();
        } else {
            if out.len() * next.len() > PRODUCT_MAX {
                return None;
            }
            out = out.iter().flat_map(|a| next.iter().map(move |b| a.clone() + b)).collect();
        }
    }
    Some(out)
}
