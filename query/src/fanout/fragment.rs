//! Answers a fragment: asks all its parts, slice by slice, and puts what comes together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use periplus_promql::engine::{ErrorKind, Leaves, QueryError, QuerySpec};
use periplus_promql::explain::Analysis;
use periplus_promql::partial::{PartialMatrix, merge};
use periplus_promql::source::Source;
use periplus_promql::value::{StepGrid, StepMatrix, StepSeries, Value};
use periplus_proto::fleet::{ExecuteRequest, Limits, MatchOp, Matcher, MatcherSet};
use periplus_proto::rows::ResultRow;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::call::{CallError, execute};
use super::work::{self, LocalWork};
use super::{Question, wire};
use crate::history::BucketSource;
use crate::plan::{EndpointId, Fragment, PartSet, Slice, Target, grid_range, slices, sub_grid};
use crate::series::{RawSource, Wanted};
use crate::times::pin;

/// A fragment's answer over all parts.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Series, sorted by labels.
    Series(StepMatrix),
    /// The merged partial states.
    Partial(PartialMatrix),
}

/// What one slice of one part gave.
enum Piece {
    Rows { rows: Vec<ResultRow>, steps: Range<usize> },
    Series { matrix: StepMatrix, steps: Range<usize> },
    Partial { matrix: PartialMatrix, steps: Range<usize> },
}

/// Asks for `fragment` on `grid` wherever it may be.
///
/// # Errors
/// An error of the query itself. Parts that nobody answers for are noted instead, or with a strict
/// question reported as unavailable.
pub async fn answer(
    q: &Arc<Question>,
    fragment: &Arc<Fragment>,
    grid: StepGrid,
) -> Result<Answer, QueryError> {
    let seen = q.clock().data_range(&fragment.expr, grid_range(grid));
    let mut tasks = JoinSet::new();
    let here: Arc<Mutex<Here>> = Arc::default();
    for part in fragment.parts.iter().filter(|p| q.may_have(*p, seen)) {
        let (q, fragment, here) = (Arc::clone(q), Arc::clone(fragment), Arc::clone(&here));
        let asking = async move { (part, ask_part(&q, &fragment, grid, part, &here).await) };
        tasks.spawn(asking.in_current_span());
    }
    // In order of parts, so that sums do not depend on who was first.
    let mut pieces: BTreeMap<usize, Vec<Piece>> = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (part, result) =
            done.map_err(|e| QueryError::new(ErrorKind::Internal, format!("a request: {e}")))?;
        pieces.insert(part, result?);
    }
    let here = std::mem::take(&mut *here.lock());
    let mut all: Vec<Piece> = pieces.into_values().flatten().collect();
    for (steps, parts) in here.by_steps {
        all.extend(evaluate_here(q, fragment, grid, steps.0..steps.1, From::All(parts)).await?);
    }
    for (steps, parts) in here.archived {
        all.extend(evaluate_here(q, fragment, grid, steps.0..steps.1, From::Bucket(parts)).await?);
    }
    if q.strict && q.notes.is_partial() {
        return Err(strict_error(q));
    }
    assemble(q, fragment, grid, all)
}

/// The error of a strict question with something missing.
#[must_use]
pub fn strict_error(q: &Question) -> QueryError {
    let missing = q.notes.collected().missing;
    let names: Vec<String> = missing.iter().take(10).map(crate::answer::describe).collect();
    let more = match missing.len().saturating_sub(names.len()) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let text = format!("no complete answer: {}{more}", names.join("; "));
    QueryError::new(ErrorKind::Unavailable, text)
}

/// Steps that have to be evaluated here, from merged series, and of which parts.
#[derive(Default)]
struct Here {
    by_steps: BTreeMap<(usize, usize), BTreeSet<usize>>,
    /// The same, from the bucket alone.
    archived: BTreeMap<(usize, usize), BTreeSet<usize>>,
}

/// Whose series are evaluated here, and which parts' of them.
enum From {
    /// Of all who have any.
    All(BTreeSet<usize>),
    /// The bucket's.
    Bucket(BTreeSet<usize>),
}

