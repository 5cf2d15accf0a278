//! Keeps a [`Snapshot`] of a Prometheus current: waits for it, notices reloads and restarts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use periplus_model::Labels;
use periplus_promql::value::StepGrid;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::answer::{self, Expect};
use super::client::RuntimeInfo;
use super::gaps::Gaps;
use super::snapshot::{Snapshot, Version, read_global};
use super::{Client, ClientError, exposition};
use crate::metrics::Metrics;

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often gaps and shadowed labels are looked for: they cost queries.
const SLOW_LOOK: Duration = Duration::from_secs(60);

/// Prometheus refuses ranges of more points.
const POINTS_MAX: i64 = 11_000;

/// Now, in Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Watches one Prometheus.
#[derive(Debug)]
pub(crate) struct Watch {
    client: Client,
    metrics: Metrics,
    gap_window: Duration,
    current: RwLock<Arc<Snapshot>>,
    look_now: Notify,
    looks: watch::Sender<u64>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What tells one start and configuration from another.
    identity: Option<(RuntimeInfo, Option<i64>)>,
    slow_look: Option<Instant>,
    gaps: Gaps,
}

impl Watch {
    pub(crate) fn new(client: Client, metrics: Metrics, gap_window: Duration) -> Self {
        let first = Snapshot {
            problem: Some("not reached yet".to_owned()),
            problem_since_ms: now_ms(),
            ..Snapshot::default()
        };
        Self {
            client,
            metrics,
            gap_window,
            current: RwLock::new(Arc::new(first)),
            look_now: Notify::new(),
            looks: watch::Sender::new(0),
            inner: Mutex::default(),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What is known now.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// Asks for a look before its time: something did not fit what is known.
    pub(crate) fn look_soon(&self) {
        let mut inner = self.inner.lock();
        (inner.slow_look, inner.identity) = (None, None);
        drop(inner);
        self.look_now.notify_one();
    }

    /// A series was seen that carries this external label itself.
    pub(crate) fn mark_shadowed(&self, name: &str) {
        self.change(|s| {
            s.shadowed.insert(name.to_owned());
        });
        self.look_soon();
    }

    /// Notes that this Prometheus does not sort its series as labels sort: every series is sorted here.
    pub(crate) fn mark_all_shadowed(&self) {
        self.change(|s| {
            let names: Vec<String> = s.external.iter().map(|(n, _)| n.to_owned()).collect();
            s.shadowed.extend(names);
        });
    }

    fn change(&self, with: impl FnOnce(&mut Snapshot)) {
        let mut current = self.current.write();
        let mut next = Snapshot::clone(&current);
        with(&mut next);
        *current = Arc::new(next);
    }

    /// Looks until `end`.
    pub(crate) async fn run(self: Arc<Self>, interval: Duration, end: CancellationToken) {
        let mut wait = Duration::from_millis(200);
        loop {
            let healthy = tokio::select! {
                healthy = self.look() => healthy,
                () = end.cancelled() => return,
            };
            self.looks.send_modify(|n| *n += 1);
            // Until it is there it is asked often: what starts together is up together.
            wait = if healthy { interval } else { (wait * 2).min(interval) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.look_now.notified() => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                () = end.cancelled() => return,
            }
        }
    }

    /// Waits until the labels are known, at most `timeout`; gives the snapshot then.
    pub(crate) async fn known(&self, timeout: Duration) -> Option<Arc<Snapshot>> {
        let mut looks = self.looks.subscribe();
        let wait = async {
            loop {
                let snapshot = self.current();
                if snapshot.known {
                    return Some(snapshot);
                }
                looks.changed().await.ok()?;
            }
        };
        tokio::time::timeout(timeout, wait).await.ok().flatten()
    }

    /// One look; whether all is well.
    pub(crate) async fn look(&self) -> bool {
        let problem = match self.try_look().await {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        };
        let healthy = problem.is_none();
        let before = self.current();
        // Each reason once, the first one too: who waits for a Prometheus says what for.
        if !healthy && before.problem != problem {
            tracing::warn!(prometheus = %self.client.address(), problem, "Prometheus is not well");
        } else if before.problem.is_some() && healthy {
            tracing::info!(prometheus = %self.client.address(), version = %before.version,
                external_labels = ?before.external, "Prometheus is well");
        }
        self.change(|s| {
            if s.problem.is_none() != problem.is_none() {
                s.problem_since_ms = if problem.is_some() { now_ms() } else { 0 };
            }
            s.problem = problem;
        });
        let now = self.current();
        self.metrics.watched(&now, now_ms());
        healthy
    }

    async fn try_look(&self) -> Result<(), ClientError> {
        self.client.ready(LOOK_TIMEOUT).await?;
        let runtime = self.client.runtime_info(LOOK_TIMEOUT).await?;
        let figures = exposition::read(&self.client.metrics(LOOK_TIMEOUT).await?);
        // The API tells the times of start and reload to the second, the metrics that of the reload
        // more finely; all of them are asked for before the labels are.
        let identity = Some((runtime, figures.reloaded_ms));
        let changed = self.inner.lock().identity != identity || !self.current().known;
        if changed {
            self.identify().await?;
            let mut inner = self.inner.lock();
            inner.identity = identity;
            inner.slow_look = None;
        }
        self.change(|s| {
            s.max_t = figures.head_max_ms.or(s.max_t);
            s.min_t = match (figures.lowest_ms, figures.head_min_ms) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b).or(s.min_t),
            };
            s.head_series = figures.head_series.unwrap_or(s.head_series);
        });
        let due = self.inner.lock().slow_look.is_none_or(|at| at.elapsed() >= SLOW_LOOK);
        if due {
            self.look_for_shadows().await?;
            self.look_for_gaps().await?;
            self.inner.lock().slow_look = Some(Instant::now());
        }
        self.list_gaps();
        Ok(())
    }

