//! Series fetched from endpoints, for what can't be pushed: `thanos.Store` as a source of the engine.
//!
//! [`lane`] is one endpoint's answer, series by series; [`chunks`] decodes lazily, when the engine wants the
//! samples; replicas are merged label set by label set, in the order in which every store sends them, so no
//! answer is ever held as a whole. A bounded channel to the engine is the back-pressure.

mod arrive;
mod chunks;
mod labels;
mod lane;
mod passed;
mod whole;

pub use labels::{LabelQuery, label_names, label_values, series_labels};
pub use passed::pass_on;
pub use whole::{OutChunk, WholeSeries};

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_model::{Labels, TimeRange, replicas};
use periplus_promql::source::{
    EncodedSeries, SelectRequest, SeriesEntry, SeriesStream, Source, SourceError,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::Instrument;

use crate::fanout::Question;
use crate::history::resolution::{Column, Reads};
use crate::plan::{EndpointId, PartSet, parts_matching};
use arrive::{Arrived, Arriving, Counted};
use chunks::Replicas;
use lane::Lost;

/// Series in one block.
const BLOCK_SERIES: usize = 256;
/// Encoded bytes after which a block is handed on.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that wait for the engine.
const BLOCKS_WAITING: usize = 8;

/// Which parts a source looks at.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// All that can match.
    All,
    /// Of these, all that can match.
    Only(PartSet),
}

/// The fleet's series, for one question.
pub struct RawSource {
    q: Arc<Question>,
    wanted: Wanted,
    runtime: Handle,
    span: tracing::Span,
}

impl RawSource {
    /// To be called on the I/O runtime, which requests will run on.
    #[must_use]
    pub fn new(q: Arc<Question>, wanted: Wanted) -> Self {
        Self { q, wanted, runtime: Handle::current(), span: tracing::Span::current() }
    }
}

/// Some series, or why there are no more.
pub(crate) type Block = Result<Vec<SeriesEntry>, SourceError>;

impl Source for RawSource {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let q = &self.q;
        let mut parts = parts_matching(&q.fleet, &request.matchers);
        if let Wanted::Only(only) = &self.wanted {
            parts = parts.intersect(only);
        }
        let (to, from) = mpsc::channel(BLOCKS_WAITING);
        let request = Arc::new(request.clone());
        let tasks = (groups(q, &parts, request.range).into_iter())
            .map(|group| {
                let (q, request, to) = (Arc::clone(q), Arc::clone(&request), to.clone());
                let work = async move {
                    let stop = q.stop.clone();
                    tokio::select! {
                        () = group.run(&q, &request, &to) => {}
                        () = stop.cancelled() => { let _ = to.try_send(Err(SourceError::Cancelled)); }
                    }
                };
                self.runtime.spawn(work.instrument(self.span.clone())).abort_handle()
            })
            .collect();
        Ok(Box::new(Blocks { from, tasks }))
    }
}

/// Blocks that tasks send; they end with it.
pub(crate) struct Blocks {
    pub(crate) from: mpsc::Receiver<Block>,
    pub(crate) tasks: Vec<AbortHandle>,
}

impl SeriesStream for Blocks {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        let block = self.from.blocking_recv().transpose();
        if block.is_err() {
            self.from.close();
        }
        block
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Endpoints that hold replicas of the same parts, and these parts.
struct Group {
    endpoints: Vec<EndpointId>,
    parts: Vec<usize>,
}

/// Divides the parts into groups that share no endpoint; notes the parts nobody holds.
fn groups(q: &Question, parts: &PartSet, range: TimeRange) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for part in parts.iter().filter(|p| q.may_have(*p, Some(range))) {
        let Some(p) = q.fleet.parts.get(part) else { continue };
        if p.candidates.is_empty() {
            q.notes.missing(q.snapshot.missing_of_part(&q.fleet, part));
            continue;
        }
        q.notes.missing(q.beyond_history(part, Some(range), &BTreeMap::new()));
        let mut joined = Group { endpoints: holding(q, p, range), parts: vec![part] };
        let shared = |e: &EndpointId| q.fleet.shared_endpoints.get(*e).copied().unwrap_or(false);
        if joined.endpoints.iter().any(shared) {
            let touches = |g: &Group| g.endpoints.iter().any(|e| joined.endpoints.contains(e));
            let (with, without): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(touches);
            groups = without;
            for g in with {
                joined.endpoints.extend(g.endpoints);
                joined.parts.extend(g.parts);
            }
            joined.endpoints.sort_unstable();
            joined.endpoints.dedup();
        }
        groups.push(joined);
    }
    groups
}

/// Who may have anything of a part in a range. Between the bucket and the others that is known well
/// enough to leave somebody out; of others alone, all are asked.
fn holding(q: &Question, part: &crate::plan::Part, range: TimeRange) -> Vec<EndpointId> {
    let all = || part.candidates.iter().map(|c| c.endpoint).collect();
    if !part.candidates.iter().any(|c| q.is_history(c.endpoint)) {
        return all();
    }
    let lacks = |c: &crate::plan::Candidate| {
        let live = !q.is_history(c.endpoint);
        let covers = |g: &TimeRange| g.min_t <= range.min_t && range.max_t <= g.max_t;
        c.gaps.iter().any(|g| covers(g) && (!live || g.min_t == i64::MIN))
    };
    let some = part.candidates.iter().filter(|c| !lacks(c)).map(|c| c.endpoint);
    let some: Vec<EndpointId> = some.collect();
    if some.is_empty() { all() } else { some }
}

