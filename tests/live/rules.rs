//! Rules over a real fleet, through a real Alertmanager to its webhook.

mod alertmanager;
mod compare;
mod goes_on;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use periplus_model::Labels;
use serde_json::Value;

use alertmanager::{Alertmanager, Webhook};

use super::ask::client;
use super::process::{Process, free_port};
use super::product::{Query, Sidecar};
use super::prometheus::{Flavour, Prometheus, SeriesData, flavours};

const RULES: &str = r#"
groups:
- name: fleet
  interval: 1s
  partial_response_strategy: warn
  rules:
  - record: job:errors:sum
    expr: sum by (cluster, job) (errors)
  - alert: TooManyErrors
    expr: job:errors:sum > 5 or errors > 5
    for: 2s
    labels: {severity: page}
    annotations: {summary: "{{ $labels.job }} in {{ $labels.cluster }} has {{ $value }} errors"}
"#;

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("a time after 1970").as_millis()).expect("a time")
}

/// The last minute of a series that has one value.
fn steady(value: f64) -> Vec<SeriesData> {
    let labels = Labels::from_pairs([("__name__", "errors"), ("job", "api"), ("instance", "i:1")]);
    let now = now_ms();
    vec![(labels, (0..5).map(|i| (now - 4_000 + i * 1_000, value)).collect())]
}

struct Ruler {
    url: String,
    process: Process,
    args: Vec<String>,
}

impl Ruler {
    fn start(name: &str, grpc: u16, args: &[&str], dir: &Path) -> Self {
        let (http, admin) = (free_port(), free_port());
        let mut all = vec![
            "ruler".to_owned(),
            format!("--listen=127.0.0.1:{http}"),
            format!("--grpc=127.0.0.1:{grpc}"),
            format!("--admin=127.0.0.1:{admin}"),
        ];
        all.extend(args.iter().map(|a| (*a).to_owned()));
        let process = Self::spawn(name, &all, dir);
        Self { url: format!("http://127.0.0.1:{http}"), process, args: all }
    }

    fn spawn(name: &str, args: &[String], dir: &Path) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
        command.args(args);
        Process::start(name, command, dir)
    }

    fn restart(&mut self, dir: &Path) {
        let name = self.process.name.clone();
        self.process = Self::spawn(&name, &self.args, dir);
    }

    /// The alerts it knows, empty while it does not answer.
    async fn alerts(&self) -> Vec<Value> {
        let Ok(answer) = client().get(format!("{}/api/v1/alerts", self.url)).send().await else {
            return Vec::new();
        };
        let body: Value = answer.json().await.unwrap_or_default();
        body["data"]["alerts"].as_array().cloned().unwrap_or_default()
    }
}

/// How long Alertmanager is away: a moment, or as many seconds as ALERTMANAGER_AWAY says.
fn away() -> Duration {
    let seconds = std::env::var("ALERTMANAGER_AWAY").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// Looks until something is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    for _ in 0..600 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within a minute: {what}");
}

async fn query(url: &str, promql: &str) -> Vec<Value> {
    let answer =
        client().post(format!("{url}/api/v1/query")).form(&[("query", promql)]).send().await;
    let Ok(answer) = answer else { return Vec::new() };
    let body: Value = answer.json().await.unwrap_or_default();
    body["data"]["result"].as_array().cloned().unwrap_or_default()
}

struct Fleet {
    prometheus: Vec<Prometheus>,
    sidecars: Vec<Sidecar>,
    query: Query,
    ports: [u16; 2],
}

