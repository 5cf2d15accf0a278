//! The fleet as the planner sees it: streams, who holds them, and the parts they form.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use periplus_model::{Labels, Matcher, TimeRange};

use super::part_set::PartSet;

/// Which endpoint, by its place in the list of endpoints the fleet was made from.
pub type EndpointId = usize;

/// One stream as one endpoint offers it.
#[derive(Clone, Debug)]
pub struct Held {
    /// Who offers it.
    pub endpoint: EndpointId,
    /// All external labels, replica labels included.
    pub external: Labels,
    /// What can be asked for.
    pub available: TimeRange,
    /// Times without samples, ascending.
    pub gaps: Vec<TimeRange>,
    /// Whether the endpoint can be asked at all; what is known but can't be asked is missing.
    pub usable: bool,
    /// Whether it says of itself that it is well; one that is not is asked last.
    pub healthy: bool,
    /// Whether it evaluates subtrees. A plain Thanos endpoint only gives series.
    pub executes: bool,
}

/// All that is under one set of external labels (less the replica labels).
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its external labels without replica labels.
    pub labels: Labels,
    /// Who offers it; replicas are told apart here.
    pub holders: Vec<Held>,
}

/// Someone who can answer for a part.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Who.
    pub endpoint: EndpointId,
    /// Whether it evaluates subtrees.
    pub executes: bool,
    /// Whether all it holds of the part is well.
    pub healthy: bool,
    /// Times for which it does not have all of the part, ascending. Only computed where a part
    /// has more than one candidate, and for the bucket: else it makes no difference.
    pub gaps: Vec<TimeRange>,
}

/// Streams that the same endpoints hold, so that they can be asked for at once.
#[derive(Clone, Debug)]
pub struct Part {
    /// Indices of its streams.
    pub streams: Vec<usize>,
    /// Who can answer, the best first; empty when nobody can: the part is missing.
    pub candidates: Vec<Candidate>,
    /// From when on there is data anywhere; a window that ends before needs no request.
    pub oldest_ms: i64,
}

/// Streams, parts and the labels that may tell them apart.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// All streams, those that are missing included.
    pub streams: Vec<Stream>,
    /// All parts; every stream is in exactly one.
    pub parts: Vec<Part>,
    /// Labels that series are without, because they only tell replicas apart; empty when the query
    /// is not to be deduplicated.
    pub replica_labels: Vec<String>,
    /// Names of external labels, replica labels left out; the first 64 serve to tell parts apart.
    pub names: Vec<Arc<str>>,
    /// For each endpoint, whether it holds streams in more than one part, or ones that were left
    /// out: then it must be told which ones are meant.
    pub shared_endpoints: Vec<bool>,
    /// The one that is the bucket and read by this process; it is never asked for more than is meant.
    pub history: Option<EndpointId>,
}

impl Fleet {
    /// Forms streams and parts. `replica_labels` is empty when replicas are to stay apart.
    #[must_use]
    pub fn new(held: impl IntoIterator<Item = Held>, replica_labels: &[String]) -> Self {
        Self::with_history(held, replica_labels, None)
    }

    /// As [`Self::new`]; `history` is the endpoint that is the bucket.
    #[must_use]
    pub fn with_history(
        held: impl IntoIterator<Item = Held>,
        replica_labels: &[String],
        history: Option<EndpointId>,
    ) -> Self {
        let mut by_identity: BTreeMap<Labels, Vec<Held>> = BTreeMap::new();
        let mut endpoints = 0;
        for h in held {
            endpoints = endpoints.max(h.endpoint + 1);
            let identity = h.external.filter(|n| !replica_labels.iter().any(|r| r == n));
            by_identity.entry(identity).or_default().push(h);
        }
        let streams: Vec<Stream> =
            by_identity.into_iter().map(|(labels, holders)| Stream { labels, holders }).collect();
        let parts = form_parts(&streams, history);
        let mut names: Vec<Arc<str>> = Vec::new();
        for s in &streams {
            for (n, _) in &s.labels {
                if !names.iter().any(|known| **known == *n) {
                    names.push(Arc::from(n));
                }
            }
        }
        let mut uses = vec![0usize; endpoints];
        for c in parts.iter().flat_map(|p| &p.candidates) {
            if let Some(n) = uses.get_mut(c.endpoint) {
                *n += 1;
            }
        }
        let shared = |(e, n): (EndpointId, usize)| n > 1 && history != Some(e);
        Self {
            streams,
            parts,
            replica_labels: replica_labels.to_vec(),
            names,
            shared_endpoints: uses.into_iter().enumerate().map(shared).collect(),
            history,
        }
    }

