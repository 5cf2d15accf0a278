//! `periplus.fleet.v1.Fleet`: who stands behind this endpoint, and subtrees evaluated here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_daemon::telemetry;
use periplus_promql::parse::ast::{AtModifier, Expr};
use periplus_promql::parse::parse;
use periplus_promql::value::StepGrid;
use periplus_proto::convert::{label_set_to_fleet, matchers_from_fleet};
use periplus_proto::fleet::fleet_server::Fleet;
use periplus_proto::fleet::{
    Component, DescribeRequest, DescribeResponse, ExecuteRequest, ExecuteResponse, PartialKind,
    Stats, Stream, TimeRange, Trailer, execute_response,
};
use periplus_proto::rows::{BatchEncoder, HistogramRef, RowRef};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;

use super::Shared;
use super::status::{from_client, from_query};
use crate::config::RequestLimits;
use crate::execute::{self, ExecuteError, Job, Output, OutputRow};
use crate::external::External;
use crate::prometheus::watch::now_ms;

/// Batches on their way to the client.
const CHANNEL: usize = 4;

/// The most evaluations of one request.
const STEPS_MAX: usize = 1_000_000;

/// How far back a sample is looked for when a request does not say.
const LOOKBACK_MS: i64 = 5 * 60 * 1000;

/// Serves `periplus.fleet.v1.Fleet`.
#[derive(Clone, Debug)]
pub struct FleetService {
    shared: Arc<Shared>,
}

impl FleetService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl From<ExecuteError> for Status {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Prometheus(e) => from_client(&e),
            ExecuteError::Query(e) => from_query(&e),
        }
    }
}

#[tonic::async_trait]
impl Fleet for FleetService {
    type ExecuteStream = ReceiverStream<Result<ExecuteResponse, Status>>;

