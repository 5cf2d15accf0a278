//! Parameters from the address and from a form, as Go's `http.Request.Form` has them: those of the form
//! first.

use std::time::{Duration, Instant};

use periplus_model::Matcher;
use periplus_promql::parse;

use super::Defaults;
use super::error::ApiError;
use super::time::{parse_duration_ns, parse_time};
use crate::answer::Options;
use crate::history::resolution::MaxResolution;

/// Parameters accepted in one request.
const PARAMETERS_MAX: usize = 10_000;

/// All parameters of a request, in order.
#[derive(Clone, Debug, Default)]
pub struct Params {
    all: Vec<(String, String)>,
}

impl Params {
    /// From the body of a form (empty: none) and the query part of the address.
    ///
    /// # Errors
    /// Too many of them.
    pub fn new(form: &[u8], address: &str) -> Result<Self, ApiError> {
        let mut all = Vec::new();
        for part in [form, address.as_bytes()] {
            for (name, value) in url::form_urlencoded::parse(part) {
                if all.len() >= PARAMETERS_MAX {
                    let text = format!("more than {PARAMETERS_MAX} parameters");
                    return Err(ApiError::bad_data(text));
                }
                all.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(Self { all })
    }

    /// All parameters but those of the names left out, in order of name.
    #[must_use]
    pub fn sorted(&self, without: &[&str]) -> Vec<(String, String)> {
        let mut out = self.all.clone();
        out.retain(|(n, _)| !without.contains(&n.as_str()));
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// The first value of `name`; empty when there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.all.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// `limit`; 0: none.
    ///
    /// # Errors
    /// Not a number, or negative.
    pub fn limit(&self) -> Result<usize, ApiError> {
        let text = self.get("limit");
        if text.is_empty() {
            return Ok(0);
        }
        let wrong = |what: &str| format!("strconv.Atoi: parsing {text:?}: {what}");
        let n: i64 = text.parse().map_err(|e: std::num::ParseIntError| {
            let what = match e.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    "value out of range"
                }
                _ => "invalid syntax",
            };
            ApiError::parameter("limit", wrong(what))
        })?;
        usize::try_from(n).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
    }

    /// A time that must be there.
    ///
    /// # Errors
    /// It is not, or makes no sense.
    pub fn time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time(self.get(name)).map_err(|e| ApiError::parameter(name, e))
    }

