//! What rules give goes on: by remote write to a Prometheus, and as blocks into a bucket.

use super::*;

/// The files that make blocks in a bucket.
fn blocks(bucket: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(bucket).into_iter().flatten().flatten();
    let meta = entries.filter_map(|e| std::fs::read(e.path().join("meta.json")).ok());
    meta.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect()
}

/// How many samples of the last minutes somebody has of what a rule recorded.
async fn recorded(url: &str) -> f64 {
    let found = query(url, "count_over_time(job:errors:sum{cluster=\"a\"}[5m])").await;
    found.first().and_then(|s| s["value"][1].as_str()?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_series_are_written_elsewhere_and_become_blocks() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let flavour = flavours().into_iter().next_back().expect("a prometheus");
    let cluster = Prometheus::start(&flavour, "prom", &[("cluster", "a")], dir).await;
    cluster.store(&steady(9.0)).await;
    let mut receiver = Prometheus::start(&flavour, "receiver", &[], dir).await;
    let place = super::super::place::Place::loopback();
    let sidecar = Sidecar::start("sidecar", &cluster.url, &[], &place, dir).await;
    let port = free_port();
    let endpoints = [sidecar.grpc.as_str(), &format!("127.0.0.1:{port}")];
    let fleet = Query::start("query", &endpoints, &["--probe-interval", "500ms"], dir).await;
    let rules = dir.join("rules.yml");
    std::fs::write(&rules, RULES).expect("rules");
    let text = |p: std::path::PathBuf| p.display().to_string();
    let (rules, data, bucket) = (text(rules), text(dir.join("data")), dir.join("bucket"));
    std::fs::create_dir_all(&bucket).expect("a directory");
    let (url, write) =
        (format!("file://{}", bucket.display()), format!("{}/api/v1/write", receiver.url));
    let args = ["--query", &fleet.url, "--rules", &rules, "--data", &data, "--rule-bucket", &url];
    let more = ["--rule-remote-write", write.as_str(), "--rule-label", "ruler=x"];
    let mut ruler = Ruler::start("ruler", port, &[args.as_slice(), &more].concat(), dir);

    let sent = || async {
        let sums = query(&receiver.url, "job:errors:sum{cluster=\"a\", ruler=\"x\"} == 9").await;
        let firing = query(&receiver.url, "ALERTS{alertstate=\"firing\", ruler=\"x\"}").await;
        sums.len() == 1 && !firing.is_empty()
    };
    until("a Prometheus has what rules give", sent).await;

    // The receiver is away for a while, and lacks nothing afterwards.
    receiver.process.kill();
    let before = recorded(&fleet.url).await;
    until("rules go on", || async { recorded(&fleet.url).await >= before + 3.0 }).await;
    receiver.restart().await;
    until("what waited has come", || async {
        let all = recorded(&fleet.url).await;
        all > before && recorded(&receiver.url).await >= all - 1.0
    })
    .await;

    // Asked to end it writes a block, and sends that when it is back.
    assert!(ruler.process.terminate().is_some());
    ruler.restart(dir);
    until("a block is in the bucket", || async { !blocks(&bucket).is_empty() }).await;
    let meta = blocks(&bucket).remove(0);
    assert_eq!(meta["thanos"]["source"], "ruler", "{meta}");
    assert_eq!(meta["thanos"]["labels"]["ruler"], "x", "{meta}");
    // Prometheus's own tool reads it; 2.x wants a database to have a log, too.
    std::fs::create_dir_all(bucket.join("wal")).expect("a directory");
    let dump = Command::new("promtool").args(["tsdb", "dump"]).arg(&bucket).output();
    let dump = dump.expect("promtool");
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(
        text.contains(r#"__name__="job:errors:sum", cluster="a", job="api"} 9 "#),
        "{text:.2000}"
    );
    assert!(text.contains(r#"__name__="ALERTS_FOR_STATE""#), "{text:.2000}");
    // What was in memory before is there again.
    until("the restart lost nothing", || async { recorded(&fleet.url).await > before }).await;
}
