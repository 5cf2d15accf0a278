//! Keeps the table of endpoints current and publishes snapshots of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use periplus_daemon::tls::ClientTls;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use super::known::Store;
use super::probe::{Described, probe};
use super::{Endpoint, Kind, Snapshot, Status, discover, now_ms};

/// How endpoints are found and watched.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Addresses as written: `host:port`, `dns+host:port`, `dnssrv+name`.
    pub addresses: Vec<String>,
    /// Files in Prometheus's `file_sd` form; the last part of the path may hold `*`.
    pub files: Vec<PathBuf>,
    /// How often names are resolved and files are looked at.
    pub refresh: Duration,
    /// How often every endpoint is asked what it has.
    pub probe_interval: Duration,
    /// How long an endpoint may take to say it.
    pub probe_timeout: Duration,
    /// Replica labels of the fleet that snapshots carry.
    pub replica_labels: Vec<String>,
    /// Where known streams are kept; `None`: forgotten at exit.
    pub data: Option<PathBuf>,
    /// When a stream that is gone is forgotten.
    pub forget_after: Duration,
    /// TLS towards endpoints.
    pub tls: ClientTls,
}

/// The endpoints. Clones share the same table.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

struct Inner {
    config: RegistryConfig,
    table: Mutex<Table>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    changed: Notify,
    store: Option<Store>,
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<String, Entry>,
    /// What each source of addresses says now.
    sources: BTreeMap<String, BTreeSet<String>>,
}

struct Entry {
    endpoint: Endpoint,
    /// When it last answered, Unix milliseconds.
    seen_ms: i64,
    probing: Option<AbortHandle>,
    recheck: Arc<Notify>,
}

impl Registry {
    /// Loads what is known and starts to discover and probe, on `tasks`, until `stop`.
    #[must_use]
    pub fn start(config: RegistryConfig, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let store = config.data.as_deref().map(Store::new);
        let mut table = Table::default();
        if let Some(store) = &store {
            match store.load() {
                Ok(known) => {
                    for (endpoint, seen_ms) in known {
                        let entry =
                            Entry { endpoint, seen_ms, probing: None, recheck: Arc::default() };
                        table.entries.insert(entry.endpoint.address.clone(), entry);
                    }
                }
                Err(e) => {
                    tracing::warn!(error = %e, "known endpoints can't be read; starting anew")
                }
            }
        }
        let inner = Arc::new(Inner {
            config,
            table: Mutex::new(table),
            snapshot: watch::Sender::new(Arc::default()),
            changed: Notify::new(),
            store,
        });
        let registry = Self { inner };
        registry.publish();
        for source in discover::sources(&registry.inner.config) {
            let (this, tasks_of_probes) = (registry.clone(), tasks.clone());
            let (stop, refresh) = (stop.clone(), registry.inner.config.refresh);
            tasks.spawn(async move {
                loop {
                    match source.find().await {
                        Ok(found) => this.discovered(source.name(), found, &tasks_of_probes, &stop),
                        Err(e) => {
                            tracing::warn!(source = source.name(), error = %e, "discovery");
                        }
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(source.interval(refresh)) => {}
                    }
                }
            });
        }
        let this = registry.clone();
        let stop = stop.clone();
        tasks.spawn(async move { this.keep_published(stop).await });
        registry
    }

