//! What several clusters tell of themselves, as one answer: replicas merged, clusters told apart, who is
//! missing named, and all of it through a tier.

use serde_json::Value;

use super::setup::{Shop, get_json, query};
use crate::ask::client;
use crate::product::Query;
use crate::prometheus::flavours;

/// All texts at a path of names, `*` for every entry of a list.
fn texts(v: &Value, path: &[&str]) -> Vec<String> {
    match (path, v) {
        ([], v) => vec![v.as_str().map_or_else(|| v.to_string(), str::to_owned)],
        (["*", rest @ ..], Value::Array(all)) => all.iter().flat_map(|v| texts(v, rest)).collect(),
        ([name, rest @ ..], v) => texts(&v[*name], rest),
    }
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_tell_of_themselves_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let at = |name, external| {
        let (flavour, dir) = (flavour.clone(), dir.path().to_owned());
        async move { Shop::start(&flavour, name, external, &dir).await }
    };
    let (a0, a1, mut b) = tokio::join!(
        at("a0", &[("cluster", "a"), ("replica", "0")]),
        at("a1", &[("cluster", "a"), ("replica", "1")]),
        at("b", &[("cluster", "b"), ("replica", "0")]),
    );
    let timeout = ["--endpoint-timeout", "3s"];
    let below = query(&[&a0, &a1, &b], &timeout, dir.path()).await;
    let above = Query::start("above", &[&below.grpc], &timeout, dir.path()).await;
    let mut ready = false;
    for _ in 0..100 {
        let v = get_json(&format!("{}/api/v1/label/cluster/values", above.url)).await;
        ready |= v["data"].as_array().is_some_and(|a| a.len() == 2);
        if ready {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(ready, "the upper tier does not see the fleet");
    for url in [&below.url, &above.url] {
        tells(url, &a0).await;
    }
    // The replica labels count: without merging, both replicas are shown.
    let all = get_json(&format!("{}/api/v1/alerts?dedup=false", below.url)).await;
    assert_eq!(texts(&all, &["data", "alerts", "*", "state"]).len(), 6, "{all}");

    b.sidecar.process.kill();
    for url in [&below.url, &above.url] {
        missing(url).await;
    }
}

/// Everything that is told of, of both clusters.
async fn tells(url: &str, a: &Shop) {
    let get = |path: &str| {
        let address = format!("{url}/api/v1/{path}");
        async move {
            let v = get_json(&address).await;
            assert_eq!(v["status"], "success", "{address}: {v}");
            assert!(v["warnings"].is_null(), "{address}: {v}");
            v
        }
    };
    let v = get("rules?type=alert&rule_name[]=ShopIsUp").await;
    let clusters = ["data", "groups", "*", "rules", "*", "labels", "cluster"];
    // Each Prometheus has a rule file of its own directory: so two groups of cluster a, and one of b.
    assert_eq!(sorted(texts(&v, &clusters)), ["a", "a", "b"], "{v}");
    let v = get("alerts").await;
    let firing = v["data"]["alerts"].as_array().map_or(0, Vec::len);
    assert!(firing >= 4, "{v}");
    assert!(
        v.to_string().contains(r#""cluster":"b""#) && !v.to_string().contains("replica"),
        "{v}"
    );
    let v = get("targets?state=active").await;
    let clusters = sorted(texts(&v, &["data", "activeTargets", "*", "labels", "cluster"]));
    assert_eq!(clusters, ["a", "a", "b"], "{v}");
    let v = get("targets").await;
    assert!(!texts(&v, &["data", "droppedTargets", "*", "discoveredLabels", "job"]).is_empty());
    let v = get("metadata?metric=shop_temperature_celsius").await;
    let all = v["data"]["shop_temperature_celsius"].as_array();
    assert_eq!(all.map(Vec::len), Some(1), "the same of all clusters is there once: {v}");
    let v =
        get("targets/metadata?match_target={cluster=\"b\"}&metric=shop_temperature_celsius").await;
    assert_eq!(texts(&v, &["data", "*", "target", "cluster"]), ["b"], "{v}");
    let v = get("alertmanagers").await;
    assert_eq!(v["data"]["activeAlertmanagers"].as_array().map(Vec::len), Some(3), "{v}");
    let v = get(&format!(
        "query_exemplars?query=shop_requests_total{{cluster=\"a\"}}&start={}&end={}",
        a.settled - 600,
        a.settled
    ))
    .await;
    let clusters = texts(&v, &["data", "*", "seriesLabels", "cluster"]);
    assert!(clusters.len() >= 2 && clusters.iter().all(|c| c == "a"), "{v}");
    let v = get("cardinality?by=cluster").await;
    let clusters = sorted(texts(&v, &["data", "entries", "*", "labels", "cluster"]));
    assert_eq!(clusters, ["a", "b"], "{v}");
    let v = get("cardinality?by=metric&limit=1000").await;
    let entries = v["data"]["entries"].as_array().cloned().unwrap_or_default();
    let warm = entries.iter().find(|e| e["name"] == "shop_temperature_celsius");
    let warm = warm.unwrap_or_else(|| panic!("{v}"));
    assert_eq!(warm["value"], 4, "two rooms in two clusters: {warm}");
    assert_eq!(warm["clusters"].as_object().map(serde_json::Map::len), Some(2), "{warm}");
    let v = get("status/tsdb").await;
    assert!(v["data"]["headStats"]["numSeries"].as_u64() > Some(20), "{v}");
}

/// One cluster is gone: every answer names it, and none is given where that is asked for.
async fn missing(url: &str) {
    for path in [
        "rules",
        "alerts",
        "targets",
        "metadata",
        "targets/metadata",
        "alertmanagers",
        "query_exemplars?query=up",
        "status/tsdb",
        "cardinality",
        "series?match[]=up",
        "query?query=up",
    ] {
        let address = format!("{url}/api/v1/{path}");
        let mut warned = String::new();
        for _ in 0..50 {
            let v = get_json(&address).await;
            assert_eq!(v["status"], "success", "{address}: {v}");
            warned = v["warnings"].to_string();
            if warned.contains("cluster=\\\"b\\\"") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(
            warned.contains("cluster=\\\"b\\\""),
            "{address} does not name who is missing: {warned}"
        );
        let more = if path.contains('?') { '&' } else { '?' };
        let strict = client().get(format!("{address}{more}partial_response=false")).send().await;
        assert_eq!(strict.expect("an answer").status().as_u16(), 503, "{address}");
    }
}
