//! The fleet at one moment, ready to plan over.

use std::collections::HashMap;
use std::sync::Arc;

use periplus_model::{Labels, TimeRange};

use super::{Endpoint, Kind};
use crate::plan::{EndpointId, Fleet, Held};

/// A stream that should be in an answer and is not, for people and for the tier above.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Which stream; empty when the endpoint never said what it has.
    pub labels: Labels,
    /// The endpoint that would have it.
    pub address: String,
    /// Since when, Unix milliseconds; 0 when only this answer is concerned.
    pub since_ms: i64,
    /// Why.
    pub reason: String,
}

/// All endpoints and the fleet they form; never changes.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Endpoints; [`EndpointId`] is the place in this list.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The fleet with the configured replica labels.
    pub fleet: Arc<Fleet>,
    /// Endpoints that have never said what they have: any question may miss something.
    pub unknown: Vec<EndpointId>,
    held: Vec<Held>,
}

impl Snapshot {
    /// Puts the fleet together; marks endpoints that contradict each other as refused.
    #[must_use]
    pub fn new(mut endpoints: Vec<Endpoint>, replica_labels: &[String], now_ms: i64) -> Self {
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        drop_superseded(&mut endpoints);
        refuse_doubles(&mut endpoints, now_ms);
        let mut held = Vec::new();
        let mut unknown = Vec::new();
        for (id, e) in endpoints.iter().enumerate() {
            if e.status.kind == Kind::Unknown && !e.status.up && e.status.streams.is_empty() {
                unknown.push(id);
            }
            held.extend(e.status.streams.iter().map(|s| hold(id, e, s)));
        }
        Self {
            fleet: Arc::new(Fleet::new(held.iter().cloned(), replica_labels)),
            endpoints: endpoints.into_iter().map(Arc::new).collect(),
            unknown,
            held,
        }
    }

    /// The fleet with other replica labels than the configured ones (none: replicas stay apart).
    #[must_use]
    pub fn fleet_with(&self, replica_labels: &[String]) -> Arc<Fleet> {
        if self.fleet.replica_labels == replica_labels {
            return Arc::clone(&self.fleet);
        }
        Arc::new(Fleet::new(self.held.iter().cloned(), replica_labels))
    }

    /// The fleet with what a bucket holds beside the endpoints: it takes part as one more, whose id
    /// is the number of endpoints.
    #[must_use]
    pub fn fleet_with_history(&self, replica_labels: &[String], history: Vec<Held>) -> Arc<Fleet> {
        let all = self.held.iter().cloned().chain(history);
        Arc::new(Fleet::with_history(all, replica_labels, Some(self.endpoints.len())))
    }

    /// Why nobody can answer for a part: one entry for each of its streams.
    #[must_use]
    pub fn missing_of_part(&self, fleet: &Fleet, part: usize) -> Vec<Missing> {
        let Some(part) = fleet.parts.get(part) else { return Vec::new() };
        part.streams
            .iter()
            .filter_map(|s| fleet.streams.get(*s))
            .filter_map(|s| {
                let gone = s.holders.iter().filter(|h| !h.usable).map(|h| h.endpoint);
                let first = s.holders.iter().map(|h| h.endpoint);
                let e = gone.chain(first).find_map(|e| self.endpoints.get(e))?;
                let reason = match &e.status.refused {
                    Some(why) => why.clone(),
                    None if e.status.last_error.is_empty() => "it is not reachable".to_owned(),
                    None => e.status.last_error.clone(),
                };
                let (labels, address) = (s.labels.clone(), e.address.clone());
                Some(Missing { labels, address, since_ms: e.status.since_ms, reason })
            })
            .collect()
    }

