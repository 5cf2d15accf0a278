//! Answers that are kept for some seconds: what a dashboard asks that many look at.
//!
//! Clients of one dashboard ask the same questions for the same times, one shortly after the other. An answer is
//! given again to who asks exactly the same for a while, if it is small and lacks nobody. What changes in that
//! while (a sample of those times that arrives late) is not seen sooner.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use parking_lot::Mutex;

/// Bytes of all that is kept.
const BYTES_MAX: usize = 64 << 20;
/// What an entry takes beside its answer, in bytes.
const ENTRY_BYTES: usize = 512;

/// Answers by question. Clones share them.
#[derive(Debug)]
pub struct Kept<K> {
    ttl: Duration,
    inner: Arc<Mutex<Inner<K>>>,
}

#[derive(Debug)]
struct Inner<K> {
    answers: HashMap<K, Bytes>,
    /// In order of arrival.
    order: VecDeque<(Instant, K)>,
    bytes: usize,
}

impl<K> Clone for Kept<K> {
    fn clone(&self) -> Self {
        Self { ttl: self.ttl, inner: Arc::clone(&self.inner) }
    }
}

impl<K: Clone + Eq + Hash> Kept<K> {
    /// Keeps answers for so long; zero: not at all.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        let inner = Inner { answers: HashMap::new(), order: VecDeque::new(), bytes: 0 };
        Self { ttl, inner: Arc::new(Mutex::new(inner)) }
    }

    /// The answer to a question that was asked a moment ago.
    pub fn get(&self, key: &K) -> Option<Bytes> {
        if self.ttl.is_zero() {
            return None;
        }
        let mut inner = self.inner.lock();
        inner.forget(|begun| begun.elapsed() >= self.ttl);
        inner.answers.get(key).cloned()
    }

    /// Keeps an answer; the oldest leave where there is no room.
    pub fn put(&self, key: K, answer: Bytes) {
        if self.ttl.is_zero() {
            return;
        }
        let mut inner = self.inner.lock();
        inner.forget(|begun| begun.elapsed() >= self.ttl);
        // Its time counts from when it was first there.
        if inner.answers.contains_key(&key) {
            return;
        }
        inner.bytes += answer.len() + ENTRY_BYTES;
        inner.order.push_back((Instant::now(), key.clone()));
        inner.answers.insert(key, answer);
        while inner.bytes > BYTES_MAX && inner.forget_first() {}
    }
}

impl<K: Eq + Hash> Inner<K> {
    fn forget(&mut self, is_old: impl Fn(&Instant) -> bool) {
        while self.order.front().is_some_and(|(begun, _)| is_old(begun)) && self.forget_first() {}
    }

    fn forget_first(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_front() else { return false };
        let gone = self.answers.remove(&key).map_or(0, |a| a.len() + ENTRY_BYTES);
        self.bytes = self.bytes.saturating_sub(gone);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_by_age_and_by_size() {
        let kept = Kept::new(Duration::from_secs(3600));
        kept.put(1, Bytes::from_static(b"a"));
        kept.put(1, Bytes::from_static(b"b"));
        assert_eq!(kept.get(&1).as_deref(), Some(&b"a"[..]));
        assert_eq!(kept.get(&2), None);
        kept.put(2, Bytes::from(vec![0; BYTES_MAX]));
        assert_eq!(kept.get(&1), None);
        assert_eq!(kept.inner.lock().bytes, 0);

        let brief = Kept::new(Duration::from_nanos(1));
        brief.put(1, Bytes::from_static(b"a"));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!((brief.get(&1), brief.inner.lock().bytes), (None, 0));

        let off = Kept::new(Duration::ZERO);
        off.put(1, Bytes::from_static(b"a"));
        assert_eq!(off.get(&1), None);
    }
}