impl Fleet {
    /// Two clusters, a with errors and b without, and a query layer over them and two rulers.
    async fn start(flavour: &Flavour, dir: &Path) -> Self {
        let ports = [free_port(), free_port()];
        let (mut prometheus, mut sidecars) = (Vec::new(), Vec::new());
        for (name, value) in [("a", 9.0), ("b", 1.0)] {
            let p = Prometheus::start(flavour, &format!("prom-{name}"), &[("cluster", name)], dir)
                .await;
            p.store(&steady(value)).await;
            let place = super::place::Place::loopback();
            let s = Sidecar::start(&format!("sidecar-{name}"), &p.url, &[], &place, dir).await;
            prometheus.push(p);
            sidecars.push(s);
        }
        let rulers: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{p}")).collect();
        let endpoints: Vec<&str> = sidecars
            .iter()
            .map(|s| s.grpc.as_str())
            .chain(rulers.iter().map(String::as_str))
            .collect();
        let more = ["--probe-interval", "500ms", "--endpoint-timeout", "2s"];
        let query = Query::start("query", &endpoints, &more, dir).await;
        Self { prometheus, sidecars, query, ports }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_rules_to_the_webhook_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let flavour = flavours().into_iter().next_back().expect("a prometheus");
    let mut fleet = Fleet::start(&flavour, dir).await;
    let hook = Webhook::start().await;
    let mut am = Alertmanager::start(&hook, dir).await;
    let rules = dir.join("rules.yml");
    std::fs::write(&rules, RULES).expect("rules");
    let rules = rules.display().to_string();
    let data = |n: &str| dir.join(n).display().to_string();
    let (data_a, data_b) = (data("ruler-a"), data("ruler-b"));
    let url = fleet.query.url.clone();
    let base =
        ["--query", &url, "--rules", &rules, "--alertmanager", &am.url, "--resend-delay", "1s"];
    let own =
        ["--alert-drop-label", "replica", "--replica-label", "replica", "--rule-timeout", "10s"];
    let mut args =
        [base.as_slice(), own.as_slice(), &["--data", &data_a, "--rule-label", "replica=a"]]
            .concat();
    let mut one = Ruler::start("ruler-a", fleet.ports[0], &args, dir);

    // It fires through to the webhook, with the words of its template.
    until("the webhook is told", || hook.told("firing")).await;
    let first = hook.last("firing");
    assert_eq!(first["labels"]["cluster"], "a", "{first}");
    assert_eq!(first["labels"].get("replica"), None, "{first}");
    assert_eq!(first["annotations"]["summary"], "api in a has 9 errors", "{first}");
    // What rules give is there for queries.
    until("recorded series and ALERTS answer queries", || async {
        let recorded = query(&url, "job:errors:sum{cluster=\"b\"}").await;
        let alerts = query(&url, "ALERTS{alertstate=\"firing\", cluster=\"a\"}").await;
        recorded.len() == 1 && !alerts.is_empty()
    })
    .await;

    // A second ruler says the same; Alertmanager has one alert of each.
    until("both alerts are there", || async { am.alerts().await.len() == 2 }).await;
    args.truncate(base.len() + own.len());
    args.extend(["--data", &data_b, "--rule-label", "replica=b"]);
    let two = Ruler::start("ruler-b", fleet.ports[1], &args, dir);
    until("the second ruler fires", || async {
        two.alerts().await.iter().any(|a| a["state"] == "firing")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(am.alerts().await.len(), 2, "{:?}", am.alerts().await);

    // A crash: what fired goes on firing at once, and nobody hears of an end.
    one.process.kill();
    one.restart(dir);
    until("it fires again after a crash", || async {
        one.alerts().await.iter().any(|a| a["state"] == "firing")
    })
    .await;
    assert!(!hook.told("resolved").await, "{}", hook.last("resolved"));

    // Cluster a is gone: its alert goes on, and says who was missing.
    fleet.sidecars[0].process.kill();
    until("the alert says who is missing", || async {
        one.alerts().await.iter().any(|a| {
            a["state"] == "firing" && a["annotations"]["missing_clusters"] == "cluster=\"a\""
        })
    })
    .await;
    until("the missing cluster is a series", || async {
        !query(&url, "periplus_cluster_missing{cluster=\"a\"} == 1").await.is_empty()
    })
    .await;
    assert!(!hook.told("resolved").await, "{}", hook.last("resolved"));

    // Alertmanager is away for a while, the cluster comes back well meanwhile: it is told of the end.
    assert!(am.process.terminate().is_some());
    tokio::time::sleep(away()).await;
    fleet.sidecars[0].restart(dir).await;
    fleet.prometheus[0].store(&steady(0.0)).await;
    until("the alert ends", || async {
        one.alerts().await.is_empty() && two.alerts().await.is_empty()
    })
    .await;
    am.restart(dir).await;
    until("the webhook is told of the end", || hook.told("resolved")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_inside_a_query_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let flavour = flavours().into_iter().next_back().expect("a prometheus");
    let prometheus = Prometheus::start(&flavour, "prom", &[("cluster", "a")], dir).await;
    prometheus.store(&steady(9.0)).await;
    let place = super::place::Place::loopback();
    let sidecar = Sidecar::start("sidecar", &prometheus.url, &[], &place, dir).await;
    let rules = dir.join("rules.yml");
    std::fs::write(&rules, RULES).expect("rules");
    let (rules, data) = (rules.display().to_string(), dir.join("data").display().to_string());
    let more = ["--rules", &rules, "--data", &data, "--probe-interval", "500ms"];
    let fleet = Query::start("query", &[&sidecar.grpc], &more, dir).await;
    until("what rules give answers queries", || async {
        let recorded = query(&fleet.url, "job:errors:sum == 9").await;
        let firing =
            query(&fleet.url, "ALERTS{alertstate=\"firing\", alertname=\"TooManyErrors\"}").await;
        recorded.len() == 1 && !firing.is_empty()
    })
    .await;
    let answer =
        client().get(format!("{}/api/v1/rules", fleet.url)).send().await.expect("an answer");
    let body: Value = answer.json().await.expect("JSON");
    let groups = body["data"]["groups"].as_array().cloned().unwrap_or_default();
    assert!(groups.iter().any(|g| g["name"] == "fleet"), "{body}");
}
