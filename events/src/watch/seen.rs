//! Which states were passed on lately, so that a list need not send them all again.
//!
//! Only to spare work: what was forgotten is sent once more, and the hub merges it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::event::Event;

/// Rows known by a hash of their uid, with a fingerprint of the state passed on last. Two generations: when the
/// younger one is full it becomes the older one, and the older one is forgotten.
#[derive(Debug)]
pub struct Seen {
    keys: RandomState,
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
    generation_max: usize,
}

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    No,
    /// Another state of it was passed on.
    Other,
    /// This state was passed on.
    Same,
}

impl Seen {
    /// Remembers between `rows / 2` and `rows` rows, at some 32 bytes each.
    #[must_use]
    pub fn new(rows: usize) -> Self {
        let generation_max = (rows / 2).max(1);
        Self {
            keys: RandomState::new(),
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max,
        }
    }

    /// What is known of the event's row.
    #[must_use]
    pub fn look(&self, event: &Event) -> Known {
        let key = self.keys.hash_one(&event.uid);
        match self.young.get(&key).or_else(|| self.old.get(&key)) {
            None => Known::No,
            Some(&state) if state == event.fingerprint(&self.keys) => Known::Same,
            Some(_) => Known::Other,
        }
    }

    /// This state is being passed on.
    pub fn insert(&mut self, event: &Event) {
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(self.keys.hash_one(&event.uid), event.fingerprint(&self.keys));
    }

    /// Forgets all: what was passed on may be lost.
    pub fn clear(&mut self) {
        self.young = HashMap::new();
        self.old = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(uid: u32, count: u32, resource_version: u64) -> Event {
        Event { uid: uid.to_string(), count, resource_version, ..Event::default() }
    }

    #[test]
    fn knows_states_not_versions() {
        let mut seen = Seen::new(4);
        assert_eq!(seen.look(&event(1, 1, 1)), Known::No);
        seen.insert(&event(1, 1, 1));
        assert_eq!(seen.look(&event(1, 1, 9)), Known::Same);
        assert_eq!(seen.look(&event(1, 2, 9)), Known::Other);
        for uid in 2..=5 {
            seen.insert(&event(uid, 1, 1));
        }
        assert_eq!(seen.look(&event(1, 1, 1)), Known::No, "the oldest are forgotten");
        assert_eq!(seen.look(&event(5, 1, 1)), Known::Same);
        seen.clear();
        assert_eq!(seen.look(&event(5, 1, 1)), Known::No);
    }
}
