//! Which events are worth passing on.
//!
//! Kubernetes knows Normal and Warning. "Error" events are those of any other type than Normal, and those whose
//! reason says that something failed although their writer called them Normal (`Killing`, `BackOff`, …). The API
//! server could select by type, but then an event whose type changes seems to be added or deleted; so all come
//! here and are filtered on this side.

use regex::Regex;

use crate::event::Event;

/// Reasons that mean trouble whatever the type; `*` stands for anything.
pub const ERROR_REASONS: &[&str] = &[
    "Failed*",
    "*Failed",
    "BackOff",
    "CrashLoopBackOff",
    "ErrImage*",
    "ImagePullBackOff",
    "OOMKill*",
    "SystemOOM",
    "Evicted",
    "Preempt*",
    "Unhealthy",
    "ProbeWarning",
    "NodeNotReady",
    "NodeNotSchedulable",
    "NodeHasDiskPressure",
    "NodeHasInsufficientMemory",
    "NodeHasInsufficientPID",
    "Rebooted",
    "TaintManagerEviction",
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "*Error",
    "*Exceeded",
];

/// The longest pattern taken, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// Names, with `*` for any run of characters.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern(Vec<String>);

/// A filter that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// No regular expression.
    #[error("--{flag} {pattern:?}: {reason}")]
    Regex {
        /// The flag.
        flag: &'static str,
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too long.
    #[error("--{flag}: a pattern may have at most {PATTERN_BYTES_MAX} bytes")]
    Long {
        /// The flag.
        flag: &'static str,
    },
}

/// What the user says about events to pass on. Lists may be given as several flags or with commas.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Pass on every event, not only Warnings and the reasons that mean errors
    #[arg(long = "all-events", visible_alias = "all", help_heading = "Events")]
    pub all: bool,
    /// Reasons that mean an error although the event is Normal, in place of the built-in list; * stands for anything
    #[arg(long, value_name = "REASON", value_delimiter = ',', help_heading = "Events")]
    pub error_reason: Vec<String>,
    /// Pass on events of these namespaces only; * stands for anything
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', help_heading = "Events")]
    pub include_namespace: Vec<String>,
    /// Leave out events of these namespaces
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', help_heading = "Events")]
    pub exclude_namespace: Vec<String>,
    /// Pass on events about these kinds of objects only
    #[arg(long, value_name = "KIND", value_delimiter = ',', help_heading = "Events")]
    pub include_kind: Vec<String>,
    /// Leave out events about these kinds of objects
    #[arg(long, value_name = "KIND", value_delimiter = ',', help_heading = "Events")]
    pub exclude_kind: Vec<String>,
    /// Pass on these reasons too, even of Normal events
    #[arg(long, value_name = "REASON", value_delimiter = ',', help_heading = "Events")]
    pub include_reason: Vec<String>,
    /// Leave out these reasons
    #[arg(long, value_name = "REASON", value_delimiter = ',', help_heading = "Events")]
    pub exclude_reason: Vec<String>,
    /// Pass on events only whose message matches this regular expression
    #[arg(long, value_name = "REGEX", help_heading = "Events")]
    pub include_message: Option<String>,
    /// Leave out events whose message matches this regular expression
    #[arg(long, value_name = "REGEX", help_heading = "Events")]
    pub exclude_message: Option<String>,
}

/// A filter ready for use.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    all: bool,
    error_reasons: Patterns,
    namespaces: (Patterns, Patterns),
    kinds: (Patterns, Patterns),
    reasons: (Patterns, Patterns),
    messages: (Option<Regex>, Option<Regex>),
}

impl Patterns {
    /// Patterns as users write them.
    ///
    /// # Errors
    /// One is too long.
    pub fn new(flag: &'static str, patterns: &[String]) -> Result<Self, FilterError> {
        let pattern = |p: &String| {
            if p.len() > PATTERN_BYTES_MAX {
                return Err(FilterError::Long { flag });
            }
            Ok(Pattern(p.trim().split('*').map(str::to_owned).collect()))
        };
        Ok(Self(patterns.iter().map(pattern).collect::<Result<_, _>>()?))
    }

    /// Whether one of them matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|p| p.matches(name))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|only| only == name);
        };
        let Some(mut rest) = name.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            // The earliest place leaves the most for the parts that follow.
            match rest.find(part.as_str()) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

