//! `thanos.Targets`.

use std::collections::{BTreeMap, HashMap};

use periplus_proto::thanos::targets_request::State;
use periplus_proto::thanos::{
    ActiveTarget, DroppedTarget, TargetDiscovery, TargetHealth, TargetsRequest, TargetsResponse,
    targets_response,
};
use serde::Deserialize;
use tonic::Status;

use super::{Asking, plain, times};

/// Targets in one message.
const BATCH: usize = 500;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Discovery {
    active_targets: Vec<Active>,
    dropped_targets: Vec<Dropped>,
    dropped_target_counts: Option<HashMap<String, i64>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Active {
    discovered_labels: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    scrape_pool: String,
    scrape_url: String,
    global_url: String,
    last_error: String,
    last_scrape: String,
    last_scrape_duration: f64,
    health: String,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Dropped {
    discovered_labels: BTreeMap<String, String>,
    scrape_pool: String,
}

/// The targets that are asked for.
pub(super) async fn answer(
    asking: &Asking<'_>,
    r: &TargetsRequest,
) -> Result<Vec<TargetsResponse>, Status> {
    let state = match r.state() {
        State::Any => "any",
        State::Active => "active",
        State::Dropped => "dropped",
    };
    let mut parameters = vec![("state", state.to_owned())];
    if !r.scrape_pool.is_empty() {
        parameters.push(("scrapePool", r.scrape_pool.clone()));
    }
    let found: Discovery = asking.get("targets", "api/v1/targets", &parameters).await?;
    // Versions before 2.44 pass over the pool.
    let pool = |name: &str| r.scrape_pool.is_empty() || name == r.scrape_pool;
    let active: Vec<ActiveTarget> = (found.active_targets.into_iter())
        .filter(|t| pool(&t.scrape_pool))
        .map(|t| convert(asking, t))
        .collect();
    let dropped: Vec<DroppedTarget> = (found.dropped_targets.into_iter())
        .filter(|t| t.scrape_pool.is_empty() || pool(&t.scrape_pool))
        .map(|t| DroppedTarget {
            // As discovered: a dropped target never becomes a series, and gets no external label.
            discovered_labels: Some(plain(&t.discovered_labels)),
            scrape_pool: t.scrape_pool,
        })
        .collect();
    let mut out = vec![message(TargetDiscovery {
        dropped_target_counts: found.dropped_target_counts.unwrap_or_default(),
        ..TargetDiscovery::default()
    })];
    for some in active.chunks(BATCH) {
        out.push(message(TargetDiscovery {
            active_targets: some.to_vec(),
            ..TargetDiscovery::default()
        }));
    }
    for some in dropped.chunks(BATCH) {
        out.push(message(TargetDiscovery {
            dropped_targets: some.to_vec(),
            ..TargetDiscovery::default()
        }));
    }
    Ok(out)
}

fn message(targets: TargetDiscovery) -> TargetsResponse {
    TargetsResponse { result: Some(targets_response::Result::Targets(targets)) }
}

fn convert(asking: &Asking<'_>, t: Active) -> ActiveTarget {
    let health = match t.health.as_str() {
        "up" => TargetHealth::Up,
        "down" => TargetHealth::Down,
        _ => TargetHealth::Unknown,
    };
    ActiveTarget {
        discovered_labels: Some(plain(&t.discovered_labels)),
        labels: Some(asking.shown(&t.labels)),
        scrape_pool: t.scrape_pool,
        scrape_url: t.scrape_url,
        global_url: t.global_url,
        last_error: t.last_error,
        last_scrape: times::parse_or_zero(&t.last_scrape),
        last_scrape_duration: t.last_scrape_duration,
        health: health.into(),
        scrape_interval: t.scrape_interval,
        scrape_timeout: t.scrape_timeout,
    }
}