    /// Labels, version and flags: what a reload or a restart may change.
    async fn identify(&self) -> Result<(), ClientError> {
        let yaml = self.client.config_yaml(LOOK_TIMEOUT).await?;
        let global = read_global(&yaml)
            .map_err(|problem| ClientError::Unexpected { what: "config", problem })?;
        let build = self.client.build_info(LOOK_TIMEOUT).await?;
        let flags = self.client.flags(LOOK_TIMEOUT).await?;
        let before = self.current();
        if before.known && before.external != global.external {
            tracing::info!(from = ?before.external, to = ?global.external, "external labels changed");
        }
        if global.external.is_empty() {
            tracing::warn!(prometheus = %self.client.address(),
                "no external labels: set global.external_labels, so that its series can be told apart");
        }
        self.change(|s| {
            s.known = true;
            s.external = global.external;
            s.scrape_interval_ms = global.scrape_interval_ms;
            s.out_of_order = global.out_of_order;
            s.evaluation_interval_ms = global.evaluation_interval_ms;
            s.version = Version::parse(&build.version);
            s.flags = flags;
        });
        Ok(())
    }

    /// Series must not carry external labels themselves; some do.
    async fn look_for_shadows(&self) -> Result<(), ClientError> {
        let external: Labels = self.current().external.clone();
        let mut shadowed = BTreeSet::new();
        for (name, _) in &external {
            let path = format!("api/v1/label/{name}/values");
            let values: Vec<String> =
                self.client.get("label values", &path, &[], LOOK_TIMEOUT).await?;
            if !values.is_empty() {
                shadowed.insert(name.to_owned());
            }
        }
        let before = self.current().shadowed.clone();
        if shadowed != before {
            tracing::warn!(labels = ?shadowed, "series carry external labels themselves; \
                the external label wins, and their queries are evaluated here");
        }
        self.change(|s| s.shadowed = shadowed);
        Ok(())
    }

    async fn look_for_gaps(&self) -> Result<(), ClientError> {
        let snapshot = self.current();
        let (now, interval) = (now_ms(), snapshot.scrape_interval_ms.max(1_000));
        let window = i64::try_from(self.gap_window.as_millis()).unwrap_or(i64::MAX);
        let earliest = now.saturating_sub(window.min(interval.saturating_mul(POINTS_MAX - 10)));
        let start = self.inner.lock().gaps.next_start(earliest, interval);
        let grid = StepGrid { start_ms: start, end_ms: now, step_ms: interval };
        let form = [
            ("query", "max(timestamp(up))".to_owned()),
            ("start", seconds(grid.start_ms)),
            ("end", seconds(grid.end_ms)),
            ("step", format!("{interval}ms")),
        ];
        let response = self.client.query("api/v1/query_range", &form, LOOK_TIMEOUT).await?;
        let expect = Expect { grid, rows_max: 1, bytes_max: 16 << 20 };
        let answer = answer::read(response, expect).await?;
        let scrapes: Vec<i64> = answer
            .rows
            .first()
            .map(|row| {
                row.present
                    .ones()
                    .filter_map(|i| row.values.get(i))
                    .map(|v| (v * 1000.0).round() as i64)
            })
            .into_iter()
            .flatten()
            .collect();
        self.inner.lock().gaps.observe(&scrapes, interval);
        Ok(())
    }

    fn list_gaps(&self) {
        let interval = self.current().scrape_interval_ms.max(1_000);
        let window = i64::try_from(self.gap_window.as_millis()).unwrap_or(i64::MAX);
        let now = now_ms();
        // The list is as old as the last slow look.
        let slow = i64::try_from(SLOW_LOOK.as_millis()).unwrap_or(0);
        let gaps = self.inner.lock().gaps.list(now.saturating_sub(window), now - slow, interval);
        self.change(|s| s.gaps = gaps);
    }
}

/// Unix milliseconds as the API takes them: seconds with three decimals.
pub(crate) fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_milliseconds() {
        assert_eq!(seconds(1_763_743_500_007), "1763743500.007");
        assert_eq!(seconds(-1_500), "-1.500");
    }
}
