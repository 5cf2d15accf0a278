use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::access::Clusters;
use super::ingest::IngestError;
use super::*;
use crate::event::Event;
use crate::search::{CountQuery, PageQuery};
use crate::store::{Field, Filter, Row};
use crate::wire::{Ack, Batch, Encoding, Gap};

/// A hub in this process, without a listener.
struct Running {
    hub: Hub,
    drain: Drain,
}

/// Everything goes into files at once and out of memory.
fn eager(data: &Path) -> Config {
    Config {
        listen: None,
        data: data.to_owned(),
        settle: Duration::ZERO,
        memory: 1,
        upkeep_interval: Duration::from_secs(3600),
        ..Config::defaults()
    }
}

impl Running {
    async fn start(config: Config) -> Self {
        let (admin, drain) = (Admin::new("test", "0", ""), Drain::new());
        let hub = build(config, &admin, &drain).await.unwrap().hub;
        Self { hub, drain }
    }

    /// As a crash would: nothing is tidied up but what dropping does.
    async fn stop(self) {
        let Self { hub, drain } = self;
        *hub.shared.active.write() = Standing::Waiting("gone".into());
        drop(hub);
        drain.wait(Duration::from_secs(10)).await;
        // The log's thread lets go of its directory when the last of us is gone.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn send(&self, cluster: &str, events: &[Event]) -> Result<Ack, IngestError> {
        let batch = Batch { version: 1, events: events.to_vec(), ..Batch::default() };
        let body = batch.encode(Encoding::Zstd).unwrap();
        let clusters = Clusters::Some([cluster.to_owned()].into());
        self.hub.ingest(&Identity { clusters }, Encoding::Zstd, body.into()).await
    }

    async fn rows(&self, filter: Filter) -> Vec<Row> {
        let query = PageQuery { filter, newest_first: true, limit: 100_000, after: None };
        let page = self.hub.active().unwrap().searcher.page(query).await.unwrap();
        assert_eq!(page.warnings, Vec::<String>::new());
        page.rows
    }

    /// Packs what is open, and moves all rows on.
    async fn upkeep(&self) {
        let active = self.hub.active().unwrap();
        {
            let mut memory = active.memory.write();
            let packed = crate::store::Memory::pack(memory.files().seed, &memory.open_rows());
            memory.seal(packed);
        }
        active.upkeep(&self.hub.shared.config).await.unwrap();
    }
}

fn event(uid: usize, version: u64, count: u32) -> Event {
    let base = crate::log::commit::now_us() - 10_000_000_000;
    Event {
        uid: format!("uid-{uid}"),
        resource_version: version,
        namespace: format!("ns{}", uid % 3),
        kind: "Pod".into(),
        name: format!("web-{uid}"),
        reason: "BackOff".into(),
        type_: "Warning".into(),
        message: format!("Back-off {uid} v{version}"),
        count,
        // Hours ago: such an event may be in a file already.
        first_us: base - base % 3_600_000_000,
        last_us: base - base % 3_600_000_000 + i64::try_from(version).unwrap() * 1000,
        ..Event::default()
    }
}

