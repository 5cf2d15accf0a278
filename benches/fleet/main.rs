//! Fleet-wide questions over real Prometheus servers: how long they take, what they move, what they
//! hold in memory, each beside its reference from the same run.
//!
//! `make bench [ARGS="--clusters 3,10,30 --runs 40"]`. The first reference is the floor of any design
//! that asks Prometheus: the same subtree asked of all servers directly and concurrently. THANOS and
//! PROMXY may name binaries to run over the same servers. Ratios can be trusted across machines, times
//! cannot.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../tests/live/ask.rs"]
mod ask;
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../tests/live/endpoint.rs"]
mod endpoint;
mod measure;
#[path = "../../tests/live/place.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod place;
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../tests/live/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../tests/live/product.rs"]
mod product;
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../tests/live/prometheus.rs"]
mod prometheus;
mod reference;

use std::path::{Path, PathBuf};

use ask::When;
use endpoint::Proxy;
use measure::{Figures, measure, measure_direct};
use periplus_simfleet::{Fleet, FleetConfig, ScrapeConfig};
use place::Place;
use product::{Query, Sidecar};
use prometheus::{Prometheus, SeriesData, flavours};
use reference::{Promxy, Thanos};

/// The main question: the fleet's ten pods that use the most CPU.
const TOP_PODS: &str = "topk(10, sum by (cluster, namespace, pod) \
    (rate(container_cpu_usage_seconds_total{container!=\"\",container!=\"POD\"}[5m])))";

/// Its part for one cluster, as one would ask a Prometheus that does not know its cluster's name.
const TOP_PODS_OF_ONE: &str = "topk(10, sum by (namespace, pod) \
    (rate(container_cpu_usage_seconds_total{container!=\"\",container!=\"POD\"}[5m])))";

/// How much past the servers hold.
const SPAN_MS: i64 = 70 * 60_000;

struct Args {
    clusters: Vec<usize>,
    runs: usize,
    pods: u32,
}

impl Args {
    fn parse() -> Self {
        let mut args = Self { clusters: vec![3, 10, 30], runs: 40, pods: 90 };
        let all: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        for pair in all.chunks(2) {
            let (name, value) = (pair[0].as_str(), pair.get(1).map_or("", String::as_str));
            let number = |v: &str| v.parse().unwrap_or_else(|_| panic!("{name} {v}: no number"));
            match name {
                "--clusters" => args.clusters = value.split(',').map(number).collect(),
                "--runs" => args.runs = number(value),
                "--pods" => args.pods = number(value) as u32,
                other => panic!("{other}: give --clusters N,N..., --runs N or --pods N"),
            }
        }
        args
    }
}

/// One Prometheus for each cluster, filled.
struct Servers {
    all: Vec<Prometheus>,
    series: usize,
    until_ms: i64,
}

impl Servers {
    async fn start(clusters: usize, pods: u32, dir: &Path) -> Self {
        let flavour = flavours().pop().expect("a flavour");
        let config = FleetConfig { clusters: clusters as u32, nodes: 4, pods, seed: 1 };
        let fleet = Fleet::new(config);
        let now_ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a time after 1970")
            .as_millis() as i64;
        let until_ms = now_ms / 60_000 * 60_000 - 60_000;
        let scrape = ScrapeConfig { interval_ms: 30_000, replica: 0 };
        let mut servers = Self { all: Vec::new(), series: 0, until_ms };
        for cluster in fleet.clusters() {
            let labels = cluster.external_labels();
            let mut external: Vec<(&str, &str)> = labels.iter().collect();
            external.push(("replica", "a"));
            let p = Prometheus::start(&flavour, cluster.name(), &external, dir).await;
            let scraped = cluster.scraped(until_ms - SPAN_MS, until_ms, scrape);
            let series: Vec<SeriesData> =
                scraped.iter().map(|s| (s.labels.clone(), s.samples().collect())).collect();
            p.store(&series).await;
            servers.series = series.len();
            servers.all.push(p);
        }
        servers
    }

    fn urls(&self) -> Vec<String> {
        self.all.iter().map(|p| p.url.clone()).collect()
    }

    fn instant(&self) -> When {
        When::Instant(self.until_ms - 30_000)
    }

    /// The last hour in steps of 30 s.
    fn range(&self) -> When {
        When::Range { from: self.until_ms - 3_600_000, to: self.until_ms, step: 30_000 }
    }
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for clusters in &args.clusters {
        runtime.block_on(bench(*clusters, &args));
    }
}

async fn bench(clusters: usize, args: &Args) {
    let dir = tempfile::tempdir().expect("a directory");
    let servers = Servers::start(clusters, args.pods, dir.path()).await;
    println!(
        "\n{clusters} clusters of {} series ({}), top ten pods by CPU, {} runs",
        servers.series,
        if std::env::var_os("PROMETHEUS3").is_some() { "Prometheus 3" } else { "Prometheus 2" },
        args.runs
    );
    for (what, when) in [("instant", servers.instant()), ("1 h by 30 s", servers.range())] {
        println!("  {what}:");
        let direct = measure_direct(&servers.urls(), TOP_PODS_OF_ONE, when, args.runs).await;
        direct.print("all Prometheus directly", None);
        if let Some(binary) = named("PROMXY") {
            let promxy = Promxy::start(&binary, &servers.all, dir.path()).await;
            let figures = measure(&promxy.url, TOP_PODS, when, args.runs).await;
            figures.print("promxy", Some(&direct));
        }
        if let Some(binary) = named("THANOS") {
            let thanos = Thanos::start(&binary, &servers.all, dir.path()).await;
            let figures = measure(&thanos.url, TOP_PODS, when, args.runs).await;
            figures.print("Thanos", Some(&direct));
            let (moved, asked) = thanos.moved(TOP_PODS, when).await;
            println!("    {:<26} {} bytes from {asked} sidecars", "", moved);
            println!("    {:<26} peak {} KiB", "", thanos.peak_kib());
        }
        ours(&servers, when, args.runs, &direct, dir.path()).await;
    }
}

async fn ours(servers: &Servers, when: When, runs: usize, direct: &Figures, dir: &Path) {
    let mut sidecars = Vec::new();
    for (i, p) in servers.all.iter().enumerate() {
        let tsdb = p.tsdb().display().to_string();
        let name = format!("sidecar-{i}");
        sidecars
            .push(Sidecar::start(&name, &p.url, &["--tsdb", &tsdb], &Place::loopback(), dir).await);
    }
    let endpoints: Vec<&str> = sidecars.iter().map(|s| s.grpc.as_str()).collect();
    let query = Query::start("query", &endpoints, &[], dir).await;
    let figures = measure(&query.url, TOP_PODS, when, runs).await;
    figures.print("periplus", Some(direct));
    println!(
        "    {:<26} peak {} KiB, a sidecar {} KiB",
        "",
        query.process.peak_kib(),
        sidecars.iter().map(|s| s.process.peak_kib()).max().unwrap_or(0)
    );
    // Once more through proxies that count, since they would cost time above.
    let mut proxies = Vec::new();
    for endpoint in &endpoints {
        proxies.push(Proxy::start(endpoint).await);
    }
    let through: Vec<&str> = proxies.iter().map(|p| p.address.as_str()).collect();
    let counted = Query::start("query-counted", &through, &[], dir).await;
    let moved = measure::moved(&proxies, &counted.url, TOP_PODS, when).await;
    println!("    {:<26} {moved} bytes from {} sidecars", "", proxies.len());
}
