//! The functions templates may call: Prometheus's own and Go's builtins.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use periplus_model::duration::parse_duration;
use periplus_model::re2;
use regex::Regex;

use super::exec::Ty;
use super::value::Value;
use super::{Data, builtin, humanize, quoted};

/// What a function takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature {
    pub(super) fixed: &'static [Ty],
    pub(super) variadic: Option<Ty>,
}

const fn fixed(fixed: &'static [Ty]) -> Signature {
    Signature { fixed, variadic: None }
}

/// Whether there is a function of this name.
pub(super) fn exists(name: &str) -> bool {
    matches!(name, "and" | "or") || signature(name).is_some()
}

/// What the function takes; `and` and `or` are not here, the interpreter knows them itself.
pub(super) fn signature(name: &str) -> Option<Signature> {
    use Ty::{Any, Sample, Text, Vector};
    Some(match name {
        "query" | "toUpper" | "toLower" | "title" | "graphLink" | "tableLink" | "stripPort"
        | "stripDomain" | "safeHtml" | "parseDuration" | "urlQueryEscape" => fixed(&[Text]),
        "first" => fixed(&[Vector]),
        "label" => fixed(&[Text, Sample]),
        "value" | "strvalue" => fixed(&[Sample]),
        "sortByLabel" => fixed(&[Text, Vector]),
        "reReplaceAll" => fixed(&[Text, Text, Text]),
        "match" => fixed(&[Text, Text]),
        "humanize" | "humanize1024" | "humanizeDuration" | "humanizePercentage"
        | "humanizeTimestamp" | "toTime" | "toDuration" | "not" | "len" => fixed(&[Any]),
        "now" | "pathPrefix" | "externalURL" => fixed(&[]),
        "args" | "print" | "println" | "html" | "js" | "urlquery" => {
            Signature { fixed: &[], variadic: Some(Any) }
        }
        "printf" => Signature { fixed: &[Text], variadic: Some(Any) },
        "index" | "slice" | "eq" | "call" => Signature { fixed: &[Any], variadic: Some(Any) },
        "ne" | "lt" | "le" | "gt" | "ge" => fixed(&[Any, Any]),
        _ => return None,
    })
}

/// Calls a function with arguments that fit its signature.
///
/// # Errors
/// What Go or Prometheus says.
pub(super) fn call(name: &str, data: &Data<'_>, args: Vec<Value>) -> Result<Value, String> {
    if let Some(done) = builtin::call(name, &args, data.output_bytes_max) {
        return done;
    }
    match (name, args.as_slice()) {
        ("query", [Value::Text(q)]) => {
            let found = (data.query)(q)?;
            Ok(Value::Vector(found.into_iter().map(Arc::new).collect()))
        }
        ("first", [Value::Vector(v)]) => match v.first() {
            Some(s) => Ok(Value::Sample(Arc::clone(s))),
            None => Err(EMPTY.to_owned()),
        },
        ("first", _) => Err(EMPTY.to_owned()),
        ("label", [Value::Text(name), Value::Sample(s)]) => Ok(Value::text(s.labels.value(name))),
        ("value", [Value::Sample(s)]) => Ok(Value::of(&s.value)),
        ("strvalue", [Value::Sample(s)]) => Ok(Value::text(s.labels.value("__value__"))),
        ("label" | "value" | "strvalue", _) => Err(NIL.to_owned()),
        ("sortByLabel", [Value::Text(label), Value::Vector(v)]) => {
            let mut v = v.clone();
            v.sort_by(|a, b| a.labels.value(label).cmp(b.labels.value(label)));
            Ok(Value::Vector(v))
        }
        ("sortByLabel", [_, other]) => Ok(other.clone()),
        ("now", _) => Ok(Value::Float(data.now_ms as f64 / 1000.0)),
        ("externalURL", _) => Ok(Value::text(data.external_url)),
        ("pathPrefix", _) => Ok(Value::text(path_of(data.external_url))),
        ("args", all) => {
            let map: BTreeMap<String, Value> =
                all.iter().enumerate().map(|(i, v)| (format!("arg{i}"), v.clone())).collect();
            Ok(Value::Map(map))
        }
        ("humanize", [v]) => humanize::humanize(v).map(Value::text),
        ("humanize1024", [v]) => humanize::humanize_1024(v).map(Value::text),
        ("humanizeDuration", [v]) => humanize::duration(v).map(Value::text),
        ("humanizePercentage", [v]) => humanize::percentage(v).map(Value::text),
        ("humanizeTimestamp", [v]) => humanize::timestamp(v).map(Value::text),
        ("toTime", [v]) => humanize::to_time(humanize::to_float(v)?).map(Value::Time),
        ("toDuration", [v]) => Ok(Value::Duration(humanize::nanoseconds(humanize::to_float(v)?))),
        _ => {
            let texts: Vec<&str> =
                args.iter().map(|v| if let Value::Text(s) = v { &**s } else { "" }).collect();
            of_texts(name, &texts, data.output_bytes_max)
        }
    }
}

const EMPTY: &str = "first() called on vector with no elements";
const NIL: &str = "runtime error: invalid memory address or nil pointer dereference";

