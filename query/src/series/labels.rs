//! Label names, label values and label sets of the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use periplus_model::{Labels, Matcher, TimeRange};
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_promql::source::{SelectHints, SelectRequest};
use periplus_proto::convert::matchers_to_thanos;
use periplus_proto::thanos::store_client::StoreClient;
use periplus_proto::thanos::{LabelNamesRequest, LabelValuesRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::lane::{Lane, series_request};
use crate::endpoints::probe::explain;
use crate::fanout::Question;
use crate::fanout::fragment::strict_error;
use crate::history;
use crate::plan::{EndpointId, parts_matching};

/// Bytes of labels one request may gather.
const BYTES_MAX: usize = 512 << 20;

/// What a request about labels asks for.
#[derive(Clone, Debug)]
pub struct LabelQuery {
    /// Sets of matchers, of which a series must satisfy one; none: all series.
    pub sets: Vec<Vec<Matcher>>,
    /// When a series must have samples.
    pub range: TimeRange,
    /// At most so many results; 0: all. Endpoints are asked for one more, so that it shows.
    pub limit: usize,
}

impl LabelQuery {
    fn asked_limit(&self) -> i64 {
        match self.limit {
            0 => 0,
            n => i64::try_from(n).unwrap_or(i64::MAX).saturating_add(1),
        }
    }

    fn sets_or_all(&self) -> Vec<Vec<Matcher>> {
        if self.sets.is_empty() { vec![Vec::new()] } else { self.sets.clone() }
    }
}

/// All names of labels.
///
/// # Errors
/// Too much, or with a strict question somebody missing.
pub async fn label_names(q: &Arc<Question>, ask: &LabelQuery) -> Result<Vec<String>, QueryError> {
    let (range, limit) = (ask.range, ask.asked_limit());
    let sets = ask.sets_or_all();
    let stored = history::labels::names(q, &sets, range);
    gather(q, ask, stored, move |q, channel, matchers| async move {
        let request = LabelNamesRequest {
            partial_response_disabled: q.strict,
            start: range.min_t,
            end: range.max_t,
            matchers: matchers_to_thanos(&matchers),
            without_replica_labels: q.fleet.replica_labels.clone(),
            limit,
            ..LabelNamesRequest::default()
        };
        let mut client = StoreClient::new(channel)
            .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
        let answer = client.label_names(request).await.map_err(|e| explain(&e))?.into_inner();
        answer.warnings.into_iter().for_each(|w| q.notes.warn(w));
        Ok(answer.names)
    })
    .await
}

/// All values of the label `name`.
///
/// # Errors
/// As [`label_names`].
pub async fn label_values(
    q: &Arc<Question>,
    name: &str,
    ask: &LabelQuery,
) -> Result<Vec<String>, QueryError> {
    if q.fleet.replica_labels.iter().any(|r| r == name) {
        return Ok(Vec::new());
    }
    let sets = ask.sets_or_all();
    let stored = history::labels::values(q, name, &sets, ask.range);
    let (range, limit, name) = (ask.range, ask.asked_limit(), name.to_owned());
    gather(q, ask, stored, move |q, channel, matchers| {
        let label = name.clone();
        async move {
            let request = LabelValuesRequest {
                label,
                partial_response_disabled: q.strict,
                start: range.min_t,
                end: range.max_t,
                matchers: matchers_to_thanos(&matchers),
                without_replica_labels: q.fleet.replica_labels.clone(),
                limit,
                ..LabelValuesRequest::default()
            };
            let mut client = StoreClient::new(channel)
                .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
            let answer = client.label_values(request).await.map_err(|e| explain(&e))?.into_inner();
            answer.warnings.into_iter().for_each(|w| q.notes.warn(w));
            Ok(answer.values)
        }
    })
    .await
}

/// The endpoints to ask for each set of matchers, and the parts each stands for. Parts that nobody
/// holds are noted.
fn targets(q: &Question, set: &[Matcher], range: TimeRange) -> Vec<(EndpointId, Vec<usize>)> {
    let mut out: Vec<(EndpointId, Vec<usize>)> = Vec::new();
    for part in parts_matching(&q.fleet, set).iter().filter(|p| q.may_have(*p, Some(range))) {
        let Some(p) = q.fleet.parts.get(part) else { continue };
        if p.candidates.is_empty() {
            q.notes.missing(q.snapshot.missing_of_part(&q.fleet, part));
        }
        q.notes.missing(q.beyond_history(part, Some(range), &BTreeMap::new()));
        for c in p.candidates.iter().filter(|c| !q.is_history(c.endpoint)) {
            match out.iter_mut().find(|(e, _)| *e == c.endpoint) {
                Some((_, parts)) => parts.push(part),
                None => out.push((c.endpoint, vec![part])),
            }
        }
    }
    out
}

async fn gather<F, R>(
    q: &Arc<Question>,
    ask: &LabelQuery,
    stored: impl Future<Output = Result<BTreeSet<String>, QueryError>>,
    call: F,
) -> Result<Vec<String>, QueryError>
where
    F: Fn(Arc<Question>, Channel, Vec<Matcher>) -> R,
    R: Future<Output = Result<Vec<String>, String>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for set in ask.sets_or_all() {
        for (endpoint, parts) in targets(q, &set, ask.range) {
            let target = q.snapshot.endpoints.get(endpoint);
            let Some((target, channel)) = target.and_then(|e| Some((e, e.channel.clone()?))) else {
                continue;
            };
            q.notes.request();
            let address = target.address.clone();
            let work = call(Arc::clone(q), channel, set.clone());
            let (q, patience) = (Arc::clone(q), q.endpoint_timeout());
            tasks.spawn(async move {
                let Ok(_place) = q.places.acquire().await else { return (endpoint, parts, None) };
                let why = match tokio::time::timeout(patience, work).await {
                    Ok(Ok(found)) => return (endpoint, parts, Some(found)),
                    Ok(Err(why)) => why,
                    Err(_) => format!("did not answer within {patience:.1?}"),
                };
                q.registry.suspect(&address);
                note_lost(&q, endpoint, &parts, &why);
                (endpoint, parts, None)
            });
        }
    }
    let stored = stored.await?;
    let mut all: BTreeSet<String> = BTreeSet::new();
    let mut bytes = 0usize;
    while let Some(done) = tasks.join_next().await {
        let (_, _, found) = done.map_err(|e| internal(&e))?;
        for s in found.into_iter().flatten() {
            bytes = bytes.saturating_add(s.len());
            all.insert(s);
        }
        check_bytes(bytes)?;
    }
    for s in stored {
        bytes = bytes.saturating_add(s.len());
        all.insert(s);
    }
    check_bytes(bytes)?;
    if q.strict && q.notes.is_partial() {
        return Err(strict_error(q));
    }
    for replica in &q.fleet.replica_labels {
        all.remove(replica);
    }
    Ok(all.into_iter().collect())
}

