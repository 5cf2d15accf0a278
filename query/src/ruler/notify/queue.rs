//! What waits for one Alertmanager: bounded, one entry a label set.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Message;

type Key = BTreeMap<String, String>;

#[derive(Default)]
struct Waiting {
    /// In order of arrival.
    order: BTreeMap<u64, Arc<Message>>,
    place: HashMap<Key, u64>,
    next: u64,
    dropped: usize,
}

/// A queue. What is newer takes the place of what waits with the same labels; where there is no room
/// the oldest leaves.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    room: usize,
    pub(super) arrived: Notify,
}

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        Self { waiting: Mutex::default(), room: room.max(1), arrived: Notify::new() }
    }

    pub(super) fn push(&self, messages: &[Arc<Message>]) {
        if messages.is_empty() {
            return;
        }
        let mut w = self.waiting.lock();
        for m in messages {
            if let Some(place) = w.place.get(&m.labels).copied() {
                w.order.insert(place, Arc::clone(m));
                continue;
            }
            if w.order.len() >= self.room
                && let Some((_, oldest)) = w.order.pop_first()
            {
                w.place.remove(&oldest.labels);
                w.dropped += 1;
            }
            let place = w.next;
            w.next += 1;
            w.order.insert(place, Arc::clone(m));
            w.place.insert(m.labels.clone(), place);
        }
        drop(w);
        self.arrived.notify_one();
    }

    /// The oldest entries, at most `n`; they leave the queue.
    pub(super) fn take(&self, n: usize) -> Vec<Arc<Message>> {
        let mut w = self.waiting.lock();
        let mut out = Vec::new();
        while out.len() < n {
            let Some((_, m)) = w.order.pop_first() else { break };
            w.place.remove(&m.labels);
            out.push(m);
        }
        out
    }

    /// Entries that could not be delivered come back to the front, where nothing newer waits; those
    /// without room are lost, and counted.
    pub(super) fn give_back(&self, messages: Vec<Arc<Message>>) {
        let mut w = self.waiting.lock();
        // Those that came first get the lowest numbers again: shift the rest by starting over.
        let rest: Vec<Arc<Message>> = std::mem::take(&mut w.order).into_values().collect();
        w.place.clear();
        let newer: std::collections::HashSet<&Key> = rest.iter().map(|m| &m.labels).collect();
        let mut all: Vec<Arc<Message>> =
            messages.into_iter().filter(|m| !newer.contains(&m.labels)).collect();
        drop(newer);
        all.extend(rest);
        let over = all.len().saturating_sub(self.room);
        w.dropped += over;
        w.next = 0;
        for m in all.into_iter().skip(over) {
            let place = w.next;
            w.next += 1;
            w.place.insert(m.labels.clone(), place);
            w.order.insert(place, m);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().order.len()
    }

    /// How many were lost since this was last asked.
    pub(super) fn take_dropped(&self) -> usize {
        std::mem::take(&mut self.waiting.lock().dropped)
    }
}
