//! From a question to its answer: parse, plan, ask, evaluate what is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::Matcher;
use periplus_promql::annotations::{Annotation, Annotations, Severity};
use periplus_promql::engine::{
    Engine, ErrorKind, LeafValue, Leaves, QueryError, QueryResult, QuerySpec, QueryStats,
};
use periplus_promql::limits::{Cancel, Limits};
use periplus_promql::parse::ast::Expr;
use periplus_promql::partial::PartialMatrix;
use periplus_promql::value::{StepGrid, StepMatrix, Value};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::endpoints::{Missing, Registry};
use crate::fanout::fragment::{self, Answer, strict_error};
use crate::fanout::notes::{Collected, Notes};
use crate::fanout::work::{self, FragmentWork, LocalWork, Work};
use crate::fanout::{FanoutConfig, QueryTimes, Question};
use crate::history::History;
use crate::history::days::{Joined, Piece};
use crate::history::resolution::MaxResolution;
use crate::plan::{self, Fragment, Plan, plan, sub_grid};
use crate::series::{RawSource, Wanted};
use crate::times::pin;

/// Answers questions over the fleet. Clones share everything.
#[derive(Clone)]
pub struct Answerer {
    /// The endpoints.
    pub registry: Registry,
    /// The evaluation.
    pub engine: Arc<Engine>,
    /// Bounds of requests.
    pub fanout: FanoutConfig,
    /// What one query may use, unless it asks for less.
    pub limits: Limits,
    /// Queries that run at once; the others wait.
    pub running: Arc<Semaphore>,
    /// The bucket, where there is one.
    pub history: Option<History>,
}

impl std::fmt::Debug for Answerer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answerer").finish_non_exhaustive()
    }
}

/// How a question is to be answered.
#[derive(Clone, Debug)]
pub struct Options {
    /// Labels that only tell replicas apart; none: replicas stay apart.
    pub replica_labels: Vec<String>,
    /// Only streams that satisfy one of these sets; none: all.
    pub stores: Vec<Vec<Matcher>>,
    /// Fail rather than answer without somebody.
    pub strict: bool,
    /// How long a sample is looked back for, in milliseconds.
    pub lookback_ms: i64,
    /// When the answer must be there.
    pub deadline: Instant,
    /// What it may use; `None`: what is configured.
    pub limits: Option<Limits>,
    /// Whether metric names are dropped late.
    pub delayed_name_removal: bool,
    /// Whether samples are counted for each step.
    pub per_step_stats: bool,
    /// Whether endpoints evaluate what they can; without, all series are fetched and evaluated here.
    pub pushdown: bool,
    /// How coarse history may be.
    pub resolution: MaxResolution,
}

/// When and in which form a query is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// The steps.
    pub grid: StepGrid,
    /// Whether it is an instant query: one step, results in the query's own order.
    pub instant: bool,
    /// The times of the query that this one is a part of; `None`: it is whole.
    pub of: Option<QueryTimes>,
}

impl When {
    /// An instant query.
    #[must_use]
    pub const fn instant(t_ms: i64) -> Self {
        Self { grid: StepGrid::instant(t_ms), instant: true, of: None }
    }

    /// A range query.
    #[must_use]
    pub const fn range(grid: StepGrid) -> Self {
        Self { grid, instant: false, of: None }
    }

    fn times(&self) -> QueryTimes {
        let step_ms = if self.instant { 0 } else { self.grid.step_ms };
        let (start_ms, end_ms) = (self.grid.start_ms, self.grid.end_ms);
        self.of.unwrap_or(QueryTimes { start_ms, end_ms, step_ms })
    }
}

/// An answer and what goes with it.
#[derive(Clone, Debug)]
pub struct Answered<V> {
    /// The answer.
    pub value: V,
    /// Warnings and infos, those about missing streams included.
    pub annotations: Annotations,
    /// Streams that are not in the answer.
    pub missing: Vec<Missing>,
    /// What it cost here and elsewhere.
    pub stats: QueryStats,
    /// Requests that were sent.
    pub requests: u64,
}

/// A question that stops when it is dropped.
pub struct Asked {
    /// What requests share.
    pub question: Arc<Question>,
    _stop: DropGuard,
    _evaluation: StopEvaluation,
}

struct StopEvaluation(Cancel);

impl Drop for StopEvaluation {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Answerer {
    /// Begins a question about the fleet as it is now. Endpoints nobody knows anything of are noted
    /// as missing.
    #[must_use]
    pub fn ask(&self, text: Arc<str>, times: QueryTimes, options: &Options) -> Asked {
        self.ask_noting(text, times, options, Notes::default())
    }

