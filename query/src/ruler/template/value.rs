//! What templates work with: the few Go types that Prometheus hands to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_model::float::format_g;
use periplus_model::{FloatHistogram, Labels};

use super::clock;
use crate::ruler::{Sample, SampleValue};

/// A value in a template.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing at all: what a key that is missing in a map of anything gives.
    Nothing,
    /// `nil`.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    /// Text that `safeHtml` marked.
    Html(Arc<str>),
    Histogram(Arc<FloatHistogram>),
    /// One sample of a query's answer.
    Sample(Arc<Sample>),
    /// A query's answer.
    Vector(Vec<Arc<Sample>>),
    /// Labels: a missing one is empty.
    Labels(Labels),
    /// What `args` gives.
    Map(BTreeMap<String, Value>),
    /// Nanoseconds since 1970.
    Time(i128),
    /// Nanoseconds.
    Duration(i64),
    /// What a template begins with: `.Labels`, `.Value` and so on.
    Root,
}

impl Value {
    pub(super) fn text(s: impl Into<Arc<str>>) -> Self {
        Self::Text(s.into())
    }

    /// A sample's value.
    pub(super) fn of(v: &SampleValue) -> Self {
        match v {
            SampleValue::Float(v) => Self::Float(*v),
            SampleValue::Histogram(h) => Self::Histogram(Arc::clone(h)),
        }
    }

    /// Go's name of the type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nothing | Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Html(_) => "template.HTML",
            Self::Histogram(_) => "*histogram.FloatHistogram",
            Self::Sample(_) => "*template.sample",
            Self::Vector(_) => "template.queryResult",
            Self::Labels(_) => "map[string]string",
            Self::Map(_) => "map[string]interface {}",
            Self::Time(_) => "*time.Time",
            Self::Duration(_) => "*time.Duration",
            Self::Root => ROOT_TYPE,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nothing | Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(v) => *v != 0.0,
            Self::Text(s) | Self::Html(s) => !s.is_empty(),
            Self::Vector(v) => !v.is_empty(),
            Self::Labels(l) => !l.is_empty(),
            Self::Map(m) => !m.is_empty(),
            Self::Histogram(_)
            | Self::Sample(_)
            | Self::Time(_)
            | Self::Duration(_)
            | Self::Root => true,
        }
    }

    /// As Go's `%v` prints it.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Nothing => "<no value>".to_owned(),
            Self::Nil => "<nil>".to_owned(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Float(v) => format_g(*v),
            Self::Text(s) | Self::Html(s) => s.to_string(),
            Self::Histogram(h) => h.to_string(),
            Self::Sample(s) => format!("{{{} {}}}", labels(&s.labels), Self::of(&s.value).print()),
            // Go prints the addresses of the samples, which say nothing.
            Self::Vector(v) => {
                let all: Vec<String> =
                    v.iter().map(|s| Self::Sample(Arc::clone(s)).print()).collect();
                format!("[{}]", all.join(" "))
            }
            Self::Labels(l) => labels(l),
            Self::Map(m) => {
                let all: Vec<String> = m
                    .iter()
                    .map(|(k, v)| match v {
                        Self::Nothing => format!("{k}:<nil>"),
                        v => format!("{k}:{}", v.print()),
                    })
                    .collect();
                format!("map[{}]", all.join(" "))
            }
            Self::Time(ns) => clock::print(*ns),
            Self::Duration(ns) => clock::duration(*ns),
            Self::Root => String::new(),
        }
    }
}

fn labels(l: &Labels) -> String {
    let all: Vec<String> = l.iter().map(|(n, v)| format!("{n}:{v}")).collect();
    format!("map[{}]", all.join(" "))
}

const ROOT_TYPE: &str = "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }";
