//! `/federate`: the newest sample of every series that matches, in the text format that Prometheus scrapes.
//!
//! Native histograms have no form in that text and are left out, as Prometheus leaves them out of it.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use periplus_model::float::format_g;
use periplus_model::{Labels, SampleBuffer, TimeRange, is_stale};
use periplus_promql::engine::{ErrorKind, QueryError};

use super::params::{Params, selector};
use super::samples::{ask, broken, each};
use super::{Api, respond};
use crate::endpoints::now_ms;

/// How names that are no identifiers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escaping {
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
    /// What the `Accept` header asks for.
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or_default();
        let name = accept.split([',', ';']).find_map(|p| p.trim().strip_prefix("escaping="));
        match name {
            Some("allow-utf-8") => Self::Utf8,
            Some("dots") => Self::Dots,
            Some("values") => Self::Values,
            _ => Self::Underscores,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// A name as it stands in the text; `colons`: in the name of a metric colons may be.
    fn name(self, name: &str, colons: bool) -> String {
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
            Self::Utf8 | Self::Dots => quoted(name),
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

fn quoted(s: &str) -> String {
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

/// An error as plain text.
type Refusal = (StatusCode, String);

fn failed(e: &QueryError) -> Refusal {
    let status = match e.kind {
        ErrorKind::BadData => StatusCode::BAD_REQUEST,
        ErrorKind::Limit => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Timeout | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, e.message.clone())
}

type Newest = BTreeMap<(String, Labels), (i64, f64)>;

pub(super) async fn federate(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    headers: HeaderMap,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
        let p =
            Params::new(&form, address.as_deref().unwrap_or_default()).map_err(|e| bad(&e.text))?;
        let mut sets = Vec::new();
        for text in p.all("match[]") {
            sets.push(selector(text).map_err(|e| bad(&e))?);
        }
        let now = now_ms();
        let range = TimeRange::new(now.saturating_sub(api.defaults.lookback_ms), now);
        let asked = ask(&api, &p, range).map_err(|e| bad(&e.text))?;
        let left = api.answerer.limits.memory_bytes;
        let mut state = (Newest::new(), SampleBuffer::new(), left);
        for set in sets {
            let work = each(&asked, set, range, state, move |(newest, buffer, left), series| {
                series.samples(range, buffer).map_err(broken)?;
                take(newest, &series.labels, buffer, left)?;
                Ok(true)
            });
            state = match tokio::time::timeout(api.defaults.timeout, work).await {
                Ok(done) => done.map_err(|e| failed(&e))?,
                Err(_) => {
                    let text = "it took too long".to_owned();
                    return Err((StatusCode::SERVICE_UNAVAILABLE, text));
                }
            };
        }
        let collected = asked.question.notes.collected();
        api.metrics.answered(collected.requests, collected.missing.len());
        let escaping = Escaping::of(&headers);
        let mut response = Response::new(Body::from(write(&state.0, escaping)));
        let kind =
            format!("text/plain; version=0.0.4; charset=utf-8; escaping={}", escaping.as_str());
        if let Ok(kind) = HeaderValue::from_str(&kind) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        respond::mark(&mut response, &collected.missing);
        Ok(response)
    };
    run.await.unwrap_or_else(|(status, text): Refusal| (status, text + "\n").into_response())
}

/// Keeps a series' newest sample, unless that says that the series has ended.
fn take(
    newest: &mut Newest,
    labels: &Labels,
    samples: &SampleBuffer,
    left: &mut u64,
) -> Result<(), QueryError> {
    let Some((i, (t, v))) = samples.ts.iter().zip(&samples.values).enumerate().next_back() else {
        return Ok(());
    };
    let Some(name) = labels.metric_name() else { return Ok(()) };
    if samples.histogram_at(i).is_some() || is_stale(*v) {
        return Ok(());
    }
    let bytes = labels.heap_bytes() as u64 + 128;
    let Some(rest) = left.checked_sub(bytes) else {
        let text = "more series than memory allows; ask for fewer";
        return Err(QueryError::new(ErrorKind::Limit, text));
    };
    *left = rest;
    newest.insert((name.to_owned(), labels.clone()), (*t, *v));
    Ok(())
}

fn write(newest: &Newest, escaping: Escaping) -> String {
    let mut out = String::new();
    let mut family = "";
    for ((name, labels), (t, v)) in newest {
        let shown = escaping.name(name, true);
        if family != name {
            family = name;
            out.push_str(&format!("# TYPE {shown} untyped\n"));
        }
        let mut pairs: Vec<String> = Vec::new();
        let own = labels.iter().filter(|(n, _)| *n != "__name__");
        for (n, value) in own {
            pairs.push(format!("{}={}", escaping.name(n, false), quoted(value)));
        }
        // Without an instance the scraper would put its own there.
        if labels.get("instance").is_none() {
            pairs.push("instance=\"\"".to_owned());
        }
        match shown.starts_with('"') {
            true => {
                out.push_str(&format!("{{{shown},{}}}", pairs.join(",")));
            }
            false => out.push_str(&format!("{shown}{{{}}}", pairs.join(","))),
        }
        out.push_str(&format!(" {} {t}\n", format_g(*v)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_in_order() {
        let mut all = Newest::new();
        for (name, pairs, v) in [
            ("up", vec![("__name__", "up"), ("job", "a\"b")], 1.0),
            ("up", vec![("__name__", "up"), ("instance", "i")], f64::INFINITY),
            ("http.status", vec![("__name__", "http.status"), ("a.b", "c")], 1e-7),
        ] {
            all.insert((name.to_owned(), Labels::from_pairs(pairs)), (5, v));
        }
        let text = write(&all, Escaping::Underscores);
        let expect = "# TYPE http_status untyped\nhttp_status{a_b=\"c\",instance=\"\"} 1e-07 5\n\
                      # TYPE up untyped\nup{instance=\"i\"} +Inf 5\n\
                      up{job=\"a\\\"b\",instance=\"\"} 1 5\n";
        assert_eq!(text, expect);
        let text = write(&all, Escaping::Utf8);
        assert!(text.contains("{\"http.status\",\"a.b\"=\"c\",instance=\"\"} 1e-07 5\n"), "{text}");
    }

    #[test]
    fn escaping_is_negotiated() {
        let of = |accept: &'static str| {
            let mut h = HeaderMap::new();
            h.insert(header::ACCEPT, HeaderValue::from_static(accept));
            Escaping::of(&h)
        };
        assert_eq!(of("text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*"), Escaping::Utf8);
        assert_eq!(of("*/*"), Escaping::Underscores);
        assert_eq!(Escaping::Values.name("http.a_b", true), "U__http_2e_a__b");
        assert_eq!(Escaping::Dots.name("http.a_b", true), "http_dot_a__b");
        assert_eq!(Escaping::Underscores.name("9é:a", false), "___a");
    }
}