async fn ask_part(
    q: &Arc<Question>,
    fragment: &Fragment,
    grid: StepGrid,
    part: usize,
    here: &Mutex<Here>,
) -> Result<Vec<Piece>, QueryError> {
    let Some(p) = q.fleet.parts.get(part) else { return Ok(Vec::new()) };
    let clock = q.clock();
    let mut failed: BTreeMap<EndpointId, String> = BTreeMap::new();
    'again: loop {
        let allowed = |e: EndpointId| !failed.contains_key(&e);
        let mut pieces = Vec::new();
        let (mut local, mut archived) = (Vec::new(), Vec::new());
        for Slice { steps, target } in slices(p, &fragment.expr, grid, &clock, allowed) {
            match target {
                Target::Series(_) => local.push((steps.start, steps.end)),
                Target::Nobody => {
                    let missing = match failed.iter().next_back() {
                        Some((e, why)) => q.missing_now(part, *e, why),
                        None => q.snapshot.missing_of_part(&q.fleet, part),
                    };
                    q.notes.missing(missing);
                }
                Target::Endpoint(e) if q.is_history(e) => {
                    let seen = clock.data_range(&fragment.expr, grid_range(sub_grid(grid, &steps)));
                    q.notes.missing(q.beyond_history(part, seen, &failed));
                    archived.push((steps.start, steps.end));
                }
                Target::Endpoint(e) => {
                    let slice = Asked { fragment, grid, part, steps: &steps };
                    let other = match q.config.hedge_after {
                        None => None,
                        Some(_) => slice.other(q, p, |o| o != e && !failed.contains_key(&o)),
                    };
                    match slice.ask(q, e, other).await {
                        Ok(rows) => pieces.push(Piece::Rows { rows, steps }),
                        Err((_, CallError::Query(error))) => return Err(error),
                        Err((who, CallError::Endpoint { reason, .. })) => {
                            // Others may have it: divide the steps anew without this endpoint.
                            failed.insert(who, reason);
                            continue 'again;
                        }
                    }
                }
            }
        }
        let mut here = here.lock();
        for steps in local {
            here.by_steps.entry(steps).or_default().insert(part);
        }
        for steps in archived {
            here.archived.entry(steps).or_default().insert(part);
        }
        return Ok(pieces);
    }
}

/// Some steps of a fragment, asked of an endpoint.
struct Asked<'a> {
    fragment: &'a Fragment,
    grid: StepGrid,
    part: usize,
    steps: &'a Range<usize>,
}

impl Asked<'_> {
    /// Another endpoint that could answer all of these steps.
    fn other(
        &self,
        q: &Question,
        part: &crate::plan::Part,
        allowed: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        let own = sub_grid(self.grid, self.steps);
        match slices(part, &self.fragment.expr, own, &q.clock(), allowed).as_slice() {
            [Slice { target: Target::Endpoint(other), .. }] => {
                Some(*other).filter(|e| !q.is_history(*e))
            }
            _ => None,
        }
    }

    /// Asks `first`; when it has not answered after a while and there is another, that one too, and
    /// takes the answer that comes first.
    async fn ask(
        &self,
        q: &Question,
        first: EndpointId,
        other: Option<EndpointId>,
    ) -> Result<Vec<ResultRow>, (EndpointId, CallError)> {
        let one = async |e: EndpointId| {
            let request = request(q, self.fragment, self.grid, self.steps, self.part, e);
            let columns = wire::columns(self.fragment.partial.as_ref().map(|(k, _)| *k));
            let position = self.fragment.position;
            execute(q, e, &request, position, columns).await.map_err(|error| (e, error))
        };
        let (Some(other), Some(after)) = (other, q.config.hedge_after) else {
            return one(first).await;
        };
        let late = async {
            tokio::time::sleep(after).await;
            one(other).await
        };
        let (asked, late) = (std::pin::pin!(one(first)), std::pin::pin!(late));
        match futures::future::select(asked, late).await {
            futures::future::Either::Left((result, _)) => result,
            futures::future::Either::Right((Ok(rows), _)) => Ok(rows),
            futures::future::Either::Right((Err(_), asked)) => asked.await,
        }
    }
}

