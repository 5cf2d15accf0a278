//! What is there beyond Prometheus's API (explain and analyze, running and costly queries, stopping one), and
//! what a table of lines cannot say: pages of rules, remote read, native histograms by federation.

use std::time::Duration;

use periplus_block::chunk::{ChunkSamples, HistogramValue, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_model::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Labels, Span};
use serde_json::{Value, json};

use super::setup::{Shop, get_json, query};
use crate::ask::client;
use crate::fleet::now_s;
use crate::place::Place;
use crate::product::{Query, Sidecar};
use crate::prometheus::{Flavour, Prometheus, flavours};

#[tokio::test(flavor = "multi_thread")]
async fn what_prometheus_does_not_have() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().pop().expect("a Prometheus");
    let external = [("cluster", "a")];
    let shop = Shop::start(&flavour, "shop", &external, dir.path()).await;
    let query = query(&[&shop], &["--endpoint-timeout", "50s"], dir.path()).await;
    explained(&query.url, shop.settled).await;
    pages_of_rules(&query.url).await;
    remote_read(&query.url, &shop.prometheus.url, shop.settled).await;
    let front = client().get(format!("{}/", query.url)).send().await.expect("a page");
    assert_eq!(front.status().as_u16(), 200);
    let document = get_json(&format!("{}/api/v1/openapi.json", query.url)).await;
    assert_eq!(document["openapi"], "3.1.0");
    if flavour.v3 {
        let own = get_json(&format!("{}/api/v1/features", query.url)).await;
        let theirs = get_json(&format!("{}/api/v1/features", shop.prometheus.url)).await;
        for all in ["promql_functions", "promql_operators"] {
            assert_eq!(own["data"][all], theirs["data"][all], "{all}");
        }
    }
    stopped(&query.url, &shop).await;
}

async fn explained(url: &str, settled: i64) {
    let text = "sum%20by%20(cluster)%20(rate(shop_requests_total[4s]))";
    let v = get_json(&format!("{url}/api/v1/query_explain?query={text}")).await;
    assert_eq!(v["data"]["pushed"].as_array().map(Vec::len), Some(1), "{v}");
    for pushdown in ["true", "false"] {
        let form = [
            ("query", "sum by (cluster) (rate(shop_requests_total[4s]))".to_owned()),
            ("time", settled.to_string()),
            ("pushdown", pushdown.to_owned()),
        ];
        let post = client().post(format!("{url}/api/v1/query_analyze")).form(&form).send().await;
        let v: Value = post.expect("an answer").json().await.expect("JSON");
        assert_eq!(v["data"]["result"], json!({ "type": "vector", "rows": 1, "points": 1 }), "{v}");
        let request = &v["data"]["requests"][0];
        let (path, rows) = match pushdown {
            "true" => (&["hot", "prometheus", "engine"][..], 1),
            _ => (&["series"][..], 2),
        };
        assert!(path.contains(&request["path"].as_str().unwrap_or_default()), "{v}");
        assert_eq!((&request["rows"], &request["error"]), (&json!(rows), &Value::Null), "{v}");
        let positive = |n: &str| request[n].as_f64().is_some_and(|x| x > 0.0);
        assert!(positive("bytes") && positive("seconds"), "{v}");
    }
}

/// One group at a time, as Grafana asks where there are many.
async fn pages_of_rules(url: &str) {
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let mut parameters = vec![("group_limit", "1")];
        if !token.is_empty() {
            parameters.push(("group_next_token", &token));
        }
        let address = reqwest::Url::parse_with_params(&format!("{url}/api/v1/rules"), &parameters);
        let v = get_json(address.expect("an address").as_str()).await;
        let groups = v["data"]["groups"].as_array().cloned().unwrap_or_default();
        assert_eq!(groups.len(), 1, "{v}");
        names.extend(groups[0]["name"].as_str().map(str::to_owned));
        match v["data"]["groupNextToken"].as_str() {
            Some(next) if names.len() < 9 => next.clone_into(&mut token),
            _ => break,
        }
    }
    assert_eq!(names, ["one", "two"]);
}

