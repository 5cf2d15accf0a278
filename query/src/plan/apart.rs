//! Which labels tell parts apart.

use std::cell::RefCell;
use std::collections::HashMap;

use super::fleet::Fleet;
use super::part_set::PartSet;

/// External labels by number: bit `i` stands for `Fleet::names[i]`.
pub(super) type NameMask = u64;

/// Answers whether the series of different parts differ when only some external labels are left.
pub(super) struct Apart<'a> {
    fleet: &'a Fleet,
    /// For every stream in turn, the number of its value of each label; 0: it has no such label.
    values: Vec<Vec<u32>>,
    part_of: Vec<usize>,
    known: RefCell<HashMap<NameMask, bool>>,
}

/// Streams compared pair by pair at most; beyond it only labels that all of them carry count.
const PAIRWISE_STREAMS_MAX: usize = 64;

impl<'a> Apart<'a> {
    pub(super) fn new(fleet: &'a Fleet) -> Self {
        let names = fleet.names.iter().take(64);
        let mut values = vec![Vec::with_capacity(names.len()); fleet.streams.len()];
        for name in names {
            let mut numbers: HashMap<&str, u32> = HashMap::new();
            for (row, stream) in values.iter_mut().zip(&fleet.streams) {
                let next = numbers.len() as u32 + 1;
                row.push(match stream.labels.get(name) {
                    Some(v) => *numbers.entry(v).or_insert(next),
                    None => 0,
                });
            }
        }
        let mut part_of = vec![0; fleet.streams.len()];
        for (p, part) in fleet.parts.iter().enumerate() {
            for s in &part.streams {
                if let Some(slot) = part_of.get_mut(*s) {
                    *slot = p;
                }
            }
        }
        Self { fleet, values, part_of, known: RefCell::default() }
    }

    /// All external labels.
    pub(super) fn all_names(&self) -> NameMask {
        match self.fleet.names.len() {
            n if n >= 64 => NameMask::MAX,
            n => (1 << n) - 1,
        }
    }

    /// Those of `names` that are external labels.
    pub(super) fn mask<S: AsRef<str>>(&self, names: &[S]) -> NameMask {
        let known = self.fleet.names.iter().take(64).enumerate();
        known
            .filter(|(_, n)| names.iter().any(|w| w.as_ref() == &***n))
            .fold(0, |mask, (i, _)| mask | 1 << i)
    }

    /// Whether any two series of different parts among `parts` differ in one of the labels `keep`,
    /// whatever else they carry. A label that one of the two streams does not have as an external
    /// one proves nothing: its series may carry any value of it themselves.
    pub(super) fn told_apart(&self, keep: NameMask, parts: &PartSet) -> bool {
        if parts.len() <= 1 {
            return true;
        }
        let everywhere = *self
            .known
            .borrow_mut()
            .entry(keep)
            .or_insert_with(|| self.compute(keep, &PartSet::all(self.fleet.parts.len())));
        everywhere || self.compute(keep, parts)
    }

    fn compute(&self, keep: NameMask, parts: &PartSet) -> bool {
        let rows: Vec<(usize, &Vec<u32>)> = (self.part_of.iter().copied().zip(&self.values))
            .filter(|(p, _)| parts.contains(*p))
            .collect();
        let in_all = (0..64u32)
            .filter(|i| keep >> i & 1 == 1)
            .map(|i| i as usize)
            .filter(|i| rows.iter().all(|(_, v)| v.get(*i).is_some_and(|v| *v != 0)))
            .collect::<Vec<_>>();
        let mut owner: HashMap<Vec<u32>, usize> = HashMap::with_capacity(rows.len());
        let by_common = rows.iter().all(|(part, v)| {
            let key: Vec<u32> = in_all.iter().filter_map(|i| v.get(*i).copied()).collect();
            *owner.entry(key).or_insert(*part) == *part
        });
        by_common || (rows.len() <= PAIRWISE_STREAMS_MAX && pairwise(keep, &rows))
    }
}

fn pairwise(keep: NameMask, rows: &[(usize, &Vec<u32>)]) -> bool {
    let differ = |a: &[u32], b: &[u32]| {
        a.iter()
            .zip(b)
            .enumerate()
            .any(|(i, (x, y))| keep >> i & 1 == 1 && *x != 0 && *y != 0 && x != y)
    };
    rows.iter().enumerate().all(|(i, (part, v))| {
        rows.iter().skip(i + 1).all(|(other, w)| part == other || differ(v, w))
    })
}
