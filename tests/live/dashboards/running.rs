//! A running fleet to show on dashboards: clusters of simulated nodes and pods behind real Prometheus servers, each with
//! a sidecar that ships and watches events, and one more in the centre that scrapes what runs there: query process with
//! the rules that ship, events hub, compactor.

use std::path::Path;
use std::time::Duration;

use periplus_daemon::drain::Drain;
use periplus_events::apiserver::simulated;
use periplus_simfleet::{Cluster, Fleet, FleetConfig, ScrapeConfig, Target};
use serde_json::{Value, json};

use super::files::{Board, Source};
use crate::ask::client;
use crate::place::Place;
use crate::process::{Process, free_port};
use crate::product::{self, Query, Sidecar};
use crate::prometheus::{Flavour, Prometheus, SeriesData, flavours};

const MINUTE_MS: i64 = 60_000;
/// How much of the simulation each Prometheus is given before it scrapes: it takes no more than an hour.
const PAST_MS: i64 = 55 * MINUTE_MS;
const CLUSTERS: u32 = 2;

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("a time after 1970").as_millis()).expect("a time")
}

/// Whom the dashboards of one cluster, node and pod are opened for.
struct Subject {
    cluster: usize,
    namespace: String,
    pod: String,
    node: String,
}

/// The first simulated fleet that has, in the last hour, a pod that restarted and has run since, and an error
/// about a node: the fleet is a function of seed and time, and the test runs at any time.
fn fleet_with_trouble(now: i64) -> (Fleet, Subject) {
    for seed in 1..5_000 {
        let fleet = Fleet::new(FleetConfig { seed, clusters: CLUSTERS, nodes: 2, pods: 24 });
        let found = fleet.clusters().iter().enumerate().find_map(|(n, c)| trouble(n, c, now));
        if let Some(subject) = found {
            return (fleet, subject);
        }
    }
    panic!("no fleet has a pod that restarted and a node with an error in the last hour");
}

fn trouble(cluster: usize, of: &Cluster, now: i64) -> Option<Subject> {
    let events = of.events(now - PAST_MS + 5 * MINUTE_MS, now - 6 * MINUTE_MS);
    let node = events.iter().find(|e| e.regarding.kind == "Node" && e.type_ == "Warning")?;
    // What happens to it until the test has ended.
    let quiet = of.events(now - 6 * MINUTE_MS, now + 15 * MINUTE_MS);
    let pod = events.iter().find(|e| {
        e.reason == "BackOff"
            && !quiet.iter().any(|q| q.regarding.name == e.regarding.name)
            && lives(of, &e.regarding.name, now)
            && lives(of, &e.regarding.name, now + 15 * MINUTE_MS)
    })?;
    Some(Subject {
        cluster,
        namespace: pod.namespace.to_owned(),
        pod: pod.regarding.name.clone(),
        node: node.regarding.name.clone(),
    })
}

fn lives(cluster: &Cluster, pod: &str, at: i64) -> bool {
    cluster.series(Target::KubeState, at, at + 1).iter().any(|s| {
        s.family.name == "kube_pod_container_status_running"
            && s.labels.get("pod") == Some(pod)
            && s.at(at) == Some(1.0)
    })
}

/// Everything, ended when dropped.
pub(super) struct Running {
    query: Query,
    hub: String,
    prometheus: Vec<Prometheus>,
    sidecars: Vec<Sidecar>,
    _others: Vec<Process>,
    _servers: Drain,
    fleet: Fleet,
    subject: Subject,
    stored_until: i64,
}

/// A Prometheus that scrapes what is written into `<name>.json` later.
async fn prometheus(
    flavour: &Flavour,
    name: &str,
    external: &[(String, String)],
    dir: &Path,
) -> Prometheus {
    let labels: String = external.iter().map(|(n, v)| format!("    {n}: '{v}'\n")).collect();
    let targets = dir.join(format!("{name}.json"));
    std::fs::write(&targets, "[]").expect("a file of targets");
    let config = format!(
        "global:\n  scrape_interval: 2s\n  external_labels:\n{labels}scrape_configs:\n\
         - job_name: periplus\n  file_sd_configs:\n  - files: ['{}']\n    refresh_interval: 1s\n",
        targets.display()
    );
    Prometheus::start_with(flavour, name, &config, &[], dir).await
}