    /// What is missing of a part when `endpoint` fails to answer for it now.
    #[must_use]
    pub fn missing_now(
        &self,
        fleet: &Fleet,
        part: usize,
        endpoint: EndpointId,
        reason: &str,
    ) -> Vec<Missing> {
        let address = self.endpoints.get(endpoint).map_or("", |e| &e.address);
        let streams = fleet.parts.get(part).map(|p| p.streams.as_slice()).unwrap_or_default();
        let since_ms = self.endpoints.get(endpoint).filter(|e| !e.status.up);
        let since_ms = since_ms.map_or(0, |e| e.status.since_ms);
        streams
            .iter()
            .filter_map(|s| fleet.streams.get(*s))
            .map(|s| Missing {
                labels: s.labels.clone(),
                address: address.to_owned(),
                since_ms,
                reason: reason.to_owned(),
            })
            .collect()
    }

    /// Endpoints whose streams nobody knows, as missing entries.
    #[must_use]
    pub fn missing_unknown(&self) -> Vec<Missing> {
        let entry = |e: &Arc<Endpoint>| Missing {
            labels: Labels::empty(),
            address: e.address.clone(),
            since_ms: e.status.since_ms,
            reason: match e.status.last_error.as_str() {
                "" => "it has not said yet what it has".to_owned(),
                error => error.to_owned(),
            },
        };
        self.unknown.iter().filter_map(|id| self.endpoints.get(*id)).map(entry).collect()
    }
}

fn hold(endpoint: EndpointId, e: &Endpoint, s: &super::StreamInfo) -> Held {
    let usable = e.status.up && e.status.refused.is_none() && e.channel.is_some();
    let mut gaps = s.gaps.clone();
    if !s.problem.is_empty() {
        gaps.push(TimeRange::new(s.problem_since_ms.max(0), i64::MAX));
    }
    Held {
        endpoint,
        external: s.labels.clone(),
        available: s.available,
        gaps,
        usable,
        healthy: s.problem.is_empty(),
        executes: e.status.kind != Kind::Thanos,
    }
}

/// Forgets streams that an absent endpoint once had and that another one has now: the cluster
/// moved.
fn drop_superseded(endpoints: &mut Vec<Endpoint>) {
    let mut live: Vec<Labels> = endpoints
        .iter()
        .filter(|e| e.status.up)
        .flat_map(|e| e.status.streams.iter().map(|s| s.labels.clone()))
        .collect();
    live.sort_unstable();
    for e in endpoints.iter_mut().filter(|e| e.channel.is_none()) {
        e.status.streams.retain(|s| live.binary_search(&s.labels).is_err());
    }
    endpoints.retain(|e| e.channel.is_some() || !e.status.streams.is_empty());
}

/// Two Prometheus servers under the same labels for the same time can't be told apart: neither is
/// used, and both are named.
fn refuse_doubles(endpoints: &mut [Endpoint], now_ms: i64) {
    let mut owners: HashMap<Labels, Vec<(usize, TimeRange)>> = HashMap::new();
    for (i, e) in endpoints.iter_mut().enumerate() {
        let before = e.status.refused.take();
        if before.is_some() && !e.status.up {
            e.status.refused = None;
        }
        let one_prometheus = e.status.kind == Kind::Sidecar
            || (e.status.kind == Kind::Thanos && e.status.version.ends_with("sidecar"));
        if e.status.up && one_prometheus {
            for s in &e.status.streams {
                owners.entry(s.labels.clone()).or_default().push((i, s.available));
            }
        }
    }
    let mut refused: Vec<(usize, String)> = Vec::new();
    for (labels, who) in owners.iter().filter(|(_, who)| who.len() > 1) {
        for (i, range) in who {
            let clash = who.iter().find(|(j, other)| j != i && other.overlaps(range));
            let Some(other) = clash.and_then(|(j, _)| endpoints.get(*j)) else { continue };
            let text = format!(
                "has the same external labels {labels:?} as {} for the same time; give one of them \
                 a replica label of its own, or remove it",
                other.address
            );
            refused.push((*i, text));
        }
    }
    for (i, text) in refused {
        if let Some(e) = endpoints.get_mut(i) {
            e.status.refused = Some(text);
            e.status.since_ms = e.status.since_ms.min(now_ms);
        }
    }
}
