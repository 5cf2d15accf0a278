//! `periplus.fleet.v1.Fleet`: this tier's streams, and subtrees evaluated over them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::TimeRange;
use periplus_promql::annotations::Annotations;
use periplus_promql::engine::QueryStats;
use periplus_promql::parse;
use periplus_promql::value::{Bitmap, StepGrid, StepMatrix, StepSeries, Value};
use periplus_proto::convert::{label_set_to_fleet, matchers_from_fleet};
use periplus_proto::fleet::execute_response::Frame;
use periplus_proto::fleet::fleet_server::Fleet;
use periplus_proto::fleet::{
    self, Batch, DescribeRequest, DescribeResponse, ExecuteRequest, ExecuteResponse, PartialKind,
    Stats, Trailer,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::{Services, status};
use crate::answer::{Answered, Options, When};
use crate::endpoints::{Missing, Snapshot, StreamInfo};
use crate::fanout::QueryTimes;
use crate::fanout::wire::{encode_partial, encode_series, kind_number, missing_to_wire};
use crate::plan::Held;

type Frames = std::pin::Pin<Box<dyn Stream<Item = Result<ExecuteResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Fleet for Services {
    type ExecuteStream = Frames;

    async fn describe(
        &self,
        _: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        let snapshot = self.answerer.registry.snapshot();
        let mut all = streams(&snapshot);
        if let Some(history) = &self.answerer.history {
            let reading = history.reading(self.defaults.resolution);
            let held = reading.coverage().held(0, &[], self.defaults.resolution);
            all.extend(held.iter().map(|h| stored_to_wire(h, reading.name())));
        }
        let mut answer = DescribeResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            streams: all,
            ..DescribeResponse::default()
        };
        answer.set_component(fleet::Component::Query);
        Ok(Response::new(answer))
    }

    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<Frames>, Status> {
        let begun = Instant::now();
        let span = tracing::info_span!("execute");
        periplus_daemon::telemetry::adopt(&span, request.metadata());
        let r = request.into_inner();
        let frames = self.frames(&r, begun).instrument(span).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(frames.into_iter().map(Ok)))))
    }
}

impl Services {
    async fn frames(
        &self,
        r: &ExecuteRequest,
        begun: Instant,
    ) -> Result<Vec<ExecuteResponse>, Status> {
        let expr = parse::parse(&r.query).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let when = when(r)?;
        let options = self.options(r)?;
        let text: Arc<str> = Arc::from(r.query.as_str());
        let (batches, trailer) = match r.partial() {
            PartialKind::Whole => {
                let a = self.answerer.answer(&expr, text, when, &options).await.map_err(status)?;
                let Answered { value, annotations, missing, stats, .. } = a;
                (whole(value)?, trailer(r, &annotations, &missing, &stats, begun))
            }
            asked => {
                let a = self.answerer.answer_partial(&expr, text, when, &options).await;
                let a = a.map_err(status)?;
                if kind_number(Some(a.value.kind)) != asked {
                    let problem = format!("the query is not an aggregation of kind {asked:?}");
                    return Err(Status::invalid_argument(problem));
                }
                let Answered { value, annotations, missing, stats, .. } = a;
                (encode_partial(&value), trailer(r, &annotations, &missing, &stats, begun))
            }
        };
        let mut frames: Vec<ExecuteResponse> =
            batches.into_iter().map(|b| ExecuteResponse { frame: Some(Frame::Batch(b)) }).collect();
        frames.push(ExecuteResponse { frame: Some(Frame::Trailer(trailer)) });
        Ok(frames)
    }

    fn options(&self, r: &ExecuteRequest) -> Result<Options, Status> {
        let mut stores = Vec::with_capacity(r.streams.len().min(1_000));
        for set in &r.streams {
            let set = matchers_from_fleet(&set.matchers);
            stores.push(set.map_err(|e| Status::invalid_argument(e.to_string()))?);
        }
        let timeout = match u64::try_from(r.timeout_ms) {
            Ok(ms) if ms > 0 => Duration::from_millis(ms).min(self.defaults.timeout),
            _ => self.defaults.timeout,
        };
        let mut limits = self.answerer.limits.clone();
        if let Some(asked) = &r.limits {
            let tighter =
                |ours: u64, theirs: u64| if theirs == 0 { ours } else { ours.min(theirs) };
            limits.samples = tighter(limits.samples, asked.samples);
            limits.series = tighter(limits.series, asked.series);
            limits.memory_bytes = tighter(limits.memory_bytes, asked.bytes);
        }
        Ok(Options {
            replica_labels: r.drop_labels.clone(),
            stores,
            strict: r.strict,
            lookback_ms: if r.lookback_ms > 0 { r.lookback_ms } else { self.defaults.lookback_ms },
            // What is lost on the way back is the caller's to reserve.
            deadline: Instant::now() + timeout,
            limits: Some(limits),
            delayed_name_removal: r.delayed_name_removal,
            per_step_stats: false,
            pushdown: true,
            resolution: self.defaults.resolution,
        })
    }
}

