//! Rules and groups as they are evaluated, out of what files say.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use periplus_model::Labels;
use periplus_promql::parse::ast::Expr;

use super::template::Template;

/// What a partial answer of the fleet means to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The evaluation fails, and everything stays as it was.
    #[default]
    Abort,
    /// The answer counts; alerts of whoever is missing stay as they were.
    Warn,
}

impl Strategy {
    /// As files and APIs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abort => "ABORT",
            Self::Warn => "WARN",
        }
    }
}

/// A template, or why it can't be read: then that is what it expands to.
pub type Text = Result<Template, String>;

/// What makes a rule an alerting one.
#[derive(Clone, Debug)]
pub struct Alerting {
    /// How long its condition has to hold before it fires, in milliseconds.
    pub for_ms: i64,
    /// How long it goes on firing once its condition no longer holds, in milliseconds.
    pub keep_firing_for_ms: i64,
    /// Annotations in order of name, as written.
    pub annotations: Vec<(String, String)>,
    /// The same, read.
    pub annotation_texts: Vec<(String, Text)>,
    /// The rule's labels, read.
    pub label_texts: Vec<(String, Text)>,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The alert's name, or the metric it records.
    pub name: String,
    /// What is evaluated.
    pub expr: Expr,
    /// The text it was read from, which its positions refer to.
    pub source: Arc<str>,
    /// The same as Prometheus prints it.
    pub query: Arc<str>,
    /// The group's labels and its own, as written.
    pub labels: Labels,
    /// What alerting takes; `None`: it records.
    pub alerting: Option<Alerting>,
}

impl Rule {
    /// A rule that records `expr` as `name`.
    #[must_use]
    pub fn recording(name: String, (source, expr): (&str, Expr), labels: Labels) -> Self {
        let query = expr.to_string().into();
        Self { name, expr, source: source.into(), query, labels, alerting: None }
    }

    /// A rule that alerts where `expr` has results.
    #[must_use]
    pub fn alerting(
        name: String,
        (source, expr): (&str, Expr),
        labels: Labels,
        (for_ms, keep_firing_for_ms): (i64, i64),
        annotations: Vec<(String, String)>,
    ) -> Self {
        let read = |(n, text): (&str, &str)| {
            let parsed = Template::parse(&name, text);
            let full = format!("error parsing template __alert_{name}");
            (n.to_owned(), parsed.map_err(|e| format!("{full}: {e}")))
        };
        let annotation_texts = annotations.iter().map(|(n, t)| read((n, t))).collect();
        let label_texts = labels.iter().map(read).collect();
        let query = expr.to_string().into();
        let alerting = Some(Alerting {
            for_ms,
            keep_firing_for_ms,
            annotations,
            annotation_texts,
            label_texts,
        });
        Self { name, expr, source: source.into(), query, labels, alerting }
    }

    /// What tells rules of a group apart when it is loaded anew: name and labels.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}{:?}", self.name, self.labels)
    }

    /// Everything that makes two rules the same.
    fn fingerprint(&self) -> String {
        let mut out = format!("{}\u{0}{}\u{0}{:?}", self.name, self.query, self.labels);
        if let Some(a) = &self.alerting {
            let _infallible = write!(
                out,
                "\u{0}{}\u{0}{}\u{0}{:?}",
                a.for_ms, a.keep_firing_for_ms, a.annotations
            );
        }
        out
    }
}

/// A group of rules.
#[derive(Clone, Debug)]
pub struct Group {
    /// The file it comes from, as given.
    pub file: PathBuf,
    /// Its name, unique in its file.
    pub name: String,
    /// Time between evaluations in milliseconds, at least 1.
    pub interval_ms: i64,
    /// How far behind the clock it looks; `None`: what is configured.
    pub query_offset_ms: Option<i64>,
    /// The most alerts or series a rule may have; 0: any number.
    pub limit: usize,
    /// What partial answers mean; `None`: what is configured.
    pub strategy: Option<Strategy>,
    /// Its rules in order.
    pub rules: Vec<Arc<Rule>>,
}

impl Group {
    /// What names it among all groups.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{};{}", self.file.display(), self.name)
    }

    /// Whether nothing in it differs.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let rules = |g: &Self| g.rules.iter().map(|r| r.fingerprint()).collect::<Vec<_>>();
        self.file == other.file
            && self.name == other.name
            && self.interval_ms == other.interval_ms
            && self.query_offset_ms == other.query_offset_ms
            && self.limit == other.limit
            && self.strategy == other.strategy
            && rules(self) == rules(other)
    }
}
