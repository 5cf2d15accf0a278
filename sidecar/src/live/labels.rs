//! Label names and values: Prometheus's own, with the external ones among them.

use std::collections::BTreeSet;
use std::time::Duration;

use periplus_model::{MatchOp, Matcher};
use periplus_proto::{convert, thanos};
use tonic::Status;

use super::Shared;
use super::status::from_client;
use crate::external::{External, Resolved};
use crate::prometheus::ClientError;
use crate::prometheus::watch::seconds;

/// A selector as the API takes it; `None` where it selects everything, which the API wants left out.
pub(super) fn selector(matchers: &[Matcher]) -> Option<String> {
    if matchers.iter().all(Matcher::matches_empty) {
        return None;
    }
    Some(Matcher::selector(matchers))
}

/// What every label request has in common.
struct Ask<'a> {
    matchers: &'a [Matcher],
    start: i64,
    end: i64,
    limit: i64,
}

impl Ask<'_> {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        // 0 and the ends of the number range mean "all of time".
        if self.start > 0 {
            out.push(("start", seconds(self.start)));
        }
        if self.end > 0 && self.end < i64::MAX / 4 {
            out.push(("end", seconds(self.end)));
        }
        if let Some(s) = selector(self.matchers) {
            out.push(("match[]", s));
        }
        if self.limit > 0 {
            out.push(("limit", self.limit.to_string()));
        }
        out
    }
}

/// A path segment of any text.
fn segment(name: &str) -> String {
    let mut out = String::new();
    for b in name.bytes() {
        if b.is_ascii_alphanumeric() || b == b'_' {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// The values Prometheus's own series have for a label.
pub(super) async fn own_values(
    shared: &Shared,
    name: &str,
    matchers: &[Matcher],
    timeout: Duration,
) -> Result<Vec<String>, ClientError> {
    let ask = Ask { matchers, start: 0, end: 0, limit: 1 };
    let path = format!("api/v1/label/{}/values", segment(name));
    shared.watch.client().get("label values", &path, &ask.parameters(), timeout).await
}

/// `LabelNames`.
pub(super) async fn names(
    shared: &Shared,
    request: thanos::LabelNamesRequest,
    timeout: Duration,
) -> Result<thanos::LabelNamesResponse, Status> {
    let snapshot = shared.snapshot()?;
    let external = External::new(&snapshot.external, &request.without_replica_labels);
    let matchers = convert::matchers_from_thanos(&request.matchers)
        .map_err(|e| Status::invalid_argument(e.to_string()))?;
    let Resolved::Ask(matchers) = external.resolve(&matchers) else {
        return Ok(thanos::LabelNamesResponse::default());
    };
    let ask =
        Ask { matchers: &matchers, start: request.start, end: request.end, limit: request.limit };
    let own: Vec<String> = shared
        .watch
        .client()
        .get("label names", "api/v1/labels", &ask.parameters(), timeout)
        .await
        .map_err(|e| from_client(&e))?;
    let mut names: BTreeSet<String> = own.into_iter().collect();
    if !names.is_empty() {
        names.extend(external.shown.iter().map(|(n, _)| n.to_owned()));
    }
    for dropped in &request.without_replica_labels {
        names.remove(dropped);
    }
    let names = limited(names, request.limit);
    Ok(thanos::LabelNamesResponse { names, ..thanos::LabelNamesResponse::default() })
}

/// `LabelValues`.
pub(super) async fn values(
    shared: &Shared,
    request: thanos::LabelValuesRequest,
    timeout: Duration,
) -> Result<thanos::LabelValuesResponse, Status> {
    if request.label.is_empty() {
        return Err(Status::invalid_argument("label name is empty; name the label"));
    }
    let snapshot = shared.snapshot()?;
    let external = External::new(&snapshot.external, &request.without_replica_labels);
    let mut matchers = convert::matchers_from_thanos(&request.matchers)
        .map_err(|e| Status::invalid_argument(e.to_string()))?;
    if request.without_replica_labels.contains(&request.label) {
        return Ok(thanos::LabelValuesResponse::default());
    }
    // Only series that have the label count.
    if let Ok(present) = Matcher::new(request.label.as_str(), MatchOp::NotEqual, "") {
        matchers.push(present);
    }
    let Resolved::Ask(matchers) = external.resolve(&matchers) else {
        return Ok(thanos::LabelValuesResponse::default());
    };
    let value = external.shown.get(&request.label);
    // For an external label it is enough to know whether any series matches.
    let (asked, limit) = match value {
        Some(_) => ("__name__", 1),
        None => (request.label.as_str(), request.limit),
    };
    let ask = Ask { matchers: &matchers, start: request.start, end: request.end, limit };
    let path = format!("api/v1/label/{}/values", segment(asked));
    let own: Vec<String> = shared
        .watch
        .client()
        .get("label values", &path, &ask.parameters(), timeout)
        .await
        .map_err(|e| from_client(&e))?;
    let values: BTreeSet<String> = match value {
        Some(v) if !own.is_empty() => [v.to_owned()].into(),
        Some(_) => BTreeSet::new(),
        None => own.into_iter().collect(),
    };
    let values = limited(values, request.limit);
    Ok(thanos::LabelValuesResponse { values, ..thanos::LabelValuesResponse::default() })
}

fn limited(all: BTreeSet<String>, limit: i64) -> Vec<String> {
    let limit = usize::try_from(limit).ok().filter(|l| *l > 0).unwrap_or(usize::MAX);
    all.into_iter().take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_quoted() {
        let m = |n: &str, op, v: &str| Matcher::new(n, op, v).unwrap();
        let all = [m("a", MatchOp::Equal, "x\"\\\n"), m("b.c", MatchOp::NotRegex, "y")];
        assert_eq!(selector(&all).unwrap(), r#"{a="x\"\\\n","b.c"!~"y"}"#);
        assert_eq!(selector(&[m("a", MatchOp::NotEqual, "x")]), None);
        assert_eq!(segment("a/../b.c"), "a%2F%2E%2E%2Fb%2Ec");
    }
}