/// Has it scrape admin listeners, each under a job's name.
fn scrape(name: &str, targets: &[(&str, &str)], dir: &Path) {
    let one = |(job, admin): &(&str, &str)| {
        let host = admin.trim_start_matches("http://");
        json!({"targets": [host], "labels": {"job": format!("periplus-{job}")}})
    };
    let all: Vec<Value> = targets.iter().map(one).collect();
    // Put in place at once, so that none reads a half.
    let (new, file) = (dir.join(format!("{name}.new")), dir.join(format!("{name}.json")));
    std::fs::write(&new, json!(all).to_string()).expect("targets");
    std::fs::rename(new, file).expect("targets");
}

/// The rules that ship, evaluated more often.
fn rules(dir: &Path) -> String {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/rules");
    let own = dir.join("rules");
    std::fs::create_dir(&own).expect("a directory");
    for file in std::fs::read_dir(shipped).expect("rules") {
        let file = file.expect("an entry").path();
        if file.extension().is_some_and(|e| e == "yml") {
            let text = std::fs::read_to_string(&file).expect("rules");
            let text = text
                .replace("interval: 30s", "interval: 2s")
                .replace("interval: 1m", "interval: 8s");
            std::fs::write(own.join(file.file_name().expect("a name")), text).expect("rules");
        }
    }
    own.join("*.yml").display().to_string()
}

impl Running {
    /// Starts it all; the simulated past is stored.
    pub(super) async fn start(dir: &Path) -> Self {
        let flavour = flavours().pop().expect("a prometheus");
        let now = now_ms();
        let (fleet, subject) = fleet_with_trouble(now);
        let servers = Drain::new();
        let path = |name: &str| dir.join(name).display().to_string();
        let bucket = format!("file://{}", path("bucket"));
        std::fs::create_dir(dir.join("bucket")).expect("a directory");

        let (hub_http, hub_grpc) = (free_port(), free_port());
        let hub = format!("http://127.0.0.1:{hub_http}");
        let (listen, grpc) = (format!("127.0.0.1:{hub_http}"), format!("127.0.0.1:{hub_grpc}"));
        let args = ["events", "hub", "--listen", &listen, "--grpc", &grpc, "--data", &path("hub")];
        let (hub_process, hub_admin) = product::start("hub", &args, dir).await;
        let args = ["compactor", "--bucket", &bucket, "--interval", "2s"];
        let (compactor, compactor_admin) = product::start("compactor", &args, dir).await;

        let (mut servers_of, mut sidecars) = (Vec::new(), Vec::new());
        for cluster in fleet.clusters() {
            let name = cluster.name();
            let labels = cluster.external_labels();
            let external: Vec<_> =
                labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            let p = prometheus(&flavour, name, &external, dir).await;
            p.store(&samples(cluster, now - PAST_MS, now)).await;
            let api = simulated::start(cluster, &servers).await.expect("an API server");
            let (tsdb, api, spool) =
                (p.tsdb().display().to_string(), api.url(), path(&format!("{name}-spool")));
            let more = [
                "--tsdb",
                &tsdb,
                "--bucket",
                &bucket,
                "--events-hub",
                &hub,
                "--api-server",
                &api,
                "--spool",
                &spool,
            ];
            let place = Place::loopback();
            let s = Sidecar::start(&format!("{name}-sidecar"), &p.url, &more, &place, dir).await;
            scrape(name, &[("sidecar", s.admin.as_str())], dir);
            servers_of.push(p);
            sidecars.push(s);
        }
        let external = [("cluster".to_owned(), "centre".to_owned())];
        let p = prometheus(&flavour, "centre", &external, dir).await;
        let s = Sidecar::start("centre-sidecar", &p.url, &[], &Place::loopback(), dir).await;
        servers_of.push(p);
        sidecars.push(s);

        let mut endpoints: Vec<&str> = sidecars.iter().map(|s| s.grpc.as_str()).collect();
        endpoints.push(&grpc);
        let (rules, data) = (rules(dir), path("query-data"));
        let more = ["--rules", &rules, "--data", &data, "--probe-interval", "500ms"];
        let query = Query::start("query", &endpoints, &more, dir).await;
        let centre = [
            ("query", query.admin.as_str()),
            ("hub", hub_admin.as_str()),
            ("compactor", compactor_admin.as_str()),
            ("sidecar", sidecars[sidecars.len() - 1].admin.as_str()),
        ];
        scrape("centre", &centre, dir);
        Self {
            query,
            hub,
            prometheus: servers_of,
            sidecars,
            _others: vec![hub_process, compactor],
            _servers: servers,
            fleet,
            subject,
            stored_until: now,
        }
    }

