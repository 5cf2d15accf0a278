//! Type, help and unit of metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_promql::engine::QueryError;
use periplus_proto::thanos::metadata_client::MetadataClient;
use periplus_proto::thanos::metric_metadata_response::Result as Frame;
use periplus_proto::thanos::{Meta, MetricMetadataRequest};
use prost::Message;

use super::ask::{drain, everyone};
use super::strategy;
use crate::fanout::Question;

/// The metadata of `metric` (empty: of all metrics) by name: each that any cluster has, once. At most
/// `limit` metrics, the first by name.
///
/// # Errors
/// With a strict question somebody is missing.
pub async fn metadata(
    q: &Arc<Question>,
    metric: &str,
    limit: Option<usize>,
) -> Result<BTreeMap<String, Vec<Meta>>, QueryError> {
    let request = MetricMetadataRequest {
        metric: metric.to_owned(),
        limit: limit.and_then(|l| i32::try_from(l).ok()).unwrap_or(-1),
        partial_response_strategy: strategy(q),
    };
    let found = everyone(q, None, |_, channel| {
        let (request, q) = (request.clone(), Arc::clone(q));
        async move {
            let mut client = MetadataClient::new(channel)
                .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
            let stream = client.metric_metadata(request).await?.into_inner();
            let mut all: Vec<(String, Vec<Meta>)> = Vec::new();
            drain(stream, Message::encoded_len, |m| match m.result {
                Some(Frame::Metadata(m)) => {
                    all.extend(m.metadata.into_iter().map(|(name, entry)| (name, entry.metas)));
                }
                Some(Frame::Warning(w)) => q.notes.warn(w),
                None => {}
            })
            .await?;
            Ok(all)
        }
    })
    .await?;
    let mut all: BTreeMap<String, Vec<Meta>> = BTreeMap::new();
    for (name, metas) in found.into_iter().flat_map(|(_, all)| all) {
        let there = all.entry(name).or_default();
        for m in metas {
            if !there.contains(&m) {
                there.push(m);
            }
        }
    }
    if let Some(limit) = limit
        && let Some(beyond) = all.keys().nth(limit).cloned()
    {
        all.split_off(&beyond);
    }
    Ok(all)
}