fn when(r: &ExecuteRequest) -> Result<When, Status> {
    if r.step_ms < 0 || r.end_ms < r.start_ms {
        return Err(Status::invalid_argument("the evaluation times are none: end before start"));
    }
    let grid = match r.step_ms {
        0 => StepGrid::instant(r.start_ms),
        step_ms => StepGrid { start_ms: r.start_ms, end_ms: r.end_ms, step_ms },
    };
    let times = QueryTimes {
        start_ms: r.query_start_ms,
        end_ms: r.query_end_ms,
        step_ms: r.query_step_ms.max(0),
    };
    // The rows' order means nothing here, so that every grid is evaluated in the same way.
    Ok(When { grid, instant: false, of: Some(times) })
}

fn whole(value: Value) -> Result<Vec<Batch>, Status> {
    match value {
        Value::Vector(matrix) => Ok(encode_series(&matrix)),
        Value::Scalar { grid, values } => {
            let series = vec![StepSeries {
                labels: periplus_model::Labels::empty(),
                present: Bitmap::new(values.len(), true),
                values,
                histograms: Vec::new(),
            }];
            Ok(encode_series(&StepMatrix { grid, series }))
        }
        Value::String(_) | Value::Range(_) => {
            Err(Status::invalid_argument("only queries that give vectors or scalars are executed"))
        }
    }
}

/// Positions are those in the text of the request, moved by what the request says.
fn trailer(
    r: &ExecuteRequest,
    annotations: &Annotations,
    missing: &[Missing],
    stats: &QueryStats,
    begun: Instant,
) -> Trailer {
    // Who is missing goes up as data: the tier that talks to people words it.
    let worded: Vec<String> = missing.iter().map(crate::answer::describe).collect();
    let padded = format!("{}{}", " ".repeat(r.position_offset.min(1 << 20) as usize), r.query);
    let text = if r.position_offset == 0 { r.query.as_str() } else { &padded };
    let (mut warnings, infos) = annotations.to_strings(text, 0);
    warnings.retain(|w| !worded.contains(w));
    Trailer {
        warnings,
        infos,
        missing: missing.iter().map(missing_to_wire).collect(),
        stats: Some(Stats {
            samples: stats.total_samples,
            series: stats.series,
            wall_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            path: "fanout".to_owned(),
        }),
    }
}

/// All streams below, those that are missing too: they are expected, and have a problem.
fn streams(snapshot: &Snapshot) -> Vec<fleet::Stream> {
    let mut out = Vec::new();
    for e in &snapshot.endpoints {
        let status = &e.status;
        let problem = match (&status.refused, status.up) {
            (Some(why), _) => Some(why.as_str()),
            (None, false) => {
                Some(status.last_error.as_str()).filter(|w| !w.is_empty()).or(Some("down"))
            }
            (None, true) => None,
        };
        for s in &status.streams {
            let mut stream = to_wire(s);
            if stream.address.is_empty() {
                stream.address.clone_from(&e.address);
            }
            if let Some(why) = problem {
                why.clone_into(&mut stream.problem);
                stream.problem_since_ms = status.since_ms;
            }
            out.push(stream);
        }
    }
    out
}

fn to_wire(s: &StreamInfo) -> fleet::Stream {
    let range = |r: &TimeRange| fleet::TimeRange { min_ms: r.min_t, max_ms: r.max_t };
    fleet::Stream {
        external_labels: Some(label_set_to_fleet(&s.labels)),
        time_range: Some(range(&s.available)),
        problem: s.problem.clone(),
        problem_since_ms: s.problem_since_ms,
        gaps: s.gaps.iter().map(range).collect(),
        lag_ms: s.lag_ms,
        source_version: s.version.clone(),
        address: s.address.clone(),
        shadowed_labels: s.shadowed.clone(),
        head_series: s.head_series,
    }
}

/// A stream as the bucket has it.
fn stored_to_wire(h: &Held, bucket: &str) -> fleet::Stream {
    let range = |r: &TimeRange| fleet::TimeRange { min_ms: r.min_t, max_ms: r.max_t };
    fleet::Stream {
        external_labels: Some(label_set_to_fleet(&h.external)),
        time_range: Some(range(&h.available)),
        gaps: h.gaps.iter().map(range).collect(),
        address: bucket.to_owned(),
        ..fleet::Stream::default()
    }
}
