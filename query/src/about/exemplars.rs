//! Exemplars of series.

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_model::{Labels, Matcher};
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_promql::parse::ast::Expr;
use periplus_promql::parse::selectors;
use periplus_proto::WireLimits;
use periplus_proto::convert::labels_from_thanos;
use periplus_proto::thanos::exemplars_client::ExemplarsClient;
use periplus_proto::thanos::exemplars_response::Result as Frame;
use periplus_proto::thanos::{Exemplar, ExemplarsRequest};
use prost::Message;

use super::ask::{drain, everyone};
use super::{key, strategy};
use crate::endpoints::Kind;
use crate::fanout::Question;
use crate::plan::{EndpointId, PartSet, parts_matching};

/// A series and its exemplars in order of time.
pub type SeriesExemplars = (Labels, Vec<Exemplar>);

/// The exemplars of all series that a selector of `expr` matches, in `[start_ms, end_ms]`, in order of labels.
///
/// # Errors
/// A selector that can't be used, or with a strict question somebody missing.
pub async fn exemplars(
    q: &Arc<Question>,
    expr: &Expr,
    start_ms: i64,
    end_ms: i64,
) -> Result<Vec<SeriesExemplars>, QueryError> {
    let bad = |e: String| QueryError::new(ErrorKind::BadData, e);
    let mut sets: Vec<Vec<Matcher>> = Vec::new();
    for s in selectors(expr) {
        let set = s.matchers.iter().map(|m| m.compile().map_err(|e| bad(e.to_string())));
        sets.push(set.collect::<Result<_, _>>()?);
    }
    let mut parts = PartSet::none(q.fleet.parts.len());
    for set in &sets {
        parts = parts.union(&parts_matching(&q.fleet, set));
    }
    let found = everyone(q, Some(&parts), |endpoint, channel| {
        let request = ExemplarsRequest {
            query: question_for(q, endpoint, &sets),
            start: start_ms,
            end: end_ms,
            partial_response_strategy: strategy(q),
        };
        let q = Arc::clone(q);
        async move {
            let mut all = Vec::new();
            if request.query.is_empty() {
                return Ok(all);
            }
            let mut client = ExemplarsClient::new(channel)
                .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
            let stream = client.exemplars(request).await?.into_inner();
            drain(stream, Message::encoded_len, |m| match m.result {
                Some(Frame::Data(d)) => all.push(d),
                Some(Frame::Warning(w)) => q.notes.warn(w),
                None => {}
            })
            .await?;
            Ok(all)
        }
    })
    .await?;
    let limits = WireLimits::default();
    let mut all: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    for d in found.into_iter().flat_map(|(_, all)| all) {
        let labels = labels_from_thanos(&d.series_labels.unwrap_or_default().labels, &limits)
            .map_err(|e| QueryError::new(ErrorKind::Internal, format!("exemplars: {e}")))?;
        let labels = labels.filter(|n| !q.fleet.replica_labels.iter().any(|r| r == n));
        all.entry(labels).or_default().extend(d.exemplars);
    }
    Ok(all.into_iter().map(|(labels, some)| (labels, in_order(some))).collect())
}

/// In order of time; what replicas both have is there once.
fn in_order(mut all: Vec<Exemplar>) -> Vec<Exemplar> {
    all.sort_by(|a, b| {
        let labels = || key(a.labels.as_ref()).cmp(&key(b.labels.as_ref()));
        a.ts.cmp(&b.ts).then(a.value.total_cmp(&b.value)).then_with(labels)
    });
    all.dedup();
    all
}

/// The selectors as one query. A Thanos endpoint with one stream passes it on to its Prometheus, which does
/// not have the external labels: matchers on them are decided here. All others decide them themselves.
fn question_for(q: &Question, endpoint: EndpointId, sets: &[Vec<Matcher>]) -> String {
    let target = q.snapshot.endpoints.get(endpoint);
    let external = target
        .filter(|e| e.status.kind == Kind::Thanos)
        .and_then(|e| match e.status.streams.as_slice() {
            [only] => Some(only.labels.clone()),
            _ => None,
        })
        .unwrap_or_default();
    let mut out = String::new();
    for set in sets {
        if !set.iter().all(|m| external.get(&m.name).is_none_or(|v| m.matches(v))) {
            continue;
        }
        if !out.is_empty() {
            out.push_str(" or ");
        }
        out.push_str(&Matcher::selector(set.iter().filter(|m| external.get(&m.name).is_none())));
    }
    out
}
