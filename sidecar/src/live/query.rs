//! `thanos.Query`: PromQL over this one Prometheus with its external labels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_daemon::telemetry;
use periplus_promql::parse::parse;
use periplus_promql::value::StepGrid;
use periplus_proto::convert::{
    labels_to_prometheus, matchers_from_thanos, prometheus_histogram_to_wire,
};
use periplus_proto::fleet::PartialKind;
use periplus_proto::prometheus::{Sample, TimeSeries};
use periplus_proto::thanos::query_server::Query;
use periplus_proto::thanos::{
    QueryRangeRequest, QueryRangeResponse, QueryRequest, QueryResponse, StoreMatchers,
    query_range_response, query_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;

use super::Shared;
use super::fleet::evaluate;
use crate::execute::{Job, Output, OutputRow};
use crate::external::External;

/// Messages on their way to the client.
const CHANNEL: usize = 16;

/// Serves `thanos.Query`.
#[derive(Clone, Debug)]
pub struct QueryService {
    shared: Arc<Shared>,
}

/// What both methods ask.
struct Asked {
    query: String,
    /// `None`: what the plan says cannot be read here.
    has_plan: bool,
    grid: StepGrid,
    instant: bool,
    lookback_seconds: i64,
    timeout_seconds: i64,
    replica_labels: Vec<String>,
    stores: Vec<StoreMatchers>,
}

impl QueryService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// `None` where the external labels are not asked for.
    fn job(&self, asked: Asked, granted: Duration) -> Result<Option<Job>, Status> {
        let snapshot = self.shared.snapshot()?;
        if asked.query.is_empty() && asked.has_plan {
            return Err(Status::unimplemented(
                "query plans are not read here; send the query's text",
            ));
        }
        let expr = parse(&asked.query).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let steps = asked.grid.steps();
        if steps == 0 || steps > 1_000_000 {
            return Err(Status::invalid_argument(format!(
                "{steps} evaluations; ask for 1 to 1000000"
            )));
        }
        let mut wanted = asked.stores.is_empty();
        for set in &asked.stores {
            let all = matchers_from_thanos(&set.label_matchers)
                .map_err(|e| Status::invalid_argument(e.to_string()))?;
            // What is no external label tells nothing about the endpoint.
            wanted |=
                all.iter().all(|m| snapshot.external.get(&m.name).is_none_or(|v| m.matches(v)));
        }
        let timeout = match u64::try_from(asked.timeout_seconds) {
            Ok(s) if s > 0 => Duration::from_secs(s).min(granted),
            _ => granted,
        };
        let lookback_ms = asked.lookback_seconds.saturating_mul(1000);
        Ok(wanted.then(|| Job {
            query: asked.query.into(),
            expr,
            grid: asked.grid,
            instant: asked.instant,
            lookback_ms: if lookback_ms > 0 { lookback_ms } else { 300_000 },
            kind: PartialKind::Whole,
            external: External::dropping_external(&snapshot.external, &asked.replica_labels),
            limits: self.shared.config.limits.clone(),
            timeout,
            delayed_name_removal: false,
            own_grid: true,
        }))
    }

    /// Evaluates and sends, each message made by the caller's functions.
    fn answer<R: Send + 'static>(
        &self,
        span: tracing::Span,
        method: &'static str,
        asked: Asked,
        granted: Duration,
        wrap: Wrap<R>,
    ) -> Result<Response<ReceiverStream<Result<R, Status>>>, Status> {
        let begun = Instant::now();
        let grid = asked.grid;
        let job = self.job(asked, granted).inspect_err(|e| {
            self.shared.metrics.request(method, e.code(), begun.elapsed());
        })?;
        let (tx, rx) = mpsc::channel(CHANNEL);
        let shared = Arc::clone(&self.shared);
        let task = async move {
            let work = async {
                let output = match job {
                    None => Output::default(),
                    Some(job) => evaluate(&shared, job).await?,
                };
                let gone = |_| Status::cancelled("the client left");
                for w in output.warnings.into_iter().chain(output.infos) {
                    tx.send(Ok((wrap.warning)(w))).await.map_err(gone)?;
                }
                for row in &output.rows {
                    let series = time_series(row, grid);
                    tx.send(Ok((wrap.series)(series))).await.map_err(gone)?;
                }
                Ok(())
            };
            let done: Result<(), Status> = tokio::select! {
                done = work => done,
                () = tx.closed() => Err(Status::cancelled("the client left")),
            };
            let code = done.as_ref().map_or_else(Status::code, |()| Code::Ok);
            if let Err(status) = done {
                let _ = tx.send(Err(status)).await;
            }
            shared.metrics.request(method, code, begun.elapsed());
        };
        tokio::spawn(task.instrument(span));
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// How a method's messages are made.
struct Wrap<R> {
    warning: fn(String) -> R,
    series: fn(TimeSeries) -> R,
}

fn time_series(row: &OutputRow, grid: StepGrid) -> TimeSeries {
    let values = row.columns.first().map(Vec::as_slice).unwrap_or_default();
    let mut out = TimeSeries { labels: labels_to_prometheus(&row.labels), ..TimeSeries::default() };
    let mut histograms = row.histograms.iter().peekable();
    for step in row.present.ones() {
        let t = grid.time(step);
        match histograms.next_if(|h| h.step as usize == step) {
            Some(h) => out.histograms.push(prometheus_histogram_to_wire(&h.value, t)),
            None => {
                let value = values.get(step).copied().unwrap_or(0.0);
                out.samples.push(Sample { value, timestamp: t });
            }
        }
    }
    out
}

#[tonic::async_trait]
impl Query for QueryService {
    type QueryStream = ReceiverStream<Result<QueryResponse, Status>>;
    type QueryRangeStream = ReceiverStream<Result<QueryRangeResponse, Status>>;

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let span = tracing::info_span!("Query.Query");
        telemetry::adopt(&span, request.metadata());
        let granted = self.shared.timeout(&request);
        let r = request.into_inner();
        let asked = Asked {
            query: r.query,
            has_plan: r.query_plan.is_some(),
            grid: StepGrid::instant(r.time_seconds.saturating_mul(1000)),
            instant: true,
            lookback_seconds: r.lookback_delta_seconds,
            timeout_seconds: r.timeout_seconds,
            replica_labels: r.replica_labels,
            stores: r.store_matchers,
        };
        let wrap = Wrap {
            warning: |w| QueryResponse { result: Some(query_response::Result::Warnings(w)) },
            series: |s| QueryResponse { result: Some(query_response::Result::Timeseries(s)) },
        };
        self.answer(span, "Query", asked, granted, wrap)
    }

    async fn query_range(
        &self,
        request: Request<QueryRangeRequest>,
    ) -> Result<Response<Self::QueryRangeStream>, Status> {
        let span = tracing::info_span!("Query.QueryRange");
        telemetry::adopt(&span, request.metadata());
        let granted = self.shared.timeout(&request);
        let r = request.into_inner();
        let asked = Asked {
            query: r.query,
            has_plan: r.query_plan.is_some(),
            grid: StepGrid {
                start_ms: r.start_time_seconds.saturating_mul(1000),
                end_ms: r.end_time_seconds.saturating_mul(1000),
                step_ms: r.interval_seconds.max(1).saturating_mul(1000),
            },
            instant: false,
            lookback_seconds: r.lookback_delta_seconds,
            timeout_seconds: r.timeout_seconds,
            replica_labels: r.replica_labels,
            stores: r.store_matchers,
        };
        let wrap = Wrap {
            warning: |w| QueryRangeResponse {
                result: Some(query_range_response::Result::Warnings(w)),
            },
            series: |s| QueryRangeResponse {
                result: Some(query_range_response::Result::Timeseries(s)),
            },
        };
        self.answer(span, "QueryRange", asked, granted, wrap)
    }
}
