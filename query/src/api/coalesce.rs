//! Identical questions at the same time are asked once.
//!
//! Who asks what somebody is asking already waits for that answer. Nothing is kept: once an answer is there
//! the next one asks anew. When all who wait have gone, the work stops.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

type Work<V> = Shared<BoxFuture<'static, V>>;

/// Questions by what they ask. Clones share them.
pub struct Coalesce<K, V: Clone>(Arc<Mutex<HashMap<K, WeakShared<BoxFuture<'static, V>>>>>);

impl<K, V: Clone> Clone for Coalesce<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V: Clone> Default for Coalesce<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V: Clone> std::fmt::Debug for Coalesce<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Coalesce").field(&self.0.lock().len()).finish()
    }
}

/// Takes a question out when its work ends or is dropped.
struct Leave<K: Eq + Hash, V: Clone> {
    all: Coalesce<K, V>,
    key: K,
}

impl<K: Eq + Hash, V: Clone> Drop for Leave<K, V> {
    fn drop(&mut self) {
        let gone = self.all.0.lock().remove(&self.key);
        drop(gone);
    }
}

impl<K, V> Coalesce<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The answer to `key`: of the work that is under way, or of `work`. The flag says whether it was
    /// somebody else's.
    pub async fn ask<F>(&self, key: K, work: impl FnOnce() -> F) -> (V, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (shared, joined) = self.join(key, work);
        (shared.await, joined)
    }

    fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> (Work<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut all = self.0.lock();
        if let Some(running) = all.get(&key).and_then(WeakShared::upgrade) {
            return (running, true);
        }
        let leave = Leave { all: self.clone(), key: key.clone() };
        let work = work();
        let shared = async move {
            let value = work.await;
            drop(leave);
            value
        }
        .boxed()
        .shared();
        if let Some(weak) = shared.downgrade() {
            all.insert(key, weak);
        }
        (shared, false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_works_and_all_have_the_answer() {
        let all = Coalesce::<u32, u32>::default();
        let runs = Arc::new(AtomicU32::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let ask = |key| {
            let (all, runs, gate) = (all.clone(), Arc::clone(&runs), Arc::clone(&gate));
            async move {
                all.ask(key, || async move {
                    gate.notified().await;
                    runs.fetch_add(1, Ordering::SeqCst) + 1
                })
                .await
            }
        };
        let open = async {
            tokio::task::yield_now().await;
            gate.notify_one();
        };
        let (a, b, ()) = tokio::join!(ask(1), ask(1), open);
        assert_eq!((a, b), ((1, false), (1, true)));
        gate.notify_one();
        assert_eq!(ask(1).await, (2, false));
        assert!(all.0.lock().is_empty());
    }

    #[tokio::test]
    async fn work_stops_when_nobody_waits() {
        let all = Coalesce::<u32, u32>::default();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let work = all.ask(1, || async move {
            let _held = held;
            std::future::pending().await
        });
        assert!(tokio::time::timeout(std::time::Duration::from_millis(5), work).await.is_err());
        assert_eq!(Arc::strong_count(&alive), 1);
        assert!(all.0.lock().is_empty());
    }
}