    fn ask_noting(
        &self,
        text: Arc<str>,
        times: QueryTimes,
        options: &Options,
        notes: Notes,
    ) -> Asked {
        let snapshot = self.registry.snapshot();
        let history = self.history.as_ref().map(|h| h.reading(options.resolution));
        let mut fleet = match &history {
            Some(reading) => reading.fleet(&snapshot, &options.replica_labels),
            None => snapshot.fleet_with(&options.replica_labels),
        };
        if !options.stores.is_empty() {
            let bucket = history.as_ref().map_or("", |h| h.name());
            let address = |e: usize| snapshot.endpoints.get(e).map_or(bucket, |e| &e.address);
            fleet = Arc::new(fleet.only(&options.stores, address));
        }
        let notes = Arc::new(notes);
        notes.missing(snapshot.missing_unknown());
        notes.missing(self.history.as_ref().and_then(History::missing));
        let cancel = Cancel::with_deadline(options.deadline);
        let stop = CancellationToken::new();
        let question = Question {
            fleet,
            snapshot,
            registry: self.registry.clone(),
            engine: Arc::clone(&self.engine),
            text,
            times,
            lookback_ms: options.lookback_ms,
            delayed_name_removal: options.delayed_name_removal,
            strict: options.strict,
            limits: options.limits.clone().unwrap_or_else(|| self.limits.clone()),
            deadline: options.deadline,
            cancel: cancel.clone(),
            stop: stop.clone(),
            notes,
            places: Arc::new(Semaphore::new(self.fanout.concurrent_requests)),
            config: self.fanout.clone(),
            history,
        };
        Asked {
            question: Arc::new(question),
            _stop: stop.drop_guard(),
            _evaluation: StopEvaluation(cancel),
        }
    }

    /// Answers a parsed query. Dropping the future stops everything it started.
    ///
    /// # Errors
    /// Why there is no answer; that somebody is missing only where options are strict.
    pub async fn answer(
        &self,
        expr: &Expr,
        text: Arc<str>,
        when: When,
        options: &Options,
    ) -> Result<Answered<Value>, QueryError> {
        let asked = self.ask(text, when.times(), options);
        self.run(&asked, expr, when, options).await
    }

    /// As [`Self::answer`], with what each step did. Days that are kept are not used: everything is
    /// evaluated anew.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn analyze(
        &self,
        expr: &Expr,
        text: Arc<str>,
        when: When,
        options: &Options,
    ) -> Result<(Answered<Value>, Work), QueryError> {
        let asked = self.ask_noting(text, when.times(), options, Notes::watching());
        let answered = self.run(&asked, expr, when, options).await?;
        Ok((answered, asked.question.notes.work().unwrap_or_default()))
    }

    async fn run(
        &self,
        asked: &Asked,
        expr: &Expr,
        when: When,
        options: &Options,
    ) -> Result<Answered<Value>, QueryError> {
        let until = tokio::time::Instant::from_std(options.deadline);
        let work = async {
            let _place = self.running.acquire().await;
            evaluate_days(&asked.question, expr, when, options).await
        };
        let result = match tokio::time::timeout_at(until, work).await {
            Ok(result) => result?,
            Err(_) => return Err(timed_out()),
        };
        finish(&asked.question, result.value, result.annotations, result.stats)
    }

    /// Answers an aggregation up to the point where it would be merged with what other query layers
    /// have; `None` when `expr` is not one that is asked of endpoints in that form.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn answer_partial(
        &self,
        expr: &Expr,
        text: Arc<str>,
        when: When,
        options: &Options,
    ) -> Result<Answered<PartialMatrix>, QueryError> {
        let asked = self.ask(text, when.times(), options);
        let until = tokio::time::Instant::from_std(options.deadline);
        let work = async {
            let _place = self.running.acquire().await;
            evaluate_partial(&asked.question, expr, when, options).await
        };
        let (partial, annotations, stats) = match tokio::time::timeout_at(until, work).await {
            Ok(result) => result?,
            Err(_) => return Err(timed_out()),
        };
        finish(&asked.question, partial, annotations, stats)
    }
}

fn timed_out() -> QueryError {
    QueryError::new(ErrorKind::Timeout, "query timed out in expression evaluation")
}