    async fn describe(
        &self,
        _: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        let s = self.shared.watch.current();
        // Before the labels are known there is no stream to speak of.
        let streams = s.known.then(|| {
            let now = now_ms();
            let range =
                |r: &periplus_model::TimeRange| TimeRange { min_ms: r.min_t, max_ms: r.max_t };
            Stream {
                external_labels: Some(label_set_to_fleet(&s.external)),
                time_range: Some(TimeRange { min_ms: s.min_t.unwrap_or(now), max_ms: i64::MAX }),
                problem: s.problem.clone().unwrap_or_default(),
                problem_since_ms: s.problem_since_ms,
                gaps: s.gaps.iter().map(range).collect(),
                lag_ms: s.lag_ms(now),
                source_version: s.version.text.clone(),
                address: self.shared.watch.client().address(),
                shadowed_labels: s.shadowed.iter().cloned().collect(),
                head_series: s.head_series,
            }
        });
        Ok(Response::new(DescribeResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            component: Component::Sidecar as i32,
            streams: streams.into_iter().collect(),
        }))
    }

    async fn execute(
        &self,
        request: Request<ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let span = tracing::info_span!("Fleet.Execute", query = tracing::field::Empty);
        telemetry::adopt(&span, request.metadata());
        let begun = Instant::now();
        let granted = self.shared.timeout(&request);
        let request = request.into_inner();
        span.record("query", shortened(&request.query));
        let prepared = self.prepare(&request, granted);
        let job = prepared.inspect_err(|e| {
            self.shared.metrics.request("Execute", e.code(), begun.elapsed());
        })?;
        let (tx, rx) = mpsc::channel(CHANNEL);
        let shared = Arc::clone(&self.shared);
        let task = async move {
            let offset = request.position_offset;
            let sent = tokio::select! {
                sent = answer(&shared, job, offset, begun, &tx) => sent,
                () = tx.closed() => Err(Status::cancelled("the client left")),
            };
            let code = sent.as_ref().map_or_else(Status::code, |()| Code::Ok);
            if let Err(status) = sent {
                tracing::info!(?code, message = status.message(), "Execute ended");
                let _ = tx.send(Err(status)).await;
            }
            shared.metrics.request("Execute", code, begun.elapsed());
        };
        tokio::spawn(task.instrument(span));
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// The beginning of a query, for traces.
fn shortened(query: &str) -> String {
    query.chars().take(500).collect()
}

impl FleetService {
    /// A job out of a request; `None` where no stream is asked for.
    fn prepare(&self, r: &ExecuteRequest, granted: Duration) -> Result<Option<Job>, Status> {
        let snapshot = self.shared.snapshot()?;
        let invalid = |text: String| Status::invalid_argument(text);
        let expr = parse(&r.query).map_err(|e| invalid(e.to_string()))?;
        let kind = PartialKind::try_from(r.partial)
            .map_err(|_| invalid(format!("unknown partial kind {}", r.partial)))?;
        let mut asked = r.streams.is_empty();
        for set in &r.streams {
            let matchers =
                matchers_from_fleet(&set.matchers).map_err(|e| invalid(e.to_string()))?;
            asked |= matchers.iter().all(|m| m.matches(snapshot.external.value(&m.name)));
        }
        let instant = r.step_ms == 0;
        let grid = if instant {
            StepGrid::instant(r.start_ms)
        } else {
            StepGrid { start_ms: r.start_ms, end_ms: r.end_ms, step_ms: r.step_ms }
        };
        if r.step_ms < 0 || grid.steps() == 0 || grid.steps() > STEPS_MAX {
            let text = format!(
                "start {}, end {}, step {}: not 1 to {STEPS_MAX} evaluations",
                r.start_ms, r.end_ms, r.step_ms
            );
            return Err(invalid(text));
        }
        let own_grid = r.query_start_ms == r.start_ms
            && r.query_end_ms == r.end_ms
            && r.query_step_ms == r.step_ms
            || (r.query_start_ms, r.query_end_ms, r.query_step_ms) == (0, 0, 0);
        if !own_grid && asks_for_grid(&expr) {
            let text = "start(), end(), step() and range() of another grid are not evaluated here";
            return Err(Status::unimplemented(text));
        }
        let timeout = match u64::try_from(r.timeout_ms) {
            Ok(ms) if ms > 0 => Duration::from_millis(ms).min(granted),
            _ => granted,
        };
        Ok(asked.then(|| Job {
            query: r.query.as_str().into(),
            expr,
            grid,
            instant,
            lookback_ms: if r.lookback_ms > 0 { r.lookback_ms } else { LOOKBACK_MS },
            kind,
            external: External::dropping_external(&snapshot.external, &r.drop_labels),
            limits: limits(&self.shared.config.limits, r),
            timeout,
            delayed_name_removal: r.delayed_name_removal,
            own_grid,
        }))
    }
}

/// Whether an expression asks for the query's own start, end, step or range.
fn asks_for_grid(expr: &Expr) -> bool {
    let at = |shift: &periplus_promql::parse::ast::TimeShift| {
        matches!(shift.start_or_end, Some(AtModifier::Start | AtModifier::End))
            || shift.original_offset_expr.is_some()
    };
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Leaf(_) => false,
        Expr::Paren(p) => asks_for_grid(&p.expr),
        Expr::Unary(u) => asks_for_grid(&u.expr),
        Expr::Binary(b) => asks_for_grid(&b.lhs) || asks_for_grid(&b.rhs),
        Expr::Aggregate(a) => a.param.as_ref().is_some_and(asks_for_grid) || asks_for_grid(&a.expr),
        Expr::Call(c) => {
            matches!(c.func.name, "start" | "end" | "step" | "range")
                || c.args.iter().any(asks_for_grid)
        }
        Expr::VectorSelector(s) => at(&s.shift),
        Expr::MatrixSelector(m) => at(&m.selector.shift) || m.range_expr.is_some(),
        Expr::Subquery(s) => {
            at(&s.shift)
                || s.range_expr.is_some()
                || s.step_expr.is_some()
                || asks_for_grid(&s.expr)
        }
    }
}

