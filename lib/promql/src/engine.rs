//! The engine: takes a parsed query and a source, gives a result.
//!
//! [`Engine::execute`] blocks, and is meant to be called from a thread that may block (the thread
//! pulls from the source); the arithmetic runs on the engine's own pool, one worker per core, so that
//! no query can starve the I/O runtime. A query over many processes is executed in parts: the
//! subtrees that others answer are [`Expr::Leaf`] nodes whose values are given as [`Leaves`], each
//! on the grid that [`crate::plan::leaf_grids`] tells; aggregations that span processes are run
//! with [`Engine::execute_partial`] and put together by [`crate::partial`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::annotations::Annotations;
use crate::exec::{Exec, Outcome};
use crate::explain::Analysis;
use crate::limits::{Account, Cancel, Limits, ProcessAccount, ProcessLimits};
use crate::parse::ast::{Expr, ValueType};
use crate::partial::PartialMatrix;
use crate::plan::Plan;
use crate::source::{Source, SourceError};
use crate::value::{StepGrid, StepMatrix, Value};

mod result;

/// How the engine is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Worker threads; 0 for one per core.
    pub workers: usize,
    /// What all queries may use together.
    pub process: ProcessLimits,
}

/// Runs queries. Cheap to share behind an [`Arc`]; holds its worker threads.
pub struct Engine {
    pub(crate) pool: rayon::ThreadPool,
    process: Arc<ProcessAccount>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("workers", &self.pool.current_num_threads()).finish()
    }
}

/// A query and how to run it.
#[derive(Clone, Debug)]
pub struct QuerySpec {
    /// The parsed query; parts of it may be [`Expr::Leaf`].
    pub expr: Expr,
    /// The query's text, which positions in `expr` refer to.
    pub text: Arc<str>,
    /// When to evaluate.
    pub grid: StepGrid,
    /// An instant query: one evaluation, results in the expression's order, ranges allowed, and
    /// `step()` is 0.
    pub instant: bool,
    /// How long a sample is looked back for, in milliseconds.
    pub lookback_ms: i64,
    /// What it may use.
    pub limits: Limits,
    /// Whether metric names are dropped at the end rather than at each function (Prometheus's
    /// `promql-delayed-name-removal`, off by default there and here).
    pub delayed_name_removal: bool,
    /// Whether start timestamps count as counter resets (`use-start-timestamps`).
    pub start_timestamps: bool,
    /// Whether `__type__` tells counters (`type-and-unit-labels`).
    pub type_and_unit_labels: bool,
    /// The step of subqueries that name none, in milliseconds.
    pub default_subquery_step_ms: i64,
    /// Whether samples are counted for each step (`stats=all`).
    pub per_step_stats: bool,
    /// Whether [`QueryResult::analysis`] is wanted.
    pub analyze: bool,
}

impl QuerySpec {
    /// An instant query with Prometheus's defaults.
    #[must_use]
    pub fn instant(expr: Expr, text: impl Into<Arc<str>>, t_ms: i64) -> Self {
        Self { instant: true, ..Self::range(expr, text, StepGrid::instant(t_ms)) }
    }

    /// A range query with Prometheus's defaults.
    #[must_use]
    pub fn range(expr: Expr, text: impl Into<Arc<str>>, grid: StepGrid) -> Self {
        Self {
            expr,
            text: text.into(),
            grid,
            instant: false,
            lookback_ms: 5 * 60 * 1000,
            limits: Limits::default(),
            delayed_name_removal: false,
            start_timestamps: false,
            type_and_unit_labels: false,
            default_subquery_step_ms: 60 * 1000,
            per_step_stats: false,
            analyze: false,
        }
    }
}

/// The values of [`Expr::Leaf`] nodes, by their id.
#[derive(Clone, Debug, Default)]
pub struct Leaves {
    values: HashMap<u32, LeafValue>,
}

/// What a leaf evaluates to, on the grid [`crate::plan::leaf_grids`] gives.
#[derive(Clone, Debug)]
pub enum LeafValue {
    /// An instant vector at each step.
    Vector(StepMatrix),
    /// One number a step.
    Scalar(Vec<f64>),
}

impl Leaves {
    /// No leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of leaf `id`.
    pub fn insert(&mut self, id: u32, value: LeafValue) {
        self.values.insert(id, value);
    }

    /// The value of leaf `id`.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&LeafValue> {
        self.values.get(&id)
    }
}

/// What a query gives.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The value. Range queries give scalars or vectors; series are sorted by labels unless the
    /// query orders them itself and is instant.
    pub value: Value,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// What it cost.
    pub stats: QueryStats,
    /// What each operator did, when asked for.
    pub analysis: Option<Analysis>,
}

/// What [`Engine::execute_partial`] gives.
#[derive(Clone, Debug)]
pub struct PartialResult {
    /// The aggregate.
    pub partial: PartialMatrix,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// What it cost.
    pub stats: QueryStats,
    /// What each operator did, when asked for; the aggregation itself is not among them.
    pub analysis: Option<Analysis>,
}

/// What a query cost, counted as Prometheus counts it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryStats {
    /// Samples looked at, those of overlapping windows once per window.
    pub total_samples: u64,
    /// The same for each step of the grid; empty unless asked for.
    pub total_samples_per_step: Vec<u64>,
    /// Samples read, those of overlapping windows once.
    pub samples_read: u64,
    /// The same for each step of the grid; empty unless asked for.
    pub samples_read_per_step: Vec<u64>,
    /// Samples held at once, at most.
    pub peak_samples: u64,
    /// Series selected.
    pub series: u64,
    /// Bytes held at once, at most.
    pub peak_bytes: u64,
    /// Time spent planning.
    pub prepare: Duration,
    /// Time spent evaluating.
    pub eval: Duration,
    /// Time spent sorting the result.
    pub sort: Duration,
}