fn finish<V>(
    q: &Question,
    value: V,
    mut annotations: Annotations,
    mut stats: QueryStats,
) -> Result<Answered<V>, QueryError> {
    if q.strict && q.notes.is_partial() {
        return Err(strict_error(q));
    }
    let Collected { missing, annotations: noted, samples, series, requests } = q.notes.collected();
    annotations.merge(noted);
    for m in &missing {
        annotations.add(Annotation::external(Severity::Warning, describe(m)));
    }
    stats.total_samples = stats.total_samples.saturating_add(samples);
    stats.series = stats.series.saturating_add(series);
    Ok(Answered { value, annotations, missing, stats, requests })
}

/// Who is missing, since when and why, as a warning says it.
#[must_use]
pub fn describe(m: &Missing) -> String {
    let who = match m.labels.is_empty() {
        true => format!("endpoint {}", m.address),
        false => format!("{:?} ({})", m.labels, m.address),
    };
    let since = match m.since_ms {
        0 => String::new(),
        t => format!(" since {}", crate::api::time::rfc3339(t)),
    };
    let why = m.reason.trim_end_matches('.');
    format!("missing in this answer{since}: {who}: {why}")
}

fn spec(q: &Question, expr: Expr, when: When, options: &Options) -> QuerySpec {
    let expr = if when.of.is_some() { pin(&expr, q.times) } else { expr };
    let expr = q.readable(&expr, when.grid);
    let mut spec = QuerySpec::range(expr, Arc::clone(&q.text), when.grid);
    spec.instant = when.instant;
    spec.lookback_ms = q.lookback_ms;
    spec.limits = q.limits.clone();
    spec.limits.wall_time = Some(q.deadline.saturating_duration_since(Instant::now()));
    spec.delayed_name_removal = q.delayed_name_removal;
    spec.per_step_stats = options.per_step_stats;
    spec.analyze = q.notes.is_watching();
    spec
}

/// Asks for all fragments at once. The values with their leaf ids.
async fn ask_all(
    q: &Arc<Question>,
    fragments: Vec<Fragment>,
    spec: &QuerySpec,
) -> Result<Vec<(u32, StepMatrix)>, QueryError> {
    if fragments.is_empty() {
        return Ok(Vec::new());
    }
    let grids = periplus_promql::plan::leaf_grids(spec)?;
    let asking = fragments.into_iter().map(|f| {
        let (q, f) = (Arc::clone(q), Arc::new(f));
        let grid = grids.get(&f.id).map_or(spec.grid, |g| g.grid);
        async move {
            let (span, begun) = (f.expr.span(), Instant::now());
            let value = match fragment::answer(&q, &f, grid).await? {
                Answer::Series(matrix) => matrix,
                Answer::Partial(partial) => {
                    let (matrix, annotations) = partial.finish(span)?;
                    q.notes.annotate(annotations);
                    matrix
                }
            };
            if q.notes.is_watching() {
                let points = value.series.iter().map(|s| s.present.ones().count() as u64).sum();
                q.notes.merged(FragmentWork {
                    leaf: f.id,
                    query: f.text.to_string(),
                    series: value.series.len() as u64,
                    points,
                    time: begun.elapsed(),
                });
            }
            Ok::<_, QueryError>((f.id, value))
        }
    });
    futures::future::try_join_all(asking).await
}

fn leaves(values: Vec<(u32, StepMatrix)>) -> Leaves {
    let mut leaves = Leaves::new();
    for (id, matrix) in values {
        leaves.insert(id, LeafValue::Vector(matrix));
    }
    leaves
}

/// Adds what a piece of a query cost.
fn add(stats: &mut QueryStats, more: &QueryStats) {
    stats.total_samples += more.total_samples;
    stats.samples_read += more.samples_read;
    stats.peak_samples = stats.peak_samples.max(more.peak_samples);
    stats.peak_bytes = stats.peak_bytes.max(more.peak_bytes);
    stats.series += more.series;
    stats.prepare += more.prepare;
    stats.eval += more.eval;
    stats.sort += more.sort;
}