/// A client may ask for less than our own limits, never for more.
fn limits(own: &RequestLimits, r: &ExecuteRequest) -> RequestLimits {
    let asked = r.limits.unwrap_or_default();
    let least = |own: u64, asked: u64| if asked == 0 { own } else { own.min(asked) };
    RequestLimits {
        series_max: least(own.series_max, asked.series),
        samples_max: least(own.samples_max, asked.samples),
        memory_max: least(own.memory_max, asked.bytes),
        ..own.clone()
    }
}

/// Evaluates and sends.
async fn answer(
    shared: &Arc<Shared>,
    job: Option<Job>,
    position_offset: u32,
    begun: Instant,
    tx: &mpsc::Sender<Result<ExecuteResponse, Status>>,
) -> Result<(), Status> {
    let (steps, output) = match job {
        None => (1, Output { path: "prometheus", ..Output::default() }),
        Some(job) => (job.grid.steps(), evaluate(shared, job).await?),
    };
    let left = || Status::cancelled("the client left");
    let send = async |frame| {
        let message = ExecuteResponse { frame: Some(frame) };
        tx.send(Ok(message)).await.map_err(|_| left())
    };
    let mut encoder = BatchEncoder::new(steps);
    for row in &output.rows {
        if let Some(batch) = push(&mut encoder, row) {
            send(execute_response::Frame::Batch(batch)).await?;
        }
    }
    if let Some(batch) = encoder.finish() {
        send(execute_response::Frame::Batch(batch)).await?;
    }
    let shift = |all: Vec<String>| -> Vec<String> {
        all.into_iter().map(|a| shifted(a, position_offset)).collect()
    };
    let stats = Stats {
        samples: output.samples,
        series: output.series,
        wall_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        path: output.path.to_owned(),
    };
    let trailer = Trailer {
        warnings: shift(output.warnings),
        infos: shift(output.infos),
        missing: Vec::new(),
        stats: Some(stats),
    };
    send(execute_response::Frame::Trailer(trailer)).await
}

/// Evaluates a job within its time; errors are ready for the wire.
pub(super) async fn evaluate(shared: &Arc<Shared>, job: Job) -> Result<Output, Status> {
    let snapshot = shared.snapshot()?;
    let _place = shared.place(job.timeout).await?;
    let timeout = job.timeout;
    match tokio::time::timeout(timeout, execute::run(shared, &snapshot, job)).await {
        Ok(output) => Ok(output?),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "query timed out here after {} ms",
            timeout.as_millis()
        ))),
    }
}

fn push(encoder: &mut BatchEncoder, row: &OutputRow) -> Option<periplus_proto::fleet::Batch> {
    let columns: Vec<&[f64]> = row.columns.iter().map(Vec::as_slice).collect();
    let histograms: Vec<HistogramRef<'_>> = row
        .histograms
        .iter()
        .map(|h| HistogramRef {
            step: h.step,
            histogram: &h.value,
            compensation: h.compensation.as_deref(),
        })
        .collect();
    encoder.push(RowRef {
        labels: &row.labels,
        present: row.present.words(),
        columns: &columns,
        histograms: &histograms,
    })
}

/// `… (1:5)` → `… (1:5 + offset)`; only the first line moves.
fn shifted(annotation: String, offset: u32) -> String {
    if offset == 0 {
        return annotation;
    }
    let moved = annotation.rsplit_once(" (1:").and_then(|(text, rest)| {
        let column: u32 = rest.strip_suffix(')')?.parse().ok()?;
        Some(format!("{text} (1:{})", column.saturating_add(offset)))
    });
    moved.unwrap_or(annotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_shift_on_the_first_line() {
        assert_eq!(shifted("x (1:5)".into(), 3), "x (1:8)");
        assert_eq!(shifted("x (2:5)".into(), 3), "x (2:5)");
        assert_eq!(shifted("x".into(), 3), "x");
    }

    #[test]
    fn questions_for_the_grid_are_seen() {
        let asks = |q: &str| asks_for_grid(&parse(q).unwrap());
        for q in ["x @ end()", "sum(rate(x[5m] @ start()))", "step()", "max_over_time(x[range()])"]
        {
            assert!(asks(q), "{q}");
        }
        assert!(!asks("sum(rate(x[5m] @ 30)) + time()"));
    }
}
