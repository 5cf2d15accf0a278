//! `thanos.info.Info`: what a Thanos Query needs to know to use this process as an endpoint.

use periplus_model::Labels;
use periplus_proto::convert::labels_to_thanos;
use periplus_proto::thanos::ZLabelSet;
use periplus_proto::thanos::info::info_server::Info;
use periplus_proto::thanos::info::{InfoRequest, InfoResponse, QueryApiInfo, StoreInfo};
use tonic::{Request, Response, Status};

use super::Services;

#[tonic::async_trait]
impl Info for Services {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let snapshot = self.answerer.registry.snapshot();
        let up = snapshot.endpoints.iter().filter(|e| e.status.up && e.status.refused.is_none());
        let (mut sets, mut min_time, mut max_time) = (Vec::<Labels>::new(), i64::MAX, i64::MIN);
        for s in up.flat_map(|e| &e.status.streams) {
            sets.push(s.labels.clone());
            min_time = min_time.min(s.available.min_t);
            max_time = max_time.max(s.available.max_t);
        }
        if let Some(history) = &self.answerer.history {
            let reading = history.reading(self.defaults.resolution);
            for h in reading.coverage().held(0, &[], self.defaults.resolution) {
                min_time = min_time.min(h.available.min_t);
                max_time = max_time.max(h.available.max_t);
                sets.push(h.external);
            }
        }
        sets.sort_unstable();
        sets.dedup();
        Ok(Response::new(InfoResponse {
            label_sets: sets.iter().map(|l| ZLabelSet { labels: labels_to_thanos(l) }).collect(),
            component_type: "query".to_owned(),
            store: Some(StoreInfo {
                min_time: if sets.is_empty() { i64::MIN } else { min_time },
                max_time: if sets.is_empty() { i64::MAX } else { max_time },
                supports_without_replica_labels: true,
                ..StoreInfo::default()
            }),
            query: Some(QueryApiInfo {}),
            ..InfoResponse::default()
        }))
    }
}
