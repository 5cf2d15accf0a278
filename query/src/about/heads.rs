//! What heads hold: how many series by metric, label and cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_model::{Labels, Matcher};
use periplus_promql::engine::QueryError;
use periplus_promql::parse::parse_metric_selector;
use periplus_proto::thanos::status_client::StatusClient;
use periplus_proto::thanos::tsdb_statistics_response::Result as Frame;
use periplus_proto::thanos::{Statistic, TsdbStatisticsEntry, TsdbStatisticsRequest};
use prost::Message;

use super::ask::{drain, everyone};
use super::strategy;
use crate::fanout::Question;
use crate::plan::parts_matching;

/// Entries of each list that one Prometheus gives at most.
pub const ENTRIES_MAX: usize = 10_000;

/// What one stream holds.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its name: the external labels as a selector, or what a Thanos endpoint calls its tenant.
    pub name: String,
    /// Its external labels without replica labels.
    pub labels: Labels,
    /// The figures.
    pub entry: TsdbStatisticsEntry,
}

/// The heads of all streams that `matchers` on external labels select, in order of labels. Of replicas the
/// one with more series is taken. `entries` bounds each list.
///
/// # Errors
/// With a strict question somebody is missing.
pub async fn heads(
    q: &Arc<Question>,
    matchers: &[Matcher],
    entries: usize,
) -> Result<Vec<Head>, QueryError> {
    let request = TsdbStatisticsRequest {
        limit: i32::try_from(entries.min(ENTRIES_MAX)).unwrap_or(i32::MAX),
        partial_response_strategy: strategy(q),
        matchers: periplus_proto::convert::matchers_to_thanos(matchers),
        ..TsdbStatisticsRequest::default()
    };
    let parts = parts_matching(&q.fleet, matchers);
    let found = everyone(q, Some(&parts), |_, channel| {
        let (request, q) = (request.clone(), Arc::clone(q));
        async move {
            let mut client = StatusClient::new(channel)
                .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
            let stream = client.tsdb_statistics(request).await?.into_inner();
            let mut all = Vec::new();
            drain(stream, Message::encoded_len, |m| match m.result {
                Some(Frame::Statistics(s)) => all.extend(s.statistics),
                Some(Frame::Warning(w)) => q.notes.warn(w),
                None => {}
            })
            .await?;
            Ok(all)
        }
    })
    .await?;
    let mut all: BTreeMap<(Labels, String), Head> = BTreeMap::new();
    for (name, entry) in found.into_iter().flat_map(|(_, all)| all) {
        let labels = labels_of(&name).filter(|n| !q.fleet.replica_labels.iter().any(|r| r == n));
        if !matchers.iter().all(|m| m.matches(labels.value(&m.name))) {
            continue;
        }
        let name = if labels.is_empty() { name } else { format!("{labels:?}") };
        let series = |e: &TsdbStatisticsEntry| e.head_statistics.map_or(0, |h| h.num_series);
        let head = Head { name: name.clone(), labels: labels.clone(), entry };
        let there = all.entry((labels, name)).or_insert_with(|| head.clone());
        if series(&head.entry) > series(&there.entry) {
            *there = head;
        }
    }
    Ok(all.into_values().collect())
}

/// `{cluster="a"}` as labels; a name of another kind gives none.
fn labels_of(name: &str) -> Labels {
    let Ok(matchers) = parse_metric_selector(name) else { return Labels::empty() };
    let pairs =
        matchers.into_iter().map(|m| (m.name, String::from_utf8_lossy(&m.value).into_owned()));
    Labels::from_pairs(pairs)
}

/// One of the lists that a head comes with.
pub type List = fn(&TsdbStatisticsEntry) -> &[Statistic];

/// Series by metric name.
pub fn by_metric(e: &TsdbStatisticsEntry) -> &[Statistic] {
    &e.series_count_by_metric_name
}

/// Values by label name.
pub fn by_label(e: &TsdbStatisticsEntry) -> &[Statistic] {
    &e.label_value_count_by_label_name
}

/// Bytes by label name.
pub fn by_bytes(e: &TsdbStatisticsEntry) -> &[Statistic] {
    &e.memory_in_bytes_by_label_name
}

/// Series by label and value.
pub fn by_pair(e: &TsdbStatisticsEntry) -> &[Statistic] {
    &e.series_count_by_label_value_pair
}

/// A list of all heads together, the largest first, at most `limit`. Each head tells its own largest only, so
/// what is small in every cluster may be left out; `heads` asks for more than is shown for that reason.
#[must_use]
pub fn sum(heads: &[Head], list: List, limit: usize) -> Vec<(String, u64)> {
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    for s in heads.iter().flat_map(|h| list(&h.entry)) {
        let there = all.entry(&s.name).or_default();
        *there = there.saturating_add(s.value);
    }
    let mut out: Vec<(String, u64)> = all.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    out.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    out.truncate(limit);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_heads() {
        let labels = labels_of(r#"{cluster="a", replica="0"}"#);
        assert_eq!(labels, Labels::from_pairs([("cluster", "a"), ("replica", "0")]));
        assert!(labels_of("default-tenant{").is_empty());
    }

    #[test]
    fn sums_over_clusters() {
        let head = |name: &str, metrics: &[(&str, u64)]| {
            let one = |(n, v): &(&str, u64)| Statistic { name: (*n).into(), value: *v };
            let entry = TsdbStatisticsEntry {
                series_count_by_metric_name: metrics.iter().map(one).collect(),
                ..TsdbStatisticsEntry::default()
            };
            Head { name: name.into(), labels: Labels::empty(), entry }
        };
        let heads = [head("a", &[("up", 3), ("x", 9)]), head("b", &[("up", 7), ("y", 9)])];
        let expect = [("up".to_owned(), 10), ("x".to_owned(), 9)];
        assert_eq!(sum(&heads, by_metric, 2), expect);
    }
}
