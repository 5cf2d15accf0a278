//! The long recording with its truth: whole, cut at every line, and with lists in the gaps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use periplus_events::apiserver::{Kind, Server, ServerConfig, Store};
use periplus_events::watch::WatchConfig;
use periplus_events::watch::api::Resource;
use periplus_events::watch::object::{self, Line};
use periplus_events::{Event, event};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::recording;
use crate::rows::{Expected, Rows, Running, assert_row, config, expected, until, us};

/// A line of the recorded watch.
pub(crate) struct Step {
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The object as it was sent.
    pub(crate) json: String,
    /// The whole line.
    pub(crate) line: Vec<u8>,
}

pub(crate) fn steps(api: Resource) -> Option<Vec<Step>> {
    let name = if api == Resource::Core { "watch-core" } else { "watch-events" };
    let path = recording::directory()?.join(format!("long-run/{name}.http.gz"));
    let all = steps_of(&recording::exchanges(&path));
    assert!(all.len() > 1000, "{}", all.len());
    Some(all)
}

/// The lines of recorded watches.
fn steps_of(watches: &[recording::Exchange]) -> Vec<Step> {
    let mut all = Vec::new();
    for exchange in watches {
        for line in exchange.lines() {
            let value: Value = serde_json::from_slice(line).unwrap();
            let kind = match value["type"].as_str() {
                Some("ADDED") => Kind::Added,
                Some("MODIFIED") => Kind::Modified,
                Some("DELETED") => Kind::Deleted,
                _ => continue,
            };
            let text = String::from_utf8(line.to_vec()).unwrap();
            let at = text.find("\"object\":").unwrap() + "\"object\":".len();
            let metadata = &value["object"]["metadata"];
            let field = |name: &str| metadata[name].as_str().unwrap().to_owned();
            all.push(Step {
                version: field("resourceVersion").parse().unwrap(),
                kind,
                namespace: field("namespace"),
                name: field("name"),
                json: text[at..text.len() - 1].to_owned(),
                line: line.to_vec(),
            });
        }
    }
    all
}

pub(crate) fn apply(store: &Store, step: &Step) {
    store.apply(step.kind, &step.namespace, &step.name, step.version, &step.json);
}

/// What the truth says of a uid.
pub(crate) struct Truth {
    pub(crate) created: u64,
    pub(crate) deleted: Option<u64>,
    /// The states by resourceVersion.
    pub(crate) writes: BTreeMap<u64, Expected>,
}

pub(crate) fn truth() -> HashMap<String, Truth> {
    let path = recording::directory().unwrap().join("long-run/truth.jsonl.gz");
    let mut all = HashMap::new();
    for line in recording::bytes(&path).split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
        let value: Value = serde_json::from_slice(line).unwrap();
        let state = |w: &Value| {
            let count = w["count"]
                .as_i64()
                .unwrap_or(0)
                .max(w["series_count"].as_i64().unwrap_or(0))
                .max(1);
            let times = ["first", "last", "event_time", "series_last"].map(|n| us(&w[n]));
            let text = |n: &str| w[n].as_str().unwrap().to_owned();
            let mut message = text("message");
            event::clean_text(&mut message, 1 << 20);
            Expected {
                version: w["rv"].as_u64().unwrap(),
                count,
                last_us: times.into_iter().flatten().max().unwrap(),
                message,
                reason: text("reason"),
                type_: text("type"),
                name: String::new(),
            }
        };
        let writes: BTreeMap<u64, Expected> = value["writes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| (w["rv"].as_u64().unwrap(), state(w)))
            .collect();
        // The README's own words on `final` agree with the last write.
        let (last, given) = (writes.values().next_back().unwrap(), &value["final"]);
        assert_eq!(
            (last.version, last.count),
            (given["rv"].as_u64().unwrap(), given["count"].as_i64().unwrap())
        );
        assert_eq!(Some(last.last_us), us(&given["last"]));
        let truth = Truth {
            created: value["created_rv"].as_u64().unwrap(),
            deleted: value["deleted_rv"].as_u64(),
            writes,
        };
        all.insert(value["uid"].as_str().unwrap().to_owned(), truth);
    }
    all
}

/// Times in which nothing could be seen: resourceVersions after the first, up to the second.
pub(crate) type Blind = (u64, u64);

