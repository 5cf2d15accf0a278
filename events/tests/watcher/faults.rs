//! A server on a bad day: refusals, silence, restores, a full disk, two replicas.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use periplus_events::apiserver::{Server, ServerConfig, Store};
use periplus_events::filter::Filter;
use periplus_events::watch::api::Resource;
use periplus_events::watch::cursor::CursorFile;
use periplus_events::watch::lease::{Candidate, LeaseConfig};
use periplus_events::watch::{InitialList, Sink, Start, WatchConfig, WatchMetrics, Watcher};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::replay::{Replay, Script};
use crate::rows::{Rows, Running, api, config, until};

fn event(n: u64, count: u64) -> serde_json::Value {
    json!({
        "metadata": {"name": format!("e{n}"), "namespace": "shop", "uid": format!("uid-{n}"), "creationTimestamp": "2026-11-21T14:00:00Z"},
        "involvedObject": {"kind": "Pod", "name": format!("web-{n}"), "namespace": "shop"},
        "reason": "BackOff", "message": "m", "type": "Warning", "count": count,
        "firstTimestamp": "2026-11-21T14:00:00Z", "lastTimestamp": "2026-11-21T14:00:05Z",
    })
}

async fn server() -> (Server, CancellationToken) {
    let end = CancellationToken::new();
    let server = Server::start(
        ServerConfig { minor: 30, ..ServerConfig::default() },
        Arc::new(Store::default()),
        end.clone(),
    );
    (server.await.unwrap(), end)
}

