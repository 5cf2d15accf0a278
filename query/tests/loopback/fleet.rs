//! Query layers over endpoints of this process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_promql::engine::QueryError;
use periplus_promql::parse;
use periplus_promql::value::Value;
use periplus_query::answer::{Answered, Answerer, Options, When};
use periplus_query::{Config, start};

/// Settings for tests: impatient.
pub(crate) fn config(endpoints: &[SocketAddr]) -> Config {
    Config {
        endpoint: endpoints.iter().map(SocketAddr::to_string).collect(),
        listen: "127.0.0.1:0".into(),
        grpc: "127.0.0.1:0".into(),
        replica_label: vec!["replica".into()],
        probe_interval: Duration::from_millis(200),
        probe_timeout: Duration::from_secs(10),
        endpoint_timeout: Duration::from_secs(2),
        workers: 1,
        ..Config::defaults()
    }
}

/// A query layer that has asked all of its endpoints once.
pub(crate) async fn answerer(endpoints: &[SocketAddr], drain: &Drain) -> Answerer {
    let answerer = start(&config(endpoints), drain).expect("started");
    answerer.registry.settled(Duration::from_secs(10)).await;
    answerer
}

/// Settings for tests that are about answers, however busy the machine is.
pub(crate) fn slow(endpoints: &[SocketAddr]) -> Config {
    Config { endpoint_timeout: Duration::from_secs(60), ..config(endpoints) }
}

/// As [`answerer`], with [`slow`] settings.
pub(crate) async fn patient(endpoints: &[SocketAddr], drain: &Drain) -> Answerer {
    let answerer = start(&slow(endpoints), drain).expect("started");
    answerer.registry.settled(Duration::from_secs(30)).await;
    answerer
}

/// A tier: a query layer that serves gRPC, and where.
pub(crate) async fn tier(config: Config, drain: &Drain) -> (SocketAddr, SocketAddr) {
    let admin = Admin::new("query", "test", "test");
    let query = periplus_query::build(config, &admin, drain).await.expect("bound");
    query.answerer.registry.settled(Duration::from_secs(10)).await;
    let addresses = (query.grpc_address(), query.http_address());
    let drain = drain.clone();
    tokio::spawn(async move { periplus_query::run(query, &drain).await });
    addresses
}

pub(crate) fn options() -> Options {
    Options {
        replica_labels: vec!["replica".into()],
        stores: Vec::new(),
        strict: false,
        lookback_ms: 300_000,
        deadline: Instant::now() + Duration::from_secs(120),
        limits: None,
        delayed_name_removal: false,
        per_step_stats: false,
        pushdown: true,
        resolution: periplus_query::history::resolution::MaxResolution::default(),
    }
}

pub(crate) async fn ask(
    answerer: &Answerer,
    query: &str,
    when: When,
) -> Result<Answered<Value>, QueryError> {
    let expr = parse::parse(query).expect("a query");
    answerer.answer(&expr, query.into(), when, &options()).await
}
