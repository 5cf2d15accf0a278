//! Every recording, played to the watcher, gives the rows that a plain fold over its lines gives.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::recording::{self, Exchange};
use crate::replay::{Replay, Script};
use crate::rows::{Expected, Running, assert_row, config, expected, until};

fn empty_list() -> Exchange {
    let body = "{\"kind\":\"EventList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"100\"},\"items\":[]}\n";
    Exchange {
        status: 200,
        reason: "OK".into(),
        body: body.into(),
        how: "end".into(),
        ..Exchange::default()
    }
}

fn add(all: &mut BTreeMap<String, Expected>, object: &Value) {
    let uid = object["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let state = expected(object);
    match all.get(&uid) {
        Some(known) if known.version > state.version => {}
        _ => drop(all.insert(uid, state)),
    }
}

/// The rows that some watches must give.
fn fold(watches: &[Exchange]) -> BTreeMap<String, Expected> {
    let mut all = BTreeMap::new();
    for line in watches.iter().filter(|w| w.status == 200).flat_map(Exchange::lines) {
        let line: Value = serde_json::from_str(&String::from_utf8_lossy(line)).expect("JSON");
        if matches!(line["type"].as_str(), Some("ADDED" | "MODIFIED" | "DELETED")) {
            add(&mut all, &line["object"]);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watch_replays_to_its_ground_truth() {
    let Some(directory) = recording::directory() else { return };
    let (mut played, mut rows) = (0, 0);
    for path in recording::files(&directory) {
        for events_api in [false, true] {
            let mut watches = recording::exchanges(&path);
            watches.retain(|e| {
                e.method == "GET"
                    && e.is_watch()
                    && e.is_events_api() == events_api
                    && e.target.contains("/events?")
            });
            // What the recorder ended can be ended in any way: every second one breaks.
            for (n, watch) in watches.iter_mut().enumerate() {
                if watch.how == "client" && n % 2 == 1 {
                    watch.how = "cut-fin".into();
                }
            }
            if watches.is_empty() {
                continue;
            }
            let expect = fold(&watches);
            played += watches.len();
            rows += expect.len();
            let bytes: usize = watches.iter().map(|w| w.body.len()).sum();
            let chunk = if bytes < 50_000 { 13 } else { 0 };
            let script = Script {
                lists: [empty_list()].into(),
                watches: watches.into(),
                events_api,
                chunk,
                ..Script::default()
            };
            let replay = Replay::start(script).await;
            let running = Running::start(&replay.url, config()).await;
            until(&format!("{} is played", path.display()), || replay.is_done()).await;
            let got = running.stop().await;
            let got = got.rows.lock();
            for (uid, state) in &expect {
                assert_row(got.get(uid), state, &format!("{} {uid}", path.display()));
            }
            assert_eq!(got.len(), expect.len(), "{}", path.display());
        }
    }
    assert!(played > 60 && rows > 1000, "{played} watches, {rows} rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_replays_to_its_ground_truth() {
    let Some(directory) = recording::directory() else { return };
    let mut played = 0;
    for path in recording::files(&directory) {
        let all = recording::exchanges(&path);
        let lists: Vec<Exchange> = all
            .into_iter()
            .filter(|e| e.method == "GET" && !e.is_watch() && e.status == 200 && !e.body.is_empty())
            .filter(|e| {
                String::from_utf8_lossy(&e.body[..30.min(e.body.len())]).contains("EventList")
            })
            .collect();
        for mut run in runs(&lists) {
            let events_api = run[0].is_events_api();
            let (mut expect, mut versions) = (BTreeMap::new(), Vec::new());
            for page in &run {
                let list: Value = serde_json::from_slice(&page.body).expect("JSON");
                versions.push(list["metadata"]["resourceVersion"].clone());
                for item in list["items"].as_array().expect("items") {
                    add(&mut expect, item);
                }
            }
            let same = versions.windows(2).all(|w| w[0] == w[1]);
            if !same {
                continue;
            }
            played += 1;
            let last = run.pop().expect("a page");
            let whole = !String::from_utf8_lossy(&last.body[..1000.min(last.body.len())])
                .contains("\"continue\":");
            run.push(last);
            if !whole {
                run.push(last_page(&versions[0]));
            }
            let script = Script { lists: run.into(), events_api, chunk: 1000, ..Script::default() };
            let replay = Replay::start(script).await;
            let running = Running::start(&replay.url, config()).await;
            until(&format!("{} is listed", path.display()), || replay.is_done()).await;
            let got = running.stop().await;
            let got = got.rows.lock();
            for (uid, state) in &expect {
                assert_row(got.get(uid), state, &format!("{} {uid}", path.display()));
            }
            assert_eq!(got.len(), expect.len(), "{}", path.display());
            let watch = replay.requests().last().cloned().unwrap_or_default();
            let from = format!("resourceVersion={}", versions[0].as_str().unwrap_or_default());
            assert!(watch.contains(&from), "{watch} begins where the list stood");
        }
    }
    assert!(played > 20, "{played}");
}

fn last_page(version: &Value) -> Exchange {
    let body = format!(
        "{{\"kind\":\"EventList\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":{version}}},\"items\":[]}}\n"
    );
    Exchange { body: body.into(), ..empty_list() }
}

/// Lists with their further pages.
fn runs(lists: &[Exchange]) -> Vec<Vec<Exchange>> {
    let mut all: Vec<Vec<Exchange>> = Vec::new();
    for list in lists {
        match all.last_mut() {
            Some(run) if list.target.contains("continue=") => run.push(list.clone()),
            _ => all.push(vec![list.clone()]),
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_page_token_begins_the_list_anew() {
    let Some(directory) = recording::directory() else { return };
    for name in ["lists/continue-expired-core.http", "lists/continue-expired-events.http"] {
        let all = recording::exchanges(&directory.join(name));
        assert_eq!((all[0].status, all[1].status), (200, 410));
        let script = Script {
            lists: [all[0].clone(), all[1].clone(), empty_list()].into(),
            events_api: all[0].is_events_api(),
            ..Script::default()
        };
        let replay = Replay::start(script).await;
        let running = Running::start(&replay.url, config()).await;
        until("a watch is open", || replay.is_done()).await;
        running.stop().await;
        let requests = replay.requests();
        assert!(requests[1].contains("continue="), "{requests:?}");
        assert!(!requests[2].contains("continue="), "{requests:?}");
        assert!(requests[3].contains("resourceVersion=100"), "{requests:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_every_kind_pass() {
    let Some(directory) = recording::directory() else { return };
    // Refused lists and watches out of all recordings, one after the other, then peace.
    let mut refused: Vec<Exchange> = Vec::new();
    for path in recording::files(&directory) {
        for mut exchange in recording::exchanges(&path) {
            let plain = exchange.status >= 400
                || matches!(exchange.how.as_str(), "no-response" | "refused");
            if exchange.method == "GET" && plain && exchange.target.contains("/events") {
                // Retry-After is tested elsewhere; here it would take minutes.
                exchange.headers.retain(|(name, _)| name != "Retry-After");
                refused.push(exchange);
            }
        }
    }
    assert!(refused.len() > 15, "{}", refused.len());
    let mut lists: Vec<Exchange> = refused.iter().filter(|e| !e.is_watch()).cloned().collect();
    lists.push(empty_list());
    let watches: Vec<Exchange> = refused.iter().filter(|e| e.is_watch()).cloned().collect();
    let script = Script { lists: lists.into(), watches: watches.into(), ..Script::default() };
    let replay = Replay::start(script).await;
    let running = Running::start(&replay.url, config()).await;
    until("a watch is open after all refusals", || replay.is_done()).await;
    running.stop().await;
}
