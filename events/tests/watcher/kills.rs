//! A real process with watcher, spool and forwarder, killed again and again under load, while the hub fails too:
//! in the end the hub has the truth.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use parking_lot::Mutex;
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_events::apiserver::{Server, ServerConfig, Store};
use periplus_events::event::Event;
use periplus_events::watch::api::Resource;
use periplus_events::watch::service::{self, WatchArgs};
use periplus_events::wire::{Ack, Batch, Encoding, Gap, VERSION, WireLimits};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use crate::longrun::{apply, check, steps, truth};
use crate::rows::until;

/// What the watcher's process is told.
const CHILD: &str = "PERIPLUS_TEST_WATCHER";

#[derive(Default)]
struct Hub {
    rows: BTreeMap<String, Event>,
    gaps: BTreeMap<String, Gap>,
    batches: u64,
    down: bool,
}

type SharedHub = Arc<Mutex<Hub>>;

/// Takes batches as the real hub does, but fails often: before it takes one, and after.
async fn ingest(State(hub): State<SharedHub>, body: Bytes) -> Response {
    let Ok(batch) = Batch::decode(&body, Encoding::Zstd, &WireLimits::default()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut hub = hub.lock();
    hub.batches += 1;
    if hub.down || hub.batches % 5 == 0 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    for event in batch.events {
        hub.rows
            .entry(event.uid.clone())
            .and_modify(|e| {
                let _changed = e.merge(&event);
            })
            .or_insert(event);
    }
    for gap in batch.gaps {
        hub.gaps.insert(gap.id.clone(), gap);
    }
    if hub.batches % 3 == 0 {
        // Taken, but the acknowledgement is lost.
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let ack = Ack { version: VERSION, sequence: batch.sequence, ..Ack::default() };
    axum::Json(ack).into_response()
}

async fn hub() -> (String, SharedHub) {
    let hub = SharedHub::default();
    let router = Router::new().route("/api/v1/events", post(ingest)).with_state(Arc::clone(&hub));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, hub)
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    watch: WatchArgs,
}

/// The body of the process that is killed; nothing where it is not one.
#[test]
fn child() {
    let Ok(line) = std::env::var(CHILD) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let args = std::iter::once("watcher").chain(line.split(' '));
        let args = <Line as clap::Parser>::try_parse_from(args).unwrap().watch;
        let (admin, drain) = (Admin::new("events", "0", "0"), Drain::new());
        service::start(&args, "eu-1", &admin, &drain).await.unwrap();
        std::future::pending::<()>().await;
    });
}

pub(crate) struct Killed(Child);

impl Killed {
    pub(crate) fn start(line: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::child", "--nocapture"])
            .env(CHILD, line)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_under_load() {
    let Some(steps) = steps(Resource::Core) else { return };
    let end = CancellationToken::new();
    let store = Arc::new(Store::default());
    let config = ServerConfig { minor: 30, ..ServerConfig::default() };
    let server = Server::start(config, Arc::clone(&store), end.clone()).await.unwrap();
    let (hub_url, hub) = hub().await;
    let directory = tempfile::tempdir().unwrap();
    let line = format!(
        "--hub {hub_url} --api-server {} --spool {} --all --message-bytes 1048576",
        server.url(),
        directory.path().display()
    );
    let mut random = StdRng::seed_from_u64(3);
    let mut process = Killed::start(&line);
    // A first list, so that all that follows is seen.
    while store.resource_version() + 1 < steps[0].version {
        store.tick();
    }
    until("a watch is open", || server.faults.watches() > 0).await;
    let (mut at, mut kills) = (0, 0);
    while at < steps.len() {
        let next = (at + random.random_range(20..200)).min(steps.len());
        for step in &steps[at..next] {
            apply(&store, step);
        }
        at = next;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        hub.lock().down = random.random_bool(0.3);
        drop(process);
        kills += 1;
        process = Killed::start(&line);
        if random.random_bool(0.5) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        }
    }
    hub.lock().down = false;
    let truth = truth();
    let complete = || {
        let hub = hub.lock();
        hub.rows.len() == truth.len()
            && truth.iter().all(|(uid, t)| {
                let last = t.writes.values().next_back().map(|w| (w.count, w.last_us));
                hub.rows.get(uid).map(|r| (i64::from(r.count), r.last_us)) == last
            })
    };
    until("the hub has everything", complete).await;
    assert!(kills >= 15, "{kills}");
    check(&hub.lock().rows, &truth, &[], "after kills");
    assert!(hub.lock().gaps.is_empty(), "nothing was lost: {:?}", hub.lock().gaps);
    drop(process);
    end.cancel();
}
