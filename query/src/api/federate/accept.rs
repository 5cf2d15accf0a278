//! What the client of `/federate` takes: text or protobuf, and how names are escaped.

use axum::http::{HeaderMap, header};

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `text/plain; version=0.0.4`.
    Text,
    /// Messages of `io.prometheus.client.MetricFamily`, each after its length.
    Protobuf,
}

impl Form {
    /// The value of `Content-Type`.
    pub(super) fn content_type(self, escaping: Escaping) -> String {
        let kind = match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        };
        format!("{kind}; escaping={}", escaping.as_str())
    }
}

/// What the `Accept` header asks for: the form with the largest `q` that there is, text where there is none.
pub(super) fn negotiate(headers: &HeaderMap) -> (Form, Escaping) {
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or_default();
    let mut clauses: Vec<Clause<'_>> = accept.split(',').map(Clause::read).collect();
    clauses.sort_by(|a, b| b.q.total_cmp(&a.q));
    let mut escaping = Escaping::Underscores;
    for c in clauses {
        escaping = c.get("escaping").and_then(Escaping::named).unwrap_or(escaping);
        let is_family = c.get("proto") == Some("io.prometheus.client.MetricFamily");
        match c.kind {
            "application/vnd.google.protobuf"
                if is_family && c.get("encoding") == Some("delimited") =>
            {
                return (Form::Protobuf, escaping);
            }
            "text/plain" if matches!(c.get("version"), None | Some("0.0.4")) => {
                return (Form::Text, escaping);
            }
            _ => {}
        }
    }
    (Form::Text, escaping)
}

/// One of the alternatives of an `Accept` header.
struct Clause<'a> {
    kind: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    q: f64,
}

impl<'a> Clause<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let pair = |p: &'a str| p.split_once('=').map(|(n, v)| (n.trim(), v.trim()));
        let mut this = Self { kind, parameters: parts.filter_map(pair).collect(), q: 1.0 };
        this.q = this.get("q").and_then(|q| q.parse().ok()).unwrap_or(1.0);
        this
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }
}

/// How names that are no identifiers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    /// As they are, in quotes.
    Utf8,
    /// `_` in place of each character that no identifier may have.
    Underscores,
    /// `_dot_` for a dot, `__` for `_` and for the rest.
    Dots,
    /// `U__` and each such character by its number.
    Values,
}

impl Escaping {
    /// By the name that headers have.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "allow-utf-8" => Self::Utf8,
            "underscores" => Self::Underscores,
            "dots" => Self::Dots,
            "values" => Self::Values,
            _ => return None,
        })
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// A name as it stands in the text; `colons`: in the name of a metric colons may be.
    pub(super) fn name(self, name: &str, colons: bool) -> String {
        self.escaped(name, colons, true)
    }

    /// A name as it stands in a message, which needs no quotes.
    pub(super) fn plain(self, name: &str, colons: bool) -> String {
        self.escaped(name, colons, false)
    }

    fn escaped(self, name: &str, colons: bool, quote: bool) -> String {
        let fits = |i: usize, c: char| {
            c.is_ascii_alphabetic()
                || c == '_'
                || (c == ':' && colons)
                || (i > 0 && c.is_ascii_digit())
        };
        let legacy = name.chars().enumerate().all(|(i, c)| fits(i, c));
        if self == Self::Dots {
            let mut out = String::new();
            for (i, c) in name.chars().enumerate() {
                match c {
                    '_' => out.push_str("__"),
                    '.' => out.push_str("_dot_"),
                    c if fits(i, c) => out.push(c),
                    _ => out.push_str("__"),
                }
            }
            return out;
        }
        if legacy || name.is_empty() {
            return name.to_owned();
        }
        match self {
            Self::Utf8 | Self::Dots if quote => quoted(name),
            Self::Utf8 | Self::Dots => name.to_owned(),
            Self::Underscores => {
                name.chars().enumerate().map(|(i, c)| if fits(i, c) { c } else { '_' }).collect()
            }
            Self::Values => {
                let mut out = String::from("U__");
                for (i, c) in name.chars().enumerate() {
                    match c {
                        '_' => out.push_str("__"),
                        c if fits(i, c) => out.push(c),
                        c => out.push_str(&format!("_{:x}_", c as u32)),
                    }
                }
                out
            }
        }
    }
}

pub(super) fn quoted(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_best_form_that_there_is() {
        let of = |accept: &'static str| {
            let mut h = HeaderMap::new();
            h.insert(header::ACCEPT, HeaderValue::from_static(accept));
            negotiate(&h)
        };
        // As Prometheus 3 asks where it wants native histograms, and where it does not.
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                        encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;\
                        escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(of(protobuf), (Form::Protobuf, Escaping::Underscores));
        let text = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                    application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                    encoding=delimited;q=0.2,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert_eq!(of(text), (Form::Text, Escaping::Utf8));
        assert_eq!(of("*/*"), (Form::Text, Escaping::Underscores));
        assert_eq!(of("text/plain;version=1.0.0;escaping=dots;q=x"), (Form::Text, Escaping::Dots));
        assert_eq!(of(";;,=;q=NaN,"), (Form::Text, Escaping::Underscores));
        let debug = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                     encoding=text";
        assert_eq!(of(debug).0, Form::Text);
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(Escaping::Values.name("http.a_b", true), "U__http_2e_a__b");
        assert_eq!(Escaping::Dots.name("http.a_b", true), "http_dot_a__b");
        assert_eq!(Escaping::Underscores.name("9é:a", false), "___a");
        assert_eq!(Escaping::Utf8.name("http.a_b", true), "\"http.a_b\"");
        assert_eq!(Escaping::Utf8.plain("http.a_b", true), "http.a_b");
    }
}
