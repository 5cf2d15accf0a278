//! A Prometheus that is not there, goes, comes back changed, or speaks nonsense.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use periplus_model::{MatchOp, Matcher};
use periplus_proto::convert::matchers_to_thanos;
use periplus_proto::fleet::fleet_client::FleetClient;
use periplus_proto::fleet::{DescribeRequest, ExecuteRequest};
use periplus_proto::thanos::SeriesRequest;
use periplus_proto::thanos::store_client::StoreClient;
use periplus_sidecar::EvaluateIn;
use tonic::Code;

use crate::prometheus::{Prometheus, binaries, now_ms};
use crate::running::{Running, config, labels};

fn question(now: i64) -> ExecuteRequest {
    ExecuteRequest {
        query: "sum by (cluster) (m)".into(),
        start_ms: now,
        end_ms: now,
        timeout_ms: 5_000,
        ..ExecuteRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_and_notices_restart_and_reload() {
    let external = labels(&[("cluster", "a")]);
    for binary in binaries() {
        let now = now_ms();
        let mut prometheus = Prometheus::start(&binary, &external, &[]);
        prometheus.load(&[(labels(&[("__name__", "m"), ("x", "1")]), vec![(now - 1000, 5.0)])]);
        prometheus.kill();
        let running = Running::unready(config(&prometheus.url(), EvaluateIn::Auto));
        let refused = running.execute(question(now), 1).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(
            FleetClient::new(running.channel.clone())
                .describe(DescribeRequest {})
                .await
                .unwrap()
                .into_inner()
                .streams
                .is_empty()
        );

        prometheus.restart();
        running.until("it is reached", |s| s.known && s.problem.is_none()).await;
        assert_eq!(running.execute(question(now), 1).await.unwrap().0[0].columns[0][0], 5.0);
        running
            .until("its head is read", |s| s.max_t == Some(now - 1000) && s.head_series == 1)
            .await;

        prometheus.kill();
        running.until("it is missed", |s| s.problem.is_some() && s.problem_since_ms >= now).await;
        let refused = running.execute(question(now), 1).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let described = FleetClient::new(running.channel.clone())
            .describe(DescribeRequest {})
            .await
            .unwrap()
            .into_inner();
        assert!(!described.streams[0].problem.is_empty());

        prometheus.restart();
        running.until("it is back", |s| s.problem.is_none() && s.problem_since_ms == 0).await;
        prometheus.reconfigure(&labels(&[("cluster", "b")]), None);
        running.until("new labels", |s| s.external.get("cluster") == Some("b")).await;
        let (rows, _) = running.execute(question(now), 1).await.unwrap();
        assert_eq!(rows[0].labels, labels(&[("cluster", "b")]));
        let text = running.admin.metrics_text();
        assert!(text.contains("periplus_sidecar_prometheus_healthy"), "{text}");
    }
}

/// Waits until it has scraped a few times from now on.
async fn scraped(prometheus: &Prometheus) {
    let since = now_ms() / 1000 + 2;
    for _ in 0..600 {
        let form = [("query", format!("count(timestamp(up) > {since})"))];
        let answer = prometheus.api("query", &form);
        if answer["data"]["result"].as_array().is_some_and(|r| !r.is_empty()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it scrapes nothing");
}

/// A Prometheus that scrapes itself is stopped for a while: the gap is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_are_found() {
    for binary in binaries() {
        let external = labels(&[("cluster", "a")]);
        let mut prometheus = Prometheus::start(&binary, &external, &[]);
        let target = prometheus.url().trim_start_matches("http://").to_owned();
        prometheus.reconfigure(&external, Some(&target));
        scraped(&prometheus).await;
        prometheus.kill();
        let stopped = now_ms();
        tokio::time::sleep(Duration::from_secs(6)).await;
        let resumed = now_ms();
        prometheus.restart();
        scraped(&prometheus).await;
        let running = Running::start(config(&prometheus.url(), EvaluateIn::Auto)).await;
        running.until("a gap", |s| !s.gaps.is_empty()).await;
        let gaps = running.sidecar.snapshot().gaps.clone();
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert!(
            gaps[0].min_t <= stopped + 1000 && gaps[0].max_t >= resumed,
            "{gaps:?} {stopped} {resumed}"
        );
    }
}

/// A server that gives every request the same bytes, then closes or holds the connection.
fn speaks(answer: Vec<u8>, hold: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0u8; 4096];
            let n = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..n]).into_owned();
            let _ = match good(&text) {
                Some(body) => {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    stream
                        .write_all(head.as_bytes())
                        .and_then(|()| stream.write_all(body.as_bytes()))
                }
                None => stream.write_all(&answer),
            };
            if hold {
                held.push(stream);
            }
        }
    });
    url
}

/// What a healthy Prometheus answers about itself.
fn good(request: &str) -> Option<&'static str> {
    let path = request.split(' ').nth(1)?;
    Some(match path {
        "/-/ready" => "ready",
        "/metrics" => "prometheus_tsdb_head_series 1\n",
        "/api/v1/status/config" => {
            r#"{"status":"success","data":{"yaml":"global:\n  external_labels:\n    cluster: a\n"}}"#
        }
        "/api/v1/status/buildinfo" => r#"{"status":"success","data":{"version":"3.4.0"}}"#,
        "/api/v1/status/runtimeinfo" => {
            r#"{"status":"success","data":{"startTime":"x","lastConfigTime":"y"}}"#
        }
        "/api/v1/status/flags" => r#"{"status":"success","data":{}}"#,
        "/api/v1/label/cluster/values" => r#"{"status":"success","data":[]}"#,
        "/api/v1/query_range" => {
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#
        }
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_an_error_in_time() {
    let json = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let stream = |body: &[u8], length: usize| {
        let mut out = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        out.extend(body);
        out
    };
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("no http", b"\x00\xff garbage\r\n\r\n".to_vec(), false),
        ("nothing", Vec::new(), false),
        ("silence", Vec::new(), true),
        ("half a body", stream(b"\x10", 9), false),
        ("a stalled body", stream(b"\x10\x00\x00", 900), true),
        ("a bad checksum", stream(b"\x02\x00\x00\x00\x00ab", 7), false),
        ("a huge frame", stream(b"\xff\xff\xff\xff\x0f\x00\x00\x00\x00", 9), false),
        ("not json", json("<html>"), false),
        ("half json", json(r#"{"status":"success","data":{"resultType":"vec"#), false),
        ("wrong json", json(r#"{"status":"success","data":[1,2]}"#), false),
        ("a deep json", json(&"[".repeat(100_000)), false),
    ];
    for (name, answer, hold) in cases {
        let url = speaks(answer, hold);
        for mode in [EvaluateIn::Auto, EvaluateIn::Engine] {
            let mut settings = config(&url, mode);
            settings.limits.request_timeout = Duration::from_secs(2);
            let running = Running::start(settings).await;
            let begun = Instant::now();
            let execute = running.execute(question(now_ms()), 1).await;
            assert!(execute.is_err(), "{name}");
            let request = SeriesRequest {
                max_time: i64::MAX,
                matchers: matchers_to_thanos(&[
                    Matcher::new("__name__", MatchOp::Equal, "m").unwrap()
                ]),
                ..SeriesRequest::default()
            };
            let mut client = StoreClient::new(running.channel.clone());
            let series = async {
                let mut stream = client.series(request).await?.into_inner();
                while stream.message().await?.is_some() {}
                Ok::<_, tonic::Status>(())
            };
            assert!(series.await.is_err(), "{name}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{name} took {:?}", begun.elapsed());
        }
    }
}
