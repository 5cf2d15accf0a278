//! Evaluating a subtree of a query here, where the data is.
//!
//! The answer is always that of a Prometheus 3.x that holds this endpoint's series with their external
//! labels. [`delegate`] asks our Prometheus where [`rules`] can rewrite the question exactly and its version
//! has these semantics; else [`local`] runs the engine over remote read ([`source`]). Before either, the
//! engine tries the hot window, which costs Prometheus nothing. All give the same rows.

mod delegate;
mod local;
mod positions;
mod rules;
mod source;

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::Labels;
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_promql::limits::Cancel;
use periplus_promql::parse::ast::Expr;
use periplus_promql::partial::PartialHistogram;
use periplus_promql::value::{Bitmap, StepGrid};
use periplus_proto::fleet::PartialKind;
use tokio_util::sync::CancellationToken;

use crate::config::{EvaluateIn, RequestLimits};
use crate::external::External;
use crate::live::Shared;
use crate::prometheus::{ClientError, Snapshot};

/// A subtree to evaluate.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Its text.
    pub(crate) query: Arc<str>,
    /// Parsed.
    pub(crate) expr: Expr,
    pub(crate) grid: StepGrid,
    pub(crate) instant: bool,
    pub(crate) lookback_ms: i64,
    pub(crate) kind: PartialKind,
    pub(crate) external: External,
    pub(crate) limits: RequestLimits,
    pub(crate) timeout: Duration,
    pub(crate) delayed_name_removal: bool,
    /// Whether `start()`, `end()`, `step()` and `range()` mean this job's grid.
    pub(crate) own_grid: bool,
}

/// One series or group of a result.
#[derive(Clone, Debug)]
pub(crate) struct OutputRow {
    pub(crate) labels: Labels,
    pub(crate) present: Bitmap,
    /// As the partial kind has them, one value a step.
    pub(crate) columns: Vec<Vec<f64>>,
    pub(crate) histograms: Vec<PartialHistogram>,
}

/// A result.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) rows: Vec<OutputRow>,
    /// One number a step rather than a vector.
    pub(crate) scalar: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
    pub(crate) samples: u64,
    pub(crate) series: u64,
    /// Where it was evaluated.
    pub(crate) path: &'static str,
}

/// Why there is no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    #[error(transparent)]
    Prometheus(#[from] ClientError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Evaluates a job in the first way that can.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    snapshot: &Arc<Snapshot>,
    job: Job,
) -> Result<Output, ExecuteError> {
    let begun = Instant::now();
    let cancel = Cancel::with_deadline(begun + job.timeout);
    let token = CancellationToken::new();
    // Dropped when the client leaves: the engine and the reads then end.
    let _stop = Stop { cancel: cancel.clone(), token: token.clone() };
    let job = Arc::new(job);
    let auto = shared.config.evaluate_in == EvaluateIn::Auto;
    let hot = shared.hot.as_ref().filter(|_| auto);
    if let Some(source) = hot.and_then(|h| h.source(snapshot, &job.external)) {
        match local::run(shared, &job, Box::new(source), cancel.clone(), "hot").await {
            // It reaches back further than the window.
            Err(ExecuteError::Query(e)) if e.kind == ErrorKind::Unavailable => {}
            done => {
                shared.metrics.evaluated("hot", "");
                return done;
            }
        }
    }
    let reason = if auto {
        match delegate::run(shared.watch.client(), snapshot, &job).await {
            Ok(output) => {
                shared.metrics.evaluated("prometheus", "");
                return Ok(output);
            }
            Err(delegate::NotHere::Because(reason)) => reason,
            Err(delegate::NotHere::Failed(error)) => return Err(error.into()),
        }
    } else {
        "configured"
    };
    shared.metrics.evaluated("engine", reason);
    tracing::debug!(reason, query = %job.query, "evaluating in the engine");
    let source = source::RemoteSource::new(shared, &job, token);
    local::run(shared, &job, Box::new(source), cancel, "engine").await
}

/// Ends an evaluation when it is dropped.
struct Stop {
    cancel: Cancel,
    token: CancellationToken,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.token.cancel();
    }
}
