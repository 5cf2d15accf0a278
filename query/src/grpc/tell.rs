//! Rules, targets, metadata, exemplars and heads of the fleet, for a tier above: the same services that
//! sidecars have. Replicas stay apart; who asks tells which labels are replica labels, and merges.

use std::pin::Pin;

use periplus_model::TimeRange;
use periplus_promql::engine::QueryError;
use periplus_promql::parse;
use periplus_proto::convert::{labels_to_thanos, matchers_from_thanos};
use periplus_proto::fleet::about_server::About;
use periplus_proto::fleet::{
    AlertmanagersRequest, AlertmanagersResponse, TargetMetadataRequest, TargetMetadataResponse,
};
use periplus_proto::thanos::exemplars_server::Exemplars;
use periplus_proto::thanos::metadata_server::Metadata;
use periplus_proto::thanos::rules_server::Rules;
use periplus_proto::thanos::status_server::Status as Heads;
use periplus_proto::thanos::targets_server::Targets;
use periplus_proto::thanos::{
    self, ExemplarData, MetricMetadata, MetricMetadataEntry, PartialResponseStrategy,
    TargetDiscovery, TsdbStatistics, ZLabelSet,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::store::warnings;
use super::{Services, status};
use crate::about::heads::heads;
use crate::about::rules::{RuleQuery, rules};
use crate::about::targets::{TargetMetadataQuery, metadata as target_metadata, targets};
use crate::about::{alertmanagers, exemplars, metadata};
use crate::answer::Asked;
use crate::api::params::selector;

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<Frames<T>>, Status>;

/// Things in one message.
const BATCH: usize = 500;

impl Services {
    fn wonder(&self, strict: bool) -> Asked {
        self.begin(&[], strict, 0, TimeRange::ALL)
    }
}

fn is_strict(strategy: i32) -> bool {
    strategy == i32::from(PartialResponseStrategy::Abort)
}

/// Messages, and behind them who is missing, as warnings.
fn stream<T: Send + 'static>(
    asked: &Asked,
    mut messages: Vec<T>,
    warning: impl Fn(String) -> T,
) -> Answer<T> {
    messages.extend(warnings(asked).into_iter().map(warning));
    Ok(Response::new(Box::pin(tokio_stream::iter(messages.into_iter().map(Ok)))))
}

fn invalid(text: impl std::fmt::Display) -> Status {
    Status::invalid_argument(text.to_string())
}

fn failed(e: QueryError) -> Status {
    status(e)
}

#[tonic::async_trait]
impl Rules for Services {
    type RulesStream = Frames<thanos::RulesResponse>;

    async fn rules(&self, request: Request<thanos::RulesRequest>) -> Answer<thanos::RulesResponse> {
        use thanos::rules_response::Result as R;
        let r = request.into_inner();
        let sets = r.matcher_string.iter().map(|t| selector(t).map_err(invalid));
        let query = RuleQuery {
            kind: r.r#type(),
            sets: sets.collect::<Result<_, _>>()?,
            selectors: r.matcher_string.clone(),
            names: r.rule_name.clone(),
            groups: r.rule_group.clone(),
            files: r.file.clone(),
            exclude_alerts: r.exclude_alerts,
        };
        let asked = self.wonder(is_strict(r.partial_response_strategy));
        let groups = rules(&asked.question, &query, &self.own).await.map_err(failed)?;
        let message = |r| thanos::RulesResponse { result: Some(r) };
        let messages = groups.into_iter().map(|g| message(R::Group(g))).collect();
        stream(&asked, messages, |w| message(R::Warning(w)))
    }
}

#[tonic::async_trait]
impl Targets for Services {
    type TargetsStream = Frames<thanos::TargetsResponse>;

    async fn targets(
        &self,
        request: Request<thanos::TargetsRequest>,
    ) -> Answer<thanos::TargetsResponse> {
        use thanos::targets_response::Result as R;
        let r = request.into_inner();
        let asked = self.wonder(is_strict(r.partial_response_strategy));
        let all = targets(&asked.question, r.state(), &r.scrape_pool).await.map_err(failed)?;
        let message = |r| thanos::TargetsResponse { result: Some(r) };
        let mut messages = vec![message(R::Targets(TargetDiscovery {
            dropped_target_counts: all.dropped_target_counts,
            ..TargetDiscovery::default()
        }))];
        for some in all.active_targets.chunks(BATCH) {
            let active_targets = some.to_vec();
            messages.push(message(R::Targets(TargetDiscovery {
                active_targets,
                ..TargetDiscovery::default()
            })));
        }
        for some in all.dropped_targets.chunks(BATCH) {
            let dropped_targets = some.to_vec();
            messages.push(message(R::Targets(TargetDiscovery {
                dropped_targets,
                ..TargetDiscovery::default()
            })));
        }
        stream(&asked, messages, |w| message(R::Warning(w)))
    }
}