fn of_texts(name: &str, args: &[&str], most: usize) -> Result<Value, String> {
    match (name, args) {
        ("toUpper", [s]) => Ok(Value::text(s.to_uppercase())),
        ("toLower", [s]) => Ok(Value::text(s.to_lowercase())),
        ("title", [s]) => Ok(Value::text(title(s))),
        ("graphLink", [s]) => Ok(Value::text(link(s, 0))),
        ("tableLink", [s]) => Ok(Value::text(link(s, 1))),
        ("urlQueryEscape", [s]) => Ok(Value::text(query_escape(s))),
        ("safeHtml", [s]) => Ok(Value::Html((*s).into())),
        ("stripPort", [s]) => Ok(Value::text(split_host_port(s).map_or(*s, |(host, _)| host))),
        ("stripDomain", [s]) => Ok(Value::text(strip_domain(s))),
        ("match", [pattern, text]) => Ok(Value::Bool(regex(pattern)?.is_match(text))),
        ("reReplaceAll", [pattern, with, text]) => {
            let re =
                regex(pattern).map_err(|e| format!("regexp: Compile({}): {e}", tick(pattern)))?;
            replace_all(&re, with, text, most).map(Value::text)
        }
        ("parseDuration", [s]) => {
            let (sign, digits) = match s.strip_prefix('-') {
                Some(rest) => (-1.0, rest),
                None => (1.0, *s),
            };
            let ms = parse_duration(digits).map_err(|e| e.to_string())?;
            Ok(Value::Float(sign * (ms as f64 / 1000.0)))
        }
        _ => Err(format!("{name} can't be called here")),
    }
}

/// Go quotes expressions in back ticks where it can.
fn tick(text: &str) -> String {
    if text.contains('`') || text.chars().any(char::is_control) {
        return quoted(text);
    }
    format!("`{text}`")
}

/// The replacement may make a text longer with each match, so it is bounded as it grows.
fn replace_all(re: &Regex, with: &str, text: &str, most: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut from = 0;
    for found in re.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(text.get(from..whole.start()).unwrap_or(""));
        found.expand(with, &mut out);
        from = whole.end();
        if out.len() > most {
            return Err(format!("the result is longer than {most} bytes"));
        }
    }
    out.push_str(text.get(from..).unwrap_or(""));
    Ok(out)
}

/// An expression of Go's in the regex crate's syntax, with its groups.
fn regex(pattern: &str) -> Result<Regex, String> {
    re2::check(pattern.as_bytes()).map_err(|e| e.to_string())?;
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                let e = rest.next().unwrap_or('\\');
                // These are ASCII in Go.
                let ascii = match (e, in_class) {
                    ('d', false) => "[0-9]",
                    ('d', true) => "0-9",
                    ('w', false) => "[0-9A-Za-z_]",
                    ('w', true) => "0-9A-Za-z_",
                    ('s', false) => "[\\t\\n\\f\\r ]",
                    ('s', true) => "\\t\\n\\f\\r ",
                    ('D', false) => "[^0-9]",
                    ('W', false) => "[^0-9A-Za-z_]",
                    ('S', false) => "[^\\t\\n\\f\\r ]",
                    ('b', false) => "(?-u:\\b)",
                    ('Q', false) => {
                        let all: String = rest.by_ref().collect();
                        let (quoted, after) = all.split_once("\\E").unwrap_or((&all, ""));
                        out.push_str(&regex::escape(quoted));
                        let after = after.to_owned();
                        let tail = regex_tail(&after)?;
                        out.push_str(&tail);
                        break;
                    }
                    _ => "",
                };
                match ascii {
                    "" => out.extend(['\\', e]),
                    text => out.push_str(text),
                }
            }
            '[' if in_class && rest.peek() != Some(&':') => out.push_str("\\["),
            '[' => {
                let named = in_class;
                out.push('[');
                if named {
                    // `[:name:]` within a class.
                    for c in rest.by_ref() {
                        out.push(c);
                        if c == ']' {
                            break;
                        }
                    }
                } else {
                    in_class = true;
                    if rest.next_if_eq(&'^').is_some() {
                        out.push('^');
                    }
                    if rest.next_if_eq(&']').is_some() {
                        out.push_str("\\]");
                    }
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Regex::new(&out).map_err(|e| e.to_string())
}

/// What follows a quoted part; such parts do not nest, so this ends.
fn regex_tail(rest: &str) -> Result<String, String> {
    match rest.contains("\\Q") {
        true => Err("more than one \\Q in an expression".to_owned()),
        false => regex(rest).map(|r| r.as_str().to_owned()),
    }
}

/// Go's `url.QueryEscape`.
pub(super) fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(b));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// A link to the page of an expression.
pub(crate) fn link(expr: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", query_escape(expr))
}

fn path_of(url: &str) -> String {
    url::Url::parse(url)
        .map(|u| if u.path() == "/" && !url.ends_with('/') { "" } else { u.path() }.to_owned())
        .unwrap_or_default()
}

/// Host and port; `None` where Go's `net.SplitHostPort` has an error.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (before, port) = text.rsplit_once(':')?;
    let host = match before.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if before.contains(':') => return None,
        None => before,
    };
    let strange = |s: &str| s.contains(['[', ']']);
    (!strange(host) && !strange(port)).then_some((host, port))
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.to_owned();
    }
    let host = host.split('.').next().unwrap_or("");
    match port {
        "" => host.to_owned(),
        port if host.contains([':', '%']) => format!("[{host}]:{port}"),
        port => format!("{host}:{port}"),
    }
}

/// The first letter of each word in upper case, the others as they are.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_alphabetic() {
            match inside {
                true => out.push(c),
                false => out.extend(c.to_uppercase()),
            }
            inside = true;
            continue;
        }
        out.push(c);
        let joins = matches!(c, '\'' | '\u{2019}' | '.' | ':' | '\u{b7}')
            && rest.peek().is_some_and(|n| n.is_alphabetic());
        inside = inside && (joins || c == '_' || c.is_numeric());
    }
    out
}
