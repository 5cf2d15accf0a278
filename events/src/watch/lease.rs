//! One watcher of several replicas: a Lease in the cluster, as other controllers use it.
//!
//! Who holds it writes it again every few seconds; who finds it unchanged for its whole duration, by the own
//! clock, takes it. The holder stops before its lease can be taken. For the hand-over the lease carries, as
//! annotations, how far the watch is safe in the holder's spool. Whoever takes it over from another lists
//! everything first (what that one had not delivered may be lost with its disk) and watches from there: what
//! comes twice is one row at the hub.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::api::{Api, ApiError, escape};
use super::metrics::WatchMetrics;
use super::run::{Shared, Start, Watcher};

const VERSION: &str = "periplus.io/resource-version";
const GOOD: &str = "periplus.io/good-us";
const LAST: &str = "periplus.io/last-holder";

/// Which lease, and who wants it.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// This replica; the same after a restart, unlike any other.
    pub identity: String,
    /// How long a lease holds without being renewed, at least a second.
    pub duration: Duration,
    /// How often it is renewed, and how often others look.
    pub every: Duration,
}

/// A replica that watches while it holds the lease.
pub struct Candidate<F> {
    api: Api,
    config: LeaseConfig,
    metrics: WatchMetrics,
    make: F,
    observed: Option<(String, Instant)>,
}

/// What looking at the lease came to.
enum Look {
    Mine(Value, Start),
    Others,
}

impl<F: Fn() -> Watcher> Candidate<F> {
    /// A replica that holds nothing yet; `make` makes a watcher for each time it does.
    pub const fn new(api: Api, config: LeaseConfig, metrics: WatchMetrics, make: F) -> Self {
        Self { api, config, metrics, make, observed: None }
    }

