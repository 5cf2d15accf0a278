//! What a query may use, and how it is stopped.
//!
//! Every byte a query holds (encoded chunks, decoded samples, results) is counted by one
//! [`Account`], which also counts for the whole process; whoever wants more than is left gets an
//! error that names the limit and its value, before the allocation. [`Cancel`] is looked at by every
//! worker between two series and by every operator between two steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::{ErrorKind, QueryError};

/// What one query may use. `u64::MAX` (or `None`) means no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Samples held in memory at once, counted as Prometheus's `query.max-samples` does.
    pub samples: u64,
    /// Series selected by all selectors together.
    pub series: u64,
    /// Bytes held at once.
    pub memory_bytes: u64,
    /// Values in the result: series times steps.
    pub output_points: u64,
    /// Evaluations of one subquery.
    pub subquery_steps: u64,
    /// Length of a regular expression.
    pub regex_bytes: usize,
    /// Time from start to end.
    pub wall_time: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            samples: 50_000_000,
            series: 2_000_000,
            memory_bytes: 2 << 30,
            output_points: 50_000_000,
            subquery_steps: 1_000_000,
            regex_bytes: 64 * 1024,
            wall_time: Some(Duration::from_secs(120)),
        }
    }
}

/// What all queries of a process may use together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Bytes held at once by all queries.
    pub memory_bytes: u64,
    /// Queries that run at once; more are refused.
    pub queries: u64,
}

impl Default for ProcessLimits {
    fn default() -> Self {
        Self { memory_bytes: u64::MAX, queries: u64::MAX }
    }
}

/// What all queries of a process use now.
#[derive(Debug)]
pub(crate) struct ProcessAccount {
    limits: ProcessLimits,
    bytes: AtomicU64,
    queries: AtomicU64,
}

impl ProcessAccount {
    pub(crate) fn new(limits: ProcessLimits) -> Arc<Self> {
        Arc::new(Self { limits, bytes: AtomicU64::new(0), queries: AtomicU64::new(0) })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }
}

/// What one query uses now. Dropping it gives everything back to the process.
#[derive(Debug)]
pub(crate) struct Account {
    process: Arc<ProcessAccount>,
    limits: Limits,
    bytes: AtomicU64,
    peak_bytes: AtomicU64,
    series: AtomicU64,
}

impl Account {
    pub(crate) fn open(process: &Arc<ProcessAccount>, limits: &Limits) -> Result<Self, QueryError> {
        let before = process.queries.fetch_add(1, Ordering::Relaxed);
        let account = Self {
            process: Arc::clone(process),
            limits: limits.clone(),
            bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            series: AtomicU64::new(0),
        };
        if before >= process.limits.queries {
            return Err(QueryError::limit(
                "concurrent queries of the process",
                before + 1,
                process.limits.queries,
            ));
        }
        Ok(account)
    }

    /// Counts `bytes` more; on refusal nothing has been counted.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), QueryError> {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if own > self.limits.memory_bytes {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(QueryError::limit(
                "memory bytes of a query",
                own,
                self.limits.memory_bytes,
            ));
        }
        let all = self.process.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if all > self.process.limits.memory_bytes {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.process.bytes.fetch_sub(bytes, Ordering::Relaxed);
            let limit = self.process.limits.memory_bytes;
            return Err(QueryError::limit("memory bytes of the process", all, limit));
        }
        self.peak_bytes.fetch_max(own, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn shrink(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.process.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_series(&self, n: u64) -> Result<(), QueryError> {
        let all = self.series.fetch_add(n, Ordering::Relaxed).saturating_add(n);
        if all > self.limits.series {
            return Err(QueryError::limit("series of a query", all, self.limits.series));
        }
        Ok(())
    }

    pub(crate) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let held = self.bytes.load(Ordering::Relaxed);
        self.process.bytes.fetch_sub(held, Ordering::Relaxed);
        self.process.queries.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Charge {
    pub(crate) fn new(account: &Arc<Account>, bytes: u64) -> Result<Self, QueryError> {
        account.grow(bytes)?;
        Ok(Self { account: Arc::clone(account), bytes })
    }

    /// Counts more.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), QueryError> {
        self.account.grow(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes over what another charge counts.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.shrink(self.bytes);
    }
}

/// Stops a query from outside; clones share the same switch.
#[derive(Clone, Debug)]
pub struct Cancel {
    inner: Arc<AtomicBool>,
    until: Option<Instant>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// A switch that is off.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: Arc::new(AtomicBool::new(false)), until: None }
    }

    /// A switch that turns itself on at `deadline`: the query then ends with
    /// [`ErrorKind::Timeout`].
    #[must_use]
    pub fn with_deadline(deadline: Instant) -> Self {
        Self { inner: Arc::new(AtomicBool::new(false)), until: Some(deadline) }
    }

    /// The same switch, which also turns itself on when `time` has passed from now.
    #[must_use]
    pub(crate) fn within(&self, time: Option<Duration>) -> Self {
        let own = time.and_then(|t| Instant::now().checked_add(t));
        let until = match (self.until, own) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { inner: Arc::clone(&self.inner), until }
    }

    /// Stops the query: it ends with [`ErrorKind::Canceled`].
    pub fn cancel(&self) {
        self.inner.store(true, Ordering::Relaxed);
    }

    /// Whether the query is to stop, for whichever reason.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.check().is_err()
    }

    /// # Errors
    /// [`ErrorKind::Canceled`] or [`ErrorKind::Timeout`] once the query is to stop.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.inner.load(Ordering::Relaxed) {
            let text = "query was canceled in expression evaluation";
            return Err(QueryError::new(ErrorKind::Canceled, text));
        }
        if self.until.is_some_and(|d| Instant::now() >= d) {
            let text = "query timed out in expression evaluation";
            return Err(QueryError::new(ErrorKind::Timeout, text));
        }
        Ok(())
    }
}
