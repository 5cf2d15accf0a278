//! A hub as a process of its own, over HTTP: killed under load, asked as clients ask.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod export;
mod loki;
mod process;
mod secure;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use periplus_events::Event;
use periplus_events::wire::{Ack, Batch, Encoding, WireLimits, compress};
use serde_json::Value;

use process::Process;

fn event(uid: usize, version: u64) -> Event {
    let base = 1_000_000
        * (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
            as i64
            / 60
            * 60);
    Event {
        uid: format!("uid-{uid}"),
        resource_version: version,
        namespace: format!("ns{}", uid % 5),
        kind: "Pod".into(),
        name: format!("web-{uid}"),
        reason: "BackOff".into(),
        type_: "Warning".into(),
        message: format!("Back-off restarting failed container <b>{uid}</b>"),
        count: u32::try_from(version).unwrap(),
        first_us: base - 120_000_000,
        last_us: base - 60_000_000 + i64::try_from(version).unwrap(),
        ..Event::default()
    }
}

async fn post(client: &reqwest::Client, url: &str, events: &[Event]) -> Result<Ack, String> {
    let batch = Batch { version: 1, events: events.to_vec(), ..Batch::default() };
    let body = batch.encode(Encoding::Zstd).unwrap();
    let request = client
        .post(format!("{url}/api/v1/events"))
        .header("content-encoding", "zstd")
        .header("content-type", "application/json")
        .timeout(Duration::from_secs(20))
        .body(body);
    let response = request.send().await.map_err(|e| e.to_string())?;
    match response.status().is_success() {
        true => response.json().await.map_err(|e| e.to_string()),
        false => Err(response.text().await.unwrap_or_default()),
    }
}

async fn get(client: &reqwest::Client, url: &str) -> Value {
    let text = client.get(url).send().await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{url}: {e}: {text}"))
}

/// All rows: count by uid; none twice.
async fn rows(client: &reqwest::Client, url: &str) -> BTreeMap<String, u64> {
    let (mut out, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = get(client, &format!("{url}/api/v1/events?limit=1000{cursor}")).await;
        assert_eq!(page["warnings"], Value::Null, "{page}");
        for e in page["data"]["events"].as_array().unwrap() {
            let uid = format!("{}/{}", e["cluster"].as_str().unwrap(), e["uid"].as_str().unwrap());
            assert_eq!(out.insert(uid.clone(), e["count"].as_u64().unwrap()), None, "{uid} twice");
        }
        match page["data"]["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return out,
        }
    }
}

