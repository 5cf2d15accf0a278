//! What Prometheus tells of itself beside samples: rules, targets, metadata of metrics, exemplars, what its
//! head holds, its Alertmanagers. Thanos's services for these, and our `About` for what Thanos has none for.
//!
//! Each module asks the HTTP API, reads its JSON with everything optional (2.42 tells less than 3.x), puts the
//! external labels on, and turns it into messages.

mod about;
mod exemplars;
mod heads;
mod metadata;
mod rules;
mod targets;
mod times;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::{Labels, Matcher};
use periplus_promql::parse::parse_metric_selector;
use periplus_proto::fleet::about_server::About;
use periplus_proto::fleet::{
    AlertmanagersRequest, AlertmanagersResponse, TargetMetadataRequest, TargetMetadataResponse,
};
use periplus_proto::thanos::exemplars_server::Exemplars;
use periplus_proto::thanos::metadata_server::Metadata;
use periplus_proto::thanos::rules_server::Rules;
use periplus_proto::thanos::status_server::Status as Heads;
use periplus_proto::thanos::targets_server::Targets;
use periplus_proto::thanos::{self, ZLabelSet};
use serde::de::DeserializeOwned;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::Shared;
use super::status::from_client;
use crate::prometheus::Snapshot;

/// Serves what Prometheus tells of itself.
#[derive(Clone, Debug)]
pub struct TellService {
    shared: Arc<Shared>,
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<Frames<T>>, Status>;

/// One request: what is known of the Prometheus, and how long it may take.
struct Asking<'a> {
    shared: &'a Shared,
    snapshot: Arc<Snapshot>,
    timeout: Duration,
}

impl Asking<'_> {
    /// The `data` of an API path.
    async fn get<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<T, Status> {
        let client = self.shared.watch.client();
        client.get(what, path, parameters, self.timeout).await.map_err(|e| from_client(&e))
    }

    fn external(&self) -> &Labels {
        &self.snapshot.external
    }

    /// Labels with the external ones, which win.
    fn shown(&self, own: &BTreeMap<String, String>) -> ZLabelSet {
        let mut all: BTreeMap<&str, &str> =
            own.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        all.extend(self.external().iter());
        label_set(all.into_iter())
    }
}

fn label_set<'a>(sorted: impl Iterator<Item = (&'a str, &'a str)>) -> ZLabelSet {
    let label = |(n, v): (&str, &str)| thanos::Label { name: n.to_owned(), value: v.to_owned() };
    ZLabelSet { labels: sorted.map(label).collect() }
}

/// Labels as they are.
fn plain(own: &BTreeMap<String, String>) -> ZLabelSet {
    label_set(own.iter().map(|(n, v)| (n.as_str(), v.as_str())))
}

/// Matchers out of a selector's text.
fn selector(text: &str) -> Result<Vec<Matcher>, Status> {
    let invalid = |e: String| Status::invalid_argument(format!("{text:?}: {e}"));
    let written = parse_metric_selector(text).map_err(|e| invalid(e.to_string()))?;
    written.iter().map(|m| m.compile().map_err(|e| invalid(e.to_string()))).collect()
}

impl TellService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn asking<T>(&self, request: &Request<T>) -> Result<Asking<'_>, Status> {
        let timeout = self.shared.timeout(request);
        Ok(Asking { shared: &self.shared, snapshot: self.shared.snapshot()?, timeout })
    }

    /// Counts a request by how it ended.
    fn count<T>(&self, method: &'static str, begun: Instant, result: &Result<T, Status>) {
        let code = result.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
        self.shared.metrics.request(method, code, begun.elapsed());
    }

    fn frames<T: Send + 'static>(
        &self,
        method: &'static str,
        begun: Instant,
        result: Result<Vec<T>, Status>,
    ) -> Answer<T> {
        self.count(method, begun, &result);
        Ok(Response::new(Box::pin(tokio_stream::iter(result?.into_iter().map(Ok)))))
    }
}

#[tonic::async_trait]
impl Rules for TellService {
    type RulesStream = Frames<thanos::RulesResponse>;

    async fn rules(&self, request: Request<thanos::RulesRequest>) -> Answer<thanos::RulesResponse> {
        let begun = Instant::now();
        let asking = self.asking(&request)?;
        let result = rules::answer(&asking, &request.into_inner()).await;
        self.frames("Rules", begun, result)
    }
}

#[tonic::async_trait]
impl Targets for TellService {
    type TargetsStream = Frames<thanos::TargetsResponse>;

    async fn targets(
        &self,
        request: Request<thanos::TargetsRequest>,
    ) -> Answer<thanos::TargetsResponse> {
        let begun = Instant::now();
        let asking = self.asking(&request)?;
        let result = targets::answer(&asking, &request.into_inner()).await;
        self.frames("Targets", begun, result)
    }
}

#[tonic::async_trait]
impl Metadata for TellService {
    type MetricMetadataStream = Frames<thanos::MetricMetadataResponse>;

    async fn metric_metadata(
        &self,
        request: Request<thanos::MetricMetadataRequest>,
    ) -> Answer<thanos::MetricMetadataResponse> {
        let begun = Instant::now();
        let asking = self.asking(&request)?;
        let result = metadata::answer(&asking, &request.into_inner()).await;
        self.frames("MetricMetadata", begun, result)
    }
}

#[tonic::async_trait]
impl Exemplars for TellService {
    type ExemplarsStream = Frames<thanos::ExemplarsResponse>;

    async fn exemplars(
        &self,
        request: Request<thanos::ExemplarsRequest>,
    ) -> Answer<thanos::ExemplarsResponse> {
        let begun = Instant::now();
        let asking = self.asking(&request)?;
        let result = exemplars::answer(&asking, &request.into_inner()).await;
        self.frames("Exemplars", begun, result)
    }
}

#[tonic::async_trait]
impl Heads for TellService {
    type TSDBStatisticsStream = Frames<thanos::TsdbStatisticsResponse>;

    async fn tsdb_statistics(
        &self,
        request: Request<thanos::TsdbStatisticsRequest>,
    ) -> Answer<thanos::TsdbStatisticsResponse> {
        let begun = Instant::now();
        let asking = self.asking(&request)?;
        let result = heads::answer(&asking, &request.into_inner()).await;
        self.frames("TSDBStatistics", begun, result)
    }
}

#[tonic::async_trait]
impl About for TellService {
    type TargetMetadataStream = Frames<TargetMetadataResponse>;

    async fn target_metadata(
        &self,
        request: Request<TargetMetadataRequest>,
    ) -> Answer<TargetMetadataResponse> {
        let begun = Instant::now();
        let asking = self.asking(&request)?;
        let result = about::target_metadata(&asking, &request.into_inner()).await;
        self.frames("TargetMetadata", begun, result)
    }

    async fn alertmanagers(
        &self,
        request: Request<AlertmanagersRequest>,
    ) -> Result<Response<AlertmanagersResponse>, Status> {
        let begun = Instant::now();
        let asking = self.asking(&request)?;
        let result = about::alertmanagers(&asking).await;
        self.count("Alertmanagers", begun, &result);
        result.map(Response::new)
    }
}
