//! A Prometheus with everything its API tells of (targets, metadata, rules, alerts, exemplars), a sidecar
//! beside it and a query over that.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use serde_json::Value;

use crate::ask::client;
use crate::fleet::now_s;
use crate::place::Place;
use crate::process::free_port;
use crate::product::{Query, Sidecar};
use crate::prometheus::{Flavour, Prometheus};

/// What the target exposes. Exemplars get the time of the scrape.
const EXPOSITION: &str = r##"# HELP shop_requests Requests served.
# TYPE shop_requests counter
shop_requests_total{code="200",path="/a<b>&c"} 17 # {trace_id="abc"} 0.67
shop_requests_total{code="500",path="/"} 3 # {trace_id="def",span_id="1"} 1.5
# HELP shop_temperature_celsius How warm it is.
# TYPE shop_temperature_celsius gauge
# UNIT shop_temperature_celsius celsius
shop_temperature_celsius{room="a"} 21.5
shop_temperature_celsius{room="b"} -0.25
# HELP shop_latency_seconds How long it took.
# TYPE shop_latency_seconds histogram
shop_latency_seconds_bucket{le="0.5"} 4
shop_latency_seconds_bucket{le="1.0"} 9
shop_latency_seconds_bucket{le="+Inf"} 10
shop_latency_seconds_count 10
shop_latency_seconds_sum 7.5
# EOF
"##;

const RULES: &str = r#"groups:
- name: one
  interval: 1s
  rules:
  - record: job:shop_requests:sum
    expr: sum by (job) (shop_requests_total)
    labels: {team: shop}
  - alert: ShopIsUp
    expr: up{job="shop"} == 1
    labels: {severity: page}
    annotations: {summary: "{{ $labels.instance }} is up"}
  - alert: ShopIsWarm
    expr: shop_temperature_celsius > 20
    for: 1h
    keep_firing_for: 5m
    labels: {severity: ticket}
- name: two
  interval: 1s
  rules:
  - alert: Never
    expr: shop_temperature_celsius > 1000
"#;

/// One Prometheus with all that goes with it.
pub(super) struct Shop {
    pub(super) prometheus: Prometheus,
    pub(super) sidecar: Sidecar,
    /// A time, in seconds, before which no sample is added any more.
    pub(super) settled: i64,
}

/// Serves the exposition for as long as the test runs; its address.
async fn exporter() -> String {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let answer = move || async move { ([(header::CONTENT_TYPE, kind)], EXPOSITION) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let router = Router::new().route("/metrics", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

impl Shop {
    /// Starts it all and waits until the alerts are there. `external` are the labels of the Prometheus.
    pub(super) async fn start(
        flavour: &Flavour,
        name: &str,
        external: &[(&str, &str)],
        dir: &Path,
    ) -> Self {
        let own = dir.join(name);
        std::fs::create_dir_all(&own).expect("a directory");
        std::fs::write(own.join("rules.yml"), RULES).expect("rules");
        let target = exporter().await;
        let mut yaml = String::from("global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n");
        if !external.is_empty() {
            yaml.push_str("  external_labels:\n");
            external.iter().for_each(|(n, v)| yaml.push_str(&format!("    {n}: \"{v}\"\n")));
        }
        yaml.push_str(&format!(
            "rule_files: [rules.yml]\n\
             alerting:\n  alertmanagers:\n  - static_configs: [{{targets: ['127.0.0.1:{}']}}]\n\
             scrape_configs:\n\
             - job_name: shop\n  static_configs: [{{targets: ['{target}']}}]\n\
             - job_name: gone\n  static_configs: [{{targets: ['127.0.0.1:2']}}]\n  \
             relabel_configs: [{{action: drop, source_labels: [__address__]}}]\n",
            free_port()
        ));
        let more = ["--enable-feature=exemplar-storage"];
        let prometheus = Prometheus::start_with(flavour, name, &yaml, &more, dir).await;
        let place = Place::loopback();
        let sidecar = format!("sidecar-{name}");
        let sidecar = Sidecar::start(&sidecar, &prometheus.url, &[], &place, dir).await;
        let mut this = Self { prometheus, sidecar, settled: 0 };
        this.settle().await;
        this
    }

    async fn settle(&mut self) {
        for _ in 0..600 {
            let alerts = get_json(&format!("{}/api/v1/alerts", self.prometheus.url)).await;
            if alerts["data"]["alerts"].as_array().is_some_and(|a| a.len() == 2) {
                tokio::time::sleep(Duration::from_secs(6)).await;
                self.settled = now_s() - 2;
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the alerts do not come:\n{}", self.prometheus.process.last_words());
    }
}

/// A query over these, once it knows all of them.
pub(super) async fn query(shops: &[&Shop], more: &[&str], dir: &Path) -> Query {
    let endpoints: Vec<&str> = shops.iter().map(|s| s.sidecar.grpc.as_str()).collect();
    let query = Query::start("query", &endpoints, more, dir).await;
    for _ in 0..300 {
        let up = get_json(&format!("{}/api/v1/query?query=count(up)", query.url)).await;
        let whole = up["warnings"].is_null() && !up["data"]["result"][0].is_null();
        if whole {
            return query;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the query does not become whole:\n{}", query.process.last_words());
}

/// The JSON at an address; null where it is none.
pub(super) async fn get_json(url: &str) -> Value {
    match client().get(url).send().await {
        Ok(answer) => answer.json().await.unwrap_or_default(),
        Err(_) => Value::Null,
    }
}
