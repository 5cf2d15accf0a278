//! `periplus.fleet.v1.About`: target metadata and Alertmanagers.

use std::collections::BTreeMap;

use periplus_proto::convert::label_set_to_fleet;
use periplus_proto::fleet::{
    Alertmanager, AlertmanagersResponse, LabelSet, TargetMetadataEntry, TargetMetadataRequest,
    TargetMetadataResponse,
};
use serde::Deserialize;
use tonic::Status;

use super::super::labels::selector as written;
use super::{Asking, selector};
use crate::external::{External, Resolved};

/// Entries in one message.
const BATCH: usize = 1_000;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Told {
    target: BTreeMap<String, String>,
    metric: String,
    r#type: String,
    help: String,
    unit: String,
}

/// What the targets said of their metrics.
pub(super) async fn target_metadata(
    asking: &Asking<'_>,
    r: &TargetMetadataRequest,
) -> Result<Vec<TargetMetadataResponse>, Status> {
    let mut parameters = Vec::new();
    if !r.match_target.is_empty() {
        let external = External::new(asking.external(), &[]);
        let Resolved::Ask(own) = external.resolve(&selector(&r.match_target)?) else {
            return Ok(Vec::new());
        };
        if let Some(text) = written(&own) {
            parameters.push(("match_target", text));
        }
    }
    if !r.metric.is_empty() {
        parameters.push(("metric", r.metric.clone()));
    }
    if r.limit >= 0 {
        parameters.push(("limit", r.limit.to_string()));
    }
    let found: Vec<Told> =
        asking.get("target metadata", "api/v1/targets/metadata", &parameters).await?;
    let convert = |t: Told| {
        let mut target: BTreeMap<&str, &str> =
            t.target.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        target.extend(asking.external().iter());
        TargetMetadataEntry {
            target: Some(labels(&target)),
            metric: t.metric,
            r#type: t.r#type,
            help: t.help,
            unit: t.unit,
        }
    };
    let all: Vec<TargetMetadataEntry> = found.into_iter().map(convert).collect();
    let message = |some: &[TargetMetadataEntry]| TargetMetadataResponse {
        entries: some.to_vec(),
        warnings: Vec::new(),
    };
    Ok(all.chunks(BATCH).map(message).collect())
}

fn labels(all: &BTreeMap<&str, &str>) -> LabelSet {
    label_set_to_fleet(&periplus_model::Labels::from_pairs(all))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Discovery {
    active_alertmanagers: Vec<Receiver>,
    dropped_alertmanagers: Vec<Receiver>,
}

#[derive(Deserialize)]
struct Receiver {
    url: String,
}

/// Where Prometheus sends its alerts.
pub(super) async fn alertmanagers(asking: &Asking<'_>) -> Result<AlertmanagersResponse, Status> {
    let found: Discovery = asking.get("Alertmanagers", "api/v1/alertmanagers", &[]).await?;
    let source = label_set_to_fleet(asking.external());
    let list = |all: Vec<Receiver>| {
        let one = |r: Receiver| Alertmanager { url: r.url, source: Some(source.clone()) };
        all.into_iter().map(one).collect()
    };
    Ok(AlertmanagersResponse {
        active: list(found.active_alertmanagers),
        dropped: list(found.dropped_alertmanagers),
        warnings: Vec::new(),
    })
}
