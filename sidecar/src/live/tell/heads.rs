//! `thanos.Status`: what the head holds.

use periplus_proto::thanos::{
    HeadStatistics, Statistic, TsdbStatistics, TsdbStatisticsEntry, TsdbStatisticsRequest,
    TsdbStatisticsResponse, tsdb_statistics_response,
};
use serde::Deserialize;
use tonic::Status;

use super::Asking;

/// Entries of each list that Prometheus gives at most.
const LIMIT_MAX: i32 = 10_000;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    head_stats: Head,
    series_count_by_metric_name: Vec<Entry>,
    label_value_count_by_label_name: Vec<Entry>,
    memory_in_bytes_by_label_name: Vec<Entry>,
    series_count_by_label_value_pair: Vec<Entry>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    num_series: u64,
    num_label_pairs: i64,
    chunk_count: i64,
    min_time: i64,
    max_time: i64,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    value: u64,
}

/// The statistics, under the external labels; nothing where the matchers exclude these.
pub(super) async fn answer(
    asking: &Asking<'_>,
    r: &TsdbStatisticsRequest,
) -> Result<Vec<TsdbStatisticsResponse>, Status> {
    let matchers = periplus_proto::convert::matchers_from_thanos(&r.matchers)
        .map_err(|e| Status::invalid_argument(e.to_string()))?;
    if !matchers.iter().all(|m| m.matches(asking.external().value(&m.name))) {
        return Ok(Vec::new());
    }
    let limit = if r.limit <= 0 { 10 } else { r.limit.min(LIMIT_MAX) };
    let parameters = [("limit", limit.to_string())];
    let t: Told = asking.get("TSDB status", "api/v1/status/tsdb", &parameters).await?;
    let list = |all: Vec<Entry>| {
        all.into_iter().map(|e| Statistic { name: e.name, value: e.value }).collect()
    };
    let entry = TsdbStatisticsEntry {
        head_statistics: Some(HeadStatistics {
            num_series: t.head_stats.num_series,
            num_label_pairs: t.head_stats.num_label_pairs,
            chunk_count: t.head_stats.chunk_count,
            min_time: t.head_stats.min_time,
            max_time: t.head_stats.max_time,
        }),
        series_count_by_metric_name: list(t.series_count_by_metric_name),
        label_value_count_by_label_name: list(t.label_value_count_by_label_name),
        memory_in_bytes_by_label_name: list(t.memory_in_bytes_by_label_name),
        series_count_by_label_value_pair: list(t.series_count_by_label_value_pair),
    };
    let key = format!("{:?}", asking.external());
    let statistics = TsdbStatistics { statistics: [(key, entry)].into() };
    let result = tsdb_statistics_response::Result::Statistics(statistics);
    Ok(vec![TsdbStatisticsResponse { result: Some(result) }])
}
