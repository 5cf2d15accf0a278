//! What is scraped, and what the targets say of their metrics.

use std::sync::Arc;

use periplus_model::{Labels, Matcher};
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_proto::WireLimits;
use periplus_proto::convert::{label_set_from_fleet, label_set_to_fleet};
use periplus_proto::fleet::about_client::AboutClient;
use periplus_proto::fleet::{TargetMetadataEntry, TargetMetadataRequest};
use periplus_proto::thanos::targets_client::TargetsClient;
use periplus_proto::thanos::targets_request::State;
use periplus_proto::thanos::targets_response::Result as Frame;
use periplus_proto::thanos::{ActiveTarget, TargetDiscovery, TargetsRequest};
use prost::Message;

use super::ask::{drain, everyone};
use super::{key, remove, strategy};
use crate::fanout::Question;
use crate::plan::parts_matching;

/// The fleet's targets. Of targets that differ only in replica labels the one scraped last stays. Active ones
/// are in order of pool, labels and URL, dropped ones of pool and labels.
///
/// # Errors
/// With a strict question somebody is missing.
pub async fn targets(
    q: &Arc<Question>,
    state: State,
    scrape_pool: &str,
) -> Result<TargetDiscovery, QueryError> {
    let request = TargetsRequest {
        state: state.into(),
        partial_response_strategy: strategy(q),
        scrape_pool: scrape_pool.to_owned(),
    };
    let found = everyone(q, None, |_, channel| {
        let (request, q) = (request.clone(), Arc::clone(q));
        async move {
            let mut client = TargetsClient::new(channel)
                .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
            let stream = client.targets(request).await?.into_inner();
            let mut all = TargetDiscovery::default();
            drain(stream, Message::encoded_len, |m| match m.result {
                Some(Frame::Targets(mut t)) => {
                    all.active_targets.append(&mut t.active_targets);
                    all.dropped_targets.append(&mut t.dropped_targets);
                    add_counts(&mut all, t.dropped_target_counts);
                }
                Some(Frame::Warning(w)) => q.notes.warn(w),
                None => {}
            })
            .await?;
            Ok(all)
        }
    })
    .await?;
    let mut all = TargetDiscovery::default();
    for (_, mut t) in found {
        all.active_targets.append(&mut t.active_targets);
        all.dropped_targets.append(&mut t.dropped_targets);
        add_counts(&mut all, t.dropped_target_counts);
    }
    let pool = |name: &str| scrape_pool.is_empty() || name.is_empty() || name == scrape_pool;
    all.active_targets.retain(|t| state != State::Dropped && pool(&t.scrape_pool));
    all.dropped_targets.retain(|t| state != State::Active && pool(&t.scrape_pool));
    sort(&mut all, &q.fleet.replica_labels);
    Ok(all)
}

fn add_counts(all: &mut TargetDiscovery, more: std::collections::HashMap<String, i64>) {
    for (pool, n) in more {
        let there = all.dropped_target_counts.entry(pool).or_default();
        *there = there.saturating_add(n);
    }
}

fn sort(all: &mut TargetDiscovery, replica_labels: &[String]) {
    all.active_targets.iter_mut().for_each(|t| remove(&mut t.labels, replica_labels));
    let identity = |a: &ActiveTarget, b: &ActiveTarget| {
        let one = (&a.scrape_pool, key(a.labels.as_ref()), &a.scrape_url);
        one.cmp(&(&b.scrape_pool, key(b.labels.as_ref()), &b.scrape_url))
    };
    let scraped = |t: &ActiveTarget| t.last_scrape.map_or((i64::MIN, 0), |t| (t.seconds, t.nanos));
    all.active_targets.sort_by(|a, b| identity(a, b).then(scraped(b).cmp(&scraped(a))));
    if !replica_labels.is_empty() {
        all.active_targets.dedup_by(|b, a| identity(a, b).is_eq());
    }
    all.dropped_targets.sort_by(|a, b| {
        let one = (&a.scrape_pool, key(a.discovered_labels.as_ref()));
        one.cmp(&(&b.scrape_pool, key(b.discovered_labels.as_ref())))
    });
}

/// What targets say of metrics: of all, or of one.
#[derive(Clone, Debug)]
pub struct TargetMetadataQuery {
    /// Matchers on the targets' labels.
    pub matchers: Vec<Matcher>,
    /// The same as text; empty: all targets.
    pub selector: String,
    /// A metric; empty: all.
    pub metric: String,
    /// At most so many entries; `None`: all.
    pub limit: Option<usize>,
}

/// The entries with their targets' labels, in order of these and of metrics.
///
/// # Errors
/// With a strict question somebody is missing.
pub async fn metadata(
    q: &Arc<Question>,
    query: &TargetMetadataQuery,
) -> Result<Vec<(Labels, TargetMetadataEntry)>, QueryError> {
    let request = TargetMetadataRequest {
        match_target: query.selector.clone(),
        metric: query.metric.clone(),
        // In which order a Prometheus counts is not known: all is read, and cut at the end.
        limit: -1,
        strict: q.strict,
    };
    let parts = parts_matching(&q.fleet, &query.matchers);
    let found = everyone(q, Some(&parts), |_, channel| {
        let (request, q) = (request.clone(), Arc::clone(q));
        async move {
            let mut client = AboutClient::new(channel)
                .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
            let stream = client.target_metadata(request).await?.into_inner();
            let mut all = Vec::new();
            drain(stream, Message::encoded_len, |mut m| {
                all.append(&mut m.entries);
                m.warnings.into_iter().for_each(|w| q.notes.warn(w));
            })
            .await?;
            Ok(all)
        }
    })
    .await?;
    let limits = WireLimits::default();
    let replicas = &q.fleet.replica_labels;
    let mut all = Vec::new();
    for mut entry in found.into_iter().flat_map(|(_, entries)| entries) {
        let target = entry.target.take().unwrap_or_default();
        let target = label_set_from_fleet(&target, &limits)
            .map_err(|e| QueryError::new(ErrorKind::Internal, format!("target metadata: {e}")))?;
        let target = target.filter(|n| !replicas.iter().any(|r| r == n));
        if query.matchers.iter().all(|m| m.matches(target.value(&m.name))) {
            all.push((target, entry));
        }
    }
    all.sort_by(|a, b| (&a.0, &a.1.metric).cmp(&(&b.0, &b.1.metric)));
    all.dedup();
    all.truncate(query.limit.unwrap_or(usize::MAX));
    for (target, entry) in &mut all {
        entry.target = Some(label_set_to_fleet(target));
    }
    Ok(all)
}