/// The process behind the tests that kill one: does nothing unless it is asked to be a hub.
#[test]
fn child() {
    process::child();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_under_load_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut want: BTreeMap<String, u64> = BTreeMap::new();
    let mut maybe: BTreeMap<String, u64> = BTreeMap::new();
    let mut acknowledged = 0;
    for round in 0..6_u64 {
        let mut hub = Process::start(dir.path()).await;
        let url = hub.url.clone();
        let there = rows(&client, &url).await;
        for (uid, count) in &want {
            let got = there.get(uid).copied().unwrap_or(0);
            let most = maybe.get(uid).copied().unwrap_or(*count).max(*count);
            assert!(
                got >= *count && got <= most,
                "round {round}: {uid} is {got}, acknowledged {count}, sent {most}"
            );
        }
        assert!(there.keys().all(|uid| want.contains_key(uid) || maybe.contains_key(uid)));
        // Senders until the hub is killed; the moment moves through everything a batch goes through.
        let senders = (0..3).map(|sender| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                let (mut done, mut last) = (Vec::new(), Vec::new());
                for n in 0.. {
                    let version = round * 1000 + n + 1;
                    let of = |i: u64| {
                        let uid = usize::try_from(sender * 10_000 + (n * 7 + i) % 400).unwrap();
                        Event { cluster: format!("c{}", uid % 3), ..event(uid, version) }
                    };
                    let events: Vec<Event> = (0..40).map(of).collect();
                    match post(&client, &url, &events).await {
                        Ok(ack) => {
                            assert_eq!(ack.changed + ack.unchanged, 40);
                            done.extend(events);
                        }
                        Err(_) => {
                            last = events;
                            break;
                        }
                    }
                }
                (done, last)
            })
        });
        let senders: Vec<_> = senders.collect();
        tokio::time::sleep(Duration::from_millis(400 + 137 * round)).await;
        hub.kill();
        for sender in senders {
            let (done, last) = sender.await.unwrap();
            acknowledged += done.len();
            let key = |e: &Event| format!("{}/{}", e.cluster, e.uid);
            for e in done {
                let kept = want.entry(key(&e)).or_insert(0);
                *kept = (*kept).max(u64::from(e.count));
            }
            for e in last {
                let kept = maybe.entry(key(&e)).or_insert(0);
                *kept = (*kept).max(u64::from(e.count));
            }
        }
    }
    assert!(acknowledged > 0, "nothing was ever acknowledged");
    // What was never acknowledged is sent again, as a spool would: then all is there, once.
    let mut hub = Process::start(dir.path()).await;
    let again: Vec<Event> = maybe
        .iter()
        .map(|(key, count)| {
            let (cluster, uid) = key.split_once("/uid-").unwrap();
            Event { cluster: cluster.into(), ..event(uid.parse().unwrap(), *count) }
        })
        .collect();
    for part in again.chunks(100) {
        post(&client, &hub.url, part).await.unwrap();
    }
    for (uid, count) in maybe {
        let kept = want.entry(uid).or_insert(0);
        *kept = (*kept).max(count);
    }
    assert_eq!(rows(&client, &hub.url).await, want);
    hub.kill();
}

