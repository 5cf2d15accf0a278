//! `thanos.info.Info`: what this endpoint is and serves.

use std::sync::Arc;

use periplus_proto::convert::labels_to_thanos;
use periplus_proto::thanos::ZLabelSet;
use periplus_proto::thanos::info::info_server::Info;
use periplus_proto::thanos::info::{
    ExemplarsInfo, InfoRequest, InfoResponse, MetricMetadataInfo, QueryApiInfo, RulesInfo,
    StatusInfo, StoreInfo, TargetsInfo, TsdbInfo,
};
use tonic::{Request, Response, Status};

use super::Shared;

/// Serves `thanos.info.Info`.
#[derive(Clone, Debug)]
pub struct InfoService {
    shared: Arc<Shared>,
}

impl InfoService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl Info for InfoService {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let snapshot = self.shared.snapshot()?;
        let labels = ZLabelSet { labels: labels_to_thanos(&snapshot.external) };
        // The end is open: there will be samples newer than this answer.
        let (min_time, max_time) = (snapshot.min_t.unwrap_or(0), i64::MAX);
        Ok(Response::new(InfoResponse {
            label_sets: vec![labels.clone()],
            component_type: "sidecar".to_owned(),
            store: Some(StoreInfo {
                min_time,
                max_time,
                supports_sharding: false,
                supports_without_replica_labels: true,
                tsdb_infos: vec![TsdbInfo { labels: Some(labels), min_time, max_time }],
                supports_projections: false,
            }),
            rules: Some(RulesInfo {}),
            metric_metadata: Some(MetricMetadataInfo {}),
            targets: Some(TargetsInfo {}),
            exemplars: Some(ExemplarsInfo { min_time, max_time }),
            query: Some(QueryApiInfo {}),
            status: Some(StatusInfo {}),
        }))
    }
}
