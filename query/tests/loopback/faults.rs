//! What goes wrong at endpoints costs what they hold, and is said.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use periplus_daemon::drain::Drain;
use periplus_promql::engine::ErrorKind;
use periplus_promql::parse;
use periplus_promql::value::Value;
use periplus_query::answer::When;

use super::data::{BEGIN_MS, clusters};
use super::fleet::{answerer, ask, config, options, tier};
use super::sidecar::{FakeSidecar, Fault};

const AT: When = When::instant(BEGIN_MS + 30 * 60_000);

fn clusters_in(value: &Value) -> Vec<String> {
    match value {
        Value::Vector(m) => m.series.iter().map(|s| s.labels.value("cluster").to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

/// Four clusters of which the first fails.
async fn fleet(fault: Fault, thanos: bool) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for (i, c) in clusters(7).into_iter().enumerate() {
        let mut s = FakeSidecar::new(c.external, c.series);
        s.fault = if i == 0 { fault } else { Fault::None };
        s.thanos = thanos;
        addresses.push(s.serve().await);
    }
    addresses
}

async fn check(fault: Fault, thanos: bool, says: &str) {
    let drain = Drain::new();
    let addresses = fleet(fault, thanos).await;
    let answerer = answerer(&addresses, &drain).await;
    let begun = Instant::now();
    let a = ask(&answerer, "sum by (cluster) (temperature)", AT).await.expect("a partial answer");
    assert!(begun.elapsed() < Duration::from_secs(15), "{fault:?} took {:?}", begun.elapsed());
    let mut others = clusters_in(&a.value);
    others.retain(|c| c != "paris");
    assert_eq!(others, ["madrid", "mumbai", "tokyo"], "{fault:?}");
    assert_eq!(a.missing.len(), 1, "{fault:?}: {:?}", a.missing);
    let m = &a.missing[0];
    assert_eq!(m.labels.value("cluster"), "paris");
    assert_eq!(m.address, addresses[0].to_string());
    assert!(m.reason.contains(says), "{fault:?}: {}", m.reason);
    let (warnings, _) = a.annotations.to_strings("", 0);
    assert!(warnings.iter().any(|w| w.contains("paris") && w.contains(says)), "{warnings:?}");

    let mut strict = options();
    strict.strict = true;
    let expr = parse::parse("count(temperature)").expect("a query");
    let e = answerer.answer(&expr, "count(temperature)".into(), AT, &strict).await.expect_err("");
    assert_eq!(e.kind, ErrorKind::Unavailable);
    assert!(e.message.contains("paris"), "{}", e.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_never_answers() {
    check(Fault::Hangs, false, "did not answer within").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_stalls() {
    check(Fault::Stalls, false, "did not answer within").await;
    check(Fault::Stalls, true, "stalled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_breaks_off() {
    check(Fault::BreaksOff, false, "stopped in the middle").await;
    check(Fault::BreaksOff, true, "broke off").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_sends_garbage() {
    check(Fault::Garbage, false, "malformed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_refuses() {
    check(Fault::Refuses, false, "the Prometheus is down").await;
    check(Fault::Refuses, true, "the Prometheus is down").await;
}

/// A cluster that was seen and is dead at the next question, and one nobody ever reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_is_expected() {
    let drain = Drain::new();
    let mut addresses = fleet(Fault::None, false).await;
    // A runtime of its own, so that its end is the end of its connections too.
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let oslo = FakeSidecar::new([("cluster", "oslo")].into_iter().collect(), Vec::new());
    addresses.push(elsewhere.spawn(oslo.serve()).await.expect("served"));
    let answerer = answerer(&addresses, &drain).await;
    let a = ask(&answerer, "count(temperature)", AT).await.expect("an answer");
    assert!(a.missing.is_empty(), "{:?}", a.missing);
    elsewhere.shutdown_background();
    let a = ask(&answerer, "count(temperature)", AT).await.expect("an answer");
    assert_eq!(a.missing.len(), 1, "{:?}", a.missing);
    assert_eq!(a.missing[0].labels.value("cluster"), "oslo");
    // A question that can't concern it is whole.
    let a = ask(&answerer, "count(temperature{cluster=\"paris\"})", AT).await.expect("an answer");
    assert!(a.missing.is_empty(), "{:?}", a.missing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_answered_is_named_too() {
    let drain = Drain::new();
    let mut addresses = fleet(Fault::None, false).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = listener.local_addr().expect("its address");
    drop(listener);
    addresses.push(nobody);
    let answerer = answerer(&addresses, &drain).await;
    let a = ask(&answerer, "count(temperature)", AT).await.expect("an answer");
    assert_eq!(a.missing.len(), 1, "{:?}", a.missing);
    assert_eq!(a.missing[0].address, nobody.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_labels_twice_are_refused_and_named() {
    let drain = Drain::new();
    let mut addresses = fleet(Fault::None, false).await;
    let c = clusters(7).swap_remove(2);
    addresses.push(FakeSidecar::new(c.external, c.series).serve().await);
    let answerer = answerer(&addresses, &drain).await;
    let a = ask(&answerer, "sum by (cluster) (temperature)", AT).await.expect("an answer");
    assert_eq!(clusters_in(&a.value), ["madrid", "mumbai", "paris"]);
    assert_eq!(a.missing.len(), 1);
    let m = &a.missing[0];
    assert!(m.reason.contains("same external labels"), "{}", m.reason);
    assert!(m.reason.contains(&addresses[4].to_string()) || m.address == addresses[4].to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_below_is_named_above() {
    let drain = Drain::new();
    let addresses = fleet(Fault::Refuses, false).await;
    let (below, _) = tier(config(&addresses[..2]), &drain).await;
    let answerer = answerer(&[below, addresses[2]], &drain).await;
    let a = ask(&answerer, "count(temperature)", AT).await.expect("an answer");
    assert_eq!(a.missing.len(), 1, "{:?}", a.missing);
    assert_eq!(a.missing[0].labels.value("cluster"), "paris");
    assert_eq!(a.missing[0].address, addresses[0].to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_query_is_the_answer() {
    let drain = Drain::new();
    let answerer = answerer(&fleet(Fault::None, false).await, &drain).await;
    let e = ask(&answerer, "temperature + on (cluster) temperature", AT).await.expect_err("");
    assert_eq!(e.kind, ErrorKind::Execution);
    assert!(e.message.contains("many-to-many"), "{}", e.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_clusters_survive_a_restart() {
    let data = tempfile::tempdir().expect("a directory");
    let addresses = fleet(Fault::None, false).await;
    let mut settings = config(&addresses);
    settings.data = Some(data.path().to_owned());
    let first = Drain::new();
    let before = periplus_query::start(&settings, &first).expect("started");
    before.registry.settled(Duration::from_secs(10)).await;
    assert_eq!(first.wait(Duration::from_secs(5)).await, Vec::<String>::new());
    settings.endpoint.remove(0);
    let second = Drain::new();
    let after = periplus_query::start(&settings, &second).expect("started");
    after.registry.settled(Duration::from_secs(10)).await;
    let a = ask(&after, "count(temperature)", AT).await.expect("an answer");
    assert_eq!(a.missing.len(), 1, "{:?}", a.missing);
    assert_eq!(a.missing[0].labels.value("cluster"), "paris");
    assert!(a.missing[0].since_ms > 0);
}
