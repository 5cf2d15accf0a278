//! The engine over a source.

use std::sync::Arc;

use periplus_promql::engine::{Engine, ErrorKind, Leaves, QueryError, QueryResult, QuerySpec};
use periplus_promql::limits::{Cancel, Limits};
use periplus_promql::partial::{PartialHistogram, PartialKind as EngineKind, PartialMatrix};
use periplus_promql::source::Source;
use periplus_promql::value::{Bitmap, Value};
use periplus_proto::fleet::PartialKind;

use super::{ExecuteError, Job, Output, OutputRow};
use crate::live::Shared;
use periplus_model::Labels;

/// Runs a job in the engine, on a thread that may block. `path` is what the answer is said to come from.
pub(super) async fn run(
    shared: &Arc<Shared>,
    job: &Arc<Job>,
    source: Box<dyn Source>,
    cancel: Cancel,
    path: &'static str,
) -> Result<Output, ExecuteError> {
    let (engine, job) = (Arc::clone(&shared.engine), Arc::clone(job));
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || {
        let _inside = span.enter();
        evaluate(&engine, &job, &*source, &cancel)
    });
    match done.await {
        Ok(output) => Ok(Output { path, ..output? }),
        Err(e) => Err(QueryError::new(ErrorKind::Internal, format!("evaluating: {e}")).into()),
    }
}

fn evaluate(
    engine: &Engine,
    job: &Job,
    source: &dyn Source,
    cancel: &Cancel,
) -> Result<Output, QueryError> {
    let spec = spec(job);
    if job.kind == PartialKind::Whole {
        return whole(engine.execute(&spec, source, &Leaves::new(), cancel)?, job);
    }
    let result = engine.execute_partial(&spec, source, &Leaves::new(), cancel)?;
    if !same_kind(job.kind, result.partial.kind) {
        let text = format!("the query is no aggregation of the kind {:?}", job.kind);
        return Err(QueryError::new(ErrorKind::BadData, text));
    }
    let (warnings, infos) = result.annotations.to_strings(&job.query, 0);
    let (samples, series) = (result.stats.total_samples, result.stats.series);
    let rows = partial_rows(result.partial);
    Ok(Output { rows, warnings, infos, samples, series, ..Output::default() })
}

fn spec(job: &Job) -> QuerySpec {
    let text = Arc::clone(&job.query);
    let base = if job.instant {
        QuerySpec::instant(job.expr.clone(), text, job.grid.start_ms)
    } else {
        QuerySpec::range(job.expr.clone(), text, job.grid)
    };
    QuerySpec {
        lookback_ms: job.lookback_ms,
        limits: Limits {
            samples: job.limits.samples_max,
            series: job.limits.series_max,
            memory_bytes: job.limits.memory_max,
            wall_time: Some(job.timeout),
            ..Limits::default()
        },
        delayed_name_removal: job.delayed_name_removal,
        ..base
    }
}

fn whole(result: QueryResult, job: &Job) -> Result<Output, QueryError> {
    let (warnings, infos) = result.annotations.to_strings(&job.query, 0);
    let mut output = Output {
        warnings,
        infos,
        samples: result.stats.total_samples,
        series: result.stats.series,
        ..Output::default()
    };
    match result.value {
        Value::Vector(matrix) => {
            output.rows = matrix
                .series
                .into_iter()
                .map(|s| OutputRow {
                    labels: s.labels,
                    present: s.present,
                    columns: vec![s.values],
                    histograms: s
                        .histograms
                        .into_iter()
                        .map(|(step, value)| PartialHistogram { step, value, compensation: None })
                        .collect(),
                })
                .collect();
        }
        Value::Scalar { grid, values } => {
            output.scalar = true;
            output.rows = vec![OutputRow {
                labels: Labels::empty(),
                present: Bitmap::new(grid.steps(), true),
                columns: vec![values],
                histograms: Vec::new(),
            }];
        }
        Value::String(_) | Value::Range(_) => {
            let text = "only numbers and instant vectors can be evaluated here";
            return Err(QueryError::new(ErrorKind::BadData, text));
        }
    }
    Ok(output)
}

fn same_kind(asked: PartialKind, got: EngineKind) -> bool {
    matches!(
        (asked, got),
        (PartialKind::Sum, EngineKind::Sum)
            | (PartialKind::Avg, EngineKind::Avg)
            | (PartialKind::Count, EngineKind::Count)
            | (PartialKind::Min, EngineKind::Min)
            | (PartialKind::Max, EngineKind::Max)
            | (PartialKind::Group, EngineKind::Group)
            | (PartialKind::Stddev, EngineKind::Stddev)
            | (PartialKind::Stdvar, EngineKind::Stdvar)
            | (PartialKind::Topk, EngineKind::Topk { .. })
            | (PartialKind::Bottomk, EngineKind::Bottomk { .. })
            | (PartialKind::Limitk, EngineKind::Limitk { .. })
            | (PartialKind::CountValues, EngineKind::CountValues)
    )
}

/// The rows of a partial: its columns, and for sum and avg its flags as one more.
fn partial_rows(partial: PartialMatrix) -> Vec<OutputRow> {
    let steps = partial.grid.steps();
    let with_flags = matches!(partial.kind, EngineKind::Sum | EngineKind::Avg);
    partial
        .groups
        .into_iter()
        .map(|group| {
            let mut columns = group.columns;
            if with_flags {
                let mut flags: Vec<f64> = group.flags.iter().map(|f| f64::from(*f)).collect();
                flags.resize(steps, 0.0);
                columns.push(flags);
            }
            let (labels, present) = (group.labels, group.present);
            OutputRow { labels, present, columns, histograms: group.histograms }
        })
        .collect()
}
