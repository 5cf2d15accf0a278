//! All groups of all files: loaded, run, loaded anew without losing what they know, and stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use periplus_daemon::drain::Drain;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::file::{FileDefaults, RuleError, read_all};
use super::group::{Env, Running};
use super::metrics::Metrics;
use super::now_ms;
use super::rule::Group;
use super::schedule::{self, Machine};
use super::state::{Restore, Saved, StateError};

/// How often state is written.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// What a manager is set up with.
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    /// The rule files, or patterns for them.
    pub files: Vec<PathBuf>,
    /// What holds where a file does not say.
    pub defaults: FileDefaults,
    /// Where state is kept over restarts; `None`: nowhere.
    pub data: Option<PathBuf>,
    /// When kept state counts.
    pub restore: Restore,
}

struct Entry {
    running: Arc<Running>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Inner {
    config: ManagerConfig,
    env: Env,
    metrics: Metrics,
    drain: Drain,
    groups: Mutex<BTreeMap<String, Entry>>,
    /// One load at a time.
    loading: tokio::sync::Mutex<bool>,
}

/// Runs groups. Clones are the same value.
#[derive(Clone)]
pub struct Manager(Arc<Inner>);

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

impl Manager {
    /// A manager without groups; [`load`](Self::load) begins.
    #[must_use]
    pub fn new(config: ManagerConfig, env: Env, metrics: Metrics, drain: &Drain) -> Self {
        let drain = drain.clone();
        Self(Arc::new(Inner {
            config,
            env,
            metrics,
            drain,
            groups: Mutex::default(),
            loading: tokio::sync::Mutex::new(false),
        }))
    }

    /// The groups at work, in order of file and name.
    #[must_use]
    pub fn groups(&self) -> Vec<Arc<Running>> {
        let groups = self.0.groups.lock();
        let mut all: Vec<Arc<Running>> = groups.values().map(|e| Arc::clone(&e.running)).collect();
        drop(groups);
        all.sort_by(|a, b| (&a.group.file, &a.group.name).cmp(&(&b.group.file, &b.group.name)));
        all
    }

    /// Reads the files and runs what they say. Groups that did not change go on undisturbed; changed
    /// ones take over what they knew; the series of those that are gone are ended. How many groups
    /// there are.
    ///
    /// # Errors
    /// Everything that is wrong with the files; what ran before goes on.
    pub async fn load(&self) -> Result<usize, Vec<RuleError>> {
        let mut loaded = self.0.loading.lock().await;
        let (files, defaults) = (self.0.config.files.clone(), self.0.config.defaults);
        let read = tokio::task::spawn_blocking(move || read_all(&files, defaults)).await;
        let groups = match read {
            Ok(Ok(groups)) => groups,
            Ok(Err(errors)) => {
                self.0.metrics.reload_ok.set(0);
                return Err(errors);
            }
            // The reader does not panic; if it ever does, what runs goes on.
            Err(_) => return Ok(self.0.groups.lock().len()),
        };
        let saved = match (*loaded, &self.0.config.data) {
            (false, Some(dir)) => Saved::read(dir).unwrap_or_else(|error| {
                tracing::error!(%error, "alerts begin anew");
                Saved::default()
            }),
            _ => Saved::default(),
        };
        self.update(groups, &saved).await;
        self.0.metrics.reload_ok.set(1);
        self.0.metrics.reload_time.set(now_ms() as f64 / 1000.0);
        *loaded = true;
        Ok(self.0.groups.lock().len())
    }

    async fn update(&self, groups: Vec<Group>, saved: &Saved) {
        let mut old = std::mem::take(&mut *self.0.groups.lock());
        let mut new = BTreeMap::new();
        for g in groups {
            let key = g.key();
            let before = old.remove(&key);
            if let Some(entry) = before {
                if entry.running.group.same_as(&g) && !entry.task.is_finished() {
                    new.insert(key, entry);
                    continue;
                }
                entry.stop.cancel();
                let _ended = entry.task.await;
                let running = Arc::new(Running::new(g, true));
                running.take_over(&entry.running);
                new.insert(key, self.start(running));
                continue;
            }
            let running = Arc::new(Running::new(g, true));
            let n = saved.restore(&running, now_ms(), self.0.config.restore);
            if n > 0 {
                tracing::info!(group = running.group.name, alerts = n, "alerts go on");
            }
            new.insert(key, self.start(running));
        }
        *self.0.groups.lock() = new;
        for (key, entry) in old {
            entry.stop.cancel();
            let _ended = entry.task.await;
            self.0.metrics.forget(&key);
            self.end_later(entry.running);
        }
    }

    fn start(&self, running: Arc<Running>) -> Entry {
        let stop = self.0.drain.token().child_token();
        let (env, own, token) = (self.0.env.clone(), Arc::clone(&running), stop.clone());
        let g = &running.group;
        let metrics = self.0.metrics.group(&g.key(), g.interval_ms, g.rules.len());
        let task = self.0.drain.spawn("rules", async move {
            schedule::run(&own, &env, &metrics, &token, &Machine::new()).await;
        });
        Entry { running, stop, task }
    }

    /// Ends the series of a group that is gone, once rules that were only renamed had time to give
    /// the same series.
    fn end_later(&self, gone: Arc<Running>) {
        {
            let mut state = gone.state.lock();
            let all: Vec<_> =
                state.rules.iter_mut().flat_map(|r| std::mem::take(&mut r.previous)).collect();
            state.stale.extend(all);
        }
        let (env, end) = (self.0.env.clone(), self.0.drain.token());
        let wait = Duration::from_millis(2 * gone.group.interval_ms.unsigned_abs());
        self.0.drain.spawn("rules: end series", async move {
            let ts = now_ms();
            tokio::select! {
                () = tokio::time::sleep(wait) => gone.end_stale(ts, &env),
                () = end.cancelled() => {}
            }
        });
    }

    /// Writes what groups know, now.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self) -> Result<(), StateError> {
        let Some(dir) = &self.0.config.data else { return Ok(()) };
        let groups = self.groups();
        Saved::of(groups.iter().map(|g| &**g)).write(dir)
    }

    /// Keeps state on disk, and loads files anew when they change, until the process ends.
    pub async fn keep(self) {
        let end = self.0.drain.token();
        let mut seen = self.fingerprint().await;
        let mut every = tokio::time::interval(SAVE_EVERY);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = end.cancelled() => break,
            }
            self.save_blocking().await;
            let now = self.fingerprint().await;
            if now != seen {
                seen = now;
                match self.load().await {
                    Ok(groups) => tracing::info!(groups, "rule files changed"),
                    Err(errors) => {
                        for error in errors {
                            tracing::error!(%error, "the rules from before go on");
                        }
                    }
                }
            }
        }
        // Evaluations under way end first, so that what they did is kept.
        let entries = std::mem::take(&mut *self.0.groups.lock());
        for (key, mut entry) in entries {
            let _ended = std::mem::replace(&mut entry.task, tokio::spawn(async {})).await;
            self.0.groups.lock().insert(key, entry);
        }
        self.save_blocking().await;
    }

    async fn save_blocking(&self) {
        let own = self.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || own.save()).await {
            tracing::error!(%error, "alerts may begin anew after a restart");
        }
    }

    /// What tells whether files changed: names, sizes, times.
    async fn fingerprint(&self) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
        let files = self.0.config.files.clone();
        let look = move || {
            let found = files.iter().filter_map(|f| super::file::glob(f).ok()).flatten();
            found
                .filter_map(|f| {
                    let meta = std::fs::metadata(&f).ok()?;
                    Some((f, meta.len(), meta.modified().ok()))
                })
                .collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}
