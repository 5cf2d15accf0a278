//! The whole way in real processes: API server, watcher, a network that is cut, the real hub. Both are killed again and
//! again under load; in the end the hub answers with the truth.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use periplus_events::Event;
use periplus_events::apiserver::{Server, ServerConfig, Store};
use periplus_events::watch::api::Resource;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::hub::Process;
use crate::kills::Killed;
use crate::longrun::{apply, check, steps, truth};
use crate::rows::until;

/// A network between watcher and hub: the hub's address stays the same for the watcher, and the way to it can be cut.
#[derive(Clone)]
struct Network {
    address: SocketAddr,
    way: Arc<Mutex<Way>>,
}

#[derive(Default)]
struct Way {
    /// Where the hub is; `None`: nobody gets through.
    to: Option<SocketAddr>,
    /// Ends the connections there are.
    cut: CancellationToken,
    connections: u64,
}

impl Network {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let network = Self { address, way: Arc::default() };
        let way = Arc::clone(&network.way);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, cut) = {
                    let mut way = way.lock();
                    way.connections += 1;
                    (way.to, way.cut.clone())
                };
                let Some(to) = to else { continue };
                tokio::spawn(cut.run_until_cancelled_owned(async move {
                    if let Ok(mut far) = TcpStream::connect(to).await {
                        let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                }));
            }
        });
        network
    }

    /// Leads there from now on; whatever was under way is torn.
    fn lead(&self, to: Option<&str>) {
        let mut way = self.way.lock();
        way.to = to.map(|url| url.strip_prefix("http://").unwrap().parse().unwrap());
        std::mem::take(&mut way.cut).cancel();
    }
}

/// All rows of a hub, and how many of them were there twice. (While rows change, one may move from page to page.)
async fn rows(client: &reqwest::Client, url: &str) -> (BTreeMap<String, Event>, usize) {
    let (mut out, mut twice, mut cursor) = (BTreeMap::new(), 0, String::new());
    loop {
        let page = get(client, &format!("{url}/api/v1/events?limit=5000{cursor}")).await;
        assert_eq!(page["warnings"], Value::Null, "{page}");
        for row in page["data"]["events"].as_array().unwrap() {
            let event: Event = serde_json::from_value(row.clone()).unwrap();
            assert_eq!(event.cluster, "eu-1");
            twice += usize::from(out.insert(event.uid.clone(), event).is_some());
        }
        match page["data"]["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (out, twice),
        }
    }
}

async fn get(client: &reqwest::Client, url: &str) -> Value {
    let text = client.get(url).send().await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{url}: {e}: {text}"))
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
}

/// What runs, and is killed.
struct Fleet {
    random: StdRng,
    network: Network,
    hub_data: tempfile::TempDir,
    hub: Option<Process>,
    spool: tempfile::TempDir,
    line: String,
    watcher: Option<Killed>,
}

impl Fleet {
    async fn start(server: &Server) -> Self {
        let network = Network::start().await;
        let (hub_data, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let line = format!(
            "--hub http://{} --api-server {} --spool {} --all --cluster eu-1",
            network.address,
            server.url(),
            spool.path().join("spool").display()
        );
        let random = StdRng::seed_from_u64(11);
        let mut fleet = Self { random, network, hub_data, hub: None, spool, line, watcher: None };
        fleet.start_hub().await;
        fleet.watcher = Some(Killed::start(&fleet.line));
        fleet
    }

    async fn start_hub(&mut self) {
        let hub = Process::start(self.hub_data.path()).await;
        self.network.lead(Some(&hub.url));
        self.hub = Some(hub);
    }

    /// One calamity.
    async fn strike(&mut self, kills: &mut BTreeMap<&'static str, u32>) {
        let what = ["hub", "watcher", "both", "network", "watcher"][self.random.random_range(0..5)];
        *kills.entry(what).or_default() += 1;
        match what {
            "network" => {
                self.network.lead(None);
                tokio::time::sleep(Duration::from_millis(self.random.random_range(0..300))).await;
                let url = self.hub.as_ref().map(|hub| hub.url.clone());
                self.network.lead(url.as_deref());
            }
            "hub" => {
                self.hub = None;
                self.start_hub().await;
            }
            "watcher" => {
                self.watcher = None;
                self.watcher = Some(Killed::start(&self.line));
            }
            _ => {
                (self.hub, self.watcher) = (None, None);
                self.watcher = Some(Killed::start(&self.line));
                tokio::time::sleep(Duration::from_millis(self.random.random_range(0..200))).await;
                self.start_hub().await;
            }
        }
    }

    /// The watcher's machine is replaced by an older backup of it.
    fn restore(&mut self, backup: &Path) {
        self.watcher = None;
        copy(backup, &self.spool.path().join("spool"));
        self.watcher = Some(Killed::start(&self.line));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watcher_hub_and_network_fail_and_the_hub_has_the_truth() {
    let Some(steps) = steps(Resource::Core) else { return };
    let end = CancellationToken::new();
    let store = Arc::new(Store::default());
    let config = ServerConfig { minor: 30, ..ServerConfig::default() };
    let server = Server::start(config, Arc::clone(&store), end.clone()).await.unwrap();
    while store.resource_version() + 1 < steps[0].version {
        store.tick();
    }
    let client = reqwest::Client::new();
    let mut fleet = Fleet::start(&server).await;
    // A first list, so that all that follows is seen.
    until("a watch is open", || server.faults.watches() > 0).await;
    let backup = tempfile::tempdir().unwrap();
    let backup = backup.path().join("spool");
    let (mut at, mut rounds, mut kills) = (0, 0, BTreeMap::new());
    while at < steps.len() {
        let next = (at + fleet.random.random_range(60..360)).min(steps.len());
        for step in &steps[at..next] {
            apply(&store, step);
        }
        at = next;
        let pause = fleet.random.random_range(0..250);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        rounds += 1;
        match rounds {
            4 => {
                fleet.watcher = None;
                copy(&fleet.spool.path().join("spool"), &backup);
                fleet.watcher = Some(Killed::start(&fleet.line));
            }
            12 => fleet.restore(&backup),
            _ => fleet.strike(&mut kills).await,
        }
    }
    assert!(rounds > 12 && kills.len() == 4, "{rounds} rounds, {kills:?}");
    let truth = truth();
    let url = fleet.hub.as_ref().unwrap().url.clone();
    let began = Instant::now();
    let got = loop {
        let (got, twice) = rows(&client, &url).await;
        let is_last = |uid: &str, row: &Event| {
            let last = truth.get(uid).and_then(|t| t.writes.values().next_back());
            last.is_some_and(|w| (w.count, w.last_us) == (i64::from(row.count), row.last_us))
        };
        let all = got.len() == truth.len() && got.iter().all(|(uid, row)| is_last(uid, row));
        if all && twice == 0 {
            break got;
        }
        let so_far = format!("{} of {} rows, {twice} twice", got.len(), truth.len());
        assert!(began.elapsed() < Duration::from_secs(150), "{so_far}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    check(&got, &truth, &[], "after kills");
    let gaps = get(&client, &format!("{url}/api/v1/events/gaps")).await;
    assert_eq!(gaps["data"], serde_json::json!([]), "nothing was lost");
    assert!(fleet.network.way.lock().connections > 5);
    end.cancel();
}
