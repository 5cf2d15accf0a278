//! A sidecar's memory stays flat while two hundred thousand series stream through it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_model::{MatchOp, Matcher};
use periplus_proto::convert::matchers_to_thanos;
use periplus_proto::thanos::store_client::StoreClient;
use periplus_proto::thanos::{SeriesRequest, series_response};
use periplus_sidecar::EvaluateIn;

use crate::prometheus::{Loaded, Prometheus, binaries, now_ms};
use crate::running::{config, labels};

const CHILD: &str = "PERIPLUS_TEST_MEMORY_CHILD";
const SERIES: usize = 200_000;

/// Not a test of its own: the sidecar of the test below, in a process whose memory is measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(url) = std::env::var(CHILD) else { return };
    let (admin, drain) = (Admin::new("sidecar", "test", "test"), Drain::new());
    let mut settings = config(&url, EvaluateIn::Auto);
    settings.listen = "127.0.0.1:0".into();
    let bound = periplus_sidecar::build(settings, &admin, &drain).await.unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nlistening {}", bound.address()).unwrap();
    out.flush().unwrap();
    let watched = drain.clone();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        watched.begin();
    });
    periplus_sidecar::run(bound, &admin, &drain).await.unwrap();
}

/// A figure of `/proc/<pid>/status`, KiB.
fn status(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stays_flat() {
    let Some(binary) = binaries().pop() else { return };
    let prometheus =
        Prometheus::start(&binary, &labels(&[("cluster", "a"), ("replica", "0")]), &[]);
    let now = now_ms();
    for part in 0..SERIES / 10_000 {
        let series: Vec<Loaded> = (0..10_000)
            .map(|i| {
                let (pod, node) = (format!("pod-{part}-{i}"), format!("node-{}", i % 50));
                let own =
                    [("__name__", "m"), ("namespace", "shop"), ("node", &node), ("pod", &pod)];
                let samples = (0..4).map(|k| (now - 60_000 + k * 15_000, (i * k) as f64));
                (labels(&own), samples.collect())
            })
            .collect();
        prometheus.load(&series);
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["memory::child", "--exact", "--nocapture"])
        .env(CHILD, prometheus.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept to the end: the child writes once more when it is done.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|l| l.strip_prefix("listening ").map(str::to_owned))
        .unwrap();
    let pid = child.id();
    let mut client = StoreClient::connect(format!("http://{address}")).await.unwrap();
    let request = SeriesRequest {
        min_time: now - 3_600_000,
        max_time: now,
        matchers: matchers_to_thanos(&[Matcher::new("__name__", MatchOp::Equal, "m").unwrap()]),
        ..SeriesRequest::default()
    };
    let begun = Instant::now();
    let mut stream = loop {
        match client.series(request.clone()).await {
            Ok(stream) => break stream.into_inner(),
            // Until it has seen its Prometheus.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    };
    let (mut came, mut peak) = (0, 0);
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(series_response::Result::Series(_)) = message.result {
            came += 1;
        }
        if came % 5_000 == 0 {
            peak = peak.max(status(pid, "RssAnon"));
        }
    }
    let (whole, took) = (status(pid, "VmHWM"), begun.elapsed());
    let _ = child.stdin.take().unwrap().write_all(b"end\n");
    let _ = child.wait();
    eprintln!(
        "{came} series in {took:?}: {peak} KiB of memory at most, {whole} KiB with the program"
    );
    assert_eq!(came, SERIES);
    assert!(peak < 50 << 10, "{peak} KiB");
}
