//! What is made from parts: replicas merged, and the coarser resolutions.

use std::collections::{BTreeMap, BTreeSet};

use periplus_columnar::{Day, Resolution};

use super::world::{Index, PartInfo, Stream, Subject, reduced, sources_of};
use super::{Input, Kind, Policy, Step};

/// Places with a step of their own; nothing is derived from what is about to change.
type Busy = BTreeSet<(Stream, Resolution, Day)>;

pub(super) fn steps(index: &Index<'_>, policy: &Policy, busy: &Busy) -> Vec<Step> {
    let mut steps = Vec::new();
    let replicas = replicas(index, policy);
    for ((stream, day), streams) in &replicas {
        if streams.iter().any(|s| busy.contains(&((*s).clone(), Resolution::Raw, *day))) {
            continue;
        }
        if let Some(step) = deduplicate(index, policy, stream, *day, streams) {
            steps.push(step);
        }
    }
    if policy.downsample {
        for (from, to) in [
            (Resolution::Raw, Resolution::FiveMinutes),
            (Resolution::FiveMinutes, Resolution::OneHour),
        ] {
            for (stream, day, parts) in index.days(from) {
                let is_final = !is_one_of_several(policy, &replicas, stream, day, parts)
                    && !is_merged(index, policy, stream, day, parts);
                let is_busy = [from, to].iter().any(|r| busy.contains(&(stream.clone(), *r, day)));
                if is_final && !is_busy {
                    steps.extend(downsample(index, policy, stream, day, (parts, to)));
                }
            }
        }
    }
    steps
}

/// The streams that are one but for replica labels, by that one and by day, where there are several.
fn replicas<'a>(index: &Index<'a>, policy: &Policy) -> BTreeMap<(Stream, Day), Vec<&'a Stream>> {
    let mut groups: BTreeMap<(Stream, Day), Vec<&Stream>> = BTreeMap::new();
    if policy.replica_labels.is_empty() {
        return groups;
    }
    for (stream, day, parts) in index.days(Resolution::Raw) {
        let has_samples = parts.iter().any(|p| p.replica_labels.is_empty() && p.series > 0);
        let one = reduced(stream, &policy.replica_labels);
        if has_samples && one.len() < stream.len() {
            groups.entry((one, day)).or_default().push(stream);
        }
    }
    groups.retain(|_, streams| streams.len() > 1);
    groups
}

fn is_one_of_several(
    policy: &Policy,
    replicas: &BTreeMap<(Stream, Day), Vec<&Stream>>,
    stream: &Stream,
    day: Day,
    parts: &[&PartInfo],
) -> bool {
    let is_replicas = parts.iter().all(|p| p.replica_labels.is_empty());
    is_replicas
        && !policy.replica_labels.is_empty()
        && replicas
            .get(&(reduced(stream, &policy.replica_labels), day))
            .is_some_and(|streams| streams.contains(&stream))
}

/// Whether what a replica has of a day is in what was merged of all of them, at any resolution: then that is
/// what coarser ones are made of, also when the other replicas' own parts are gone already.
fn is_merged(
    index: &Index<'_>,
    policy: &Policy,
    stream: &Stream,
    day: Day,
    parts: &[&PartInfo],
) -> bool {
    let one = reduced(stream, &policy.replica_labels);
    if one.len() == stream.len() {
        return false;
    }
    let sources = sources_of(parts);
    [Resolution::Raw, Resolution::FiveMinutes, Resolution::OneHour].into_iter().any(|r| {
        let merged = index.parts(&one, r, day).iter().filter(|p| !p.replica_labels.is_empty());
        merged.into_iter().any(|p| sources.is_subset(&p.sources))
    })
}

fn is_closed(index: &Index<'_>, policy: &Policy, day: Day) -> bool {
    index.world.now_ms.saturating_sub(policy.settle_ms) > day.range().max_t
}

/// Those of the parts that are not quarantined: only they count as made.
fn usable<'a>(index: &Index<'_>, parts: &[&'a PartInfo]) -> Vec<&'a PartInfo> {
    parts.iter().filter(|p| index.is_usable(&Subject::Part(p.id))).copied().collect()
}

fn deduplicate(
    index: &Index<'_>,
    policy: &Policy,
    stream: &Stream,
    day: Day,
    replicas: &[&Stream],
) -> Option<Step> {
    let raw = Resolution::Raw;
    if !is_closed(index, policy, day)
        || policy.retention.is_over(stream, raw, day, index.world.now_ms)
    {
        return None;
    }
    let mut parts = Vec::new();
    for replica in replicas {
        let own = index.parts(replica, raw, day).iter().filter(|p| p.replica_labels.is_empty());
        parts.extend(own.copied());
    }
    if parts.iter().any(|p| !index.is_usable(&Subject::Part(p.id))) {
        return None;
    }
    let sources = sources_of(&parts);
    let there: Vec<_> = index.parts(stream, raw, day).to_vec();
    if sources.is_subset(&sources_of(&usable(index, &there))) {
        return None;
    }
    parts.retain(|p| p.series > 0);
    parts.sort_by_key(|p| p.id);
    let mut replica_labels = policy.replica_labels.clone();
    replica_labels.sort_unstable();
    Some(Step {
        kind: Kind::Deduplicate,
        stream: stream.clone(),
        replica_labels,
        day,
        resolution: raw,
        inputs: parts.iter().map(|p| Input::Part(p.id)).collect(),
        sources,
        // Made anew from what all replicas have now.
        replaces: there.iter().filter(|p| !p.replica_labels.is_empty()).map(|p| p.id).collect(),
    })
}

fn downsample(
    index: &Index<'_>,
    policy: &Policy,
    stream: &Stream,
    day: Day,
    (from, to): (&[&PartInfo], Resolution),
) -> Option<Step> {
    let now = index.world.now_ms;
    if !is_closed(index, policy, day) || policy.retention.is_over(stream, to, day, now) {
        return None;
    }
    let is_usable = |p: &&PartInfo| index.is_usable(&Subject::Part(p.id));
    let marked = index.world.blocks.iter().filter(|b| b.no_downsample && !b.is_going);
    let sources = sources_of(from);
    let is_marked = marked.into_iter().any(|b| !b.sources.is_disjoint(&sources));
    let there = index.parts(stream, to, day);
    let is_there = sources.is_subset(&sources_of(&usable(index, there)));
    if is_marked || is_there || !from.iter().all(is_usable) {
        return None;
    }
    // What shares a source and is not replaced would be counted twice.
    let (old, other): (Vec<&PartInfo>, Vec<&PartInfo>) =
        there.iter().copied().partition(|p| p.sources.is_subset(&sources));
    if other.iter().any(|p| !p.sources.is_disjoint(&sources)) {
        return None;
    }
    let mut inputs: Vec<_> =
        from.iter().filter(|p| p.series > 0).map(|p| Input::Part(p.id)).collect();
    inputs.sort_unstable();
    Some(Step {
        kind: Kind::Downsample,
        stream: stream.clone(),
        replica_labels: from.first().map(|p| p.replica_labels.clone()).unwrap_or_default(),
        day,
        resolution: to,
        inputs,
        sources,
        replaces: old.iter().map(|p| p.id).collect(),
    })
}
