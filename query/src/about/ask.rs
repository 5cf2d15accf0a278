//! One request to every endpoint that holds a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use periplus_promql::engine::{ErrorKind, QueryError};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::endpoints::Kind;
use crate::endpoints::probe::explain;
use crate::fanout::Question;
use crate::fanout::fragment::strict_error;
use crate::plan::{EndpointId, PartSet};

/// Bytes that the answers to one request may have together.
pub const BYTES_MAX: usize = 256 << 20;

/// Asks all endpoints of `parts` (`None`: of all) at once, each within its own deadline. The answers come in
/// the order of the endpoints. A part is noted as missing when nobody who holds it answered.
///
/// A Thanos endpoint without the service (a store gateway has no rules) is no fault; one of ours is of an
/// older version, and named.
///
/// # Errors
/// The request is wrong, or with a strict question somebody is missing.
pub async fn everyone<T, F, R>(
    q: &Arc<Question>,
    parts: Option<&PartSet>,
    call: F,
) -> Result<Vec<(EndpointId, T)>, QueryError>
where
    T: Send + 'static,
    F: Fn(EndpointId, Channel) -> R,
    R: Future<Output = Result<T, Status>> + Send + 'static,
{
    let mut wanted: BTreeSet<EndpointId> = BTreeSet::new();
    let within = |part: &usize| parts.is_none_or(|set| set.contains(*part));
    let all: Vec<usize> = (0..q.fleet.parts.len()).filter(within).collect();
    for part in &all {
        let candidates = q.fleet.parts.get(*part).map(|p| p.candidates.as_slice());
        wanted.extend(candidates.unwrap_or_default().iter().map(|c| c.endpoint));
    }
    let mut tasks = JoinSet::new();
    for endpoint in wanted {
        let target = q.snapshot.endpoints.get(endpoint);
        let Some((target, channel)) = target.and_then(|e| Some((e, e.channel.clone()?))) else {
            continue;
        };
        q.notes.request();
        let (address, kind) = (target.address.clone(), target.status.kind);
        let work = call(endpoint, channel);
        let (q, patience) = (Arc::clone(q), q.endpoint_timeout());
        tasks.spawn(async move {
            let Ok(_place) = q.places.acquire().await else {
                return (endpoint, Err(Failure::Lost("the query layer is shutting down".into())));
            };
            let result = match tokio::time::timeout(patience, work).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(status)) => Err(failure(&status, kind)),
                Err(_) => Err(Failure::Lost(format!("did not answer within {patience:.1?}"))),
            };
            if let Err(Failure::Lost(_)) = result {
                q.registry.suspect(&address);
            }
            (endpoint, result)
        });
    }
    let mut answers = BTreeMap::new();
    let mut lost: BTreeMap<EndpointId, String> = BTreeMap::new();
    let mut without = BTreeSet::new();
    while let Some(done) = tasks.join_next().await {
        let joined = |e| QueryError::new(ErrorKind::Internal, format!("a request: {e}"));
        let (endpoint, result) = done.map_err(joined)?;
        match result {
            Ok(answer) => _ = answers.insert(endpoint, answer),
            Err(Failure::Lost(why)) => _ = lost.insert(endpoint, why),
            Err(Failure::NotServed) => _ = without.insert(endpoint),
            Err(Failure::Request(e)) => return Err(e),
        }
    }
    for part in all {
        let Some(p) = q.fleet.parts.get(part) else { continue };
        let has = |e: &EndpointId| answers.contains_key(e) || without.contains(e);
        if p.candidates.iter().any(|c| has(&c.endpoint)) {
            continue;
        }
        match p.candidates.iter().find_map(|c| Some((c.endpoint, lost.get(&c.endpoint)?))) {
            Some((e, why)) => q.notes.missing(q.snapshot.missing_now(&q.fleet, part, e, why)),
            None => q.notes.missing(q.snapshot.missing_of_part(&q.fleet, part)),
        }
    }
    if q.strict && q.notes.is_partial() {
        return Err(strict_error(q));
    }
    Ok(answers.into_iter().collect())
}

enum Failure {
    /// The endpoint does not have the service, and need not.
    NotServed,
    /// It is down, slow or broken.
    Lost(String),
    /// Every endpoint would refuse this.
    Request(QueryError),
}

fn failure(status: &Status, kind: Kind) -> Failure {
    match status.code() {
        Code::Unimplemented if kind == Kind::Thanos => Failure::NotServed,
        Code::Unimplemented => Failure::Lost("its version does not tell this yet".to_owned()),
        Code::InvalidArgument => {
            Failure::Request(QueryError::new(ErrorKind::BadData, status.message()))
        }
        _ => Failure::Lost(explain(status)),
    }
}

/// Takes the messages of a stream, `size` telling how many bytes each is worth.
///
/// # Errors
/// The stream breaks, or is too long.
pub async fn drain<M>(
    mut stream: Streaming<M>,
    size: impl Fn(&M) -> usize,
    mut take: impl FnMut(M),
) -> Result<(), Status> {
    let mut bytes = 0usize;
    while let Some(message) = stream.message().await? {
        bytes = bytes.saturating_add(size(&message));
        if bytes > BYTES_MAX {
            return Err(Status::resource_exhausted(format!("sent more than {BYTES_MAX} bytes")));
        }
        take(message);
    }
    Ok(())
}
