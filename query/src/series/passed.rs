//! The fleet's series for a tier above: chunks as they came, label sets in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use periplus_model::{Labels, TimeRange};
use periplus_promql::source::SelectRequest;
use periplus_proto::convert::labels_to_thanos;
use periplus_proto::thanos::{self, AggrChunk, Series};
use tokio::sync::mpsc;

use super::arrive::{Arrived, Arriving};
use super::groups;
use super::lane::Lost;
use crate::fanout::Question;
use crate::plan::{EndpointId, parts_matching};

/// Sends every series that matches, once, in order of labels, with the chunks of all replicas. Nothing is
/// decoded. Ends when the receiver is gone. Who is missing is noted in the question;
/// gives the limit of an endpoint's where one was reached.
pub async fn pass_on(
    q: &Arc<Question>,
    request: &SelectRequest,
    skip_chunks: bool,
    to: &mpsc::Sender<Series>,
) -> Option<String> {
    let parts = parts_matching(&q.fleet, &request.matchers);
    let groups = groups(q, &parts, request.range);
    // The bucket may be in several groups, and is asked once.
    let mut endpoints: BTreeMap<EndpointId, Vec<usize>> = BTreeMap::new();
    for g in &groups {
        g.endpoints.iter().for_each(|e| endpoints.entry(*e).or_default().extend(&g.parts));
    }
    let mut failed: BTreeMap<EndpointId, Lost> = BTreeMap::new();
    let mut lanes: Vec<(EndpointId, Arriving)> = Vec::new();
    let asked = endpoints.iter();
    let opened = asked.map(|(e, parts)| Arriving::open(q, *e, parts, request, skip_chunks));
    for (e, lane) in endpoints.keys().zip(futures::future::join_all(opened).await) {
        match lane {
            Ok(mut lane) => {
                lane.must_be_sorted();
                lanes.push((*e, lane));
            }
            Err(why) => _ = failed.insert(*e, why),
        }
    }
    let range = (!skip_chunks).then_some(request.range);
    merge(&mut lanes, &mut failed, range, to).await;
    let limits: Vec<Option<String>> =
        groups.iter().map(|g| g.account(q, request.range, &failed)).collect();
    limits.into_iter().flatten().next()
}

async fn merge(
    lanes: &mut [(EndpointId, Arriving)],
    failed: &mut BTreeMap<EndpointId, Lost>,
    range: Option<TimeRange>,
    to: &mpsc::Sender<Series>,
) {
    let mut heads: Vec<Option<Arrived>> = Vec::with_capacity(lanes.len());
    let mut order: BinaryHeap<Reverse<(Labels, usize)>> = BinaryHeap::new();
    for i in 0..lanes.len() {
        heads.push(None);
        advance(lanes, i, &mut heads, &mut order, failed).await;
    }
    while let Some(Reverse((labels, first))) = order.pop() {
        let mut chunks = take(lanes, &mut heads, first, range, failed).await;
        advance(lanes, first, &mut heads, &mut order, failed).await;
        while order.peek().is_some_and(|Reverse((l, _))| *l == labels) {
            let Some(Reverse((_, i))) = order.pop() else { break };
            chunks.extend(take(lanes, &mut heads, i, range, failed).await);
            advance(lanes, i, &mut heads, &mut order, failed).await;
        }
        chunks.sort_by_key(|c| (c.min_time, c.max_time));
        chunks.dedup_by(|b, a| a == b);
        let series = Series { labels: labels_to_thanos(&labels), chunks };
        if to.send(series).await.is_err() {
            return;
        }
    }
}

/// The chunks of the series that stands first in a lane; none where `range` is none.
async fn take(
    lanes: &[(EndpointId, Arriving)],
    heads: &mut [Option<Arrived>],
    i: usize,
    range: Option<TimeRange>,
    failed: &mut BTreeMap<EndpointId, Lost>,
) -> Vec<AggrChunk> {
    let (Some(arrived), Some(range)) = (heads.get_mut(i).and_then(Option::take), range) else {
        return Vec::new();
    };
    let chunk = |c: super::chunks::EncodedChunk| AggrChunk {
        min_time: c.range.min_t,
        max_time: c.range.max_t,
        raw: Some(thanos::Chunk { r#type: c.encoding, data: c.data, ..thanos::Chunk::default() }),
        ..AggrChunk::default()
    };
    match arrived.chunks(range).await {
        Ok(chunks) => chunks.into_iter().map(chunk).collect(),
        Err(why) => {
            if let Some((e, _)) = lanes.get(i) {
                failed.insert(*e, why);
            }
            Vec::new()
        }
    }
}

async fn advance(
    lanes: &mut [(EndpointId, Arriving)],
    i: usize,
    heads: &mut [Option<Arrived>],
    order: &mut BinaryHeap<Reverse<(Labels, usize)>>,
    failed: &mut BTreeMap<EndpointId, Lost>,
) {
    let Some((e, lane)) = lanes.get_mut(i) else { return };
    match lane.next().await {
        Ok(Some(next)) => {
            order.push(Reverse((next.labels.clone(), i)));
            if let Some(head) = heads.get_mut(i) {
                *head = Some(next);
            }
        }
        Ok(None) => {}
        Err(why) => _ = failed.insert(*e, why),
    }
}