    /// A time that may be left out.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn time_or(&self, name: &str, default: i64) -> Result<i64, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            text => parse_time(text).map_err(|e| {
                ApiError::parameter(name, format!("invalid time value for '{name}': {e}"))
            }),
        }
    }

    /// A duration that must be there, in nanoseconds.
    ///
    /// # Errors
    /// It is not, or makes no sense.
    pub fn duration_ns(&self, name: &str) -> Result<i64, ApiError> {
        parse_duration_ns(self.get(name)).map_err(|e| ApiError::parameter(name, e))
    }

    /// A switch as Thanos reads it.
    fn switch(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(ApiError::bad_data(format!("'{name}' parameter is not a boolean"))),
        }
    }

    /// Sets of matchers from all values of `name`.
    ///
    /// # Errors
    /// A selector that does not parse.
    pub fn selectors(&self, name: &str) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.all(name).map(|text| selector(text).map_err(ApiError::bad_data)).collect()
    }

    /// `match[]`: as [`Self::selectors`], none of which may match everything.
    ///
    /// # Errors
    /// As Prometheus has them.
    pub fn matches(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let sets = self.selectors("match[]")?;
        if sets.iter().any(|set| set.iter().all(Matcher::matches_empty)) {
            let text = "match[] must contain at least one non-empty matcher";
            return Err(ApiError::bad_data(text));
        }
        Ok(sets)
    }

    /// How the question is to be answered.
    ///
    /// # Errors
    /// A parameter that makes no sense.
    pub fn options(&self, defaults: &Defaults) -> Result<Options, ApiError> {
        let timeout = match self.get("timeout") {
            "" => defaults.timeout,
            _ => {
                let ns = self.duration_ns("timeout")?.max(0);
                Duration::from_nanos(ns.unsigned_abs()).min(defaults.timeout)
            }
        };
        let lookback_ms = match self.get("lookback_delta") {
            "" => 0,
            text => {
                let ns = parse_duration_ns(text).map_err(|e| {
                    ApiError::bad_data(format!("error parsing lookback delta duration: {e}"))
                })?;
                ns / 1_000_000
            }
        };
        let named: Vec<String> = self.all("replicaLabels[]").map(str::to_owned).collect();
        let replica_labels = match (self.switch("dedup", true)?, named.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => defaults.replica_labels.clone(),
            (true, false) => named,
        };
        Ok(Options {
            replica_labels,
            stores: self.selectors("storeMatch[]")?,
            strict: !self.switch("partial_response", !defaults.strict)?,
            lookback_ms: if lookback_ms > 0 { lookback_ms } else { defaults.lookback_ms },
            deadline: Instant::now() + timeout,
            limits: None,
            delayed_name_removal: defaults.delayed_name_removal,
            per_step_stats: self.get("stats") == "all",
            pushdown: self.switch("pushdown", true)?,
            resolution: self.resolution(defaults)?,
        })
    }

    /// `max_source_resolution`, which only history has more than one of.
    fn resolution(&self, defaults: &Defaults) -> Result<MaxResolution, ApiError> {
        let name = "max_source_resolution";
        match self.get(name) {
            "" => Ok(defaults.resolution),
            "auto" => Ok(MaxResolution::auto()),
            text => {
                let ns = parse_duration_ns(text)
                    .map_err(|e| ApiError::bad_data(format!("'{name}' parameter: {e}")))?;
                Ok(MaxResolution::at_most(ns.max(0) / 1_000_000))
            }
        }
    }
}

/// The matchers of a selector, compiled.
///
/// # Errors
/// Why it can't be used, in Prometheus's words.
pub fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    let written = parse::parse_metric_selector(text).map_err(|e| e.to_string())?;
    written
        .into_iter()
        .map(|m| {
            let value = String::from_utf8(m.value)
                .map_err(|_| format!("the value of {} is not UTF-8", m.name))?;
            Matcher::new(m.name, m.op, value).map_err(|e| e.to_string())
        })
        .collect()
}

/// `name` where `U__…` stands for a name that is no identifier: `_XX_` for a character by its number,
/// `__` for an underscore. What is no such name stays as it is.
#[must_use]
pub fn unescape_name(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::with_capacity(rest.len());
    while let Some((before, after)) = rest.split_once('_') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = after.split_once('_').filter(|(hex, _)| (1..=6).contains(&hex.len()));
        match code
            .and_then(|(hex, r)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, r)))
        {
            Some((c, r)) => {
                out.push(c);
                rest = r;
            }
            None => return name.to_owned(),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_comes_first() {
        let p = Params::new(b"query=up%2B1&match[]=a", "query=down&match%5B%5D=b&x").unwrap();
        assert_eq!(p.get("query"), "up+1");
        assert_eq!(p.all("match[]").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(p.get("x"), "");
    }

    #[test]
    fn limits_are_checked_as_go_does() {
        let limit = |t: &str| Params::new(b"", &format!("limit={t}")).unwrap().limit();
        assert_eq!(limit("5"), Ok(5));
        assert_eq!(limit(""), Ok(0));
        assert_eq!(
            limit("x").unwrap_err().text,
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            limit("-1").unwrap_err().text,
            "invalid parameter \"limit\": limit must be non-negative"
        );
    }

    #[test]
    fn escaped_names() {
        let cases = [
            ("job", "job"),
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "\u{1f600}"),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__open_2e", "U__open_2e"),
        ];
        for (escaped, name) in cases {
            assert_eq!(unescape_name(escaped), name);
        }
    }
}
