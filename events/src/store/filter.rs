//! What a question selects: times, matchers on fields, texts.

use std::collections::HashMap;
use std::sync::Arc;

use periplus_model::{MatchOp, Matcher};
use regex::bytes::{Regex, RegexBuilder};

use super::summary::{Summary, field_term, pair_term};
use crate::event::Event;

/// A field that rows are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The cluster.
    Cluster,
    /// The region the hub's settings give to the cluster.
    Region,
    /// The namespace.
    Namespace,
    /// The kind of the object.
    Kind,
    /// The name of the object.
    Name,
    /// The reason.
    Reason,
    /// `Normal`, `Warning`.
    Type,
    /// Who reports.
    Reporter,
}

impl Field {
    /// All of them, as they are named in questions and answers.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Cluster, "cluster"),
        (Self::Region, "region"),
        (Self::Namespace, "namespace"),
        (Self::Kind, "kind"),
        (Self::Name, "name"),
        (Self::Reason, "reason"),
        (Self::Type, "type"),
        (Self::Reporter, "reporter"),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(f, _)| *f == self).map_or("", |(_, name)| name)
    }

    /// The field of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(f, _)| *f)
    }

    /// Its value in an event; a region's is not in the event.
    #[must_use]
    pub fn of(self, event: &Event) -> &str {
        match self {
            Self::Cluster | Self::Region => &event.cluster,
            Self::Namespace => &event.namespace,
            Self::Kind => &event.kind,
            Self::Name => &event.name,
            Self::Reason => &event.reason,
            Self::Type => &event.type_,
            Self::Reporter => &event.reporter,
        }
    }
}

/// The region of each cluster.
pub type Regions = Arc<HashMap<String, String>>;

/// A condition on the message.
#[derive(Clone, Debug)]
pub struct Text {
    regex: Regex,
    /// What every match holds, in some case of its ASCII letters.
    literal: Option<String>,
    negate: bool,
}

/// The longest text or pattern.
pub const PATTERN_BYTES_MAX: usize = 1024;

impl Text {
    /// Messages that hold `text`; upper and lower case of ASCII letters are the same where `fold` says so.
    ///
    /// # Errors
    /// It is too long.
    pub fn holds(text: &str, fold: bool, negate: bool) -> Result<Self, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("a text of more than {PATTERN_BYTES_MAX} bytes"));
        }
        let pattern = match fold {
            true => format!("(?i-u:{})", bytewise(text)),
            false => regex::escape(text),
        };
        let regex = RegexBuilder::new(&pattern).build().map_err(|e| e.to_string())?;
        Ok(Self { regex, literal: (!negate).then(|| text.to_owned()), negate })
    }

    /// Messages that match a pattern somewhere.
    ///
    /// # Errors
    /// It is no pattern, or too large a one.
    pub fn matches(pattern: &str, negate: bool) -> Result<Self, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("a pattern of more than {PATTERN_BYTES_MAX} bytes"));
        }
        let regex = RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .dfa_size_limit(1 << 20)
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self { regex, literal: None, negate })
    }

    /// Whether it holds for a message.
    #[must_use]
    pub fn is_match(&self, message: &str) -> bool {
        self.regex.is_match(message.as_bytes()) != self.negate
    }

    /// A text that each message it holds for holds, too, in whatever case.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }

    /// The pattern, for one that can be looked for across messages that are put together with NUL between them.
    #[must_use]
    pub fn across(&self) -> Option<&Regex> {
        self.literal.as_ref().filter(|l| !l.is_empty() && !l.contains('\0')).map(|_| &self.regex)
    }
}

/// A pattern for exactly these bytes, with ASCII letters in either case.
fn bytewise(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// What is selected: rows to which everything here applies.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Last time, microseconds, from here …
    pub from_us: i64,
    /// … to before here.
    pub to_us: i64,
    /// Matchers on fields.
    pub fields: Vec<(Field, Matcher)>,
    /// Conditions on the message.
    pub texts: Vec<Text>,
    /// Only rows numbered above this.
    pub after_id: i64,
    /// Where clusters are.
    pub regions: Regions,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            from_us: i64::MIN,
            to_us: i64::MAX,
            fields: Vec::new(),
            texts: Vec::new(),
            after_id: i64::MIN,
            regions: Regions::default(),
        }
    }
}

