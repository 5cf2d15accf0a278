//! Ending a process in order: a token that asks, tracked tasks that end, a deadline, and a log that names
//! who delays.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of a process and the request that they end. Clones are the same value.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// A task has left, however it ended.
struct Leave {
    name: String,
    running: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if let Some(n) = running.get_mut(&self.name) {
            *n -= 1;
            if *n == 0 {
                running.remove(&self.name);
            }
        }
    }
}

impl Drain {
    /// Nothing runs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled once the process is to end; tasks finish what they do and return.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Asks all tasks to end; [`wait`](Self::wait) waits for them.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Runs a task that the process waits for when it ends.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let name = name.into();
        *self.running.lock().entry(name.clone()).or_default() += 1;
        let leave = Leave { name, running: Arc::clone(&self.running) };
        self.tracker.spawn(async move {
            let _leave = leave;
            task.await
        })
    }

    /// Runs a task without which the process is of no use: when it ends, for whatever reason, all
    /// others are asked to end.
    pub fn spawn_essential<F>(&self, name: impl Into<String>, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let guard = self.token.clone().drop_guard();
        self.spawn(name, async move {
            let _guard = guard;
            task.await
        })
    }

    /// Names of the tasks that still run.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let running = self.running.lock();
        running
            .iter()
            .map(|(name, n)| if *n == 1 { name.clone() } else { format!("{name} ({n})") })
            .collect()
    }

    /// Asks all tasks to end and waits for them, at most `deadline`. Gives the names of those that were
    /// still running then; they are logged, too.
    pub async fn wait(&self, deadline: Duration) -> Vec<String> {
        self.token.cancel();
        self.tracker.close();
        let patience = (deadline / 4).min(Duration::from_secs(2));
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        tracing::info!(waiting_for = ?self.running(), ?deadline, "draining");
        let rest = deadline.saturating_sub(patience);
        if tokio::time::timeout(rest, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let late = self.running();
        tracing::warn!(tasks = ?late, ?deadline, "tasks did not end in time, leaving without them");
        late
    }
}

/// Returns when the process is asked to end (SIGTERM or Ctrl-C).
pub async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn names_who_delays() {
        let drain = Drain::new();
        let token = drain.token();
        drain.spawn("good", async move { token.cancelled().await });
        drain.spawn("stuck", std::future::pending::<()>());
        let late = drain.wait(Duration::from_millis(40)).await;
        assert_eq!(late, ["stuck"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_essential_task_takes_the_others_along() {
        let drain = Drain::new();
        let token = drain.token();
        drain.spawn("server", async move { token.cancelled().await });
        drain.spawn_essential("brief", async {});
        drain.token().cancelled().await;
        assert!(drain.wait(Duration::from_secs(5)).await.is_empty());
    }
}
