//! `thanos.Store`: series, label names and label values of the fleet.

use std::time::Instant;

use periplus_model::TimeRange;
use periplus_promql::source::{SelectHints, SelectRequest};
use periplus_proto::convert::matchers_from_thanos;
use periplus_proto::thanos::series_response::Result as Frame;
use periplus_proto::thanos::store_server::Store;
use periplus_proto::thanos::{
    LabelMatcher, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse,
    PartialResponseStrategy, SeriesRequest, SeriesResponse,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Services, status};
use crate::answer::{Asked, Options, describe};
use crate::fanout::QueryTimes;
use crate::fanout::fragment::strict_error;
use crate::series::{LabelQuery, label_names, label_values, pass_on};

type Frames = std::pin::Pin<Box<dyn Stream<Item = Result<SeriesResponse, Status>> + Send>>;

impl Services {
    pub(super) fn begin(
        &self,
        replica_labels: &[String],
        strict: bool,
        strategy: i32,
        range: TimeRange,
    ) -> Asked {
        let options = Options {
            replica_labels: replica_labels.to_vec(),
            stores: Vec::new(),
            strict: strict || strategy == PartialResponseStrategy::Abort as i32,
            lookback_ms: self.defaults.lookback_ms,
            deadline: Instant::now() + self.defaults.timeout,
            limits: None,
            delayed_name_removal: false,
            per_step_stats: false,
            pushdown: true,
            resolution: self.defaults.resolution,
        };
        let times = QueryTimes { start_ms: range.min_t, end_ms: range.max_t, step_ms: 0 };
        self.answerer.ask("".into(), times, &options)
    }
}

fn sets(matchers: &[LabelMatcher]) -> Result<Vec<Vec<periplus_model::Matcher>>, Status> {
    let set =
        matchers_from_thanos(matchers).map_err(|e| Status::invalid_argument(e.to_string()))?;
    Ok(if set.is_empty() { Vec::new() } else { vec![set] })
}

fn cut(mut all: Vec<String>, limit: i64) -> Vec<String> {
    if let Ok(limit @ 1..) = usize::try_from(limit) {
        all.truncate(limit);
    }
    all
}

/// Warnings of an answer, those about missing streams included.
pub(super) fn warnings(asked: &Asked) -> Vec<String> {
    let collected = asked.question.notes.collected();
    let (mut all, infos) = collected.annotations.to_strings("", 0);
    all.extend(infos);
    all.extend(collected.missing.iter().map(describe));
    all
}

#[tonic::async_trait]
impl Store for Services {
    type SeriesStream = Frames;

    async fn series(&self, request: Request<SeriesRequest>) -> Result<Response<Frames>, Status> {
        let r = request.into_inner();
        let range = TimeRange::new(r.min_time, r.max_time);
        let matchers = sets(&r.matchers)?.pop().unwrap_or_default();
        let strict = r.partial_response_disabled;
        let asked =
            self.begin(&r.without_replica_labels, strict, r.partial_response_strategy, range);
        let select = SelectRequest { matchers, range, hints: SelectHints::default() };
        let limit = usize::try_from(r.limit).ok().filter(|l| *l > 0).unwrap_or(usize::MAX);
        let (to, from) = mpsc::channel(64);
        tokio::spawn(async move {
            let (give, mut take) = mpsc::channel(64);
            let question = asked.question.clone();
            let work = async {
                let give = give;
                pass_on(&question, &select, r.skip_chunks, &give).await
            };
            let forward = async {
                let mut sent = 0usize;
                while let Some(s) = take.recv().await {
                    let frame = SeriesResponse { result: Some(Frame::Series(s)) };
                    if sent >= limit || to.send(Ok(frame)).await.is_err() {
                        // Nobody wants more: the work ends with its receiver.
                        take.close();
                        return;
                    }
                    sent += 1;
                }
            };
            if let (Some(text), ()) = tokio::join!(work, forward) {
                let _ = to.send(Err(Status::resource_exhausted(text))).await;
                return;
            }
            if question.strict && question.notes.is_partial() {
                let _ = to.send(Err(status(strict_error(&question)))).await;
                return;
            }
            for w in warnings(&asked) {
                let _ = to.send(Ok(SeriesResponse { result: Some(Frame::Warning(w)) })).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(from))))
    }

    async fn label_names(
        &self,
        request: Request<LabelNamesRequest>,
    ) -> Result<Response<LabelNamesResponse>, Status> {
        let r = request.into_inner();
        let range = TimeRange::new(r.start, r.end);
        let asked = self.begin(
            &r.without_replica_labels,
            r.partial_response_disabled,
            r.partial_response_strategy,
            range,
        );
        let limit = usize::try_from(r.limit).unwrap_or(0);
        let query = LabelQuery { sets: sets(&r.matchers)?, range, limit };
        let names = label_names(&asked.question, &query).await.map_err(status)?;
        let warnings = warnings(&asked);
        let names = cut(names, r.limit);
        Ok(Response::new(LabelNamesResponse { names, warnings, ..Default::default() }))
    }

    async fn label_values(
        &self,
        request: Request<LabelValuesRequest>,
    ) -> Result<Response<LabelValuesResponse>, Status> {
        let r = request.into_inner();
        let range = TimeRange::new(r.start, r.end);
        let asked = self.begin(
            &r.without_replica_labels,
            r.partial_response_disabled,
            r.partial_response_strategy,
            range,
        );
        let limit = usize::try_from(r.limit).unwrap_or(0);
        let query = LabelQuery { sets: sets(&r.matchers)?, range, limit };
        let values = label_values(&asked.question, &r.label, &query).await.map_err(status)?;
        let warnings = warnings(&asked);
        let values = cut(values, r.limit);
        Ok(Response::new(LabelValuesResponse { values, warnings, ..Default::default() }))
    }
}
