//! `thanos.Query`: whole queries from a Thanos Query in distributed mode.

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::Labels;
use periplus_promql::parse;
use periplus_promql::value::{StepGrid, StepMatrix, StepSeries, Value};
use periplus_proto::convert::{
    labels_to_prometheus, matchers_from_thanos, prometheus_histogram_to_wire,
};
use periplus_proto::prometheus::{Sample, TimeSeries};
use periplus_proto::thanos::query_server::Query;
use periplus_proto::thanos::{
    QueryRangeRequest, QueryRangeResponse, QueryRequest, QueryResponse, StoreMatchers,
    query_range_response, query_response,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{Services, status};
use crate::answer::{Options, When};

type Out<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What both requests have in common.
struct Common<'a> {
    query: &'a str,
    replica_labels: &'a [String],
    stores: &'a [StoreMatchers],
    dedup: bool,
    partial: bool,
    timeout_s: i64,
    lookback_s: i64,
}

#[tonic::async_trait]
impl Query for Services {
    type QueryStream = Out<QueryResponse>;
    type QueryRangeStream = Out<QueryRangeResponse>;

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let r = request.into_inner();
        if r.query_plan.is_some() && r.query.is_empty() {
            return Err(Status::unimplemented("only queries as text are answered, no plans"));
        }
        let common = Common {
            query: &r.query,
            replica_labels: &r.replica_labels,
            stores: &r.store_matchers,
            dedup: r.enable_dedup,
            partial: r.enable_partial_response,
            timeout_s: r.timeout_seconds,
            lookback_s: r.lookback_delta_seconds,
        };
        let when = When::instant(r.time_seconds.saturating_mul(1000));
        let (warnings, series) = self.run(&common, when).await?;
        use query_response::Result as R;
        let warnings = warnings.into_iter().map(R::Warnings);
        let all: Vec<_> = warnings.chain(series.into_iter().map(R::Timeseries)).collect();
        let out = all.into_iter().map(|r| Ok(QueryResponse { result: Some(r) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(out))))
    }

    async fn query_range(
        &self,
        request: Request<QueryRangeRequest>,
    ) -> Result<Response<Self::QueryRangeStream>, Status> {
        let r = request.into_inner();
        if r.query_plan.is_some() && r.query.is_empty() {
            return Err(Status::unimplemented("only queries as text are answered, no plans"));
        }
        let common = Common {
            query: &r.query,
            replica_labels: &r.replica_labels,
            stores: &r.store_matchers,
            dedup: r.enable_dedup,
            partial: r.enable_partial_response,
            timeout_s: r.timeout_seconds,
            lookback_s: r.lookback_delta_seconds,
        };
        let ms = |s: i64| s.saturating_mul(1000);
        let grid = StepGrid {
            start_ms: ms(r.start_time_seconds),
            end_ms: ms(r.end_time_seconds),
            step_ms: ms(r.interval_seconds.max(1)),
        };
        let (warnings, series) = self.run(&common, When::range(grid)).await?;
        use query_range_response::Result as R;
        let warnings = warnings.into_iter().map(R::Warnings);
        let all: Vec<_> = warnings.chain(series.into_iter().map(R::Timeseries)).collect();
        let out = all.into_iter().map(|r| Ok(QueryRangeResponse { result: Some(r) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(out))))
    }
}

impl Services {
    async fn run(
        &self,
        r: &Common<'_>,
        when: When,
    ) -> Result<(Vec<String>, Vec<TimeSeries>), Status> {
        let expr = parse::parse(r.query).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let mut stores = Vec::new();
        for set in r.stores {
            let set = matchers_from_thanos(&set.label_matchers);
            stores.push(set.map_err(|e| Status::invalid_argument(e.to_string()))?);
        }
        let timeout = match u64::try_from(r.timeout_s) {
            Ok(s) if s > 0 => Duration::from_secs(s).min(self.defaults.timeout),
            _ => self.defaults.timeout,
        };
        let lookback_ms = r.lookback_s.saturating_mul(1000);
        let options = Options {
            replica_labels: if r.dedup { r.replica_labels.to_vec() } else { Vec::new() },
            stores,
            strict: !r.partial,
            lookback_ms: if lookback_ms > 0 { lookback_ms } else { self.defaults.lookback_ms },
            deadline: Instant::now() + timeout,
            limits: None,
            delayed_name_removal: self.defaults.delayed_name_removal,
            per_step_stats: false,
            pushdown: true,
            resolution: self.defaults.resolution,
        };
        let text: Arc<str> = Arc::from(r.query);
        let answered = self.answerer.answer(&expr, text, when, &options).await.map_err(status)?;
        let (warnings, _) = answered.annotations.to_strings(r.query, 0);
        Ok((warnings, series(answered.value)))
    }
}

fn series(value: Value) -> Vec<TimeSeries> {
    match value {
        Value::Vector(m) => m.series.iter().map(|s| time_series(&m, s)).collect(),
        Value::Scalar { grid, values } => {
            let samples = values.iter().enumerate();
            let samples =
                samples.map(|(i, v)| Sample { value: *v, timestamp: grid.time(i) }).collect();
            vec![TimeSeries { samples, ..TimeSeries::default() }]
        }
        Value::Range(all) => {
            all.iter().map(|(labels, samples)| buffer_series(labels, samples)).collect()
        }
        Value::String(_) => Vec::new(),
    }
}

fn time_series(m: &StepMatrix, s: &StepSeries) -> TimeSeries {
    let mut out = TimeSeries { labels: labels_to_prometheus(&s.labels), ..TimeSeries::default() };
    for i in s.present.ones() {
        let timestamp = m.grid.time(i);
        match s.histogram_at(i) {
            Some(h) => out.histograms.push(prometheus_histogram_to_wire(h, timestamp)),
            None => {
                let value = s.values.get(i).copied().unwrap_or(f64::NAN);
                out.samples.push(Sample { value, timestamp });
            }
        }
    }
    out
}

fn buffer_series(labels: &Labels, samples: &periplus_model::SampleBuffer) -> TimeSeries {
    let mut out = TimeSeries { labels: labels_to_prometheus(labels), ..TimeSeries::default() };
    for (i, (t, v)) in samples.ts.iter().zip(&samples.values).enumerate() {
        match samples.histogram_at(i) {
            Some(h) => out.histograms.push(prometheus_histogram_to_wire(h, *t)),
            None => out.samples.push(Sample { value: *v, timestamp: *t }),
        }
    }
    out
}
