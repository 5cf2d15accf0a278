//! What goes wrong in fleets, done to real processes: the rest is answered in time, and what is missing
//! is named.

use std::time::{Duration, Instant};

use periplus_model::Labels;
use tempfile::TempDir;

use super::ask::{Answer, When, ask, ask_with, client};
use super::data::Dataset;
use super::endpoint::{self, Behaviour, Proxy};
use super::fleet::{Fleet, now_s};
use super::place::Place;
use super::product::{Query, Sidecar};
use super::prometheus::{Prometheus, flavours};

/// How long the query waits for an endpoint in these tests.
const DEADLINE: &str = "2s";

/// The question of these tests: a row for each cluster.
const BY_CLUSTER: &str = "sum by (cluster) (state)";

/// A fleet with one query over it.
struct Setup {
    fleet: Fleet,
    query: Query,
    data: Dataset,
    dir: TempDir,
}

impl Setup {
    /// Starts all clusters and a query over them and `more` endpoints.
    async fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let flavour = flavours().remove(0);
        let data = Dataset::new(3, now_s() / 60 * 60 - 60);
        let fleet = Fleet::start(&flavour, &data, true, dir.path()).await;
        let mut endpoints = fleet.endpoints();
        endpoints.extend(more);
        let query = start_query(&endpoints, &dir).await;
        Self { fleet, query, data, dir }
    }

    fn when(&self) -> When {
        When::Instant(self.data.until_ms - 20_500)
    }

    async fn ask(&self) -> Answer {
        ask(&client(), &self.query.url, BY_CLUSTER, self.when()).await.expect("an answer")
    }

    /// Asks until `fine` likes the answer.
    async fn eventually(&self, what: &str, fine: impl Fn(&Answer) -> bool) -> Answer {
        let began = Instant::now();
        loop {
            let answer = self.ask().await;
            if fine(&answer) {
                return answer;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: {}", answer.body);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// All clusters answer and nothing is said to be missing.
    async fn whole(&self) {
        self.eventually("whole", |a| clusters(a) == ["madrid", "paris", "tokyo"] && !lacks(a))
            .await;
    }
}

async fn start_query(endpoints: &[&str], dir: &TempDir) -> Query {
    Query::start("query", endpoints, &["--endpoint-timeout", DEADLINE], dir.path()).await
}

/// The clusters that have a row, sorted.
fn clusters(answer: &Answer) -> Vec<String> {
    let rows = answer.result().as_array().cloned().unwrap_or_default();
    let mut all: Vec<String> =
        rows.iter().filter_map(|r| r["metric"]["cluster"].as_str().map(str::to_owned)).collect();
    all.sort();
    all
}

/// Whether the answer says that something is missing.
fn lacks(answer: &Answer) -> bool {
    !answer.warnings().is_empty()
}

/// Asserts that exactly `cluster` is missing, and named.
fn assert_missing(answer: &Answer, cluster: &str) {
    let rest: Vec<&str> =
        ["madrid", "paris", "tokyo"].into_iter().filter(|c| *c != cluster).collect();
    assert_eq!(clusters(answer), rest, "{}", answer.body);
    let warnings = answer.warnings().join("\n");
    assert!(warnings.contains(cluster), "{cluster} is not named: {}", answer.body);
    assert!(rest.iter().all(|c| !warnings.contains(c)), "too many are named: {}", answer.body);
    let header = answer.headers.iter().any(|(n, v)| {
        n.as_str().starts_with("x-periplus") && v.to_str().is_ok_and(|v| v.contains(cluster))
    });
    assert!(header, "no header names {cluster}: {:?}", answer.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_sidecar_is_named_and_comes_back() {
    let mut s = Setup::start(&[]).await;
    s.whole().await;
    s.fleet.members[3].sidecar.process.kill();
    let answer = s.eventually("tokyo is gone", |a| clusters(a).len() == 2).await;
    assert_missing(&answer, "tokyo");
    let strict = [("partial_response", "false")];
    let strict = ask_with(&client(), &s.query.url, BY_CLUSTER, s.when(), &strict).await;
    let strict = strict.expect("an answer");
    assert!(!strict.is_success(), "{}", strict.body);
    assert!(strict.body["error"].as_str().is_some_and(|e| e.contains("tokyo")), "{}", strict.body);
    s.fleet.members[3].sidecar.restart(s.dir.path()).await;
    s.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_of_two_is_enough() {
    let mut s = Setup::start(&[]).await;
    s.whole().await;
    let before = s.ask().await;
    s.fleet.members[0].sidecar.process.kill();
    let answer = s.eventually("paris by its other replica", |a| clusters(a).len() == 3).await;
    assert_eq!(answer.result(), before.result(), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_prometheus_is_named_and_comes_back() {
    let mut s = Setup::start(&[]).await;
    s.whole().await;
    s.fleet.members[2].prometheus.process.kill();
    // For the time before, the sidecar's memory may stand in: whole, or named as missing.
    let answer = s.ask().await;
    if clusters(&answer).len() == 2 {
        assert_missing(&answer, "madrid");
    }
    // Of what has happened since, nobody knows.
    let began = Instant::now();
    let named = loop {
        let now = When::Instant(now_s() * 1000);
        let answer = ask(&client(), &s.query.url, BY_CLUSTER, now).await.expect("an answer");
        if clusters(&answer).len() == 2 || began.elapsed() > Duration::from_secs(30) {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_missing(&named, "madrid");
    s.fleet.members[2].prometheus.restart().await;
    s.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_never_answer_cost_their_own_deadline() {
    let silent = endpoint::start(Behaviour::Silent).await;
    let s = Setup::start(&[&silent]).await;
    // The silent one was never known to be a cluster: it may be named, it may not hold anyone up.
    let began = Instant::now();
    let answer = s.ask().await;
    assert_eq!(clusters(&answer).len(), 3, "{}", answer.body);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    s.fleet.members[3].sidecar.process.freeze();
    let began = Instant::now();
    let answer = s.ask().await;
    let took = began.elapsed();
    s.fleet.members[3].sidecar.process.thaw();
    assert_eq!(clusters(&answer), ["madrid", "paris"], "{}", answer.body);
    assert!(answer.warnings().iter().any(|w| w.contains("tokyo")), "{}", answer.body);
    assert!(took < Duration::from_secs(5), "{took:?}");
    s.eventually("tokyo is back", |a| clusters(a).len() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_is_no_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let data = Dataset::new(3, now_s() / 60 * 60 - 60);
    let fleet = Fleet::start(&flavour, &data, true, dir.path()).await;
    let proxy = Proxy::start(&fleet.members[3].sidecar.grpc).await;
    let mut endpoints = fleet.endpoints();
    endpoints[3] = &proxy.address;
    let query = start_query(&endpoints, &dir).await;
    let s = Setup { fleet: Fleet { members: Vec::new() }, query, data, dir };
    s.whole().await;
    // Cut in the headers, and cut in the rows: never a smaller sum of tokyo.
    for bytes in [10, 60, 200] {
        proxy.stall_after(bytes);
        let began = Instant::now();
        let every = "{__name__=~\".+\"}";
        let answer = ask(&client(), &s.query.url, every, s.when()).await.expect("an answer");
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert!(!clusters(&answer).contains(&"tokyo".to_owned()), "half of tokyo was taken");
        assert!(answer.warnings().iter().any(|w| w.contains("tokyo")), "{:?}", answer.warnings());
    }
    drop(fleet);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_wire_harms_nobody() {
    let garbage = endpoint::start(Behaviour::Garbage).await;
    let mut s = Setup::start(&[&garbage]).await;
    let answer = s.eventually("the others answer", |a| clusters(a).len() == 3).await;
    assert!(answer.is_success());
    let url = format!("{}/api/v1/endpoints", s.query.url);
    let text = client().get(url).send().await.expect("endpoints").text().await.expect("text");
    assert!(text.contains(&garbage), "{text}");
    assert!(s.query.process.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sidecars_with_the_same_labels_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let data = Dataset::new(3, now_s() / 60 * 60 - 60);
    let mut prometheus = Vec::new();
    let mut sidecars = Vec::new();
    for (name, cluster) in [("one", "tokyo"), ("two", "tokyo"), ("three", "madrid")] {
        let external = [("cluster", cluster), ("region", "asia")];
        let p = Prometheus::start(&flavour, name, &external, dir.path()).await;
        p.store(&data.clusters[2].series).await;
        let place = Place::loopback();
        let name = format!("sidecar-{name}");
        sidecars.push(Sidecar::start(&name, &p.url, &[], &place, dir.path()).await);
        prometheus.push(p);
    }
    let endpoints: Vec<&str> = sidecars.iter().map(|s| s.grpc.as_str()).collect();
    let query = start_query(&endpoints, &dir).await;
    let when = When::Instant(data.until_ms - 20_500);
    let answer = ask(&client(), &query.url, BY_CLUSTER, when).await.expect("an answer");
    assert!(clusters(&answer).contains(&"madrid".to_owned()), "{}", answer.body);
    let url = format!("{}/api/v1/endpoints", query.url);
    let text = client().get(url).send().await.expect("endpoints").text().await.expect("text");
    let said = format!("{}\n{text}", answer.warnings().join("\n"));
    assert!(said.contains(endpoints[0]) && said.contains(endpoints[1]), "{said}");
    assert!(said.contains("replica"), "the remedy is not named: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_label_wins_over_a_series_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let until_ms = (now_s() / 60 * 60 - 60) * 1000;
    let samples: Vec<(i64, f64)> = (0..40).map(|i| (until_ms - i * 15_000, 1.0)).rev().collect();
    let external = [("cluster", "tokyo")];
    let p = Prometheus::start(&flavour, "shadowed", &external, dir.path()).await;
    let series = |pairs: &[(&str, &str)]| (Labels::from_pairs(pairs.to_vec()), samples.clone());
    p.store(&[
        series(&[("__name__", "x"), ("cluster", "elsewhere"), ("a", "1")]),
        series(&[("__name__", "x"), ("a", "2")]),
    ])
    .await;
    let sidecar = Sidecar::start("sidecar", &p.url, &[], &Place::loopback(), dir.path()).await;
    let query = start_query(&[&sidecar.grpc], &dir).await;
    let when = When::Instant(until_ms);
    for (expr, rows) in [
        ("x", 2),
        ("count by (cluster) (x)", 1),
        ("x{cluster=\"tokyo\"}", 2),
        ("x{cluster=\"elsewhere\"}", 0),
    ] {
        let answer = ask(&client(), &query.url, expr, when).await.expect("an answer");
        assert!(answer.is_success(), "{expr}: {}", answer.body);
        assert_eq!(answer.rows(), rows, "{expr}: {}", answer.body);
        assert!(clusters(&answer).iter().all(|c| c == "tokyo"), "{expr}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_of_query_text_is_answered_or_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let silent = endpoint::start(Behaviour::Silent).await;
    let mut query = start_query(&[&silent], &dir).await;
    let fill = |unit: &str| unit.repeat((1 << 20) / unit.len());
    let deep = (1 << 20) / 2;
    let texts = [
        fill("("),
        format!("{}1{}", "(".repeat(deep), ")".repeat(deep)),
        format!("1{}", fill("+1")),
        format!("{}1", fill("-")),
        format!("{}x{}", "abs(".repeat(deep / 3), ")".repeat(deep / 3)),
        format!("x{}", fill(" or x")),
        format!("x{{a=\"{}\"}}", fill("b")),
        format!("x{{a=~\"{}\"}}", fill("(b|c)*")),
        format!("x{}", fill("[1m:1m]")),
        format!("sum by ({}) (x)", fill("a, ")),
        fill("\u{1f980}"),
    ];
    for text in texts {
        let begun = text.chars().take(20).collect::<String>();
        let answer = ask(&client(), &query.url, &text, When::Instant(1_000)).await;
        let answer = answer.unwrap_or_else(|e| panic!("{begun}: {e}"));
        assert!(
            answer.status < 500,
            "{begun}: {}: {:.300}",
            answer.status,
            answer.body.to_string()
        );
        assert!(query.process.is_alive(), "{begun} ended the process");
    }
    let fine = ask(&client(), &query.url, "1 + 1", When::Instant(1_000)).await.expect("an answer");
    assert!(fine.is_success(), "{}", fine.body);
}
