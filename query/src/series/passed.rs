//! The fleet's series for a tier above: chunks as they came, label sets in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use periplus_model::Labels;
use periplus_promql::source::SelectRequest;
use periplus_proto::convert::labels_to_thanos;
use periplus_proto::thanos::{self, AggrChunk, Series, SeriesRequest};
use tokio::sync::mpsc;

use super::groups;
use super::lane::{Lane, Lost, Received, series_request};
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
    let message = SeriesRequest { ..series_request(q, request, skip_chunks) };
    let parts = parts_matching(&q.fleet, &request.matchers);
    let groups = groups(q, &parts, request.range);
    let endpoints: Vec<EndpointId> =
        groups.iter().flat_map(|g| g.endpoints.iter().copied()).collect();
    let mut failed: BTreeMap<EndpointId, Lost> = BTreeMap::new();
    let mut lanes: Vec<(EndpointId, Lane)> = Vec::new();
    let opened = endpoints.iter().map(|e| Lane::open_with(q, *e, message.clone()));
    for (e, lane) in endpoints.iter().zip(futures::future::join_all(opened).await) {
        match lane {
            Ok(mut lane) => {
                lane.must_be_sorted();
                lanes.push((*e, lane));
            }
            Err(why) => _ = failed.insert(*e, why),
        }
    }
    merge(&mut lanes, &mut failed, to).await;
    let limits: Vec<Option<String>> =
        groups.iter().map(|g| g.account(q, request.range, &failed)).collect();
    limits.into_iter().flatten().next()
}

async fn merge(
    lanes: &mut [(EndpointId, Lane)],
    failed: &mut BTreeMap<EndpointId, Lost>,
    to: &mpsc::Sender<Series>,
) {
    let mut heads: Vec<Option<Received>> = Vec::with_capacity(lanes.len());
    let mut order: BinaryHeap<Reverse<(Labels, usize)>> = BinaryHeap::new();
    for i in 0..lanes.len() {
        heads.push(None);
        advance(lanes, i, &mut heads, &mut order, failed).await;
    }
    while let Some(Reverse((labels, first))) = order.pop() {
        let mut chunks = take(&mut heads, first);
        advance(lanes, first, &mut heads, &mut order, failed).await;
        while order.peek().is_some_and(|Reverse((l, _))| *l == labels) {
            let Some(Reverse((_, i))) = order.pop() else { break };
            chunks.extend(take(&mut heads, i));
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

fn take(heads: &mut [Option<Received>], i: usize) -> Vec<AggrChunk> {
    let received = heads.get_mut(i).and_then(Option::take);
    let chunk = |c: super::chunks::EncodedChunk| AggrChunk {
        min_time: c.range.min_t,
        max_time: c.range.max_t,
        raw: Some(thanos::Chunk { r#type: c.encoding, data: c.data, ..thanos::Chunk::default() }),
        ..AggrChunk::default()
    };
    received.map(|r| r.chunks.into_iter().map(chunk).collect()).unwrap_or_default()
}

async fn advance(
    lanes: &mut [(EndpointId, Lane)],
    i: usize,
    heads: &mut [Option<Received>],
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