impl Filter {
    /// Adds that a field has one of some values; no values: no condition.
    ///
    /// # Errors
    /// The values are too many or too long for a matcher.
    pub fn one_of(&mut self, field: Field, values: &[String]) -> Result<(), String> {
        let matcher = match values {
            [] => return Ok(()),
            [one] => Matcher::equal(field.as_str(), one.as_str()),
            many => {
                let escaped: Vec<String> = many.iter().map(|v| regex::escape(v)).collect();
                Matcher::new(field.as_str(), MatchOp::Regex, escaped.join("|").as_str())
                    .map_err(|e| e.to_string())?
            }
        };
        self.fields.push((field, matcher));
        Ok(())
    }

    /// Whether a field's value is selected. `value` is the cluster's name for a region.
    #[must_use]
    pub fn takes(&self, field: Field, value: &str) -> bool {
        self.fields.iter().filter(|(f, _)| *f == field).all(|(f, matcher)| match f {
            Field::Region => matcher.matches(self.region(value)),
            _ => matcher.matches(value),
        })
    }

    /// The region of a cluster; empty: none is known.
    #[must_use]
    pub fn region(&self, cluster: &str) -> &str {
        self.regions.get(cluster).map_or("", String::as_str)
    }

    /// Whether there is a condition on the field.
    #[must_use]
    pub fn asks(&self, field: Field) -> bool {
        self.fields.iter().any(|(f, _)| *f == field)
    }

    /// Whether an event is selected.
    #[must_use]
    pub fn selects(&self, id: i64, event: &Event) -> bool {
        id > self.after_id
            && event.last_us >= self.from_us
            && event.last_us < self.to_us
            && Field::ALL.iter().all(|(field, _)| self.takes(*field, field.of(event)))
            && self.texts.iter().all(|t| t.is_match(&event.message))
    }

    /// Whether a run of rows may hold a selected one.
    #[must_use]
    pub fn may_be_in(&self, summary: &Summary) -> bool {
        let only = |field| {
            let mut all = self.fields.iter().filter(move |(f, _)| *f == field);
            all.find_map(|(_, m)| match m.literal_values()?.as_slice() {
                [one] => Some((*one).to_owned()),
                _ => None,
            })
        };
        for (field, matcher) in &self.fields {
            if *field == Field::Region || *field == Field::Type || *field == Field::Reporter {
                continue;
            }
            let holds = |v: &&str| summary.terms.may_hold(field_term(field.as_str(), v));
            if matcher.literal_values().is_some_and(|all| !all.iter().any(holds)) {
                return false;
            }
        }
        if let (Some(namespace), Some(reason)) = (only(Field::Namespace), only(Field::Reason))
            && !summary.terms.may_hold(pair_term(&namespace, &reason))
        {
            return false;
        }
        self.texts.iter().filter_map(Text::literal).all(|t| summary.may_hold_text(t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fold_ascii_only_and_bound_patterns() {
        let event = |message: &str| Event { message: message.to_owned(), ..Event::default() };
        let takes = |text: Text, message: &str| {
            Filter { texts: vec![text], ..Filter::default() }.selects(1, &event(message))
        };
        assert!(takes(Text::holds("back-OFF (a+b)", true, false).unwrap(), "x Back-off (A+B)"));
        assert!(!takes(Text::holds("back-OFF", false, false).unwrap(), "Back-off"));
        assert!(takes(Text::holds("é", true, false).unwrap(), "café"));
        assert!(!takes(Text::holds("É", true, false).unwrap(), "café"));
        assert!(!takes(Text::holds("k", true, false).unwrap(), "\u{212a}"));
        assert!(takes(Text::holds("x", true, true).unwrap(), "abc"));
        assert!(takes(Text::matches("^a.c$", false).unwrap(), "abc"));
        assert!(Text::matches("(", false).is_err());
        assert!(Text::matches(&"(a{1000}){1000}".repeat(3), false).is_err());
        assert!(Text::holds(&"x".repeat(5000), true, false).is_err());
    }

    #[test]
    fn several_values_are_alternatives_and_regions_come_from_clusters() {
        let mut filter = Filter::default();
        filter.one_of(Field::Namespace, &["a.b".into(), "c".into()]).unwrap();
        filter.one_of(Field::Region, &["eu".into()]).unwrap();
        filter.regions = Arc::new([("x".to_owned(), "eu".to_owned())].into());
        let event = |cluster: &str, namespace: &str| Event {
            cluster: cluster.into(),
            namespace: namespace.into(),
            ..Event::default()
        };
        assert!(filter.selects(1, &event("x", "a.b")));
        assert!(filter.selects(1, &event("x", "c")));
        assert!(!filter.selects(1, &event("x", "aXb")));
        assert!(!filter.selects(1, &event("y", "c")));
    }
}