#[tonic::async_trait]
impl Metadata for Services {
    type MetricMetadataStream = Frames<thanos::MetricMetadataResponse>;

    async fn metric_metadata(
        &self,
        request: Request<thanos::MetricMetadataRequest>,
    ) -> Answer<thanos::MetricMetadataResponse> {
        use thanos::metric_metadata_response::Result as R;
        let r = request.into_inner();
        let asked = self.wonder(is_strict(r.partial_response_strategy));
        let limit = usize::try_from(r.limit).ok();
        let found = metadata::metadata(&asked.question, &r.metric, limit).await;
        let all: Vec<_> = found.map_err(failed)?.into_iter().collect();
        let message = |r| thanos::MetricMetadataResponse { result: Some(r) };
        let messages = all
            .chunks(BATCH)
            .map(|some| {
                let entry = |(name, metas): &(String, Vec<thanos::Meta>)| {
                    (name.clone(), MetricMetadataEntry { metas: metas.clone() })
                };
                let metadata = some.iter().map(entry).collect();
                message(R::Metadata(MetricMetadata { metadata }))
            })
            .collect();
        stream(&asked, messages, |w| message(R::Warning(w)))
    }
}

#[tonic::async_trait]
impl Exemplars for Services {
    type ExemplarsStream = Frames<thanos::ExemplarsResponse>;

    async fn exemplars(
        &self,
        request: Request<thanos::ExemplarsRequest>,
    ) -> Answer<thanos::ExemplarsResponse> {
        use thanos::exemplars_response::Result as R;
        let r = request.into_inner();
        let expr = parse::parse(&r.query).map_err(invalid)?;
        let asked = self.wonder(is_strict(r.partial_response_strategy));
        let found = exemplars::exemplars(&asked.question, &expr, r.start, r.end).await;
        let message = |r| thanos::ExemplarsResponse { result: Some(r) };
        let messages = found
            .map_err(failed)?
            .into_iter()
            .map(|(labels, exemplars)| {
                let series_labels = Some(ZLabelSet { labels: labels_to_thanos(&labels) });
                message(R::Data(ExemplarData { series_labels, exemplars }))
            })
            .collect();
        stream(&asked, messages, |w| message(R::Warning(w)))
    }
}

#[tonic::async_trait]
impl Heads for Services {
    type TSDBStatisticsStream = Frames<thanos::TsdbStatisticsResponse>;

    async fn tsdb_statistics(
        &self,
        request: Request<thanos::TsdbStatisticsRequest>,
    ) -> Answer<thanos::TsdbStatisticsResponse> {
        use thanos::tsdb_statistics_response::Result as R;
        let r = request.into_inner();
        let matchers = matchers_from_thanos(&r.matchers).map_err(invalid)?;
        let asked = self.wonder(is_strict(r.partial_response_strategy));
        let entries = usize::try_from(r.limit).ok().filter(|n| *n > 0).unwrap_or(10);
        let found = heads(&asked.question, &matchers, entries).await.map_err(failed)?;
        let message = |r| thanos::TsdbStatisticsResponse { result: Some(r) };
        let messages = found
            .into_iter()
            .map(|h| {
                let statistics = [(h.name, h.entry)].into();
                message(R::Statistics(TsdbStatistics { statistics }))
            })
            .collect();
        stream(&asked, messages, |w| message(R::Warning(w)))
    }
}

#[tonic::async_trait]
impl About for Services {
    type TargetMetadataStream = Frames<TargetMetadataResponse>;

    async fn target_metadata(
        &self,
        request: Request<TargetMetadataRequest>,
    ) -> Answer<TargetMetadataResponse> {
        let r = request.into_inner();
        let matchers = match r.match_target.as_str() {
            "" => Vec::new(),
            text => selector(text).map_err(invalid)?,
        };
        let query = TargetMetadataQuery {
            matchers,
            selector: r.match_target,
            metric: r.metric,
            limit: usize::try_from(r.limit).ok(),
        };
        let asked = self.wonder(r.strict);
        let all = target_metadata(&asked.question, &query).await.map_err(failed)?;
        let entries: Vec<_> = all.into_iter().map(|(_, entry)| entry).collect();
        let message =
            |some: &[_]| TargetMetadataResponse { entries: some.to_vec(), warnings: Vec::new() };
        let messages = entries.chunks(BATCH).map(message).collect();
        let warning = |w| TargetMetadataResponse { entries: Vec::new(), warnings: vec![w] };
        stream(&asked, messages, warning)
    }

    async fn alertmanagers(
        &self,
        request: Request<AlertmanagersRequest>,
    ) -> Result<Response<AlertmanagersResponse>, Status> {
        let asked = self.wonder(request.into_inner().strict);
        let all = alertmanagers::alertmanagers(&asked.question, &self.own).await.map_err(failed)?;
        Ok(Response::new(AlertmanagersResponse {
            active: all.active,
            dropped: all.dropped,
            warnings: warnings(&asked),
        }))
    }
}