/// Samples, the form that is older than streamed chunks: the same bytes as Prometheus's own, unpacked.
async fn remote_read(url: &str, prometheus: &str, settled: i64) {
    let varint = |mut n: u64| {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    let field = |number: u8, bytes: &[u8]| {
        [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
    };
    let matcher = [field(2, b"__name__"), field(3, b"shop_temperature_celsius")].concat();
    let ms = |t: i64| varint((t * 1000) as u64);
    let query = [vec![8], ms(settled - 4), vec![16], ms(settled), field(3, &matcher)].concat();
    let request = snap::raw::Encoder::new().compress_vec(&field(1, &query)).expect("snappy");
    let ask = async |base: &str| {
        let post = client().post(format!("{base}/api/v1/read")).body(request.clone());
        let post = post.header("content-encoding", "snappy").send().await.expect("an answer");
        assert_eq!(post.status().as_u16(), 200);
        assert_eq!(post.headers()["content-type"], "application/x-protobuf");
        assert_eq!(post.headers()["content-encoding"], "snappy");
        let body = post.bytes().await.expect("a body");
        snap::raw::Decoder::new().decompress_vec(&body).expect("snappy")
    };
    let (own, theirs) = (ask(url).await, ask(prometheus).await);
    assert!(theirs.len() > 100);
    assert_eq!(own, theirs);
}

/// A query that hangs is among those that run, and ends when it is told to.
async fn stopped(url: &str, shop: &Shop) {
    shop.sidecar.process.freeze();
    let address = format!("{url}/api/v1/query?query=sum(shop_requests_total)");
    let hanging = tokio::spawn(async move { client().get(address).send().await });
    let mut id = None;
    for _ in 0..300 {
        let v = get_json(&format!("{url}/api/v1/queries/active")).await;
        let all = v["data"].as_array().cloned().unwrap_or_default();
        id = all.iter().find(|q| q["query"] == "sum(shop_requests_total)").map(|q| q["id"].clone());
        if id.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let id = id.expect("it runs").as_str().expect("a number").to_owned();
    let post = client().post(format!("{url}/api/v1/queries/cancel")).form(&[("id", &id)]).send();
    assert_eq!(post.await.expect("an answer").status().as_u16(), 200);
    let ended = hanging.await.expect("no panic").expect("an answer");
    assert_eq!(ended.status().as_u16(), 499);
    let v: Value = ended.json().await.expect("JSON");
    assert_eq!(v["errorType"], "canceled", "{v}");
    shop.sidecar.process.thaw();
    for by in ["time", "samples", "bytes"] {
        let v = get_json(&format!("{url}/api/v1/queries/top?limit=1000&by={by}")).await;
        let all = v["data"].as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|q| q["query"] == "sum(shop_requests_total)");
        assert_eq!(one.map(|q| &q["failed"]), Some(&json!(1)), "{by}: {v}");
    }
}

/// Native histograms and ones with bounds of their own, of the last minutes, as a block.
fn histograms(data: &std::path::Path) {
    std::fs::create_dir_all(data).expect("a directory");
    let now = now_s() * 1000;
    let ulid = ulid::Ulid::from_parts((now - 600_000) as u64, 1);
    let mut writer = BlockWriter::create(data, ulid).expect("a new block");
    let base = FloatHistogram {
        zero_count: 1.0,
        count: 10.0,
        sum: 12.5,
        positive_spans: vec![Span { offset: -1, length: 2 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![2.0, 3.0, 4.0],
        ..FloatHistogram::default()
    };
    let custom = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_count: 0.0,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
        custom_values: vec![0.5, 1.0, 2.5],
        ..base.clone()
    };
    let native = FloatHistogram { schema: 2, zero_threshold: 0.001, ..base };
    for (name, h) in [("h_custom", custom), ("h_native", native)] {
        let mut samples = ChunkSamples::new();
        for i in 0..60 {
            samples.push_histogram(now - 600_000 + i * 10_000, HistogramValue::Float(h.clone()), 0);
        }
        let labels = Labels::from_pairs([("__name__", name), ("instance", "i"), ("job", "j")]);
        writer.add(&labels, &encode(&samples).expect("chunks")).expect("series in order");
    }
    writer.finish(BlockInfo::default()).expect("a block");
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_federated() {
    // 2.42 does not know of them all.
    for flavour in flavours().iter().filter(|f| f.v3) {
        let dir = tempfile::tempdir().expect("a directory");
        federated(flavour, dir.path()).await;
    }
}

async fn federated(flavour: &Flavour, dir: &std::path::Path) {
    histograms(&dir.join("source/data"));
    let source = Prometheus::start(flavour, "source", &[], dir).await;
    let sidecar = Sidecar::start("sidecar", &source.url, &[], &Place::loopback(), dir).await;
    let fleet = Query::start("query", &[&sidecar.grpc], &[], dir).await;
    let selector = "match[]={job=\"j\"}";
    // In text: the same lines as Prometheus's own.
    let mut texts = [String::new(), String::new()];
    for _ in 0..300 {
        for (text, url) in texts.iter_mut().zip([&fleet.url, &source.url]) {
            let answer = client().get(format!("{url}/federate?{selector}")).send().await;
            *text = answer.expect("an answer").text().await.expect("a text");
        }
        if texts[0] == texts[1] && !texts[0].is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(texts[1].contains("h_custom_bucket"), "{}", texts[1]);
    assert_eq!(texts[0], texts[1]);
    // In protobuf: a Prometheus that scrapes it has the same histogram.
    let host = fleet.url.trim_start_matches("http://");
    let yaml = format!(
        "global: {{scrape_interval: 1s, scrape_native_histograms: true}}\n\
         scrape_configs:\n- job_name: fleet\n  honor_labels: true\n  metrics_path: /federate\n  \
         params: {{'match[]': ['{{job=\"j\"}}']}}\n  static_configs: [{{targets: ['{host}']}}]\n"
    );
    let reader = Prometheus::start_with(flavour, "reader", &yaml, &[], dir).await;
    let histogram = async |url: &str| {
        let v = get_json(&format!("{url}/api/v1/query?query=h_native{{job=\"j\"}}")).await;
        v["data"]["result"][0]["histogram"][1].clone()
    };
    let expected = histogram(&source.url).await;
    assert_eq!(expected["count"], "10", "{expected}");
    for _ in 0..300 {
        if histogram(&reader.url).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?} is not {expected}\n{}", histogram(&reader.url).await, reader.process.last_words());
}
