//! Serves the simulated fleet's targets over HTTP, as their exporters would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use periplus_simfleet::{Fleet, Series, Target, exposition};

/// How far ahead series are worked out; within it a scrape only evaluates them.
const AHEAD_MS: i64 = 600_000;

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// One target and the series it serves until `until_ms`.
struct Served {
    path: String,
    cluster: usize,
    target: Target,
    ready: Mutex<(i64, Arc<Vec<Series>>)>,
}

struct Exporter {
    fleet: Fleet,
    served: Vec<Served>,
}

/// The path of a cluster's target.
pub(crate) fn path(fleet: &Fleet, cluster: usize, target: Target) -> String {
    let cluster = &fleet.clusters()[cluster];
    format!("/clusters/{}{}", cluster.name(), cluster.target_path(target))
}

/// Starts serving on a free loopback port; ends with the process.
pub(crate) async fn start(fleet: Fleet) -> anyhow::Result<SocketAddr> {
    let mut served = Vec::new();
    for (cluster, c) in fleet.clusters().iter().enumerate() {
        for target in c.targets() {
            let ready = Mutex::new((i64::MIN, Arc::default()));
            served.push(Served { path: path(&fleet, cluster, target), cluster, target, ready });
        }
    }
    served.sort_by(|a, b| a.path.cmp(&b.path));
    let app = axum::Router::new()
        .route("/{*path}", axum::routing::get(scrape))
        .with_state(Arc::new(Exporter { fleet, served }));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("listening on a free loopback port for the simulated exporters")?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(addr)
}

async fn scrape(State(exporter): State<Arc<Exporter>>, Path(path): Path<String>) -> Response {
    let path = format!("/{path}");
    let Ok(i) = exporter.served.binary_search_by(|s| s.path.cmp(&path)) else {
        return (StatusCode::NOT_FOUND, "no such target\n").into_response();
    };
    let (served, now) = (&exporter.served[i], now_ms());
    let cluster = &exporter.fleet.clusters()[served.cluster];
    if !cluster.is_up(served.target, now) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the node reboots\n").into_response();
    }
    let series = {
        let mut ready = served.ready.lock();
        if now >= ready.0 {
            let all = cluster.series(served.target, now, now + AHEAD_MS);
            *ready = (now + AHEAD_MS, Arc::new(all));
        }
        Arc::clone(&ready.1)
    };
    let text = exposition::text(&series, now);
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response()
}