/// Evaluates a query, taking the days of it that are kept from there.
async fn evaluate_days(
    q: &Arc<Question>,
    expr: &Expr,
    when: When,
    options: &Options,
) -> Result<QueryResult, QueryError> {
    let days = q.history.as_ref().map(|h| h.history().days());
    let whole = when.of.is_none() && !options.per_step_stats && !q.notes.is_watching();
    let days = days.filter(|_| !when.instant && whole);
    let divided = days.and_then(|d| Some((d, d.divide(q, expr, when.grid, options)?)));
    let Some((days, pieces)) = divided else { return evaluate(q, expr, when, options).await };
    let mut joined = Joined::new(when.grid);
    let (mut annotations, mut stats) = (Annotations::new(), QueryStats::default());
    for piece in pieces {
        let (steps, keep) = match piece {
            Piece::Kept { steps, day } => {
                joined.add_day(&steps, &day, &mut annotations);
                continue;
            }
            Piece::Wanted { steps, keep } => (steps, keep),
        };
        let own = When { grid: sub_grid(when.grid, &steps), of: Some(q.times), ..when };
        let result = evaluate(q, expr, own, options).await?;
        let Value::Vector(matrix) = result.value else {
            // A number or a text: nothing that is worth keeping.
            return evaluate(q, expr, when, options).await;
        };
        // Notes of endpoints are the whole query's: a day is kept only where there are none.
        if !q.notes.has_any() {
            days.keep(&keep, &steps, &matrix, &result.annotations);
        }
        joined.add(&steps, &matrix.series);
        annotations.merge(result.annotations);
        add(&mut stats, &result.stats);
    }
    let value = Value::Vector(joined.finish());
    Ok(QueryResult { value, annotations, stats, analysis: None })
}

async fn evaluate(
    q: &Arc<Question>,
    expr: &Expr,
    when: When,
    options: &Options,
) -> Result<QueryResult, QueryError> {
    let begun = Instant::now();
    let Plan { residual, fragments, .. } = match options.pushdown {
        true => plan(expr, &q.text, &q.fleet),
        false => Plan { residual: expr.clone(), fragments: Vec::new(), kept: Vec::new() },
    };
    let answered_elsewhere = is_leaf(&residual);
    let spec = spec(q, residual, when, options);
    let prepare = begun.elapsed();
    let mut values = ask_all(q, fragments, &spec).await?;
    // Nothing is left to evaluate where the whole query was answered elsewhere.
    if answered_elsewhere
        && values.len() == 1
        && let Some((_, mut matrix)) = values.pop_if(|(_, m)| m.grid.steps() == when.grid.steps())
    {
        if !when.instant {
            matrix.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        let stats = QueryStats { prepare, ..QueryStats::default() };
        let (value, annotations) = (Value::Vector(matrix), Annotations::new());
        return Ok(QueryResult { value, annotations, stats, analysis: None });
    }
    let leaves = leaves(values);
    let source = RawSource::new(Arc::clone(q), Wanted::All);
    let question = Arc::clone(q);
    let work = tokio::task::spawn_blocking(move || {
        question.engine.execute(&spec, &source, &leaves, &question.cancel)
    });
    let mut result = work.await.map_err(|e| joined(&e))??;
    if let Some(analysis) = result.analysis.take() {
        q.notes.evaluated(LocalWork {
            query: q.text.to_string(),
            from: work::From::Fleet,
            operators: analysis.operators,
            time: result.stats.prepare + result.stats.eval + result.stats.sort,
        });
    }
    result.stats.prepare = result.stats.prepare.saturating_add(prepare);
    Ok(result)
}

fn is_leaf(e: &Expr) -> bool {
    match e {
        Expr::Paren(p) => is_leaf(&p.expr),
        other => matches!(other, Expr::Leaf(_)),
    }
}

fn joined(e: &tokio::task::JoinError) -> QueryError {
    QueryError::new(ErrorKind::Internal, format!("evaluating: {e}"))
}

async fn evaluate_partial(
    q: &Arc<Question>,
    expr: &Expr,
    when: When,
    options: &Options,
) -> Result<(PartialMatrix, Annotations, QueryStats), QueryError> {
    let plan = plan::partial(expr, &q.text, &q.fleet);
    if let Some(fragment) = plan.root_partial() {
        let answer = fragment::answer(q, &Arc::new(fragment.clone()), when.grid).await?;
        if let Answer::Partial(partial) = answer {
            return Ok((partial, Annotations::new(), QueryStats::default()));
        }
    }
    let Plan { residual, fragments, .. } = plan;
    let spec = spec(q, residual, when, options);
    let leaves = leaves(ask_all(q, fragments, &spec).await?);
    let source = RawSource::new(Arc::clone(q), Wanted::All);
    let question = Arc::clone(q);
    let work = tokio::task::spawn_blocking(move || {
        question.engine.execute_partial(&spec, &source, &leaves, &question.cancel)
    });
    let done = work.await.map_err(|e| joined(&e))??;
    Ok((done.partial, done.annotations, done.stats))
}

/// The deadline for something that may take `timeout`, never longer than `longest`.
#[must_use]
pub fn deadline(timeout: Option<Duration>, longest: Duration) -> Instant {
    Instant::now() + timeout.unwrap_or(longest).min(longest)
}
