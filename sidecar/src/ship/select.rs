//! Which blocks are to be shipped.
//!
//! A block of level 1 comes from the head and is always shipped. A compacted one consists of level-1
//! blocks, its *sources*; it is shipped on request and only where none of them is in the bucket, by
//! itself or in another block of the stream: there nothing is doubled.

use std::collections::BTreeSet;

use periplus_block::meta::Meta;
use ulid::Ulid;

/// What is to be done with a local block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Ship it.
    Ship,
    /// All it holds is in the bucket, in other blocks.
    Covered,
    /// Some of what it holds is in the bucket, so it can't be shipped without doubling that.
    CoveredInPart(Vec<Ulid>),
    /// It has no samples.
    Empty,
    /// It is compacted, and those are not asked for.
    Compacted,
}

/// The level-1 blocks in a block; a block that names none is one itself.
#[must_use]
pub fn sources(meta: &Meta) -> BTreeSet<Ulid> {
    if meta.compaction.sources.is_empty() {
        return BTreeSet::from([meta.ulid]);
    }
    meta.compaction.sources.iter().copied().collect()
}

/// Decides without asking the bucket, where that is possible.
#[must_use]
pub fn at_a_glance(meta: &Meta, compacted: bool) -> Choice {
    let stats = &meta.stats;
    if stats.num_samples + stats.num_float_samples + stats.num_histogram_samples == 0 {
        return Choice::Empty;
    }
    if meta.compaction.level > 1 && !compacted {
        return Choice::Compacted;
    }
    Choice::Ship
}

/// Decides by what the stream's blocks in the bucket hold.
#[must_use]
pub fn against(meta: &Meta, held: &BTreeSet<Ulid>) -> Choice {
    let ours = sources(meta);
    let there: Vec<_> = ours.intersection(held).copied().collect();
    if there.is_empty() {
        Choice::Ship
    } else if there.len() == ours.len() {
        Choice::Covered
    } else {
        Choice::CoveredInPart(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(level: u64, sources: &[u128], samples: u64) -> Meta {
        let sources: Vec<_> = sources.iter().map(|n| format!("\"{}\"", Ulid::from(*n))).collect();
        let text = format!(
            r#"{{"ulid":"{}","minTime":0,"maxTime":1,"version":1,"stats":{{"numSamples":{samples}}},
            "compaction":{{"level":{level},"sources":[{}]}}}}"#,
            Ulid::from(99_u128),
            sources.join(",")
        );
        Meta::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn choices() {
        let held = |ids: &[u128]| ids.iter().map(|n| Ulid::from(*n)).collect();
        assert_eq!(at_a_glance(&meta(1, &[99], 0), true), Choice::Empty);
        assert_eq!(at_a_glance(&meta(1, &[99], 5), false), Choice::Ship);
        assert_eq!(at_a_glance(&meta(2, &[1, 2], 5), false), Choice::Compacted);
        assert_eq!(at_a_glance(&meta(2, &[1, 2], 5), true), Choice::Ship);
        let two = meta(2, &[1, 2], 5);
        assert_eq!(against(&two, &held(&[3])), Choice::Ship);
        assert_eq!(against(&two, &held(&[1, 2, 3])), Choice::Covered);
        let part = Choice::CoveredInPart(vec![Ulid::from(2_u128)]);
        assert_eq!(against(&two, &held(&[2])), part);
        assert_eq!(against(&meta(1, &[], 5), &held(&[99])), Choice::Covered);
    }
}
