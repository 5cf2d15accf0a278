//! Queries that run now, queries that cost the most, and the way to stop one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::Response;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::json::Writer;
use super::params::Params;
use super::{Api, respond, time};
use crate::answer::When;
use crate::endpoints::now_ms;

/// Queries whose cost is remembered; of the others only the newest is counted in.
const REMEMBERED: usize = 1_000;
/// Bytes of a query's text that are kept.
const TEXT_BYTES: usize = 4_096;

/// All queries of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Queries(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    active: BTreeMap<u64, Active>,
    top: HashMap<Arc<str>, Cost>,
}

#[derive(Clone, Debug)]
struct Active {
    query: Arc<str>,
    when: When,
    begun_ms: i64,
    begun: Instant,
    stop: CancellationToken,
}

/// What all runs of one query have cost.
#[derive(Clone, Debug, Default)]
struct Cost {
    count: u64,
    failed: u64,
    total: Duration,
    longest: Duration,
    samples: u64,
    bytes: u64,
    last_ms: i64,
}

/// A query that runs; what it cost is remembered when this is dropped.
#[derive(Debug)]
pub struct Running {
    queries: Queries,
    id: u64,
    /// Cancelled when somebody stops the query.
    pub stop: CancellationToken,
    samples: u64,
    bytes: u64,
    answered: bool,
}

impl Queries {
    /// A query begins.
    #[must_use]
    pub fn begin(&self, query: &str, when: When) -> Running {
        let cut = query.get(..query.floor_char_boundary(TEXT_BYTES)).unwrap_or_default();
        let stop = CancellationToken::new();
        let mut inner = self.0.lock();
        inner.next += 1;
        let id = inner.next;
        let active = Active {
            query: cut.into(),
            when,
            begun_ms: now_ms(),
            begun: Instant::now(),
            stop: stop.clone(),
        };
        inner.active.insert(id, active);
        Running { queries: self.clone(), id, stop, samples: 0, bytes: 0, answered: false }
    }

    /// Stops a query; whether there is one of this number.
    #[must_use]
    pub fn cancel(&self, id: u64) -> bool {
        let inner = self.0.lock();
        let found = inner.active.get(&id);
        found.inspect(|a| a.stop.cancel()).is_some()
    }
}

impl Running {
    /// It has an answer.
    pub fn answered(&mut self, samples: u64) {
        self.answered = true;
        self.samples = samples;
    }

    /// So much of the answer was written.
    pub fn wrote(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut inner = self.queries.0.lock();
        let Some(a) = inner.active.remove(&self.id) else { return };
        let took = a.begun.elapsed();
        if !inner.top.contains_key(&a.query) && inner.top.len() >= REMEMBERED {
            let least = inner.top.iter().min_by_key(|(_, c)| c.total).map(|(q, _)| q.clone());
            least.map(|q| inner.top.remove(&q));
        }
        let cost = inner.top.entry(a.query).or_default();
        cost.count += 1;
        cost.failed += u64::from(!self.answered);
        cost.total = cost.total.saturating_add(took);
        cost.longest = cost.longest.max(took);
        cost.samples = cost.samples.saturating_add(self.samples);
        cost.bytes = cost.bytes.saturating_add(self.bytes);
        cost.last_ms = a.begun_ms;
    }
}

fn send(value: &serde_json::Value) -> Response<Body> {
    let mut w = Writer::new();
    w.raw(value.to_string().as_bytes());
    respond::data(w, &[], &[])
}

pub(super) async fn active(State(api): State<Api>) -> Response<Body> {
    let all: Vec<serde_json::Value> = api
        .queries
        .0
        .lock()
        .active
        .iter()
        .map(|(id, a)| {
            json!({
                "id": id.to_string(),
                "query": &*a.query,
                "type": if a.when.instant { "instant" } else { "range" },
                "start": time::rfc3339(a.when.grid.start_ms),
                "end": time::rfc3339(a.when.grid.end_ms),
                "stepSeconds": a.when.grid.step_ms as f64 / 1000.0,
                "begun": time::rfc3339(a.begun_ms),
                "seconds": a.begun.elapsed().as_secs_f64(),
            })
        })
        .collect();
    send(&json!(all))
}

pub(super) async fn top(State(api): State<Api>, RawQuery(address): RawQuery) -> Response<Body> {
    let run = || {
        let p = Params::new(b"", address.as_deref().unwrap_or_default())?;
        let limit = match p.limit()? {
            0 => 10,
            n => n.min(REMEMBERED),
        };
        let by: fn(&Cost) -> u128 = match p.get("by") {
            "" | "time" => |c| c.total.as_nanos(),
            "samples" => |c| u128::from(c.samples),
            "bytes" => |c| u128::from(c.bytes),
            other => {
                let text = format!("{other:?} is none of time, samples, bytes");
                return Err(ApiError::parameter("by", text));
            }
        };
        let mut all: Vec<(Arc<str>, Cost)> =
            api.queries.0.lock().top.iter().map(|(q, c)| (q.clone(), c.clone())).collect();
        all.sort_by(|a, b| by(&b.1).cmp(&by(&a.1)).then_with(|| a.0.cmp(&b.0)));
        let all: Vec<serde_json::Value> = all
            .into_iter()
            .take(limit)
            .map(|(query, c)| {
                json!({
                    "query": &*query,
                    "count": c.count,
                    "failed": c.failed,
                    "seconds": c.total.as_secs_f64(),
                    "longestSeconds": c.longest.as_secs_f64(),
                    "samples": c.samples,
                    "bytes": c.bytes,
                    "last": time::rfc3339(c.last_ms),
                })
            })
            .collect();
        Ok(send(&json!(all)))
    };
    run().unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) async fn cancel(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = || {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let text = p.get("id");
        let id: u64 = text
            .parse()
            .map_err(|_| ApiError::parameter("id", format!("{text:?} is not a query's number")))?;
        match api.queries.cancel(id) {
            true => Ok(send(&json!({ "cancelled": id.to_string() }))),
            false => Err(ApiError::not_found(format!("no query {id} is running"))),
        }
    };
    run().unwrap_or_else(|e: ApiError| e.respond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_is_remembered_and_what_runs_can_be_stopped() {
        let all = Queries::default();
        let mut a = all.begin("up", When::instant(0));
        a.answered(7);
        a.wrote(100);
        let b = all.begin("up", When::instant(0));
        assert_eq!(all.0.lock().active.len(), 2);
        assert!(all.cancel(b.id) && b.stop.is_cancelled() && !a.stop.is_cancelled());
        assert!(!all.cancel(99));
        drop((a, b));
        let inner = all.0.lock();
        let cost = &inner.top["up"];
        assert!(inner.active.is_empty());
        assert_eq!((cost.count, cost.failed, cost.samples, cost.bytes), (2, 1, 7, 100));
    }

    #[test]
    fn memory_is_bounded() {
        let all = Queries::default();
        for i in 0..REMEMBERED + 10 {
            drop(all.begin(&format!("q{i}"), When::instant(0)));
        }
        drop(all.begin(&"x".repeat(TEXT_BYTES * 2), When::instant(0)));
        let inner = all.0.lock();
        assert_eq!(inner.top.len(), REMEMBERED);
        assert!(inner.top.keys().all(|q| q.len() <= TEXT_BYTES));
    }
}
