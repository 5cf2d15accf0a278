//! What a ruler serves to query processes: its series as `thanos.Store`, its rules as `thanos.Rules`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use periplus_block::chunk::{ChunkEncoding, ChunkSamples, HistogramValue, encode};
use periplus_model::{Labels, METRIC_NAME, Matcher, SampleBuffer, TimeRange};
use periplus_proto::convert::{labels_to_thanos, matchers_from_thanos};
use periplus_proto::thanos::info::info_server::Info;
use periplus_proto::thanos::info::{InfoRequest, InfoResponse, RulesInfo, StoreInfo};
use periplus_proto::thanos::rules_server::Rules;
use periplus_proto::thanos::series_response::Result as Frame;
use periplus_proto::thanos::store_server::Store;
use periplus_proto::thanos::{
    self, AggrChunk, Chunk, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest,
    LabelValuesResponse, RulesRequest, RulesResponse, SeriesRequest, SeriesResponse, ZLabelSet,
    rules_request, rules_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::head::Head;
use super::manager::Manager;
use super::rule::Strategy;
use super::wire::rule_groups;

/// Messages on their way to a client.
const CHANNEL: usize = 64;

/// The services of a ruler.
#[derive(Clone, Debug)]
pub struct Services {
    /// The series.
    pub head: Arc<Head>,
    /// The rules.
    pub manager: Manager,
    /// Labels on all series that tell this ruler from others.
    pub external: Labels,
    /// What partial answers mean to groups that do not say it.
    pub strategy: Strategy,
    /// Whether query processes are to ask for the rules here.
    pub tells_rules: bool,
}

type Frames<T> = ReceiverStream<Result<T, Status>>;

impl Services {
    /// What matchers ask of the series themselves; `None` where the external labels don't match.
    fn inner(&self, matchers: &[thanos::LabelMatcher]) -> Result<Option<Vec<Matcher>>, Status> {
        let all =
            matchers_from_thanos(matchers).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let (external, own): (Vec<Matcher>, Vec<Matcher>) =
            all.into_iter().partition(|m| self.external.get(&m.name).is_some());
        let fits = external.iter().all(|m| m.matches(self.external.value(&m.name)));
        Ok(fits.then_some(own))
    }

    /// What stands behind this ruler: a label set for each metric that rules give or gave, its name and the external
    /// labels. So a query layer asks here only for these metrics, pushes every other question down as if
    /// no ruler were there, and misses nothing else when it is down.
    fn announced(&self) -> Vec<Labels> {
        let groups = self.manager.groups();
        let rules = groups.iter().flat_map(|g| &g.group.rules).filter(|r| r.alerting.is_none());
        let mut names = self.head.names();
        names.extend(rules.map(|r| r.name.clone()));
        announced(&self.external, names)
    }

    /// External labels stand on every series, and win.
    fn outer(&self, labels: &Labels, without: &[String]) -> Labels {
        let mut b = labels.to_builder();
        for (n, v) in &self.external {
            b.set(n, v);
        }
        for n in without {
            b.del(n);
        }
        b.build()
    }
}

/// More metrics than this are not told one by one.
const NAMES_MAX: usize = 2_000;

fn announced(external: &Labels, mut names: BTreeSet<String>) -> Vec<Labels> {
    names.extend(["ALERTS".to_owned(), "ALERTS_FOR_STATE".to_owned()]);
    if names.len() > NAMES_MAX {
        return vec![external.clone()];
    }
    let named = |name: &String| {
        let mut b = external.to_builder();
        b.set(METRIC_NAME, name);
        b.build()
    };
    names.iter().map(named).collect()
}

#[tonic::async_trait]
impl Info for Services {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let told = self.announced();
        let label_sets = told.iter().map(|l| ZLabelSet { labels: labels_to_thanos(l) }).collect();
        Ok(Response::new(InfoResponse {
            label_sets,
            component_type: "rule".to_owned(),
            store: Some(StoreInfo {
                min_time: self.head.oldest().unwrap_or(0),
                max_time: i64::MAX,
                supports_without_replica_labels: true,
                ..StoreInfo::default()
            }),
            rules: self.tells_rules.then_some(RulesInfo {}),
            ..InfoResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl Store for Services {
    type SeriesStream = Frames<SeriesResponse>;

    async fn series(
        &self,
        request: Request<SeriesRequest>,
    ) -> Result<Response<Self::SeriesStream>, Status> {
        let r = request.into_inner();
        let range = TimeRange::new(r.min_time, r.max_time);
        let found = match self.inner(&r.matchers)? {
            Some(own) => self.head.select(&own, range),
            None => Vec::new(),
        };
        let mut all: Vec<(Labels, SampleBuffer)> = found
            .into_iter()
            .map(|(l, s)| (self.outer(&l, &r.without_replica_labels), s))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let limit = usize::try_from(r.limit).ok().filter(|l| *l > 0).unwrap_or(usize::MAX);
        let (to, from) = mpsc::channel(CHANNEL);
        tokio::spawn(async move {
            for (labels, samples) in all.into_iter().take(limit) {
                let frame = match r.skip_chunks {
                    true => Ok(Vec::new()),
                    false => chunks(&samples),
                };
                let frame = frame.map(|chunks| {
                    let labels = labels_to_thanos(&labels);
                    SeriesResponse {
                        result: Some(Frame::Series(thanos::Series { labels, chunks })),
                    }
                });
                if to.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(from)))
    }

    async fn label_names(
        &self,
        request: Request<LabelNamesRequest>,
    ) -> Result<Response<LabelNamesResponse>, Status> {
        let r = request.into_inner();
        let sets = match self.inner(&r.matchers)? {
            Some(own) => self.head.labels(&own, TimeRange::new(r.start, r.end)),
            None => Vec::new(),
        };
        let names = sets.iter().map(|l| self.outer(l, &r.without_replica_labels));
        let names: BTreeSet<String> =
            names.flat_map(|l| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>()).collect();
        let names = cut(names, r.limit);
        Ok(Response::new(LabelNamesResponse { names, ..Default::default() }))
    }

    async fn label_values(
        &self,
        request: Request<LabelValuesRequest>,
    ) -> Result<Response<LabelValuesResponse>, Status> {
        let r = request.into_inner();
        let sets = match self.inner(&r.matchers)? {
            Some(own) => self.head.labels(&own, TimeRange::new(r.start, r.end)),
            None => Vec::new(),
        };
        let values = sets.iter().map(|l| self.outer(l, &r.without_replica_labels));
        let values: BTreeSet<String> =
            values.filter_map(|l| l.get(&r.label).map(str::to_owned)).collect();
        let values = cut(values, r.limit);
        Ok(Response::new(LabelValuesResponse { values, ..Default::default() }))
    }
}

fn cut(all: BTreeSet<String>, limit: i64) -> Vec<String> {
    let limit = usize::try_from(limit).ok().filter(|l| *l > 0).unwrap_or(usize::MAX);
    all.into_iter().take(limit).collect()
}

/// Samples as a block's encoder takes them.
pub(super) fn encodable(s: &SampleBuffer) -> ChunkSamples {
    ChunkSamples {
        ts: s.ts.clone(),
        values: s.values.clone(),
        histograms: s
            .histograms
            .iter()
            .map(|(i, h)| (*i, HistogramValue::Float((**h).clone())))
            .collect(),
        ..ChunkSamples::default()
    }
}

fn chunks(s: &SampleBuffer) -> Result<Vec<AggrChunk>, Status> {
    let all = encode(&encodable(s)).map_err(|e| Status::internal(e.to_string()))?;
    Ok(all
        .into_iter()
        .map(|c| {
            let number = match c.encoding {
                ChunkEncoding::Histogram => 1,
                ChunkEncoding::FloatHistogram => 2,
                _ => 0,
            };
            let raw = Chunk { r#type: number, data: Bytes::from(c.payload), hash: 0 };
            let (min_time, max_time) = (c.range.min_t, c.range.max_t);
            AggrChunk { min_time, max_time, raw: Some(raw), ..AggrChunk::default() }
        })
        .collect())
}

#[tonic::async_trait]
impl Rules for Services {
    type RulesStream = Frames<RulesResponse>;

    async fn rules(
        &self,
        request: Request<RulesRequest>,
    ) -> Result<Response<Self::RulesStream>, Status> {
        let r = request.into_inner();
        let kind = r.r#type();
        let mut groups = rule_groups(&self.manager.groups(), self.strategy);
        let (to, from) = mpsc::channel(CHANNEL);
        let wanted =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
        groups.retain(|g| wanted(&r.rule_group, &g.name) && wanted(&r.file, &g.file));
        for g in &mut groups {
            g.rules.retain(|rule| match (&rule.result, kind) {
                (Some(thanos::rule::Result::Alert(a)), k) => {
                    k != rules_request::Type::Record && wanted(&r.rule_name, &a.name)
                }
                (Some(thanos::rule::Result::Recording(a)), k) => {
                    k != rules_request::Type::Alert && wanted(&r.rule_name, &a.name)
                }
                (None, _) => false,
            });
        }
        tokio::spawn(async move {
            for g in groups {
                let result = Some(rules_response::Result::Group(g));
                if to.send(Ok(RulesResponse { result })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(from)))
    }
}

/// The services, to be served alone or beside others.
#[must_use]
pub fn routes(services: Services) -> tonic::service::Routes {
    use periplus_proto::thanos::info::info_server::InfoServer;
    use periplus_proto::thanos::rules_server::RulesServer;
    use periplus_proto::thanos::store_server::StoreServer;
    tonic::service::Routes::new(StoreServer::new(services.clone()))
        .add_service(RulesServer::new(services.clone()))
        .add_service(InfoServer::new(services))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_set_is_told_for_each_metric() {
        let external = Labels::from_pairs([("ruler", "a")]);
        let sets = announced(&external, BTreeSet::from(["job:x:sum".to_owned()]));
        let names: Vec<&str> = sets.iter().map(|l| l.value(METRIC_NAME)).collect();
        assert_eq!(names, ["ALERTS", "ALERTS_FOR_STATE", "job:x:sum"]);
        assert!(sets.iter().all(|l| l.value("ruler") == "a"));
        let many = (0..=NAMES_MAX).map(|i| format!("m{i}")).collect();
        assert_eq!(announced(&external, many), [external]);
    }
}