    /// Takes the lease when it can, watches while it holds it, until it is asked to end; then gives it back.
    pub async fn run(mut self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            match cancel.run_until_cancelled(self.look()).await {
                None => break,
                Some(Ok(Look::Mine(lease, start))) => {
                    tracing::info!(
                        lease = self.config.name,
                        ?start,
                        "holding the lease of the event watch"
                    );
                    self.metrics.leading.set(1);
                    self.lead(lease, start, &cancel).await;
                    self.metrics.leading.set(0);
                    self.observed = None;
                }
                Some(Ok(Look::Others)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, lease = self.config.name, "the lease of the event watch")
                }
            }
            let pause = self.config.every.mul_f64(rand::random_range(0.8..=1.2));
            let _ended = cancel.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    fn target(&self) -> String {
        let c = &self.config;
        format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}",
            escape(&c.namespace),
            escape(&c.name)
        )
    }

    async fn get(&self) -> Result<Option<Value>, ApiError> {
        let doing = "reading the lease";
        match self.api.small(doing, Method::GET, &self.target(), Vec::new()).await {
            Ok(body) => Ok(Some(parse(doing, &body)?)),
            Err(error) if error.status().is_some_and(|s| s.code == 404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks at the lease, and takes it if nobody else holds it.
    async fn look(&mut self) -> Result<Look, ApiError> {
        let Some(mut lease) = self.get().await? else {
            let lease = self.written(
                json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": { "name": self.config.name, "namespace": self.config.namespace },
                    "spec": { "leaseTransitions": 0 },
                }),
                None,
            );
            let target = self.target();
            let all = target.rsplit_once('/').map_or(target.as_str(), |(all, _)| all);
            let doing = "making the lease";
            let body = self.api.small(doing, Method::POST, all, lease.to_string().into()).await;
            return match body {
                Ok(body) => Ok(Look::Mine(parse(doing, &body)?, Start::Resume)),
                Err(error) if is_conflict(&error) => Ok(Look::Others),
                Err(error) => Err(error),
            };
        };
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let last = lease["metadata"]["annotations"][LAST].as_str().unwrap_or(&holder).to_owned();
        if !holder.is_empty() && holder != self.config.identity && !self.expired(&lease) {
            return Ok(Look::Others);
        }
        let start = if last.is_empty() || last == self.config.identity {
            Start::Resume
        } else {
            let number = |name: &str| lease["metadata"]["annotations"][name].as_str()?.parse().ok();
            Start::TakeOver {
                resource_version: number(VERSION).and_then(|n: i64| u64::try_from(n).ok()),
                good_us: number(GOOD).unwrap_or(0),
            }
        };
        if holder != self.config.identity {
            let transitions = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0);
            lease["spec"]["leaseTransitions"] = transitions.saturating_add(1).into();
            lease["spec"]["acquireTime"] = micro_time().into();
        }
        let lease = self.written(lease, None);
        match self.put(&lease).await {
            Ok(lease) => Ok(Look::Mine(lease, start)),
            Err(error) if is_conflict(&error) => Ok(Look::Others),
            Err(error) => Err(error),
        }
    }

    /// Whether the lease stood unchanged for its duration, as far as this replica has seen.
    fn expired(&mut self, lease: &Value) -> bool {
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let seconds = lease["spec"]["leaseDurationSeconds"].as_u64().unwrap_or(15).min(3600);
        match &self.observed {
            Some((seen, since)) if seen == version => {
                since.elapsed() > Duration::from_secs(seconds)
            }
            _ => {
                self.observed = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }

    /// The lease as this replica writes it while it holds it.
    fn written(&self, mut lease: Value, shared: Option<&Shared>) -> Value {
        lease["spec"]["holderIdentity"] = self.config.identity.clone().into();
        lease["spec"]["leaseDurationSeconds"] = self.config.duration.as_secs().max(1).into();
        lease["spec"]["renewTime"] = micro_time().into();
        if let Some((version, good_us)) = shared.map(Shared::position).filter(|p| p.0 > 0) {
            // Only once there is a position of one's own: until then the other's holds.
            lease["metadata"]["annotations"][VERSION] = version.to_string().into();
            lease["metadata"]["annotations"][GOOD] = good_us.to_string().into();
            lease["metadata"]["annotations"][LAST] = self.config.identity.clone().into();
        }
        lease
    }

    async fn put(&self, lease: &Value) -> Result<Value, ApiError> {
        let doing = "renewing the lease";
        let target = self.target();
        let body = self.api.small(doing, Method::PUT, &target, lease.to_string().into()).await?;
        parse(doing, &body)
    }

    /// Watches while the lease can be renewed.
    async fn lead(&self, mut lease: Value, start: Start, cancel: &CancellationToken) {
        let end = cancel.child_token();
        let watcher = (self.make)();
        let shared: Arc<Shared> = watcher.shared();
        let watching = AbortOnDropHandle::new(tokio::spawn(watcher.run(start, end.clone())));
        // Others may take it after `duration`; a third of that is left for stopping.
        let mut held_until = Instant::now() + self.config.duration.mul_f64(2.0 / 3.0);
        while !cancel.is_cancelled() && !watching.is_finished() {
            let _ended = cancel.run_until_cancelled(tokio::time::sleep(self.config.every)).await;
            if cancel.is_cancelled() {
                break;
            }
            let began = Instant::now();
            let renewing = self.renew(&lease, &shared);
            match tokio::time::timeout_at(held_until, renewing).await {
                Ok(Ok(Some(renewed))) => {
                    lease = renewed;
                    held_until = began + self.config.duration.mul_f64(2.0 / 3.0);
                }
                Ok(Ok(None)) => {
                    tracing::warn!(lease = self.config.name, "another replica holds the lease");
                    break;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.config.name, "renewing the lease");
                    if Instant::now() >= held_until {
                        break;
                    }
                }
                Err(_) => {
                    tracing::warn!(
                        lease = self.config.name,
                        "the lease could not be renewed in time"
                    );
                    break;
                }
            }
        }
        end.cancel();
        let _joined = watching.await;
        if cancel.is_cancelled() {
            self.release(&lease, &shared).await;
        }
    }

    /// Writes the lease again; `None`: somebody else has it.
    async fn renew(&self, lease: &Value, shared: &Shared) -> Result<Option<Value>, ApiError> {
        match self.put(&self.written(lease.clone(), Some(shared))).await {
            Ok(renewed) => Ok(Some(renewed)),
            Err(error) if is_conflict(&error) => {
                // Somebody else wrote it; it may still be held by this replica.
                let now = self.get().await?;
                Ok(now.filter(|l| l["spec"]["holderIdentity"] == self.config.identity.as_str()))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the lease back with the last position, so that another replica need not wait.
    async fn release(&self, lease: &Value, shared: &Shared) {
        let mut free = self.written(lease.clone(), Some(shared));
        free["spec"]["holderIdentity"] = "".into();
        free["metadata"]["annotations"][LAST] = self.config.identity.clone().into();
        free["spec"]["leaseDurationSeconds"] = 1.into();
        match tokio::time::timeout(Duration::from_secs(3), self.put(&free)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::info!(%error, "giving the lease back"),
            Err(_) => tracing::info!("the lease could not be given back in time"),
        }
    }
}

impl<F> std::fmt::Debug for Candidate<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("config", &self.config).finish_non_exhaustive()
    }
}

fn is_conflict(error: &ApiError) -> bool {
    error.status().is_some_and(|s| s.code == 409)
}

fn parse(doing: &'static str, body: &[u8]) -> Result<Value, ApiError> {
    let lease: Value =
        serde_json::from_slice(body).map_err(|e| ApiError::Object { doing, source: e.into() })?;
    if !lease["spec"].is_object() || !lease["metadata"].is_object() {
        let reason = "the answer is no Lease".to_owned();
        return Err(ApiError::Transport { doing, reason });
    }
    Ok(lease)
}

/// Now, as a `metav1.MicroTime`.
fn micro_time() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