fn request(
    q: &Question,
    fragment: &Fragment,
    grid: StepGrid,
    steps: &Range<usize>,
    part: usize,
    endpoint: EndpointId,
) -> ExecuteRequest {
    let own = sub_grid(grid, steps);
    let single = own.start_ms == own.end_ms;
    let limit = |n: u64| if n == u64::MAX { 0 } else { n };
    ExecuteRequest {
        query: words(q, fragment, own),
        start_ms: own.start_ms,
        end_ms: own.end_ms,
        step_ms: if single { 0 } else { own.step_ms },
        lookback_ms: q.lookback_ms,
        partial: wire::kind_number(fragment.partial.as_ref().map(|(k, _)| *k)) as i32,
        drop_labels: q.fleet.replica_labels.clone(),
        streams: streams(q, part, endpoint),
        position_offset: 0,
        timeout_ms: 0,
        limits: Some(Limits {
            samples: limit(q.limits.samples),
            series: limit(q.limits.series),
            bytes: limit(q.limits.memory_bytes),
        }),
        delayed_name_removal: q.delayed_name_removal,
        strict: q.strict,
        dedup: !q.fleet.replica_labels.is_empty(),
        query_start_ms: q.times.start_ms,
        query_end_ms: q.times.end_ms,
        query_step_ms: q.times.step_ms,
    }
}

/// What the endpoint is asked: the user's own words, unless they speak of the query's start, end, range or
/// step and the endpoint sees others. Not every endpoint can be told of two sets of times.
fn words(q: &Question, fragment: &Fragment, own: StepGrid) -> String {
    let step_ms = if own.start_ms == own.end_ms { 0 } else { own.step_ms };
    let seen = (own.start_ms, own.end_ms, step_ms);
    if seen != (q.times.start_ms, q.times.end_ms, q.times.step_ms) {
        let pinned = pin(&fragment.expr, q.times);
        if pinned != fragment.expr {
            return pinned.to_string();
        }
    }
    fragment.text.to_string()
}

/// Which streams are meant, where the endpoint has others too: each by all of its external labels,
/// and by the absence of those that others have.
fn streams(q: &Question, part: usize, endpoint: EndpointId) -> Vec<MatcherSet> {
    if !q.fleet.shared_endpoints.get(endpoint).copied().unwrap_or(false) {
        return Vec::new();
    }
    let members = q.fleet.parts.get(part).map(|p| p.streams.as_slice()).unwrap_or_default();
    let set = |labels: &periplus_model::Labels| MatcherSet {
        matchers: (q.fleet.names.iter())
            .map(|n| Matcher {
                op: MatchOp::Equal as i32,
                name: n.to_string(),
                value: labels.value(n).to_owned(),
            })
            .collect(),
    };
    members.iter().filter_map(|s| q.fleet.streams.get(*s)).map(|s| set(&s.labels)).collect()
}

/// Evaluates steps of some parts from their series.
async fn evaluate_here(
    q: &Arc<Question>,
    fragment: &Arc<Fragment>,
    grid: StepGrid,
    steps: Range<usize>,
    from: From,
) -> Result<Option<Piece>, QueryError> {
    let mut wanted = PartSet::none(q.fleet.parts.len());
    let (From::All(parts) | From::Bucket(parts)) = &from;
    parts.iter().for_each(|p| wanted.insert(*p));
    let work_from = match &from {
        From::All(_) => work::From::Series,
        From::Bucket(_) => work::From::History,
    };
    let source: Box<dyn Source> = match (&from, &q.history) {
        (From::Bucket(_), Some(reading)) => {
            Box::new(BucketSource::new(Arc::clone(q), Arc::clone(reading), wanted))
        }
        _ => Box::new(RawSource::new(Arc::clone(q), Wanted::Only(wanted))),
    };
    let (q, fragment) = (Arc::clone(q), Arc::clone(fragment));
    let work = tokio::task::spawn_blocking(move || {
        let source = &*source;
        let own = sub_grid(grid, &steps);
        let expr = q.readable(&pin(&fragment.expr, q.times), own);
        let mut spec = QuerySpec::range(expr, Arc::clone(&q.text), own);
        spec.lookback_ms = q.lookback_ms;
        spec.limits = q.limits.clone();
        spec.delayed_name_removal = q.delayed_name_removal;
        spec.analyze = q.notes.is_watching();
        let begun = Instant::now();
        let watched = |analysis: Option<Analysis>| {
            let Some(Analysis { operators }) = analysis else { return };
            let (query, time) = (fragment.text.to_string(), begun.elapsed());
            q.notes.evaluated(LocalWork { query, from: work_from, operators, time });
        };
        match &fragment.partial {
            Some(_) => {
                let done = q.engine.execute_partial(&spec, source, &Leaves::new(), &q.cancel)?;
                watched(done.analysis);
                q.notes.annotate(done.annotations);
                q.notes.cost(done.stats.total_samples, done.stats.series);
                Ok(Some(Piece::Partial { matrix: done.partial, steps }))
            }
            None => {
                let done = q.engine.execute(&spec, source, &Leaves::new(), &q.cancel)?;
                watched(done.analysis);
                q.notes.annotate(done.annotations);
                q.notes.cost(done.stats.total_samples, done.stats.series);
                Ok(match done.value {
                    Value::Vector(matrix) => Some(Piece::Series { matrix, steps }),
                    _ => None,
                })
            }
        }
    });
    work.await.map_err(|e| QueryError::new(ErrorKind::Internal, format!("evaluating: {e}")))?
}

