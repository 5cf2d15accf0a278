//! Lists of series references, ascending, and what is done with them.

use crate::error::FileError;
use crate::section::{self, Cursor};
use crate::source::NamedFile;

/// What an index calls a series. Larger references belong to series that sort later.
pub type SeriesRef = u32;

const WHAT: &str = "a postings list";

/// Reads the list at `offset`.
pub(super) fn read(file: &NamedFile, offset: u64) -> Result<Vec<SeriesRef>, FileError> {
    let content = section::read(file, WHAT, offset)?;
    let bad = |reason| FileError::corrupt(file.file, WHAT, offset, reason);
    let mut cursor = Cursor(&content);
    let count = cursor.u32().ok_or_else(|| bad("it has no count"))? as usize;
    if cursor.0.len() != count * 4 {
        return Err(bad("its count does not fit its length"));
    }
    Ok(cursor
        .0
        .chunks_exact(4)
        .filter_map(|c| c.first_chunk::<4>())
        .map(|c| u32::from_be_bytes(*c))
        .collect())
}

/// Keeps of `a` what is also in `b`.
pub(super) fn intersect(a: &mut Vec<SeriesRef>, b: &[SeriesRef]) {
    keep(a, b, true);
}

/// Removes from `a` what is in `b`.
pub(super) fn subtract(a: &mut Vec<SeriesRef>, b: &[SeriesRef]) {
    keep(a, b, false);
}

fn keep(a: &mut Vec<SeriesRef>, b: &[SeriesRef], found: bool) {
    let mut rest = b;
    a.retain(|r| {
        rest = rest.get(gallop(rest, *r)..).unwrap_or_default();
        (rest.first() == Some(r)) == found
    });
}

/// The index of the first element that is not below `r`: near the front in a few steps, far away in
/// a logarithm of the distance, so that intersecting a short list with a long one costs little.
fn gallop(list: &[SeriesRef], r: SeriesRef) -> usize {
    let mut step = 1;
    let mut low = 0;
    while list.get(low + step - 1).is_some_and(|v| *v < r) {
        low += step;
        step *= 2;
    }
    let window = list.get(low..(low + step).min(list.len())).unwrap_or_default();
    low + window.partition_point(|v| *v < r)
}

/// What is in any of the lists, ascending, once.
pub(super) fn union(mut lists: Vec<Vec<SeriesRef>>) -> Vec<SeriesRef> {
    if lists.len() < 2 {
        return lists.pop().unwrap_or_default();
    }
    let mut all = lists.concat();
    // A run of ascending lists is what this sort recognises and merges.
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn list() -> impl Strategy<Value = BTreeSet<u32>> {
        proptest::collection::btree_set(0u32..300, 0..100)
    }

    proptest! {
        #[test]
        fn as_sets(a in list(), b in list(), c in list()) {
            let v = |s: &BTreeSet<u32>| s.iter().copied().collect::<Vec<_>>();
            let mut both = v(&a);
            intersect(&mut both, &v(&b));
            prop_assert_eq!(both, a.intersection(&b).copied().collect::<Vec<_>>());
            let mut less = v(&a);
            subtract(&mut less, &v(&b));
            prop_assert_eq!(less, a.difference(&b).copied().collect::<Vec<_>>());
            let any: BTreeSet<u32> = a.iter().chain(&b).chain(&c).copied().collect();
            prop_assert_eq!(union(vec![v(&a), v(&b), v(&c)]), v(&any));
        }
    }
}