impl Group {
    async fn run(self, q: &Arc<Question>, request: &SelectRequest, to: &mpsc::Sender<Block>) {
        let mut failed: BTreeMap<EndpointId, Lost> = BTreeMap::new();
        let mut lanes: Vec<(EndpointId, Arriving)> = Vec::new();
        let asked = self.endpoints.iter();
        let opened = asked.map(|e| Arriving::open(q, *e, &self.parts, request, false));
        for (e, lane) in self.endpoints.iter().zip(futures::future::join_all(opened).await) {
            match lane {
                Ok(lane) => lanes.push((*e, lane)),
                Err(why) => _ = failed.insert(*e, why),
            }
        }
        let finished = self.merge(q, request, &mut lanes, &mut failed, to).await;
        if finished.is_ok() {
            let limit = self.account(q, request.range, &failed);
            if let Some(text) = limit {
                let _ = to.send(Err(SourceError::Limit(text))).await;
            } else if q.strict && q.notes.is_partial() {
                let text = crate::fanout::fragment::strict_error(q).message;
                let _ = to.send(Err(SourceError::Unavailable(text))).await;
            }
        }
    }

    /// Sends what the lanes bring, replicas merged, until all have ended. `Err` when the engine does
    /// not listen any more.
    async fn merge(
        &self,
        q: &Question,
        request: &SelectRequest,
        lanes: &mut [(EndpointId, Arriving)],
        failed: &mut BTreeMap<EndpointId, Lost>,
        to: &mpsc::Sender<Block>,
    ) -> Result<(), ()> {
        let (mut block, mut bytes) = (Vec::new(), 0);
        let counts = Reads::take(&request.matchers).0.column == Column::Count;
        if lanes.len() > 1 {
            lanes.iter_mut().for_each(|(_, lane)| lane.must_be_sorted());
        }
        let mut heads: Vec<Option<Arrived>> = Vec::with_capacity(lanes.len());
        for (e, lane) in lanes.iter_mut() {
            heads.push(advance(*e, lane, failed).await);
        }
        loop {
            let first = heads.iter().flatten().map(|r| &r.labels).min().cloned();
            let Some(labels) = first else { break };
            let mut same: Vec<Arc<dyn EncodedSeries>> = Vec::new();
            for (head, (e, lane)) in heads.iter_mut().zip(lanes.iter_mut()) {
                if let Some(r) = head.take_if(|r| r.labels == labels) {
                    if self.owns(q, *e, &labels) {
                        let (live, samples) = (r.is_live(), r.decodable());
                        same.push(match live && counts {
                            true => Arc::new(Counted(samples)),
                            false => samples,
                        });
                    }
                    *head = advance(*e, lane, failed).await;
                }
            }
            let samples: Arc<dyn EncodedSeries> = match same.len() {
                0 => continue,
                1 => match same.pop() {
                    Some(only) => only,
                    None => continue,
                },
                _ => {
                    let counter = replicas::counts(&labels, request.hints.func);
                    Arc::new(Replicas { replicas: same, counter })
                }
            };
            bytes += samples.encoded_bytes();
            block.push(SeriesEntry { labels, samples });
            if block.len() >= BLOCK_SERIES || bytes >= BLOCK_BYTES {
                bytes = 0;
                to.send(Ok(std::mem::take(&mut block))).await.map_err(|_| ())?;
            }
        }
        if !block.is_empty() {
            to.send(Ok(block)).await.map_err(|_| ())?;
        }
        Ok(())
    }

    /// Whether a series that an endpoint sent is of one of the parts that are wanted: a tier below
    /// may hold others too.
    fn owns(&self, q: &Question, endpoint: EndpointId, labels: &Labels) -> bool {
        if !q.fleet.shared_endpoints.get(endpoint).copied().unwrap_or(false) {
            return true;
        }
        let within = |s: &usize| {
            let stream = q.fleet.streams.get(*s);
            stream.is_some_and(|s| s.labels.iter().all(|(n, v)| labels.value(n) == v))
        };
        self.parts.iter().filter_map(|p| q.fleet.parts.get(*p)).any(|p| {
            p.candidates.iter().any(|c| c.endpoint == endpoint) && p.streams.iter().any(within)
        })
    }

    /// Names the parts for which nobody answered to the end. Gives the limit of the endpoint, where one
    /// is the reason.
    fn account(
        &self,
        q: &Question,
        range: TimeRange,
        failed: &BTreeMap<EndpointId, Lost>,
    ) -> Option<String> {
        let mut limit = None;
        if failed.is_empty() {
            return limit;
        }
        for part in &self.parts {
            let Some(p) = q.fleet.parts.get(*part) else { continue };
            let mut left = p.candidates.iter().filter(|c| !failed.contains_key(&c.endpoint));
            let whole = left.any(|c| !c.gaps.iter().any(|g| g.overlaps(&range)));
            if whole {
                continue;
            }
            let lost = p
                .candidates
                .iter()
                .find_map(|c| failed.get(&c.endpoint).map(|why| (c.endpoint, why)));
            if let Some((e, why)) = lost {
                q.notes.missing(q.missing_now(*part, e, &why.reason));
                if why.is_limit {
                    limit = Some(why.reason.clone());
                }
            }
        }
        limit
    }
}

async fn advance(
    e: EndpointId,
    lane: &mut Arriving,
    failed: &mut BTreeMap<EndpointId, Lost>,
) -> Option<Arrived> {
    match lane.next().await {
        Ok(next) => next,
        Err(why) => {
            failed.insert(e, why);
            None
        }
    }
}