fn counts(rows: &Rows) -> Vec<(String, u32)> {
    rows.rows.lock().values().map(|e| (e.uid.clone(), e.count)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_waited_out() {
    let (server, end) = server().await;
    server.store.put(event(1, 1));
    server.faults.refuse(429, "Too many requests, please try again later.", Some(1));
    server.faults.refuse(403, "{\"kind\":\"Status\",\"reason\":\"Forbidden\",\"code\":403}", None);
    server.faults.refuse(504, "", None);
    server.faults.refuse(500, "nonsense", None);
    let began = std::time::Instant::now();
    let config =
        WatchConfig { backoff: (Duration::from_millis(1), Duration::from_millis(200)), ..config() };
    let running = Running::start(&server.url(), config).await;
    until("the row is there", || counts(&running.rows).len() == 1).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "Retry-After is kept");
    running.stop().await;
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_from_the_future_is_noticed() {
    let (server, end) = server().await;
    for n in 0..50 {
        server.store.put(event(n, 1));
    }
    let config = WatchConfig { probe_after: Duration::from_millis(100), ..config() };
    let running = Running::start(&server.url(), config).await;
    until("all was seen", || counts(&running.rows).len() == 50).await;
    until("the position is kept", || running.shared.position().0 > 0).await;
    // The storage is restored from a backup; open watches end, then a watch from the future is silent.
    server.faults.set_down(true);
    server.store.restore(20);
    server.store.put(event(99, 3));
    server.faults.set_down(false);
    until("the new row is there", || counts(&running.rows).contains(&("uid-99".into(), 3))).await;
    until("the gap is there", || running.rows.gaps.lock().len() == 1).await;
    running.stop().await;
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_not_taken_for_peace() {
    let (server, end) = server().await;
    let config = WatchConfig { watch_timeout: Duration::from_secs(1), ..config() };
    let running = Running::start(&server.url(), config).await;
    until("a watch is open", || server.faults.watches() == 1).await;
    server.faults.set_silent(true);
    server.store.put(event(1, 1));
    until("another watch is open", || server.faults.watches() > 1).await;
    server.faults.set_silent(false);
    until("the row is there", || counts(&running.rows).len() == 1).await;
    running.stop().await;
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_is_left() {
    // Watches that never end, although they were asked to.
    let list = crate::recording::Exchange {
        status: 200,
        reason: "OK".into(),
        body: "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[]}\n".into(),
        how: "end".into(),
        ..Default::default()
    };
    let replay = Replay::start(Script { lists: [list].into(), ..Script::default() }).await;
    let config = WatchConfig {
        watch_timeout: Duration::from_millis(300),
        watch_grace: Duration::from_millis(100),
        probe_after: Duration::from_millis(50),
        ..config()
    };
    let running = Running::start(&replay.url, config).await;
    let watches = || replay.requests().iter().filter(|r| r.contains("watch=")).count();
    until("a third watch is tried", || watches() >= 3).await;
    assert!(replay.requests().iter().any(|r| r.contains("limit=1")), "it asked meanwhile");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streaming_list_that_is_refused_becomes_pages() {
    let (server, end) = server().await;
    server.store.put(event(1, 1));
    server.faults.refuse(422, "{\"kind\":\"Status\",\"reason\":\"Invalid\",\"code\":422,\"message\":\"sendInitialEvents: Forbidden\"}", None);
    let config = WatchConfig { initial: InitialList::Stream, ..config() };
    let running = Running::start(&server.url(), config).await;
    until("the row is there", || counts(&running.rows).len() == 1).await;
    until("the position is kept", || running.shared.position().0 > 0).await;
    running.stop().await;
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing() {
    let (server, end) = server().await;
    let running = Running::start(&server.url(), config()).await;
    until("a watch is open", || server.faults.watches() == 1).await;
    for n in 0..10 {
        server.store.put(event(n, 1));
    }
    until("rows are there", || counts(&running.rows).len() == 10).await;
    running.rows.full.store(true, Ordering::SeqCst);
    for n in 5..20 {
        server.store.put(event(n, 2));
    }
    let failures = || {
        use periplus_events::watch::metrics::Reason;
        running.metrics.failures.get_or_create(&Reason { reason: "watch" }).get()
    };
    until("it tried several times", || failures() > 3).await;
    running.rows.full.store(false, Ordering::SeqCst);
    let expect: Vec<(String, u32)> = {
        let mut all: Vec<_> =
            (0..20).map(|n| (format!("uid-{n}"), if n < 5 { 1 } else { 2 })).collect();
        all.sort();
        all
    };
    until("nothing is missing", || counts(&running.rows) == expect).await;
    assert!(running.rows.gaps.lock().is_empty());
    running.stop().await;
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_objects_cost_themselves_alone() {
    let (server, end) = server().await;
    let running = Running::start(&server.url(), config()).await;
    until("a watch is open", || server.faults.watches() == 1).await;
    let send = |name: &str, json: &str| {
        let version = server.store.tick();
        let json = json.replace("RV", &version.to_string());
        server.store.apply(periplus_events::apiserver::Kind::Added, "shop", name, version, &json);
    };
    let deep = "[".repeat(100_000);
    let big = "x".repeat(11 << 20);
    let escapes = "\\u0000\\u001b".repeat(200_000);
    for (n, json) in [
        "null".to_owned(),
        "17".to_owned(),
        r#"{"metadata":{"resourceVersion":"RV"}}"#.to_owned(),
        r#"{"metadata":{"uid":"a b","resourceVersion":"RV"}}"#.to_owned(),
        format!(r#"{{"metadata":{{"uid":"u","resourceVersion":"RV"}},"x":{deep}}}"#),
        format!(r#"{{"metadata":{{"uid":"u","resourceVersion":"RV"}},"message":"{big}"}}"#),
        r#"{"metadata":{"uid":"u","resourceVersion":"RV"},"count":1e30}"#.to_owned(),
    ]
    .iter()
    .enumerate()
    {
        send(&format!("bad-{n}"), json);
    }
    send(
        "long",
        &format!(r#"{{"metadata":{{"uid":"long","resourceVersion":"RV"}},"message":"{escapes}"}}"#),
    );
    send(
        "half",
        r#"{"metadata":{"uid":"half","resourceVersion":"RV"},"message":"\ud800<b>","lastTimestamp":"9999-99-99"}"#,
    );
    let version = server.store.put(event(1, 1));
    until("all was seen", || running.shared.position().0 == version).await;
    let rows = running.rows.rows.lock().clone();
    assert_eq!(rows.keys().map(String::as_str).collect::<Vec<_>>(), ["half", "long", "uid-1"]);
    assert_eq!(rows["half"].message, "\u{fffd}<b>");
    assert!(rows["long"].truncated && rows["long"].message.starts_with("\u{fffd}\u{fffd}"));
    let lost: u64 = running.rows.gaps.lock().iter().map(|g| g.events).sum();
    assert_eq!(lost, 7, "{:?}", running.rows.gaps.lock());
    running.stop().await;
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_do_not_send_again_what_was_seen() {
    let (server, end) = server().await;
    for n in 0..50 {
        server.store.put(event(n, 1));
    }
    let config = WatchConfig { relist_after: Duration::from_millis(1), ..config() };
    let running = Running::start(&server.url(), config).await;
    let relists = || {
        use periplus_events::watch::metrics::Reason;
        running.metrics.relists.get_or_create(&Reason { reason: "periodic" }).get()
    };
    until("it listed again, twice", || relists() >= 2).await;
    server.store.put(event(7, 9));
    until("the change is there", || counts(&running.rows).contains(&("uid-7".into(), 9))).await;
    assert_eq!(running.rows.appended.load(Ordering::SeqCst), 51);
    running.shared.relist();
    until("all came again", || running.rows.appended.load(Ordering::SeqCst) == 101).await;
    running.stop().await;
    end.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_spelling_and_a_token() {
    let end = CancellationToken::new();
    let config_ =
        ServerConfig { resource: Resource::Events, minor: 30, token: Some("secret".into()) };
    let server = Server::start(config_, Arc::new(Store::default()), end.clone()).await.unwrap();
    server.store.put(json!({
        "metadata": {"name": "e", "namespace": "shop", "uid": "u"},
        "regarding": {"kind": "Pod", "name": "web"}, "note": "n", "deprecatedCount": 4, "type": "Warning",
        "eventTime": "2026-11-21T14:00:00.5Z",
    }));
    let mut kube = kube::Config::new(server.url().parse().unwrap());
    kube.default_retry = false;
    kube.auth_info.token = Some("secret".to_owned().into());
    let client = kube::Client::try_from(kube).unwrap();
    let api = periplus_events::watch::api::Api::new(client, None);
    let rows = Arc::new(Rows::default());
    let directory = tempfile::tempdir().unwrap();
    let watcher = Watcher::new(
        api,
        config(),
        Filter::all(),
        Arc::clone(&rows) as Arc<dyn Sink>,
        CursorFile::new(directory.path()),
        WatchMetrics::default(),
    );
    let task = tokio::spawn(watcher.run(Start::Resume, end.clone()));
    until("the row is there", || counts(&rows) == [("u".to_owned(), 4)]).await;
    end.cancel();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_replicas_watches_and_hands_over() {
    let (server, end) = server().await;
    server.store.put(event(0, 1));
    // The two spools: what the hub would have of both.
    let rows = Arc::new(Rows::default());
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut replicas = Vec::new();
    for (n, directory) in directories.iter().enumerate() {
        let metrics = WatchMetrics::default();
        let api = api(&server.url()).await;
        let make = {
            let (api, rows, metrics) = (api.clone(), Arc::clone(&rows), metrics.clone());
            let path = directory.path().to_owned();
            move || {
                let sink = Arc::clone(&rows) as Arc<dyn Sink>;
                Watcher::new(
                    api.clone(),
                    config(),
                    Filter::all(),
                    sink,
                    CursorFile::new(&path),
                    metrics.clone(),
                )
            }
        };
        let lease = LeaseConfig {
            namespace: "monitoring".into(),
            name: "events".into(),
            identity: format!("replica-{n}"),
            duration: Duration::from_secs(1),
            every: Duration::from_millis(50),
        };
        let cancel = CancellationToken::new();
        let task =
            tokio::spawn(Candidate::new(api, lease, metrics.clone(), make).run(cancel.clone()));
        replicas.push((metrics, cancel, task));
    }
    let leading = |n: usize| replicas[n].0.leading.get() == 1;
    until("one leads", || leading(0) || leading(1)).await;
    until("the first row is there", || counts(&rows).len() == 1).await;
    assert!(!(leading(0) && leading(1)));
    let first = usize::from(leading(1));
    // Killed without a word: the other one waits for the lease to run out. What came and went meanwhile was seen
    // by neither, but is in the history that the other one watches from.
    until("the lease tells the position", || {
        let lease = server.store.leases_of("monitoring", "events").unwrap_or_default();
        lease["metadata"]["annotations"]["periplus.io/resource-version"].is_string()
    })
    .await;
    replicas[first].2.abort();
    until("its watcher is gone", || replicas[first].2.is_finished()).await;
    server.store.put(event(1, 5));
    server.store.delete("shop", "e1");
    server.store.put(event(2, 1));
    until("the other leads", || leading(1 - first)).await;
    until("all rows are there", || counts(&rows).len() == 3).await;
    assert!(counts(&rows).contains(&("uid-1".into(), 5)), "{:?}", counts(&rows));
    // Given back in order, the lease is free at once.
    replicas[1 - first].1.cancel();
    until("it gave the lease back", || {
        let lease = server.store.leases_of("monitoring", "events").unwrap_or_default();
        lease["spec"]["holderIdentity"] == ""
    })
    .await;
    end.cancel();
}