    /// The fleet now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.inner.snapshot.borrow())
    }

    /// Tells when the fleet changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.inner.snapshot.subscribe()
    }

    /// Waits until every endpoint known at the start was asked once, at most for `patience`.
    pub async fn settled(&self, patience: Duration) {
        let mut watch = self.watch();
        let all_asked = |s: &Arc<Snapshot>| {
            let live: Vec<_> = s.endpoints.iter().filter(|e| e.channel.is_some()).collect();
            !live.is_empty() && live.iter().all(|e| e.status.checked_ms > 0)
        };
        let _ = tokio::time::timeout(patience, watch.wait_for(all_asked)).await;
    }

    /// A request to this endpoint failed: it is asked how it is at once.
    pub fn suspect(&self, address: &str) {
        if let Some(e) = self.inner.table.lock().entries.get(address) {
            e.recheck.notify_one();
        }
    }

    fn discovered(
        &self,
        source: &str,
        found: BTreeSet<String>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let mut table = self.inner.table.lock();
        if table.sources.get(source) == Some(&found) {
            return;
        }
        table.sources.insert(source.to_owned(), found);
        let wanted: BTreeSet<String> = table.sources.values().flatten().cloned().collect();
        for (address, e) in &mut table.entries {
            if e.endpoint.channel.is_some() && !wanted.contains(address) {
                retire(e);
            }
        }
        table
            .entries
            .retain(|_, e| e.endpoint.channel.is_some() || !e.endpoint.status.streams.is_empty());
        for address in wanted {
            if table.entries.get(&address).is_some_and(|e| e.endpoint.channel.is_some()) {
                continue;
            }
            match connect(&address, &self.inner.config.tls) {
                Ok(channel) => self.add(&mut table, address, channel, tasks, stop),
                Err(e) => tracing::warn!(%address, error = %e, "not an endpoint address"),
            }
        }
        drop(table);
        self.inner.changed.notify_one();
    }

    fn add(
        &self,
        table: &mut Table,
        address: String,
        channel: Channel,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let known = table.entries.remove(&address);
        let seen_ms = known.as_ref().map_or(0, |k| k.seen_ms);
        let mut status = known.map_or_else(Status::default, |k| k.endpoint.status);
        status.checked_ms = 0;
        if status.streams.is_empty() {
            status.since_ms = now_ms();
        }
        let recheck: Arc<Notify> = Arc::default();
        let (this, name, wake) = (self.clone(), address.clone(), Arc::clone(&recheck));
        let (stop, to) = (stop.clone(), channel.clone());
        let task = tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = this.keep_probing(&name, &to, &wake) => {}
            }
        });
        let endpoint = Endpoint { address: address.clone(), channel: Some(channel), status };
        let probing = Some(task.abort_handle());
        table.entries.insert(address, Entry { endpoint, seen_ms, probing, recheck });
    }

    async fn keep_probing(&self, address: &str, channel: &Channel, recheck: &Notify) {
        let (interval, timeout) =
            (self.inner.config.probe_interval, self.inner.config.probe_timeout);
        let mut failures = 0u32;
        loop {
            let answer = probe(channel, timeout).await;
            failures = if answer.is_ok() { 0 } else { failures.saturating_add(1) };
            self.note(address, answer);
            // An endpoint that is down is tried often at first, then as often as all others.
            let base = match failures {
                0 => interval,
                n => interval.min(Duration::from_millis(500) * 2u32.pow(n.min(6) - 1)),
            };
            let pause = base.mul_f64(rand::random_range(0.9..1.1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = recheck.notified() => {
                    tokio::time::sleep(Duration::from_millis(rand::random_range(20..100))).await;
                }
            }
        }
    }

    /// Takes in what an endpoint said, or that it did not.
    fn note(&self, address: &str, answer: Result<Described, String>) {
        let now = now_ms();
        let mut table = self.inner.table.lock();
        let Some(entry) = table.entries.get_mut(address) else { return };
        let status = &mut entry.endpoint.status;
        let was_up = status.up;
        let first = status.checked_ms == 0;
        status.checked_ms = now;
        let urgent = match answer {
            Ok(d) => {
                entry.seen_ms = now;
                let same = plans_alike(&status.streams, &d.streams) && status.kind == d.kind;
                (status.kind, status.version, status.streams) = (d.kind, d.version, d.streams);
                status.up = true;
                !same
            }
            Err(reason) => {
                status.up = false;
                if was_up || first {
                    tracing::warn!(endpoint = address, error = %reason, "endpoint does not answer");
                }
                status.last_error = reason;
                false
            }
        };
        if was_up != status.up {
            status.since_ms = now;
            if status.up {
                tracing::info!(endpoint = address, kind = status.kind.as_str(), "endpoint is up");
            }
        }
        let urgent = urgent || first || was_up != status.up;
        drop(table);
        if urgent {
            self.inner.changed.notify_one();
        }
    }

    async fn keep_published(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.inner.changed.notified() => {
                    // Changes come in crowds, at the start above all.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            self.forget_old();
            self.publish();
        }
        self.save();
    }

    fn forget_old(&self) {
        let oldest = now_ms().saturating_sub(
            i64::try_from(self.inner.config.forget_after.as_millis()).unwrap_or(i64::MAX),
        );
        self.inner
            .table
            .lock()
            .entries
            .retain(|_, e| e.endpoint.channel.is_some() || e.seen_ms >= oldest);
    }

    fn publish(&self) {
        let endpoints: Vec<Endpoint> =
            self.inner.table.lock().entries.values().map(|e| e.endpoint.clone()).collect();
        let next = Snapshot::new(endpoints, &self.inner.config.replica_labels, now_ms());
        let names = |s: &Snapshot| {
            let of = |e: &Arc<Endpoint>| (e.address.clone(), e.status.streams.len());
            s.endpoints.iter().map(of).collect::<Vec<_>>()
        };
        let known_changed = names(&self.snapshot()) != names(&next);
        self.inner.snapshot.send_replace(Arc::new(next));
        if known_changed {
            self.save();
        }
    }

    fn save(&self) {
        let Some(store) = &self.inner.store else { return };
        let table = self.inner.table.lock();
        let all =
            table.entries.values().filter(|e| !e.endpoint.status.streams.is_empty()).map(|e| {
                let s = &e.endpoint.status;
                (e.endpoint.address.as_str(), s.kind, e.seen_ms, s.streams.as_slice())
            });
        if let Err(e) = store.save(all) {
            tracing::warn!(error = %e, "known endpoints can't be saved");
        }
    }
}

/// Whether two descriptions make no difference to planning.
fn plans_alike(a: &[super::StreamInfo], b: &[super::StreamInfo]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            (&a.labels, &a.gaps, &a.problem, a.available.min_t)
                == (&b.labels, &b.gaps, &b.problem, b.available.min_t)
        })
}

/// An endpoint that is discovered no more: what it had is still part of the fleet.
fn retire(e: &mut Entry) {
    if let Some(task) = e.probing.take() {
        task.abort();
    }
    e.endpoint.channel = None;
    let status = &mut e.endpoint.status;
    if status.up {
        status.since_ms = now_ms();
    }
    status.up = false;
    status.last_error = "it is no longer among the endpoints".to_owned();
    if status.kind == Kind::Unknown {
        status.streams.clear();
    }
}

/// A connection that is made when it is first needed and made again when it breaks.
fn connect(address: &str, tls: &ClientTls) -> Result<Channel, String> {
    let to = periplus_daemon::grpc::endpoint(address, tls, Duration::from_secs(5));
    Ok(to.map_err(|e| e.to_string())?.connect_lazy())
}
