//! Which blocks are to be converted, and which parts of a day merged.

use std::collections::{BTreeMap, BTreeSet};

use periplus_columnar::{Day, Resolution};
use ulid::Ulid;

use super::world::{BlockInfo, Index, PartInfo, Stream, Subject, reduced, sources_of};
use super::{Input, Kind, Policy, Step};

pub(super) fn steps(index: &Index<'_>, policy: &Policy) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut busy = BTreeSet::new();
    for ((stream, resolution), blocks) in &index.blocks {
        let mut days: BTreeMap<Day, Vec<&BlockInfo>> = BTreeMap::new();
        let holders = holders(blocks);
        for block in blocks {
            let rivals = rivals(block, &holders);
            for day in block.days() {
                let is_good = |b: &&BlockInfo| index.is_usable(&Subject::BlockDay(b.id, day));
                if rivals.iter().any(is_good) {
                    continue;
                }
                let parts = index.parts(stream, *resolution, day);
                let good = parts.iter().filter(|p| index.is_usable(&Subject::Part(p.id)));
                let is_there =
                    block.sources.is_subset(&sources_of(&good.copied().collect::<Vec<_>>()));
                let is_usable = index.is_usable(&Subject::BlockDay(block.id, day));
                if !is_there && is_usable && is_wanted(index, policy, stream, *resolution, day) {
                    days.entry(day).or_default().push(*block);
                }
            }
        }
        for (day, needed) in days {
            busy.insert((*stream, *resolution, day));
            let at = Place { stream, resolution: *resolution, day };
            let (alone, together): (Vec<_>, Vec<_>) = needed.iter().partition(|b| b.no_compact);
            steps.extend(alone.into_iter().filter_map(|b| convert(index, policy, &at, &[b])));
            if !together.is_empty() {
                steps.extend(convert(index, policy, &at, &together));
            }
        }
    }
    for resolution in Resolution::ALL {
        for (stream, day, parts) in index.days(resolution) {
            if !busy.contains(&(stream, resolution, day)) {
                steps.extend(merge(index, policy, &Place { stream, resolution, day }, parts));
            }
        }
    }
    steps
}

struct Place<'a> {
    stream: &'a Stream,
    resolution: Resolution,
    day: Day,
}

fn is_closed(index: &Index<'_>, policy: &Policy, day: Day) -> bool {
    index.world.now_ms.saturating_sub(policy.settle_ms) > day.range().max_t
}

/// Whether what would be made is not too old already. Raw samples are also wanted where the coarser
/// ones, which are kept for longer, are still to be made from them.
fn is_wanted(
    index: &Index<'_>,
    policy: &Policy,
    stream: &Stream,
    resolution: Resolution,
    day: Day,
) -> bool {
    let keeps = |res| !policy.retention.is_over(stream, res, day, index.world.now_ms);
    if keeps(resolution) {
        return true;
    }
    let one = reduced(stream, &policy.replica_labels);
    let five = Resolution::FiveMinutes;
    policy.downsample
        && resolution == Resolution::Raw
        && keeps(five)
        && [stream, &one].iter().all(|s| index.parts(s, five, day).is_empty())
}

/// Which blocks have a source.
fn holders<'a>(blocks: &[&'a BlockInfo]) -> BTreeMap<Ulid, Vec<&'a BlockInfo>> {
    let mut holders: BTreeMap<Ulid, Vec<&BlockInfo>> = BTreeMap::new();
    for block in blocks {
        for source in &block.sources {
            holders.entry(*source).or_default().push(block);
        }
    }
    holders
}

/// The blocks that have all of a block's sources, and so stand for it. Of two with the same, the newer one
/// stands for the other.
fn rivals<'a>(
    block: &BlockInfo,
    holders: &BTreeMap<Ulid, Vec<&'a BlockInfo>>,
) -> Vec<&'a BlockInfo> {
    let covers = |other: &BlockInfo| {
        other.id != block.id
            && block.sources.is_subset(&other.sources)
            && (block.sources.len() < other.sources.len() || block.id < other.id)
            // One that lost its times on the way does not stand for those it was made of.
            && other.min_t <= block.min_t
            && block.max_t <= other.max_t
    };
    let others = block.sources.first().and_then(|s| holders.get(s));
    others.into_iter().flatten().filter(|other| covers(other)).copied().collect()
}

/// Blocks become a part. It takes the place of parts that have nothing else; those that share a source
/// with it become a part of it; and so do all others once the day is complete. `None` where it shares a
/// source with one that is bad: its other samples would be lost.
fn convert(
    index: &Index<'_>,
    policy: &Policy,
    at: &Place<'_>,
    blocks: &[&BlockInfo],
) -> Option<Step> {
    let mut sources: BTreeSet<Ulid> = blocks.iter().flat_map(|b| b.sources.clone()).collect();
    let mut inputs: Vec<Input> = blocks.iter().map(|b| Input::Block(b.id)).collect();
    let mut replaces = Vec::new();
    let alone = blocks.iter().any(|b| b.no_compact);
    let mut parts: Vec<&PartInfo> = index.parts(at.stream, at.resolution, at.day).to_vec();
    parts.retain(|part| {
        let is_redundant = part.sources.is_subset(&sources);
        if is_redundant {
            replaces.push(part.id);
        }
        !is_redundant
    });
    let joins = is_closed(index, policy, at.day) && !alone;
    loop {
        let next = parts.iter().position(|part| {
            let is_usable = index.is_usable(&Subject::Part(part.id));
            let shares = !part.sources.is_disjoint(&sources);
            shares || joins && is_usable && !index.stands_alone(part)
        });
        let Some(part) = next.map(|i| parts.swap_remove(i)) else { break };
        if !index.is_usable(&Subject::Part(part.id)) {
            return None;
        }
        sources.extend(&part.sources);
        replaces.push(part.id);
        inputs.push(Input::Part(part.id));
    }
    inputs.sort_unstable();
    replaces.sort_unstable();
    Some(Step {
        kind: Kind::Convert,
        stream: at.stream.clone(),
        replica_labels: Vec::new(),
        day: at.day,
        resolution: at.resolution,
        inputs,
        sources,
        replaces,
    })
}

/// Several parts become one: when the day is complete, or when there are too many.
fn merge(index: &Index<'_>, policy: &Policy, at: &Place<'_>, parts: &[&PartInfo]) -> Option<Step> {
    let is_usable =
        // Merged replicas are made anew as a whole, never merged with others.
        |p: &&&PartInfo| {
            let is_plain = p.replica_labels.is_empty() || at.resolution != Resolution::Raw;
            is_plain && index.is_usable(&Subject::Part(p.id)) && !index.stands_alone(p)
        };
    let mut usable: Vec<&PartInfo> = parts.iter().filter(is_usable).copied().collect();
    let due = is_closed(index, policy, at.day) || usable.len() > policy.parts_max;
    if !due || usable.len() < 2 {
        return None;
    }
    usable.sort_by_key(|p| p.id);
    let all = sources_of(&usable);
    // One that has it all needs no company.
    let whole = usable.iter().find(|p| p.sources == all);
    let inputs = match whole {
        Some(part) => vec![Input::Part(part.id)],
        None => usable.iter().map(|p| Input::Part(p.id)).collect(),
    };
    Some(Step {
        kind: Kind::Merge,
        stream: at.stream.clone(),
        replica_labels: usable.first().map(|p| p.replica_labels.clone()).unwrap_or_default(),
        day: at.day,
        resolution: at.resolution,
        inputs,
        sources: all,
        replaces: usable.iter().map(|p| p.id).collect(),
    })
}