/// The parts of an endpoint that failed are missing unless another replica is asked as well.
fn note_lost(q: &Question, endpoint: EndpointId, parts: &[usize], why: &str) {
    for part in parts {
        let others = q.fleet.parts.get(*part).is_some_and(|p| p.candidates.len() > 1);
        if !others {
            q.notes.missing(q.snapshot.missing_now(&q.fleet, *part, endpoint, why));
        }
    }
}

fn check_bytes(bytes: usize) -> Result<(), QueryError> {
    if bytes > BYTES_MAX {
        let text = format!("more than {BYTES_MAX} bytes of labels; narrow the question down");
        return Err(QueryError::new(ErrorKind::Limit, text));
    }
    Ok(())
}

fn internal(e: &tokio::task::JoinError) -> QueryError {
    QueryError::new(ErrorKind::Internal, format!("a request: {e}"))
}

/// The label sets of all series that satisfy one of the sets of matchers.
///
/// # Errors
/// As [`label_names`].
pub async fn series_labels(q: &Arc<Question>, ask: &LabelQuery) -> Result<Vec<Labels>, QueryError> {
    let mut tasks = JoinSet::new();
    for set in ask.sets_or_all() {
        for (endpoint, parts) in targets(q, &set, ask.range) {
            let request = SelectRequest {
                matchers: set.clone(),
                range: ask.range,
                hints: SelectHints { func: Some("series"), ..SelectHints::default() },
            };
            let mut message = series_request(q, &request, true);
            message.limit = ask.asked_limit();
            let q = Arc::clone(q);
            tasks.spawn(async move {
                let mut out = Vec::new();
                let mut bytes = 0usize;
                let why = match Lane::open_with(&q, endpoint, message).await {
                    Err(why) => Some(why),
                    Ok(mut lane) => loop {
                        match lane.next().await {
                            Ok(Some(r)) => {
                                bytes += r.labels.heap_bytes();
                                out.push(r.labels);
                            }
                            Ok(None) => break None,
                            Err(why) => break Some(why),
                        }
                        if bytes > BYTES_MAX {
                            break None;
                        }
                    },
                };
                if let Some(why) = why {
                    note_lost(&q, endpoint, &parts, &why.reason);
                }
                (out, bytes)
            });
        }
    }
    let mut all: BTreeSet<Labels> = BTreeSet::new();
    let mut bytes = 0;
    while let Some(done) = tasks.join_next().await {
        let (found, more) = done.map_err(|e| internal(&e))?;
        bytes += more;
        check_bytes(bytes)?;
        all.extend(found);
    }
    for labels in history::labels::series(q, &ask.sets_or_all(), ask.range).await? {
        bytes += labels.heap_bytes();
        check_bytes(bytes)?;
        all.insert(labels);
    }
    if q.strict && q.notes.is_partial() {
        return Err(strict_error(q));
    }
    Ok(all.into_iter().collect())
}
