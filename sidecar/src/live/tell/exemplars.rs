//! `thanos.Exemplars`.

use std::collections::BTreeMap;

use periplus_model::float::parse_go_float;
use periplus_promql::parse::{parse, selectors};
use periplus_proto::thanos::{
    Exemplar, ExemplarData, ExemplarsRequest, ExemplarsResponse, exemplars_response,
};
use serde::Deserialize;
use tonic::Status;

use super::super::labels::selector as written;
use super::{Asking, plain};
use crate::external::{External, Resolved};
use crate::prometheus::watch::seconds;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    series_labels: BTreeMap<String, String>,
    #[serde(default)]
    exemplars: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    value: String,
    /// Seconds.
    timestamp: f64,
}

/// The exemplars of all series that a selector of the query matches, a message a series.
pub(super) async fn answer(
    asking: &Asking<'_>,
    r: &ExemplarsRequest,
) -> Result<Vec<ExemplarsResponse>, Status> {
    let invalid = |e: String| Status::invalid_argument(e);
    let expr = parse(&r.query).map_err(|e| invalid(e.to_string()))?;
    let external = External::new(asking.external(), &[]);
    let mut query = String::new();
    for s in selectors(&expr) {
        let matchers = s.matchers.iter().map(|m| m.compile().map_err(|e| invalid(e.to_string())));
        let matchers = matchers.collect::<Result<Vec<_>, _>>()?;
        let Resolved::Ask(own) = external.resolve(&matchers) else { continue };
        let Some(text) = written(&own) else {
            return Err(invalid("exemplars of all series at once are not given; name some".into()));
        };
        if !query.is_empty() {
            query.push_str(" or ");
        }
        query.push_str(&text);
    }
    if query.is_empty() {
        return Ok(Vec::new());
    }
    let parameters = [("query", query), ("start", bounded(r.start)), ("end", bounded(r.end))];
    let found: Option<Vec<Series>> =
        asking.get("exemplars", "api/v1/query_exemplars", &parameters).await?;
    let message = |s: Series| {
        let data = ExemplarData {
            series_labels: Some(asking.shown(&s.series_labels)),
            exemplars: s.exemplars.iter().filter_map(exemplar).collect(),
        };
        ExemplarsResponse { result: Some(exemplars_response::Result::Data(data)) }
    };
    Ok(found.unwrap_or_default().into_iter().map(message).collect())
}

/// Prometheus refuses times beyond what Go's clock counts; nothing lies there.
fn bounded(t_ms: i64) -> String {
    const FAR_MS: i64 = 9_000_000_000_000;
    seconds(t_ms.clamp(-FAR_MS, FAR_MS))
}

fn exemplar(t: &Told) -> Option<Exemplar> {
    Some(Exemplar {
        labels: Some(plain(&t.labels)),
        value: parse_go_float(&t.value).ok()?,
        ts: (t.timestamp * 1000.0).round() as i64,
    })
}