    /// The same fleet, of it only the streams whose external labels satisfy one of `sets`.
    /// `address` gives an endpoint's address, for matchers on `__address__`.
    #[must_use]
    pub fn only<'a>(&self, sets: &[Vec<Matcher>], address: impl Fn(EndpointId) -> &'a str) -> Self {
        if sets.is_empty() {
            return self.clone();
        }
        let wanted = |h: &Held| {
            sets.iter().any(|set| {
                set.iter().all(|m| match &*m.name {
                    "__address__" => m.matches(address(h.endpoint)),
                    name => m.matches(h.external.value(name)),
                })
            })
        };
        let all = self.streams.iter().flat_map(|s| &s.holders);
        let kept = all.clone().filter(|h| wanted(h)).cloned();
        let mut fleet = Self::with_history(kept, &self.replica_labels, self.history);
        for left_out in all.filter(|h| !wanted(h) && self.history != Some(h.endpoint)) {
            if let Some(shared) = fleet.shared_endpoints.get_mut(left_out.endpoint) {
                *shared = true;
            }
        }
        fleet
    }

    /// No part.
    #[must_use]
    pub fn no_parts(&self) -> PartSet {
        PartSet::none(self.parts.len())
    }
}

fn form_parts(streams: &[Stream], history: Option<EndpointId>) -> Vec<Part> {
    let mut by_endpoints: HashMap<Vec<EndpointId>, Vec<usize>> = HashMap::new();
    for (i, s) in streams.iter().enumerate() {
        let mut who: Vec<EndpointId> =
            s.holders.iter().filter(|h| h.usable).map(|h| h.endpoint).collect();
        who.sort_unstable();
        who.dedup();
        by_endpoints.entry(who).or_default().push(i);
    }
    let mut parts: Vec<Part> = by_endpoints
        .into_iter()
        .map(|(who, members)| {
            // What the bucket lacks is wanted even where it is alone: somebody may be missing then.
            let gaps = |e| who.len() > 1 || history == Some(e);
            let mut candidates: Vec<Candidate> =
                who.iter().map(|e| candidate(*e, &members, streams, gaps(*e))).collect();
            candidates.sort_by_key(|c| (!c.executes, !c.healthy, c.endpoint));
            let oldest_ms = members
                .iter()
                .filter_map(|i| streams.get(*i))
                .flat_map(|s| &s.holders)
                .map(|h| h.available.min_t)
                .min()
                .unwrap_or(i64::MIN);
            Part { streams: members, candidates, oldest_ms }
        })
        .collect();
    parts.sort_by_key(|p| p.streams.first().copied());
    parts
}

fn candidate(
    endpoint: EndpointId,
    members: &[usize],
    streams: &[Stream],
    with_gaps: bool,
) -> Candidate {
    let mut out = Candidate { endpoint, executes: true, healthy: true, gaps: Vec::new() };
    for s in members.iter().filter_map(|i| streams.get(*i)) {
        let mine: Vec<&Held> =
            s.holders.iter().filter(|h| h.usable && h.endpoint == endpoint).collect();
        out.executes &= mine.iter().all(|h| h.executes);
        out.healthy &= mine.iter().any(|h| h.healthy);
        if with_gaps {
            // A tier below merges its own replicas: it lacks only what all of them lack.
            let mut lacking = vec![TimeRange::ALL];
            for h in mine {
                lacking = intersect_all(&lacking, &absent_times(h));
            }
            out.gaps.extend(lacking);
        }
    }
    out.gaps.sort_unstable_by_key(|g| (g.min_t, g.max_t));
    out
}

/// Gaps, and what lies before the first sample. What lies after the last one is not a gap: the
/// newest samples are always still on their way.
fn absent_times(h: &Held) -> Vec<TimeRange> {
    let mut out = Vec::with_capacity(h.gaps.len() + 1);
    if h.available.min_t > i64::MIN {
        out.push(TimeRange::new(i64::MIN, h.available.min_t - 1));
    }
    out.extend(h.gaps.iter().copied());
    out
}

fn intersect_all(a: &[TimeRange], b: &[TimeRange]) -> Vec<TimeRange> {
    let mut out = Vec::new();
    for x in a {
        for y in b {
            let both = x.intersect(y);
            if !both.is_empty() {
                out.push(both);
            }
        }
    }
    out
}