impl Filter {
    /// A filter as the user wants it.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn new(args: &FilterArgs) -> Result<Self, FilterError> {
        let error_reasons = if args.error_reason.is_empty() {
            ERROR_REASONS.iter().map(|&r| r.to_owned()).collect()
        } else {
            args.error_reason.clone()
        };
        let both = |a: (&'static str, &[String]), b: (&'static str, &[String])| {
            Ok::<_, FilterError>((Patterns::new(a.0, a.1)?, Patterns::new(b.0, b.1)?))
        };
        let regex = |flag, pattern: &Option<String>| match pattern {
            None => Ok(None),
            Some(p) => match regex::RegexBuilder::new(p).size_limit(1 << 20).build() {
                Ok(regex) => Ok(Some(regex)),
                Err(e) => {
                    Err(FilterError::Regex { flag, pattern: p.clone(), reason: e.to_string() })
                }
            },
        };
        Ok(Self {
            all: args.all,
            error_reasons: Patterns::new("error-reason", &error_reasons)?,
            namespaces: both(
                ("include-namespace", &args.include_namespace),
                ("exclude-namespace", &args.exclude_namespace),
            )?,
            kinds: both(
                ("include-kind", &args.include_kind),
                ("exclude-kind", &args.exclude_kind),
            )?,
            reasons: both(
                ("include-reason", &args.include_reason),
                ("exclude-reason", &args.exclude_reason),
            )?,
            messages: (
                regex("include-message", &args.include_message)?,
                regex("exclude-message", &args.exclude_message)?,
            ),
        })
    }

    /// Passes everything.
    #[must_use]
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Whether the event is to be passed on.
    #[must_use]
    pub fn passes(&self, event: &Event) -> bool {
        let allowed = |(include, exclude): &(Patterns, Patterns), name: &str| {
            (include.is_empty() || include.matches(name)) && !exclude.matches(name)
        };
        allowed(&self.namespaces, &event.namespace)
            && allowed(&self.kinds, &event.kind)
            && !self.reasons.1.matches(&event.reason)
            && (self.all || self.is_error(event) || self.reasons.0.matches(&event.reason))
            && self.messages.0.as_ref().is_none_or(|m| m.is_match(&event.message))
            && !self.messages.1.as_ref().is_some_and(|m| m.is_match(&event.message))
    }

    fn is_error(&self, event: &Event) -> bool {
        // An empty type is as much as none: such events come from careless writers, mostly about trouble.
        event.type_ != "Normal" || self.error_reasons.matches(&event.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(namespace: &str, kind: &str, type_: &str, reason: &str, message: &str) -> Event {
        Event {
            namespace: namespace.into(),
            kind: kind.into(),
            type_: type_.into(),
            reason: reason.into(),
            message: message.into(),
            ..Event::default()
        }
    }

    fn strings(of: &[&str]) -> Vec<String> {
        of.iter().map(|&s| s.to_owned()).collect()
    }

    #[test]
    fn patterns_match_whole_names() {
        let check = |pattern: &str, name: &str, expect: bool| {
            let p = Patterns::new("x", &strings(&[pattern])).expect("a pattern");
            assert_eq!(p.matches(name), expect, "{pattern} {name}");
        };
        check("BackOff", "BackOff", true);
        check("BackOff", "BackOffs", false);
        check("Failed*", "FailedMount", true);
        check("*Failed", "SandboxFailed", true);
        check("kube-*-x", "kube-a-b-x", true);
        check("a*a", "a", false);
        check("*", "", true);
        check("*b*c*", "abxc", true);
        check("*b*c*", "acb", false);
        check("", "", true);
        check("", "x", false);
    }

    #[test]
    fn errors_pass_and_routine_does_not() {
        let filter = Filter::new(&FilterArgs::default()).expect("a filter");
        let check = |type_: &str, reason: &str, expect: bool| {
            assert_eq!(
                filter.passes(&event("a", "Pod", type_, reason, "")),
                expect,
                "{type_} {reason}"
            );
        };
        check("Warning", "Anything", true);
        check("Error", "Anything", true);
        check("", "Anything", true);
        check("Normal", "Scheduled", false);
        check("Normal", "Pulled", false);
        check("Normal", "BackOff", true);
        check("Normal", "NodeNotReady", true);
        check("Normal", "FailedScheduling", true);
        assert!(Filter::all().passes(&event("a", "Pod", "Normal", "Pulled", "")));
    }

    #[test]
    fn lists_narrow_and_widen() {
        let filter = Filter::new(&FilterArgs {
            include_namespace: strings(&["shop*"]),
            exclude_kind: strings(&["Node"]),
            include_reason: strings(&["Scheduled"]),
            exclude_reason: strings(&["Unhealthy"]),
            exclude_message: Some("(?i)readiness".into()),
            ..FilterArgs::default()
        })
        .expect("a filter");
        let check = |e: Event, expect: bool| assert_eq!(filter.passes(&e), expect, "{e:?}");
        check(event("shop-1", "Pod", "Warning", "X", ""), true);
        check(event("kube-system", "Pod", "Warning", "X", ""), false);
        check(event("shop-1", "Node", "Warning", "X", ""), false);
        check(event("shop-1", "Pod", "Normal", "Scheduled", ""), true);
        check(event("shop-1", "Pod", "Warning", "Unhealthy", ""), false);
        check(event("shop-1", "Pod", "Warning", "X", "Readiness probe"), false);
        let bad = FilterArgs { include_message: Some("(".into()), ..FilterArgs::default() };
        assert!(Filter::new(&bad).expect_err("refused").to_string().contains("--include-message"));
    }
}
