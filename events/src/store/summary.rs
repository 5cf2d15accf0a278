//! What a run of rows certainly does not hold: small bit sets that let a search pass it by.
//!
//! Two for each run. *Terms* are whole values (`reason=BackOff`, the pair of namespace and reason, the row's
//! key). *Grams* are all runs of four bytes of the messages, in lower case: a text can only be in a run
//! of rows if all its grams are. Both may say yes wrongly, never no.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::event::Event;

/// Bytes of a gram.
const GRAM: usize = 4;

/// A row's key: a hash of cluster and uid. With a secret seed, so that nobody can make two rows meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey(pub [u64; 2]);

impl RowKey {
    /// Of one row.
    #[must_use]
    pub fn new(seed: u64, cluster: &str, uid: &str) -> Self {
        let mut bytes = [0_u8; 1024];
        let length = cluster.len() + 1 + uid.len();
        let hash = match bytes.get_mut(..length) {
            Some(place) => {
                let (left, right) = place.split_at_mut(cluster.len());
                left.copy_from_slice(cluster.as_bytes());
                if let Some((_, tail)) = right.split_first_mut() {
                    tail.copy_from_slice(uid.as_bytes());
                }
                xxh3_128_with_seed(place, seed)
            }
            None => xxh3_128_with_seed(format!("{cluster}\0{uid}").as_bytes(), seed),
        };
        #[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
        Self([hash as u64, (hash >> 64) as u64])
    }

    /// As a term.
    #[must_use]
    pub fn term(self) -> u64 {
        self.0[0] ^ self.0[1].rotate_left(17)
    }
}

/// A value of a field as a term.
#[must_use]
pub fn field_term(field: &str, value: &str) -> u64 {
    xxh3_64_with_seed(value.as_bytes(), xxh3_64_with_seed(field.as_bytes(), 1))
}

/// A pair of namespace and reason as a term.
#[must_use]
pub fn pair_term(namespace: &str, reason: &str) -> u64 {
    xxh3_64_with_seed(reason.as_bytes(), field_term("namespace+reason", namespace))
}

/// A set of hashes in bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bits {
    words: Vec<u64>,
    probes: u32,
}

impl Bits {
    fn with_bits(bits: usize, probes: u32) -> Self {
        Self { words: vec![0; bits.next_power_of_two().max(64) / 64], probes }
    }

    /// A set of these bytes; `None` where they are no set.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], probes: u32) -> Option<Self> {
        if !bytes.len().is_multiple_of(8) || !(bytes.len() / 8).is_power_of_two() {
            return None;
        }
        let word = |b: &[u8]| b.try_into().ok().map(u64::from_le_bytes);
        let words = bytes.chunks_exact(8).map(word).collect::<Option<_>>()?;
        Some(Self { words, probes: probes.clamp(1, 16) })
    }

    /// Its bytes and number of probes.
    #[must_use]
    pub fn to_bytes(&self) -> (Vec<u8>, u32) {
        (self.words.iter().flat_map(|w| w.to_le_bytes()).collect(), self.probes)
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let mask = (self.words.len() as u64 * 64).wrapping_sub(1);
        let step = hash.rotate_left(32) | 1;
        (0..u64::from(self.probes)).map(move |i| {
            let at = hash.wrapping_add(step.wrapping_mul(i)) & mask;
            ((at / 64) as usize, 1 << (at % 64))
        })
    }

    fn add(&mut self, hash: u64) {
        for (word, bit) in self.places(hash) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether it may hold `hash`.
    #[must_use]
    pub fn may_hold(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.words.get(word).is_some_and(|w| w & bit != 0))
    }

    /// Halves it while it is sparse. Places are taken from the low bits, so the halves can be laid over each other.
    fn fold(&mut self) {
        loop {
            let ones: usize = self.words.iter().map(|w| w.count_ones() as usize).sum();
            if self.words.len() < 2 || ones * 4 >= self.words.len() * 64 {
                return;
            }
            let upper = self.words.split_off(self.words.len() / 2);
            for (low, high) in self.words.iter_mut().zip(upper) {
                *low |= high;
            }
            self.words.shrink_to_fit();
        }
    }

    /// Bytes it takes.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.words.len() * 8
    }
}

/// The sets of one run of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whole values.
    pub terms: Bits,
    /// Grams of the messages.
    pub grams: Bits,
}

/// The grams of a text in lower case, hashed.
fn grams(text: &[u8]) -> impl Iterator<Item = u64> {
    text.windows(GRAM).map(|w| {
        let word = w.iter().fold(0_u64, |n, b| n << 8 | u64::from(b.to_ascii_lowercase()));
        // Spread over all bits: what the places are taken from.
        let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    })
}

impl Summary {
    /// Sums up rows, given with their keys.
    pub fn new<'a>(rows: impl Iterator<Item = (RowKey, &'a Event)> + Clone) -> Self {
        let count = rows.clone().count();
        // About one gram in six of a message is new; folding takes back what is too much.
        let text: usize = rows.clone().map(|(_, e)| e.message.len()).sum();
        let mut grams_set = Bits::with_bits((text * 2).clamp(1 << 10, 1 << 22), 2);
        let mut terms_set = Bits::with_bits(count * 64, 5);
        for (key, event) in rows {
            terms_set.add(key.term());
            for (field, value) in [
                ("cluster", &event.cluster),
                ("namespace", &event.namespace),
                ("kind", &event.kind),
                ("name", &event.name),
                ("reason", &event.reason),
            ] {
                terms_set.add(field_term(field, value));
            }
            terms_set.add(pair_term(&event.namespace, &event.reason));
            grams(event.message.as_bytes()).for_each(|g| grams_set.add(g));
        }
        terms_set.fold();
        grams_set.fold();
        Self { terms: terms_set, grams: grams_set }
    }

    /// Whether a message of the run may hold `text`, in whatever case.
    #[must_use]
    pub fn may_hold_text(&self, text: &str) -> bool {
        grams(text.as_bytes()).all(|g| self.grams.may_hold(g))
    }

    /// Bytes it takes.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.terms.heap_bytes() + self.grams.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_denies_what_is_there_and_mostly_denies_what_is_not() {
        let event = |i: usize| Event {
            uid: format!("uid-{i}"),
            namespace: format!("ns-{}", i % 7),
            reason: format!("R{}", i % 3),
            message: format!("Back-off restarting container app-{:08x} in pod", i * 7_919_993),
            ..Event::default()
        };
        let events: Vec<Event> = (0..2000).map(event).collect();
        let key = |e: &Event| RowKey::new(9, &e.cluster, &e.uid);
        let s = Summary::new(events.iter().map(|e| (key(e), e)));
        for e in &events {
            assert!(s.terms.may_hold(key(e).term()));
            assert!(s.terms.may_hold(pair_term(&e.namespace, &e.reason)));
            assert!(s.may_hold_text(&e.message.to_uppercase()) && s.may_hold_text("abc"));
        }
        let others = (2000..12_000).map(event);
        let wrong = others.clone().filter(|e| s.terms.may_hold(key(e).term())).count();
        assert!(wrong < 500, "{wrong} of 10000 keys");
        assert!(!s.may_hold_text("quota exceeded") && !s.may_hold_text("xylophone"));
        let (bytes, probes) = s.grams.to_bytes();
        assert_eq!(Bits::from_bytes(&bytes, probes).unwrap(), s.grams);
        assert!(Bits::from_bytes(&bytes[1..], probes).is_none());
    }
}