    /// Stores what the simulated fleet has done since; gives the time until which it is stored.
    pub(super) async fn advance(&mut self) -> i64 {
        let now = now_ms();
        for (cluster, p) in self.fleet.clusters().iter().zip(&self.prometheus) {
            p.store(&samples(cluster, self.stored_until, now)).await;
        }
        self.stored_until = now;
        now
    }

    /// What a dashboard's variables are set to: all, or the subject where there is one to choose.
    pub(super) fn values<'a>(&self, board: &'a Board) -> Vec<(&'a str, String)> {
        let s = &self.subject;
        let one = !matches!(board.uid.as_str(), "periplus-fleet" | "periplus-events");
        let value = |name: &str| match name {
            "cluster" if one => self.fleet.clusters()[s.cluster].name().to_owned(),
            "namespace" if one => s.namespace.clone(),
            "pod" => s.pod.clone(),
            "node" => s.node.clone(),
            "namespace" => ".*".to_owned(),
            _ => ".+".to_owned(),
        };
        board.variables.iter().map(|v| (v.name.as_str(), value(&v.name))).collect()
    }

    /// An answer of the query process or of the hub, at a time or over the half hour before it.
    pub(super) async fn ask(
        &self,
        source: Source,
        instant: bool,
        text: &str,
        now_ms: i64,
    ) -> Result<Value, String> {
        let (base, unit) = match source {
            Source::Metrics => (format!("{}/api/v1", self.query.url), 1_000_000_000),
            Source::Events => (format!("{}/loki/api/v1", self.hub), 1),
        };
        // Prometheus takes seconds, Loki nanoseconds.
        let at = |ms: i64| (ms * 1_000_000 / unit).to_string();
        let mut parameters = vec![("query", text.to_owned())];
        let path = if instant {
            parameters.push(("time", at(now_ms)));
            "query"
        } else {
            parameters.push(("start", at(now_ms - 50 * MINUTE_MS)));
            parameters.push(("end", at(now_ms)));
            parameters.push(("step", "30".to_owned()));
            "query_range"
        };
        get(&format!("{base}/{path}"), &parameters).await
    }

    pub(super) async fn explain(&self, text: &str) -> Value {
        let address = format!("{}/api/v1/query_explain", self.query.url);
        get(&address, &[("query", text.to_owned())]).await.unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// The values of a label, of the series that a selector names.
    pub(super) async fn label_values(
        &self,
        source: Source,
        label: &str,
        selector: &str,
    ) -> Vec<String> {
        let (base, unit) = match source {
            Source::Metrics => (&self.query.url, 1_000),
            Source::Events => (&self.hub, 1),
        };
        let prefix = if source == Source::Events { "/loki" } else { "" };
        let (start, end) = (self.stored_until - PAST_MS, self.stored_until);
        let scale = |ms: i64| if unit == 1 { ms * 1_000_000 } else { ms / unit };
        let mut parameters =
            vec![("start", scale(start).to_string()), ("end", scale(end).to_string())];
        if !selector.is_empty() {
            parameters.push(("match[]", selector.to_owned()));
        }
        let address = format!("{base}{prefix}/api/v1/label/{label}/values");
        let answer = get(&address, &parameters).await.unwrap_or_else(|e| panic!("{label}: {e}"));
        let values = answer["data"].as_array().into_iter().flatten();
        values.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    }

    /// Kills the sidecar of a cluster that is not the subject's; gives the cluster's name.
    pub(super) fn lose_a_cluster(&mut self) -> String {
        let other = (self.subject.cluster + 1) % CLUSTERS as usize;
        self.sidecars[other].process.kill();
        self.fleet.clusters()[other].name().to_owned()
    }
}

fn samples(cluster: &Cluster, from_ms: i64, until_ms: i64) -> Vec<SeriesData> {
    let scrape = ScrapeConfig { interval_ms: 30_000, replica: 0 };
    let all = cluster.scraped(from_ms, until_ms, scrape);
    all.iter().map(|s| (s.labels.clone(), s.samples().collect())).collect()
}

async fn get(address: &str, parameters: &[(&str, String)]) -> Result<Value, String> {
    let url = reqwest::Url::parse_with_params(address, parameters).map_err(|e| e.to_string())?;
    let asked = client().get(url).timeout(Duration::from_secs(60)).send().await;
    let answer = asked.map_err(|e| format!("no answer: {e:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|e| e.to_string())?;
    match status.is_success() {
        true => serde_json::from_str(&text).map_err(|e| format!("{e}: {text:.200}")),
        false => Err(format!("{status}: {text:.300}")),
    }
}