/// Checks rows against the truth, given what could not be seen.
pub(crate) fn check(
    rows: &BTreeMap<String, Event>,
    truth: &HashMap<String, Truth>,
    blind: &[Blind],
    what: &str,
) {
    for (uid, t) in truth {
        // A list at the end of a blind time shows the last state, unless it was deleted within.
        let hidden = |rv: u64| {
            blind.iter().any(|&(from, to)| {
                rv > from && rv <= to && t.deleted.is_some_and(|d| d > from && d <= to)
            })
        };
        let visible = t.writes.iter().rev().find(|(rv, _)| !hidden(**rv)).map(|(_, state)| state);
        let within =
            blind.iter().any(|&(from, to)| t.created > from && t.deleted.is_some_and(|d| d <= to));
        match visible {
            None => assert!(within && !rows.contains_key(uid), "{what}: {uid}"),
            Some(state) => {
                let row = rows.get(uid);
                let name = row.map(|r| r.name.clone()).unwrap_or_default();
                assert_row(row, &Expected { name, ..state.clone() }, &format!("{what}: {uid}"));
            }
        }
    }
}

async fn server(api: Resource, minor: u32, steps: &[Step]) -> (Server, CancellationToken) {
    let store = Arc::new(Store::default());
    while store.resource_version() + 1 < steps[0].version {
        store.tick();
    }
    let end = CancellationToken::new();
    let config = ServerConfig { resource: api, minor, ..ServerConfig::default() };
    (Server::start(config, store, end.clone()).await.unwrap(), end)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_run_gives_the_truth() {
    for (api, minor) in [(Resource::Core, 30), (Resource::Events, 36)] {
        let Some(steps) = steps(api) else { return };
        let (server, end) = server(api, minor, &steps).await;
        let running = Running::start(&server.url(), config()).await;
        until("the list is done", || running.shared.position().0 > 0).await;
        for (n, step) in steps.iter().enumerate() {
            apply(&server.store, step);
            if n % 500 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let last = steps.last().unwrap().version;
        until("all was seen", || running.shared.position().0 == last).await;
        let got = running.stop().await;
        check(&got.rows.lock(), &truth(), &[], "whole");
        assert!(got.gaps.lock().is_empty());
        end.cancel();
    }
}

/// Plays steps to a watcher whose connection is cut after `every` lines, inside of the next one, for ever.
async fn played_in_pieces(api: Resource, steps: &[Step], every: usize) -> Arc<Rows> {
    let (server, end) = server(api, 30, steps).await;
    // At times in the middle of a character.
    server.faults.cut_watches(Some(every), Some(701));
    let config = WatchConfig { cursor_every: Duration::from_millis(50), ..config() };
    let running = Running::start(&server.url(), config).await;
    until("the list is done", || running.shared.position().0 > 0).await;
    for step in steps {
        apply(&server.store, step);
    }
    // The last lines may be deletions at one resourceVersion, which are not asked for again.
    let last = steps.iter().map(|s| s.version).max().unwrap_or_default();
    until("all was seen", || running.shared.position().0 == last).await;
    // Lines of one resourceVersion that are cut apart are deletions, and retract nothing.
    let versions: std::collections::HashSet<u64> = steps.iter().map(|s| s.version).collect();
    let watches = server.faults.watches();
    assert!(watches as usize >= versions.len() / every / 2, "{watches}");
    let rows = running.stop().await;
    assert!(rows.gaps.lock().is_empty(), "what is resumed has no gap");
    end.cancel();
    rows
}

/// The long run, cut and resumed well over a thousand times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_at_many_lines_and_resumed() {
    for (api, every) in [(Resource::Core, 4), (Resource::Events, 9)] {
        let Some(steps) = steps(api) else { return };
        let rows = played_in_pieces(api, &steps, every).await;
        check(&rows.rows.lock(), &truth(), &[], "cut and resumed");
    }
}

/// The other recordings, and the beginning of the long run, cut after every single line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_at_every_line_and_resumed() {
    let Some(directory) = recording::directory() else { return };
    let mut cuts = 0;
    for path in recording::files(&directory) {
        for api in [Resource::Core, Resource::Events] {
            let is_one = |e: &recording::Exchange| {
                let of_api = e.is_events_api() == (api == Resource::Events);
                e.is_watch() && of_api && e.status == 200 && !e.target.contains("fieldSelector")
            };
            // One watch of each file: others of it show the same changes once more.
            let watches = recording::exchanges(&path).into_iter().filter(is_one);
            let longest = watches.map(|w| steps_of(&[w])).max_by_key(Vec::len);
            let mut steps = longest.unwrap_or_default();
            steps.truncate(300);
            let rises = steps.windows(2).all(|w| w[0].version <= w[1].version);
            if steps.len() < 2 || !rises || steps[0].version < 2 {
                continue;
            }
            cuts += steps.len();
            let mut expect: BTreeMap<String, Expected> = BTreeMap::new();
            for step in &steps {
                let object: Value = serde_json::from_str(&step.json).unwrap();
                let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
                expect.insert(uid, expected(&object));
            }
            let rows = played_in_pieces(api, &steps, 1).await;
            let rows = rows.rows.lock();
            for (uid, state) in &expect {
                assert_row(rows.get(uid), state, &format!("{} {uid}", path.display()));
            }
            assert_eq!(rows.len(), expect.len(), "{}", path.display());
        }
    }
    assert!(cuts > 1000, "{cuts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_and_listed_again() {
    let mut random = StdRng::seed_from_u64(7);
    for (api, minor) in [(Resource::Core, 30), (Resource::Events, 36)] {
        let Some(steps) = steps(api) else { return };
        let (server, end) = server(api, minor, &steps).await;
        let running = Running::start(&server.url(), config()).await;
        until("the list is done", || running.shared.position().0 > 0).await;
        let (mut at, mut blind): (usize, Vec<Blind>) = (0, Vec::new());
        while at < steps.len() {
            let seen = (at + random.random_range(1..80)).min(steps.len());
            for step in &steps[at..seen] {
                apply(&server.store, step);
            }
            let from = steps[seen - 1].version;
            until("the lines were seen", || running.shared.position().0 >= from).await;
            server.faults.set_down(true);
            let missed = (seen + random.random_range(0..60)).min(steps.len());
            for step in &steps[seen..missed] {
                apply(&server.store, step);
            }
            blind.push((from, server.store.resource_version()));
            // Other objects change, too, and the history is compacted.
            server.store.tick();
            server.store.compact();
            server.faults.set_down(false);
            let to = server.store.resource_version();
            until("it listed again", || running.shared.position().0 >= to).await;
            at = missed;
        }
        let got = running.stop().await;
        check(&got.rows.lock(), &truth(), &blind, "cut and listed");
        let gaps = got.gaps.lock();
        assert_eq!(gaps.len(), blind.len(), "each is recorded");
        assert!(gaps.iter().all(|g| g.reason == "watch_lost" && g.from_us <= g.to_us));
        end.cancel();
    }
}

/// Every line as the place of the cut, with a list somewhat later: as joins, since each way to the same rows is one.
#[test]
fn cut_at_every_line_and_listed() {
    for api in [Resource::Core, Resource::Events] {
        let Some(steps) = steps(api) else { return };
        let truth = truth();
        let now = jiff::Timestamp::now().as_microsecond();
        let rows: Vec<Event> = steps
            .iter()
            .map(|step| match object::line(&step.line) {
                Ok(Line::Event(object)) => object.into_event("eu-1", now, 1 << 20).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        let mut place: HashMap<&str, Vec<usize>> = HashMap::new();
        for (n, row) in rows.iter().enumerate() {
            place.entry(&row.uid).or_default().push(n);
        }
        for cut in 0..steps.len() {
            let listed = (cut + cut * 7919 % 60).min(steps.len() - 1);
            let blind = [(steps[cut].version, steps[listed].version)];
            let mut got = BTreeMap::new();
            for (uid, lines) in &place {
                let mut row: Option<Event> = None;
                let mut join = |e: &Event| match &mut row {
                    Some(r) => {
                        let _changed = r.merge(e);
                    }
                    None => row = Some(e.clone()),
                };
                // The last before the cut holds what all before it hold; the list has it unless it was deleted.
                let before = lines.iter().rev().find(|&&n| n <= cut);
                let in_list =
                    lines.iter().rev().find(|&&n| steps[n].version <= steps[listed].version);
                let later = lines.last().filter(|&&n| steps[n].version > steps[listed].version);
                for &n in before
                    .into_iter()
                    .chain(in_list.filter(|&&n| steps[n].kind != Kind::Deleted))
                    .chain(later)
                {
                    join(&rows[n]);
                }
                got.extend(row.map(|r| ((*uid).to_owned(), r)));
            }
            check(
                &got,
                &truth,
                &blind,
                &format!("{api:?} cut after line {cut}, list after {listed}"),
            );
        }
    }
}
