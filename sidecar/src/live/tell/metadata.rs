//! `thanos.Metadata`.

use std::collections::{BTreeMap, HashMap};

use periplus_proto::thanos::{
    Meta, MetricMetadata, MetricMetadataEntry, MetricMetadataRequest, MetricMetadataResponse,
    metric_metadata_response,
};
use serde::Deserialize;
use tonic::Status;

use super::Asking;

/// Metrics in one message.
const BATCH: usize = 500;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Told {
    pub(super) r#type: String,
    pub(super) help: String,
    pub(super) unit: String,
}

/// The metrics' metadata, in order of name.
pub(super) async fn answer(
    asking: &Asking<'_>,
    r: &MetricMetadataRequest,
) -> Result<Vec<MetricMetadataResponse>, Status> {
    let mut parameters = Vec::new();
    if !r.metric.is_empty() {
        parameters.push(("metric", r.metric.clone()));
    }
    // With a limit Prometheus gives any metrics; the first by name are wanted, so that answers of clusters
    // can be merged. So all are read, and cut here.
    let found: BTreeMap<String, Vec<Told>> =
        asking.get("metadata", "api/v1/metadata", &parameters).await?;
    let limit = usize::try_from(r.limit).unwrap_or(usize::MAX);
    let all: Vec<(String, MetricMetadataEntry)> = (found.into_iter().take(limit))
        .map(|(name, metas)| {
            let meta = |m: Told| Meta { r#type: m.r#type, help: m.help, unit: m.unit };
            (name, MetricMetadataEntry { metas: metas.into_iter().map(meta).collect() })
        })
        .collect();
    let message = |some: &[(String, MetricMetadataEntry)]| {
        let metadata: HashMap<_, _> = some.iter().cloned().collect();
        let result = metric_metadata_response::Result::Metadata(MetricMetadata { metadata });
        MetricMetadataResponse { result: Some(result) }
    };
    Ok(all.chunks(BATCH).map(message).collect())
}
