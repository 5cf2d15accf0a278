//! Sets of parts, as bits.

/// Which parts of the fleet something concerns. All sets of one plan have the same size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSet {
    words: Vec<u64>,
}

impl PartSet {
    /// No part, of `parts` there are.
    #[must_use]
    pub fn none(parts: usize) -> Self {
        Self { words: vec![0; parts.div_ceil(64)] }
    }

    /// Every part there is.
    #[must_use]
    pub fn all(parts: usize) -> Self {
        let mut set = Self::none(parts);
        (0..parts).for_each(|i| set.insert(i));
        set
    }

    /// Adds part `i`; one that does not exist is ignored.
    pub fn insert(&mut self, i: usize) {
        if let Some(w) = self.words.get_mut(i / 64) {
            *w |= 1 << (i % 64);
        }
    }

    /// Whether part `i` is in it.
    #[must_use]
    pub fn contains(&self, i: usize) -> bool {
        self.words.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1)
    }

    /// Number of parts in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether no part is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// The parts in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| i * 64 + bit)
        })
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self { words: self.words.iter().zip(&other.words).map(|(a, b)| f(*a, *b)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_set() {
        let mut a = PartSet::none(130);
        a.insert(0);
        a.insert(129);
        a.insert(4000);
        assert_eq!(a.iter().collect::<Vec<_>>(), [0, 129]);
        assert_eq!((a.len(), a.contains(129), a.contains(1)), (2, true, false));
        let all = PartSet::all(130);
        assert_eq!(all.len(), 130);
        assert_eq!(all.intersect(&a), a);
        assert_eq!(all.union(&a), all);
        assert!(PartSet::none(0).is_empty());
    }
}