fn assemble(
    q: &Question,
    fragment: &Fragment,
    grid: StepGrid,
    pieces: Vec<Piece>,
) -> Result<Answer, QueryError> {
    let n = grid.steps();
    let Some((kind, grouping)) = &fragment.partial else {
        let mut series: Vec<StepSeries> = Vec::new();
        for piece in pieces {
            let (mut rows, steps) = match piece {
                Piece::Rows { rows, steps } => (rows, steps),
                Piece::Series { matrix, steps } => (to_rows(matrix), steps),
                Piece::Partial { .. } => continue,
            };
            if steps != (0..n) {
                wire::widen(&mut rows, steps.start, n);
            }
            series.extend(rows.into_iter().map(|r| wire::series(r, n)));
        }
        let _ = q;
        return Ok(Answer::Series(wire::join(series, grid)?));
    };
    let mut parts: Vec<PartialMatrix> = Vec::new();
    let mut sliced: Vec<ResultRow> = Vec::new();
    for piece in pieces {
        let (mut rows, steps) = match piece {
            Piece::Rows { rows, steps } => (rows, steps),
            Piece::Partial { matrix, steps } if steps == (0..n) => {
                parts.push(PartialMatrix { grid, ..matrix });
                continue;
            }
            Piece::Partial { matrix, steps } => (partial_rows(matrix), steps),
            Piece::Series { .. } => continue,
        };
        if steps != (0..n) {
            wire::widen(&mut rows, steps.start, n);
            if wire::keeps_series(*kind) {
                sliced.extend(rows);
                continue;
            }
        }
        parts.push(wire::partial(rows, *kind, grouping, grid));
    }
    if !sliced.is_empty() {
        // A series is ranked as one, whoever answered which of its steps.
        parts.push(wire::partial(wire::rejoin(sliced), *kind, grouping, grid));
    }
    if parts.is_empty() {
        return Ok(Answer::Partial(PartialMatrix { kind: *kind, grid, groups: Vec::new() }));
    }
    Ok(Answer::Partial(merge(parts)?))
}

fn to_rows(matrix: StepMatrix) -> Vec<ResultRow> {
    let row = |s: StepSeries| ResultRow {
        labels: s.labels,
        present: s.present.words().to_vec(),
        columns: vec![s.values],
        histograms: (s.histograms.into_iter())
            .map(|(step, histogram)| periplus_proto::rows::HistogramPoint {
                step,
                histogram,
                compensation: None,
            })
            .collect(),
    };
    matrix.series.into_iter().map(row).collect()
}

/// As the wire has it, flags as the last column, so that slices are widened in one way.
fn partial_rows(matrix: PartialMatrix) -> Vec<ResultRow> {
    let flagged = wire::columns(Some(matrix.kind)) > matrix.kind.columns();
    let steps = matrix.grid.steps();
    let row = |g: periplus_promql::partial::PartialGroup| {
        let mut columns = g.columns;
        if flagged {
            let mut flags: Vec<f64> = g.flags.into_iter().map(f64::from).collect();
            flags.resize(steps, 0.0);
            columns.push(flags);
        }
        ResultRow {
            labels: g.labels,
            present: g.present.words().to_vec(),
            columns,
            histograms: (g.histograms.into_iter())
                .map(|h| periplus_proto::rows::HistogramPoint {
                    step: h.step,
                    histogram: h.value,
                    compensation: h.compensation,
                })
                .collect(),
        }
    };
    matrix.groups.into_iter().map(row).collect()
}