/// Reads server-sent events until `n` are there; gives ids and uids.
async fn sent(
    client: &reqwest::Client,
    url: &str,
    last: Option<&str>,
    n: usize,
) -> Vec<(String, String)> {
    let mut request = client.get(format!("{url}/api/v1/events/tail?namespace=ns1"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let mut stream = request.send().await.unwrap().bytes_stream();
    let (mut text, mut out) = (String::new(), Vec::new());
    while out.len() < n {
        let chunk = tokio::time::timeout(Duration::from_secs(60), stream.next()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        while let Some((one, rest)) = text.split_once("\n\n") {
            let field = |name: &str| one.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
            if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                let event: Value = serde_json::from_str(data).unwrap();
                assert_eq!(event["id"].as_str(), Some(id));
                out.push((id.to_owned(), event["uid"].as_str().unwrap().to_owned()));
            }
            text = rest.to_owned();
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_where_it_was_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let in_cluster = |i: usize| Event { cluster: "c".into(), ..event(i, 1) };
    let mut hub = Process::start(dir.path()).await;
    let url = hub.url.clone();
    let reading = {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move { sent(&client, &url, None, 10).await })
    };
    // Until the stream is open, news could be over before it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for n in 0..10 {
        post(&client, &url, &(n * 10..n * 10 + 10).map(in_cluster).collect::<Vec<_>>())
            .await
            .unwrap();
    }
    let first = reading.await.unwrap();
    hub.kill();
    let mut hub = Process::start(dir.path()).await;
    let url = hub.url.clone();
    for n in 10..15 {
        post(&client, &url, &(n * 10..n * 10 + 10).map(in_cluster).collect::<Vec<_>>())
            .await
            .unwrap();
    }
    let rest = sent(&client, &url, Some(&first[9].0), 20).await;
    let all: Vec<String> = first.into_iter().chain(rest).map(|(_, uid)| uid).collect();
    let want: Vec<String> = (0..150).filter(|i| i % 5 == 1).map(|i| format!("uid-{i}")).collect();
    assert_eq!(all, want);
    hub.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_what_is_there_and_hostile_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut hub = Process::start(dir.path()).await;
    let url = hub.url.clone();
    let mut events: Vec<Event> =
        (0..100).map(|i| Event { cluster: format!("c{}", i % 2), ..event(i, 2) }).collect();
    events[7].type_ = "Normal".into();
    post(&client, &url, &events).await.unwrap();

    let page = get(
        &client,
        &format!("{url}/api/v1/events?cluster=c1&namespace=ns1&text=FAILED&order=asc"),
    )
    .await;
    assert_eq!(page["data"]["events"].as_array().unwrap().len(), 10);
    assert_eq!(page["data"]["events"][0]["region"], "north");
    let counts = get(&client, &format!("{url}/api/v1/events/count?by=cluster,type&since=1h")).await;
    let points: Vec<u64> = counts["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["points"][0][1].as_u64().unwrap())
        .collect();
    assert_eq!(points, [50, 1, 49]);
    let reasons = get(&client, &format!("{url}/api/v1/events/values?field=namespace")).await;
    assert_eq!(reasons["data"].as_array().unwrap().len(), 5);
    let api = get(&client, &format!("{url}/api/v1/events/openapi.json")).await;
    for path in api["paths"].as_object().unwrap().keys() {
        let status = client.get(format!("{url}{path}?field=kind")).send().await.unwrap().status();
        assert_ne!(status, 404, "{path}");
    }

    // Loki, as Grafana and logcli ask it.
    let loki = format!("{url}/loki/api/v1");
    let health = get(&client, &format!("{loki}/query?query=vector(1)%2Bvector(1)")).await;
    assert_eq!(health["data"]["result"][0]["value"][1], "2");
    let query = "%7Bcluster%3D%22c1%22%7D%20%7C%3D%20%22Back-off%22";
    let lines = get(&client, &format!("{loki}/query_range?query={query}&limit=7")).await;
    let streams = lines["data"]["result"].as_array().unwrap();
    let n: usize = streams.iter().map(|s| s["values"].as_array().unwrap().len()).sum();
    assert_eq!((n, lines["data"]["resultType"].as_str().unwrap()), (7, "streams"));
    let sum =
        "sum%20by%20(level)%20(count_over_time(%7Bsource%3D%22kubernetes-events%22%7D%5B1h%5D))";
    let answer = get(&client, &format!("{loki}/query?query={sum}")).await;
    assert_eq!(answer["data"]["result"][0]["metric"]["level"], "info");
    assert_eq!(answer["data"]["result"][1]["value"][1], "99");
    let names = get(&client, &format!("{loki}/labels")).await;
    assert!(names["data"].as_array().unwrap().contains(&"namespace".into()));
    let values = get(&client, &format!("{loki}/label/level/values")).await;
    assert_eq!(values["data"], serde_json::json!(["info", "warn"]));
    let series = get(&client, &format!("{loki}/series?match[]=%7Bnamespace%3D%22ns1%22%7D")).await;
    assert_eq!(series["data"].as_array().unwrap().len(), 2);

    // As metrics.
    let text = client
        .get(format!("{url}/api/v1/events/metrics"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.contains(r#"periplus_events_total{cluster="c0",kind="Pod",namespace="ns0",reason="BackOff",type="Warning"} 20"#), "{text}");

    // Text stays text.
    let response = client.get(format!("{url}/api/v1/events")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert!(
        response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("default-src 'none'")
    );

    // Nonsense is refused; a misspelt parameter does not select everything.
    for (path, status) in [
        ("/api/v1/events?namspace=x", 400),
        ("/api/v1/events?start=yesterday", 400),
        ("/api/v1/events?limit=0", 400),
        ("/api/v1/events?cursor=x", 400),
        ("/api/v1/events/count?by=message", 400),
        ("/api/v1/events/count?since=1y&step=1s", 400),
        ("/api/v1/events/tail?after=x", 400),
        ("/loki/api/v1/query_range?query=%7B", 400),
        ("/loki/api/v1/query_range", 400),
    ] {
        let got = client.get(format!("{url}{path}")).send().await.unwrap().status();
        assert_eq!(got, status, "{path}");
    }
    let bomb = compress(&vec![b' '; 512 << 20], Encoding::Zstd).unwrap();
    let before = hub.resident_bytes();
    for _ in 0..8 {
        let request =
            client.post(format!("{url}/api/v1/events")).header("content-encoding", "zstd");
        assert_eq!(request.body(bomb.clone()).send().await.unwrap().status(), 413);
    }
    assert!(hub.resident_bytes() < before + (256 << 20));
    let large = vec![b' '; WireLimits::default().body_bytes_max + 1];
    let request = client.post(format!("{url}/api/v1/events")).body(large);
    // Refused before it is sent, so the connection may break under the client.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    let odd =
        client.post(format!("{url}/api/v1/events")).header("content-encoding", "br").body("x");
    assert_eq!(odd.send().await.unwrap().status(), 415);
    assert_eq!(rows(&client, &url).await.len(), 100);
    hub.kill();
}

/// The totals of all series that the matchers select, by reason, as a query layer gets them.
async fn totals(hub: &Process, cluster: &str) -> BTreeMap<String, f64> {
    use periplus_block::chunk::{ChunkEncoding, ChunkSamples, decode};
    use periplus_model::TimeRange;
    use periplus_proto::thanos::store_client::StoreClient;
    use periplus_proto::thanos::{LabelMatcher, SeriesRequest, label_matcher, series_response};
    let channel =
        tonic::transport::Endpoint::from_shared(hub.grpc.clone()).unwrap().connect().await.unwrap();
    let equal = |name: &str, value: &str| LabelMatcher {
        r#type: label_matcher::Type::Eq as i32,
        name: name.into(),
        value: value.into(),
    };
    let request = SeriesRequest {
        min_time: 0,
        max_time: i64::MAX,
        matchers: vec![equal("__name__", "periplus_events_total"), equal("cluster", cluster)],
        ..SeriesRequest::default()
    };
    let mut stream = StoreClient::new(channel).series(request).await.unwrap().into_inner();
    let mut out = BTreeMap::new();
    while let Some(message) = stream.message().await.unwrap() {
        let Some(series_response::Result::Series(series)) = message.result else { continue };
        let raw = series.chunks.last().unwrap().raw.as_ref().unwrap();
        let mut samples = ChunkSamples::new();
        decode(ChunkEncoding::Xor, &raw.data, TimeRange::ALL, &mut samples).unwrap();
        let label =
            |name: &str| series.labels.iter().find(|l| l.name == name).map(|l| l.value.clone());
        assert_eq!(label("cluster").as_deref(), Some(cluster));
        out.insert(label("reason").unwrap(), *samples.values.last().unwrap());
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_count_each_occurrence_once_across_kills() {
    let dir = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let of = |reason: &str, uid: usize, version: u64| Event {
        cluster: "c".into(),
        reason: reason.into(),
        ..event(uid, version)
    };
    for round in 1..=3_u64 {
        let mut hub = Process::start(dir.path()).await;
        // Counts rise by one a round; all of it is sent twice, and what was before once more.
        for version in [round, round, 1] {
            let events: Vec<Event> =
                (0..20).map(|i| of(["BackOff", "Failed"][i % 2], i, version)).collect();
            post(&client, &hub.url, &events).await.unwrap();
        }
        // A sample may not have its time yet: they stand at multiples of fifteen seconds.
        let text = client
            .get(format!("{}/api/v1/events/metrics?cluster=c", hub.url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = format!(
            "periplus_events_total{{kind=\"Pod\",namespace=\"ns0\",reason=\"BackOff\",type=\"Warning\"}} {}",
            2 * round
        );
        assert!(text.contains(&line), "{line} in {text}");
        let served = totals(&hub, "c").await;
        let most = 20.0 * f64::from(u32::try_from(round).unwrap());
        assert!(served.keys().eq(["BackOff", "Failed"].iter()), "{served:?}");
        assert!(served.values().all(|v| *v <= most), "{served:?}");
        hub.kill();
    }
}
