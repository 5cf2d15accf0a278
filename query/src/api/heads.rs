//! `status/tsdb` over all heads of the fleet, and `cardinality`: the same by metric, label, pair or cluster.

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::Response;
use periplus_proto::thanos::HeadStatistics;

use super::Api;
use super::about::{ask, counted, send};
use super::error::ApiError;
use super::json::Writer;
use super::params::Params;
use crate::about::heads::{
    ENTRIES_MAX, Head, by_bytes, by_label, by_metric, by_pair, heads as gather, sum,
};

/// Every head is asked for this many times the entries that are shown, and for no fewer than
/// [`ENTRIES_MIN`], so that what is large in sum is found though it is large nowhere.
const MARGIN: usize = 10;
const ENTRIES_MIN: usize = 100;

fn limit(p: &Params) -> Result<usize, ApiError> {
    let text = p.get("limit");
    if text.is_empty() {
        return Ok(10);
    }
    match text.parse::<i64>().ok().and_then(|n| usize::try_from(n).ok()) {
        Some(n @ 1..=ENTRIES_MAX) => Ok(n),
        Some(1..) => Err(ApiError::bad_data(format!("limit must not exceed {ENTRIES_MAX}"))),
        _ => Err(ApiError::bad_data("limit must be a positive number")),
    }
}

fn entries(limit: usize) -> usize {
    limit.saturating_mul(MARGIN).clamp(ENTRIES_MIN, ENTRIES_MAX)
}

fn pairs(w: &mut Writer, all: &[(String, u64)]) {
    w.list(all, |w, (name, n)| {
        w.raw(b"{");
        w.text_field("name", name);
        w.field("value");
        w.integer(i64::try_from(*n).unwrap_or(i64::MAX));
        w.raw(b"}");
    });
}

pub(super) async fn tsdb(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let limit = limit(&p)?;
        let asked = ask(&api, &p)?;
        let found = gather(&asked.question, &[], entries(limit)).await;
        let heads = counted(&api, &asked, found)?;
        let all = total(&heads);
        let mut w = Writer::new();
        w.raw(b"{");
        w.field("headStats");
        w.raw(b"{");
        w.field("numSeries");
        w.integer(i64::try_from(all.num_series).unwrap_or(i64::MAX));
        w.field("numLabelPairs");
        w.integer(all.num_label_pairs);
        w.field("chunkCount");
        w.integer(all.chunk_count);
        w.field("minTime");
        w.integer(all.min_time);
        w.field("maxTime");
        w.integer(all.max_time);
        w.raw(b"}");
        w.field("seriesCountByMetricName");
        pairs(&mut w, &sum(&heads, by_metric, limit));
        w.field("labelValueCountByLabelName");
        pairs(&mut w, &sum(&heads, by_label, limit));
        w.field("memoryInBytesByLabelName");
        pairs(&mut w, &sum(&heads, by_bytes, limit));
        w.field("seriesCountByLabelValuePair");
        pairs(&mut w, &sum(&heads, by_pair, limit));
        w.raw(b"}");
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

/// All heads together; the times of an empty fleet are those of an empty head.
fn total(heads: &[Head]) -> HeadStatistics {
    let mut all = HeadStatistics { min_time: i64::MAX, max_time: i64::MIN, ..Default::default() };
    for h in heads.iter().filter_map(|h| h.entry.head_statistics) {
        all.num_series = all.num_series.saturating_add(h.num_series);
        all.num_label_pairs = all.num_label_pairs.saturating_add(h.num_label_pairs);
        all.chunk_count = all.chunk_count.saturating_add(h.chunk_count);
        all.min_time = all.min_time.min(h.min_time);
        all.max_time = all.max_time.max(h.max_time);
    }
    all
}

/// Series by `by` (metric, label, pair or cluster), the largest first, of the clusters that `match[]` selects
/// by external labels; each entry with its share in every cluster.
pub(super) async fn cardinality(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
) -> Response<Body> {
    let run = async {
        let p = Params::new(b"", address.as_deref().unwrap_or_default())?;
        let limit = limit(&p)?;
        let by = p.get("by");
        let list: crate::about::heads::List = match by {
            "" | "metric" | "cluster" => by_metric,
            "label" => by_label,
            "pair" => by_pair,
            other => {
                let text = format!("{other:?} is none of metric, label, pair, cluster");
                return Err(ApiError::parameter("by", text));
            }
        };
        let matchers: Vec<_> = p.matches()?.into_iter().flatten().collect();
        let asked = ask(&api, &p)?;
        let found = gather(&asked.question, &matchers, entries(limit)).await;
        let heads = counted(&api, &asked, found)?;
        let mut w = Writer::new();
        w.raw(b"{");
        w.text_field("by", if by.is_empty() { "metric" } else { by });
        w.field("series");
        w.integer(i64::try_from(total(&heads).num_series).unwrap_or(i64::MAX));
        w.field("entries");
        match by {
            "cluster" => clusters(&mut w, &heads, limit),
            _ => each(&mut w, &heads, list, limit),
        }
        w.raw(b"}");
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

fn clusters(w: &mut Writer, heads: &[Head], limit: usize) {
    let series = |h: &Head| h.entry.head_statistics.map_or(0, |s| s.num_series);
    let mut sorted: Vec<&Head> = heads.iter().collect();
    sorted.sort_by_key(|h| std::cmp::Reverse(series(h)));
    w.list(sorted.into_iter().take(limit), |w, h| {
        w.raw(b"{");
        w.text_field("name", &h.name);
        w.field("labels");
        w.labels(&h.labels);
        w.field("value");
        w.integer(i64::try_from(series(h)).unwrap_or(i64::MAX));
        w.raw(b"}");
    });
}

fn each(w: &mut Writer, heads: &[Head], list: crate::about::heads::List, limit: usize) {
    w.list(sum(heads, list, limit), |w, (name, n)| {
        w.raw(b"{");
        w.text_field("name", &name);
        w.field("value");
        w.integer(i64::try_from(n).unwrap_or(i64::MAX));
        w.field("clusters");
        w.raw(b"{");
        for h in heads {
            if let Some(s) = list(&h.entry).iter().find(|s| s.name == name) {
                w.field(&h.name);
                w.integer(i64::try_from(s.value).unwrap_or(i64::MAX));
            }
        }
        w.raw(b"}");
        w.raw(b"}");
    });
}