/// What is there, by key: count, and nothing twice.
fn by_key(rows: &[Row]) -> BTreeMap<(String, String), (u64, u32)> {
    let mut out = BTreeMap::new();
    for row in rows {
        let key = (row.event.cluster.clone(), row.event.uid.clone());
        let doubled = out.insert(key, (row.event.resource_version, row.event.count));
        assert_eq!(doubled, None, "{row:?} is there twice");
    }
    out
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<(usize, usize, u64)>),
    Upkeep,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let state = (0..2_usize, 0..6_usize, 1..8_u64);
    let step = prop_oneof![
        6 => prop::collection::vec(state, 1..12).prop_map(Step::Send),
        2 => Just(Step::Upkeep),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// States arrive repeated, in any order, in any batches; rows move into files and out of memory in between; the
    /// hub is started again. Afterwards there is one row for each key, in its latest state, and the counters say
    /// how often things happened.
    #[test]
    fn one_row_with_the_right_count_whatever_happens(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut running = Running::start(eager(dir.path())).await;
            let mut want: BTreeMap<(String, String), (u64, u32)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Send(states) => {
                        for cluster in 0..2 {
                            let cluster_name = format!("c{cluster}");
                            // Counts fall at some versions, as they do in the field.
                            let count = |v: u64| u32::try_from((v * 5) % 7 + 1).unwrap();
                            let of = states.iter().filter(|s| s.0 == cluster);
                            let events: Vec<Event> = of.map(|(_, uid, v)| event(*uid, *v, count(*v))).collect();
                            if events.is_empty() {
                                continue;
                            }
                            let ack = running.send(&cluster_name, &events).await.unwrap();
                            assert_eq!(ack.changed + ack.unchanged, events.len());
                            for e in events {
                                let now = (e.resource_version, e.count);
                                let kept = want.entry((cluster_name.clone(), e.uid)).or_insert(now);
                                *kept = (*kept).max(now);
                            }
                        }
                    }
                    Step::Upkeep => running.upkeep().await,
                    Step::Restart => {
                        running.stop().await;
                        running = Running::start(eager(dir.path())).await;
                    }
                }
                assert_eq!(by_key(&running.rows(Filter::default()).await), want);
                let query = CountQuery { filter: Filter::default(), by: vec![Field::Cluster], step_us: None, origin_us: 0 };
                let counted = running.hub.active().unwrap().searcher.count(query).await.unwrap();
                let total: u64 = counted.groups.iter().flat_map(|g| g.points.values()).map(|p| p.1).sum();
                assert_eq!(total, want.values().map(|w| u64::from(w.1)).sum::<u64>());
            }
            running.stop().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_log_from_a_backup_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(eager(dir.path())).await;
    let first: Vec<Event> = (0..50).map(|i| event(i, 1, 1)).collect();
    running.send("a", &first).await.unwrap();
    let old: Vec<(std::path::PathBuf, Vec<u8>)> = std::fs::read_dir(dir.path().join("log"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .map(|p| (p.clone(), std::fs::read(&p).unwrap()))
        .collect();
    let second: Vec<Event> = (0..50).map(|i| event(i, 2, 5)).collect();
    running.send("a", &second).await.unwrap();
    running.upkeep().await;
    let want = by_key(&running.rows(Filter::default()).await);
    running.stop().await;
    for (path, bytes) in old {
        std::fs::write(path, bytes).unwrap();
    }
    let running = Running::start(eager(dir.path())).await;
    assert_eq!(by_key(&running.rows(Filter::default()).await), want);
    // And an older spool that sends it all again.
    let ack = running.send("a", &first).await.unwrap();
    assert_eq!((ack.changed, ack.unchanged), (0, 50));
    assert_eq!(by_key(&running.rows(Filter::default()).await), want);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_clusters_are_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(eager(dir.path())).await;
    let forged = Event { cluster: "b".into(), ..event(2, 1, 1) };
    let refused = running.send("a", &[event(1, 1, 1), forged.clone()]).await;
    assert!(matches!(refused, Err(IngestError::Forged(_))), "{refused:?}");
    assert_eq!(running.rows(Filter::default()).await, []);
    // Its own name, or none, is fine; the same uid in another cluster is another row.
    running.send("b", &[forged, event(1, 1, 1)]).await.unwrap();
    running.send("a", &[event(1, 1, 1)]).await.unwrap();
    assert_eq!(running.rows(Filter::default()).await.len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_row_is_named_and_the_rest_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(eager(dir.path())).await;
    let odd = [
        Event { uid: String::new(), ..event(1, 1, 1) },
        Event { message: "x".repeat(1 << 20), ..event(2, 1, 1) },
        Event { message: "a\u{0}b\u{1b}[31m<script>\u{202e}".into(), ..event(3, 1, 1) },
        Event { first_us: i64::MIN, last_us: i64::MAX, ..event(4, 1, 0) },
        Event { uid: "u".repeat(5000), ..event(5, 1, 1) },
    ];
    let ack = running.send("a", &odd).await.unwrap();
    assert_eq!(ack.changed, 3);
    assert_eq!(ack.refused.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 4]);
    running.upkeep().await;
    let rows = running.rows(Filter::default()).await;
    assert_eq!(rows.len(), 3);
    for row in rows {
        assert!(row.event.message.len() <= crate::event::MESSAGE_BYTES);
        assert!(!row.event.message.contains(['\u{0}', '\u{1b}', '\u{202e}']));
        assert!(row.event.count >= 1 && row.event.last_us < i64::MAX / 2);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_survive() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::start(eager(dir.path())).await;
    let identity = Identity { clusters: Clusters::Some(["a".to_owned()].into()) };
    let gap = |to: i64| Gap {
        id: "g1".into(),
        reason: "spool_bytes".into(),
        from_us: crate::log::commit::now_us() - 10,
        to_us: crate::log::commit::now_us() + to,
        events: 7,
        ..Gap::default()
    };
    for to in [5, 9] {
        let batch = Batch { version: 1, gaps: vec![gap(to)], ..Batch::default() };
        let body = batch.encode(Encoding::Gzip).unwrap();
        running.hub.ingest(&identity, Encoding::Gzip, body.into()).await.unwrap();
    }
    for restart in [false, true, false, true] {
        let gaps = running.hub.active().unwrap().memory.read().gaps();
        assert_eq!((gaps.len(), gaps[0].cluster.as_str(), gaps[0].events), (1, "a", 7));
        if restart {
            running.stop().await;
            running = Running::start(eager(dir.path())).await;
        } else {
            running.send("a", &[event(1, 1, 1)]).await.unwrap();
            running.upkeep().await;
        }
    }
    running.stop().await;
}

/// A disk without room, where this test may mount one.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::fs::create_dir(&log).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&log)
        .output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "can't mount a small disk");
        eprintln!("this user can't mount a small disk: not tested");
        return;
    }
    let mut config = eager(dir.path());
    config.settle = Duration::from_secs(3600);
    let mut running = Running::start(config.clone()).await;
    let (mut taken, mut refused) = (Vec::new(), 0);
    for n in 0..200 {
        let noise = || format!("{:x}", rand::random::<u128>());
        let messages: String = (0..300).map(|_| noise()).collect();
        let e = Event { message: messages, ..event(n, 1, 1) };
        match running.send("a", std::slice::from_ref(&e)).await {
            Ok(_) => taken.push(e.uid),
            Err(IngestError::Unavailable(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0 && !taken.is_empty(), "{refused} refused, {} taken", taken.len());
    let uids = |rows: Vec<Row>| {
        let mut all: Vec<String> = rows.into_iter().map(|r| r.event.uid).collect();
        all.sort();
        all
    };
    taken.sort();
    assert_eq!(uids(running.rows(Filter::default()).await), taken);
    running.stop().await;
    running = Running::start(config.clone()).await;
    let after: Vec<String> = uids(running.rows(Filter::default()).await);
    assert!(taken.iter().all(|uid| after.contains(uid)), "acknowledged rows are gone");
    // Once there is room, it goes on by itself.
    let grown =
        std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(&log).status();
    assert!(grown.unwrap().success());
    running.send("a", &[event(9999, 1, 1)]).await.unwrap();
    running.stop().await;
    let _ = std::process::Command::new("umount").arg("-l").arg(&log).status();
}

#[test]
fn another_hub_goes_on_where_one_died() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    };
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = |dir: &Path| Config {
        shared: true,
        bucket: Some("memory://two-hubs".into()),
        lease: Duration::from_millis(1500),
        ..eager(dir)
    };
    let ready = async |hub: &Hub| {
        for _ in 0..600 {
            if hub.active().is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never answers: {:?}", hub.active());
    };
    let first = runtime();
    let a = first.block_on(async {
        let a = Running::start(config(dir_a.path())).await;
        ready(&a.hub).await;
        let all: Vec<Event> = (0..300).map(|i| event(i, 1, 1)).collect();
        for part in all.chunks(50) {
            a.send("x", part).await.unwrap();
        }
        a.upkeep().await;
        a.send("x", &(200..400).map(|i| event(i, 2, 2)).collect::<Vec<_>>()).await.unwrap();
        a
    });
    let second = runtime();
    let b = second.block_on(async {
        let b = Running::start(config(dir_b.path())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Two don't answer at once.
        assert!(b.hub.active().is_err() && b.send("x", &[event(1, 1, 1)]).await.is_err());
        b
    });
    // It dies: no lease is given back. What it had open goes on in the log's thread, as a put under way would.
    let stale = a.hub.active().unwrap();
    first.shutdown_background();
    second.block_on(async {
        ready(&b.hub).await;
        let want: BTreeMap<_, _> = (0..400)
            .map(|i| (("x".to_owned(), format!("uid-{i}")), if i < 200 { (1, 1) } else { (2, 2) }))
            .collect();
        assert_eq!(by_key(&b.rows(Filter::default()).await), want);
        b.send("x", &[event(1, 9, 9)]).await.unwrap();
        b.upkeep().await;
        assert_eq!(b.rows(Filter::default()).await.len(), 400);
    });
    drop((stale, a));
    second.block_on(b.stop());
}
