//! Asking endpoints: fragments go out, answers come back, and what did not come is named.
//!
//! In order: a [`Question`] is what all requests for one query share; [`fragment`] asks every part for
//! a fragment, slice by slice, and puts the answers together; [`call`] is one request to one endpoint with
//! its deadline and its retries; [`wire`] turns rows into columns and back; [`notes`] collects what the
//! query must say besides its answer, and [`work`] what each step did where that is asked for.
//!
//! The one decision worth knowing: an endpoint that fails is never the query's failure. Its deadline is
//! its own, shorter than the query's; another replica is asked in its place; and if nobody can answer for
//! a part, the answer is given without it and says so. Only an error of the query itself (which every
//! endpoint would repeat) ends it.

pub mod call;
pub mod fragment;
pub mod notes;
pub mod wire;
pub mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::TimeRange;
use periplus_promql::engine::Engine;
use periplus_promql::limits::{Cancel, Limits};
use periplus_promql::parse::ast::Expr;
use periplus_promql::value::StepGrid;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::endpoints::{Missing, Registry, Snapshot};
use crate::history::Reading;
use crate::history::readable::Reader;
use crate::plan::{Clock, EndpointId, Fleet, grid_range};
use notes::Notes;

/// When a query is evaluated, as `start()`, `end()`, `range()` and `step()` see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryTimes {
    /// First evaluation, Unix milliseconds.
    pub start_ms: i64,
    /// Last evaluation, Unix milliseconds.
    pub end_ms: i64,
    /// 0 for an instant query.
    pub step_ms: i64,
}

/// Bounds of requests to endpoints.
#[derive(Clone, Debug)]
pub struct FanoutConfig {
    /// The longest an endpoint may take for one request.
    pub endpoint_timeout: Duration,
    /// Requests of one query that run at once.
    pub concurrent_requests: usize,
    /// Attempts for one request, the first included.
    pub attempts: u32,
    /// Ask a second replica when the first has not answered after this long; `None`: never.
    pub hedge_after: Option<Duration>,
}

/// What all requests for one query share.
pub struct Question {
    /// The fleet the query was planned over.
    pub fleet: Arc<Fleet>,
    /// The endpoints of that fleet.
    pub snapshot: Arc<Snapshot>,
    /// Told of endpoints that fail.
    pub registry: Registry,
    /// Evaluates what is not answered elsewhere.
    pub engine: Arc<Engine>,
    /// The whole query, which positions refer to.
    pub text: Arc<str>,
    /// When the query is evaluated.
    pub times: QueryTimes,
    /// How long a sample is looked back for, in milliseconds.
    pub lookback_ms: i64,
    /// Whether metric names are dropped late.
    pub delayed_name_removal: bool,
    /// Fail rather than answer without a part.
    pub strict: bool,
    /// What the query may use.
    pub limits: Limits,
    /// When the query as a whole must be answered.
    pub deadline: Instant,
    /// Stops the evaluation.
    pub cancel: Cancel,
    /// Stops requests.
    pub stop: CancellationToken,
    /// What the query has to say.
    pub notes: Arc<Notes>,
    /// Bounds of requests.
    pub config: FanoutConfig,
    /// Places for requests.
    pub places: Arc<Semaphore>,
    /// The bucket, where there is one: an endpoint of the fleet that is read here.
    pub history: Option<Arc<Reading>>,
}

impl Question {
    /// What turns evaluation times into times of data.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let (start_ms, end_ms) = (self.times.start_ms, self.times.end_ms);
        let step_ms = self.times.step_ms.max(1);
        Clock { query: StepGrid { start_ms, end_ms, step_ms }, lookback_ms: self.lookback_ms }
    }

    /// How long an endpoint may take that is asked now: its own deadline, or what is left of the
    /// query's, less what it takes to answer without it.
    #[must_use]
    pub fn endpoint_timeout(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let reserve = (left / 10).min(Duration::from_millis(500));
        self.config.endpoint_timeout.min(left.saturating_sub(reserve))
    }

    /// Whether a part can have anything for times in `seen`.
    #[must_use]
    pub fn may_have(&self, part: usize, seen: Option<TimeRange>) -> bool {
        match (self.fleet.parts.get(part), seen) {
            (Some(part), Some(seen)) => part.oldest_ms <= seen.max_t,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether an endpoint is the bucket.
    #[must_use]
    pub fn is_history(&self, endpoint: EndpointId) -> bool {
        self.fleet.history == Some(endpoint)
    }

    /// What is missing of a part when `endpoint` fails to answer for it now.
    #[must_use]
    pub fn missing_now(&self, part: usize, endpoint: EndpointId, why: &str) -> Vec<Missing> {
        let mut missing = self.snapshot.missing_now(&self.fleet, part, endpoint, why);
        if let Some(h) = self.history.as_ref().filter(|_| self.is_history(endpoint)) {
            missing.iter_mut().for_each(|m| m.address = h.name().to_owned());
        }
        missing
    }

    /// What is missing of a part for times in `seen` when nobody but the bucket can be asked for it any
    /// more: the bucket does not have those times, and who would have had them is gone or in `failed`.
    #[must_use]
    pub fn beyond_history(
        &self,
        part: usize,
        seen: Option<TimeRange>,
        failed: &BTreeMap<EndpointId, String>,
    ) -> Vec<Missing> {
        let (Some(p), Some(seen)) = (self.fleet.parts.get(part), seen) else { return Vec::new() };
        let left = |c: &&crate::plan::Candidate| !failed.contains_key(&c.endpoint);
        let mut left = p.candidates.iter().filter(left);
        let (Some(only), None) = (left.next(), left.next()) else { return Vec::new() };
        if !self.is_history(only.endpoint) {
            return Vec::new();
        }
        let streams = p.streams.iter().filter_map(|s| self.fleet.streams.get(*s));
        let gone = |h: &&crate::plan::Held| {
            !self.is_history(h.endpoint) && (!h.usable || failed.contains_key(&h.endpoint))
        };
        let had = streams.flat_map(|s| &s.holders).filter(gone).map(|h| h.available.min_t).min();
        let Some(had) = had else { return Vec::new() };
        let theirs = TimeRange::new(had, i64::MAX).intersect(&seen);
        if theirs.is_empty() || !only.gaps.iter().any(|g| g.overlaps(&theirs)) {
            return Vec::new();
        }
        match failed.iter().next_back() {
            Some((e, why)) => self.missing_now(part, *e, why),
            None => self.snapshot.missing_of_part(&self.fleet, part),
        }
    }

    /// `e`, evaluated on `grid`, so that history can be read for it: unchanged where all of it is as
    /// scraped.
    #[must_use]
    pub fn readable(&self, e: &Expr, grid: StepGrid) -> Expr {
        let Some(history) = self.history.as_ref().filter(|h| h.coverage().has_coarse()) else {
            return e.clone();
        };
        let is_coarse = |range, reads: &_| history.coverage().is_coarse(range, reads);
        let reader = Reader { max: history.max(), clock: self.clock(), is_coarse: &is_coarse };
        reader.readable(e, grid_range(grid), self.times.step_ms)
    }
}