/// What kind of error ended a query; each maps onto one of Prometheus's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The query makes no sense.
    BadData,
    /// It can't be evaluated over this data.
    Execution,
    /// It took too long.
    Timeout,
    /// It was canceled.
    Canceled,
    /// It wanted more than a limit allows.
    Limit,
    /// A source is gone.
    Unavailable,
    /// A mistake of ours.
    Internal,
}

impl ErrorKind {
    /// The `errorType` of Prometheus's HTTP API.
    #[must_use]
    pub const fn error_type(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution | Self::Limit => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// Why a query has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// What kind of error.
    pub kind: ErrorKind,
    /// What happened, in Prometheus's words where it has any.
    pub message: String,
}

impl QueryError {
    /// An error.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Execution, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    pub(crate) fn limit(what: &str, wanted: u64, limit: u64) -> Self {
        Self::new(
            ErrorKind::Limit,
            format!("query needs {wanted} {what}, over the limit of {limit}; narrow it down"),
        )
    }

    pub(crate) fn same_labelset() -> Self {
        Self::execution("vector cannot contain metrics with the same labelset")
    }
}

impl From<SourceError> for QueryError {
    fn from(e: SourceError) -> Self {
        let kind = match &e {
            SourceError::Corrupt(_) => ErrorKind::Execution,
            SourceError::Unavailable(_) => ErrorKind::Unavailable,
            SourceError::Limit(_) => ErrorKind::Limit,
            SourceError::Cancelled => ErrorKind::Canceled,
        };
        Self::new(kind, format!("expanding series: {e}"))
    }
}

impl Engine {
    /// Starts the workers.
    ///
    /// # Errors
    /// The threads can't be started.
    pub fn new(config: &EngineConfig) -> Result<Self, QueryError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.workers)
            .thread_name(|i| format!("promql-{i}"))
            .build()
            .map_err(|e| QueryError::internal(format!("starting query workers: {e}")))?;
        Ok(Self { pool, process: ProcessAccount::new(config.process.clone()) })
    }

    /// Number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Bytes all running queries hold.
    #[must_use]
    pub fn bytes_in_use(&self) -> u64 {
        self.process.bytes()
    }

    /// Queries running.
    #[must_use]
    pub fn queries_in_use(&self) -> u64 {
        self.process.queries()
    }

    /// Runs a query; blocks until it is done.
    ///
    /// # Errors
    /// Every way in which a query can fail, see [`ErrorKind`].
    pub fn execute(
        &self,
        spec: &QuerySpec,
        source: &dyn Source,
        leaves: &Leaves,
        cancel: &Cancel,
    ) -> Result<QueryResult, QueryError> {
        let began = Instant::now();
        let (plan, account, cancel) = self.prepare(spec, cancel)?;
        let prepared = Instant::now();
        let inputs = (source, leaves);
        let exec = Exec::new(&self.pool, spec, &plan, inputs, &cancel, Arc::clone(&account))?;
        let outcome = exec.run()?;
        let evaluated = Instant::now();
        let mut stats = stats_of(&outcome, &account);
        let ty = plan.nodes.get(plan.root).map_or(ValueType::None, |n| n.ty);
        let value = result::value(outcome.value, ty, spec)?;
        stats.prepare = prepared - began;
        stats.eval = evaluated - prepared;
        stats.sort = evaluated.elapsed();
        let analysis = spec.analyze.then_some(Analysis { operators: outcome.reports });
        Ok(QueryResult { value, annotations: outcome.annotations, stats, analysis })
    }

    /// Runs a query whose outermost node (parentheses aside) is an aggregation that can be merged,
    /// up to the point where parts would be merged; blocks until it is done.
    ///
    /// # Errors
    /// As [`Self::execute`]; also an expression that is no such aggregation.
    pub fn execute_partial(
        &self,
        spec: &QuerySpec,
        source: &dyn Source,
        leaves: &Leaves,
        cancel: &Cancel,
    ) -> Result<PartialResult, QueryError> {
        let began = Instant::now();
        let (plan, account, cancel) = self.prepare(spec, cancel)?;
        let prepared = Instant::now();
        let inputs = (source, leaves);
        let exec = Exec::new(&self.pool, spec, &plan, inputs, &cancel, Arc::clone(&account))?;
        let (partial, outcome) = exec.run_partial()?;
        let mut stats = stats_of(&outcome, &account);
        stats.prepare = prepared - began;
        stats.eval = prepared.elapsed();
        let analysis = spec.analyze.then_some(Analysis { operators: outcome.reports });
        Ok(PartialResult { partial, annotations: outcome.annotations, stats, analysis })
    }

    /// The plan, the account and the switch of a query. Its own limit of time is counted from here.
    fn prepare(
        &self,
        spec: &QuerySpec,
        cancel: &Cancel,
    ) -> Result<(Plan, Arc<Account>, Cancel), QueryError> {
        let account = Arc::new(Account::open(&self.process, &spec.limits)?);
        let cancel = cancel.within(spec.limits.wall_time);
        let plan = crate::passes::rewrite(crate::plan::build::build(spec)?);
        cancel.check()?;
        Ok((plan, account, cancel))
    }
}

fn stats_of(outcome: &Outcome, account: &Account) -> QueryStats {
    QueryStats {
        total_samples: outcome.counts.total,
        total_samples_per_step: outcome.counts.total_at.clone(),
        samples_read: outcome.counts.read,
        samples_read_per_step: outcome.counts.read_at.clone(),
        peak_samples: outcome.peak_samples,
        series: account.series(),
        peak_bytes: account.peak_bytes(),
        ..QueryStats::default()
    }
}
