//! A question that would touch everything: refused or answered, with memory flat.

use super::ask::{When, ask, ask_with, client};
use super::fleet::now_s;
use super::place::Place;
use super::product::{Query, Sidecar};
use super::prometheus::{Prometheus, SeriesData, flavours};

use periplus_simfleet::{Fleet, FleetConfig, ScrapeConfig};

/// The most memory a sidecar may hold, KiB, and a query that is allowed 16 MiB of samples.
const SIDECAR_KIB: u64 = 150 * 1024;
const QUERY_KIB: u64 = 300 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_touches_everything_is_refused_with_memory_flat() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let until_ms = (now_s() / 60 * 60 - 60) * 1000;
    let simulated = Fleet::new(FleetConfig { pods: 400, nodes: 10, ..FleetConfig::default() });
    let scrape = ScrapeConfig { interval_ms: 30_000, replica: 0 };
    let all = simulated.clusters()[0].scraped(until_ms - 3_000_000, until_ms, scrape);
    let series: Vec<SeriesData> =
        all.iter().map(|s| (s.labels.clone(), s.samples().collect())).collect();
    let p = Prometheus::start(&flavour, "big", &[("cluster", "big")], dir.path()).await;
    p.store(&series).await;
    let sidecar = Sidecar::start("sidecar", &p.url, &[], &Place::loopback(), dir.path()).await;
    let limit = ["--max-query-bytes", "16777216"];
    let query = Query::start("query", &[&sidecar.grpc], &limit, dir.path()).await;
    let when = When::Range { from: until_ms - 3_000_000, to: until_ms, step: 15_000 };
    for expr in ["{__name__=~\".+\"}", "rate({__name__=~\".+\"}[5m])", "sort({__name__!=\"\"} * 2)"]
    {
        let answer = ask(&client(), &query.url, expr, when).await.expect("an answer");
        assert!(!answer.is_success(), "{expr} was answered within 16 MiB");
        let error = answer.body["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 422, "{expr}: {error}");
        assert!(error.contains("memory") || error.contains("limit"), "{expr}: {error}");
    }
    // What is small is still answered.
    let small = ask(&client(), &query.url, "count(up)", when).await.expect("an answer");
    assert!(small.is_success(), "{}", small.body);
    eprintln!(
        "{} series; peak memory: query {} KiB, sidecar {} KiB",
        series.len(),
        query.process.peak_kib(),
        sidecar.process.peak_kib()
    );
    assert!(query.process.peak_kib() < QUERY_KIB, "{}", query.process.peak_kib());
    assert!(sidecar.process.peak_kib() < SIDECAR_KIB, "{}", sidecar.process.peak_kib());

    // A sidecar's own limit refuses the question; the cluster is not missing.
    let few = ["--series-max", "100"];
    let place = Place::loopback();
    let strict = Sidecar::start("strict", &p.url, &few, &place, dir.path()).await;
    let above = Query::start("above", &[&strict.grpc], &[], dir.path()).await;
    let everything = "{__name__=~\".+\"}";
    for pushdown in ["true", "false"] {
        let more = [("pushdown", pushdown)];
        let answer = ask_with(&client(), &above.url, everything, when, &more).await;
        let answer = answer.expect("an answer");
        let error = answer.body["error"].as_str().unwrap_or_default();
        assert_eq!(answer.status, 422, "pushdown={pushdown}: {:.500}", answer.body.to_string());
        assert!(error.contains("100"), "the limit is not named: {error}");
    }
}
