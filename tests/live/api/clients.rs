//! Clients that others wrote: promtool, PyPI's prometheus-api-client, npm's codemirror-promql, the Go client library, and
//! a Prometheus that reads the fleet by remote read and by federation.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::setup::{Shop, get_json, query};
use crate::prometheus::{Prometheus, flavours};

/// Where script/setup puts what tests need.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

/// Says that a client is not there; in CI that is a failure.
fn absent(what: &str) {
    let text = format!("{what} is not there: script/setup test gets it");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
    eprintln!("skipped: {text}");
}

/// Runs a client to its end, which has to be a good one; what it wrote.
fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{command:?}: {}\n{out}\n{err}", done.status);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_others_are_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().pop().expect("a Prometheus");
    let external = [("cluster", "a")];
    let shop = Shop::start(&flavour, "shop", &external, dir.path()).await;
    let query = query(&[&shop], &[], dir.path()).await;
    promtool(&query.url, &shop.prometheus.url, shop.settled);
    python(&query.url, &shop.prometheus.url, shop.settled);
    node(&query.url);
    go(&query.url, shop.settled);
    reading_prometheus(&flavour.binary, &query.url, &shop, dir.path()).await;
}

fn promtool(url: &str, asked: &str, settled: i64) {
    let (start, end) = ((settled - 4).to_string(), settled.to_string());
    let ask = |args: &[&str]| run(Command::new("promtool").arg("query").args(args));
    let out = ask(&["instant", "--time", &end, url, "sum by (cluster) (shop_requests_total)"]);
    assert!(out.contains(r#"{cluster="a"} => 20 @"#), "{out}");
    let out = ask(&["range", "--start", &start, "--end", &end, "--step", "1s", url, "up"]);
    let theirs = ask(&["range", "--start", &start, "--end", &end, "--step", "1s", asked, "up"]);
    let steps = |text: &str| text.matches("1 @").count();
    assert!(steps(&out) > 0 && steps(&out) == steps(&theirs), "{out}{theirs}");
    let out = ask(&["series", "--match", "up", "--start", &start, "--end", &end, url]);
    assert!(out.contains(r#"cluster="a""#), "{out}");
    let out = ask(&["labels", url, "cluster"]);
    assert_eq!(out.trim(), "a");
}

fn python(url: &str, asked: &str, settled: i64) {
    let python = tools().join("venv/bin/python3");
    let has = Command::new(&python).args(["-c", "import prometheus_api_client"]).output();
    if !has.is_ok_and(|o| o.status.success()) {
        return absent("prometheus-api-client");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/api/clients/client.py");
    run(Command::new(&python).arg(script).args([url, asked, &settled.to_string()]));
}

fn node(url: &str) {
    let modules = tools().join("npm/node_modules");
    if !modules.join("@prometheus-io/codemirror-promql").is_dir() {
        return absent("codemirror-promql");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/api/clients/client.cjs");
    run(Command::new("node").env("NODE_PATH", &modules).arg(script).arg(url));
}

fn go(url: &str, settled: i64) {
    if !Command::new("go").arg("version").output().is_ok_and(|o| o.status.success()) {
        return absent("a Go compiler");
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/api/clients/go");
    let mut command = Command::new("go");
    // Built from what go.sum names, and nothing else.
    command.current_dir(program).env("GOFLAGS", "-mod=readonly -buildvcs=false");
    run(command.args(["run", "."]).arg(url).arg(settled.to_string()));
}

/// A Prometheus of its own that has nothing but what it reads from the fleet.
async fn reading_prometheus(binary: &Path, url: &str, shop: &Shop, dir: &Path) {
    let flavours = flavours();
    let flavour = flavours.iter().find(|f| f.binary == binary).expect("the flavour");
    let host = url.trim_start_matches("http://");
    let yaml = format!(
        "global: {{scrape_interval: 1s}}\n\
         remote_read: [{{url: '{url}/api/v1/read', read_recent: true}}]\n\
         scrape_configs:\n- job_name: fleet\n  honor_labels: true\n  metrics_path: /federate\n  \
         params: {{'match[]': ['shop_temperature_celsius', 'job:shop_requests:sum']}}\n  \
         static_configs: [{{targets: ['{host}']}}]\n  \
         metric_relabel_configs: [{{action: replace, target_label: via, replacement: federation}}]\n"
    );
    let reader = Prometheus::start_with(flavour, "reader", &yaml, &[], dir).await;
    let at = |expr: &str| {
        let url = reader.url.clone();
        let parameters = [("query", expr.to_owned()), ("time", shop.settled.to_string())];
        let address = reqwest::Url::parse_with_params(&format!("{url}/api/v1/query"), &parameters);
        async move { get_json(address.expect("an address").as_str()).await }
    };
    // Streamed chunks: the reader asks for them, over all series and over a range.
    let sum = at("sum by (cluster) (shop_requests_total)").await;
    assert_eq!(sum["data"]["result"][0]["metric"]["cluster"], "a", "{sum}");
    assert_eq!(sum["data"]["result"][0]["value"][1], "20", "{sum}");
    let span = at("count_over_time(up{via=\"\"}[4s])").await;
    let n = span["data"]["result"][0]["value"][1].as_str().and_then(|n| n.parse::<f64>().ok());
    assert!(n.is_some_and(|n| (3.0..=5.0).contains(&n)), "{span}");
    // Federation: the fleet's newest samples become the reader's own.
    for _ in 0..200 {
        let expr = "count({via=\"federation\",cluster=\"a\",job=\"shop\"})";
        let found = get_json(&format!("{}/api/v1/query?query={expr}", reader.url)).await;
        if found["data"]["result"][0]["value"][1] == "3" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing comes by federation:\n{}", reader.process.last_words());
}

/// Requests that schemathesis makes out of the OpenAPI document, valid ones and broken ones: no answer but those
/// that the document knows, and none that says the fault is the server's.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_holds_under_fuzzing() {
    let schemathesis = tools().join("venv/bin/schemathesis");
    if !schemathesis.is_file() {
        return absent("schemathesis");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let shop = Shop::start(&flavour, "shop", &[("cluster", "a")], dir.path()).await;
    let query = query(&[&shop], &[], dir.path()).await;
    run(Command::new(schemathesis)
        .current_dir(dir.path())
        .args(["run", &format!("{}/api/v1/openapi.json", query.url), "--url", &query.url])
        .args(["--max-examples", "12", "--seed", "7", "--workers", "2", "--no-color"])
        // Its body is binary; the hostile ones are in `hostile`.
        .args(["--exclude-path", "/api/v1/read"])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args([
            "--checks",
            "status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--request-timeout", "30"]));
}
