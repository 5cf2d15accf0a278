//! The hub's figures: durable ingest over HTTP, searches over a day in files and a day in memory, and what all of it takes.
//!
//! `cargo bench -p periplus-events --bench hub -- --scale 1.0`; a scale of 1 is ten million events, 0.01 takes seconds.

#![expect(clippy::print_stdout, reason = "figures are printed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use periplus_bucket::{Bucket, Location, OpenOptions};
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_events::Event;
use periplus_events::hub::{self, Config};
use periplus_events::log::commit::now_us;
use periplus_events::search::{CountQuery, PageQuery, Searcher};
use periplus_events::store::files::Files;
use periplus_events::store::{Field, Filter, Memory, Row, Text, upkeep};
use periplus_events::wire::{Batch, Encoding};

const DAY_US: i64 = 86_400_000_000;

/// A stream of numbers that is the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// An event as kubelets and controllers write them, of one of 500 clusters.
fn event(n: u64, numbers: &mut Numbers, at_us: i64) -> Event {
    const KINDS: [(&str, &str); 6] = [
        ("BackOff", "Back-off restarting failed container app in pod"),
        ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503 for"),
        (
            "FailedScheduling",
            "0/120 nodes are available: 120 Insufficient cpu. preemption: no victims found for",
        ),
        ("Failed", "Error: ImagePullBackOff of registry.example/team/image for"),
        ("FailedMount", "MountVolume.SetUp failed for volume config: configmap not found, used by"),
        ("Evicted", "The node was low on resource: memory. Threshold quantity: 100Mi, evicted"),
    ];
    let (reason, words) = KINDS[numbers.below(6) as usize];
    let (namespace, app) = (numbers.below(60), numbers.below(400));
    let pod =
        format!("service-{app}-{:09x}-{:05x}", numbers.below(1 << 36), numbers.below(1 << 20));
    // A rare pair: looked for below.
    let (namespace, reason) =
        if n % 500_009 == 7 { (7, "NodeNotReady") } else { (namespace, reason) };
    let needle = if n % 1_000_003 == 11 { " quota-exceeded-zq81" } else { "" };
    let hex = |numbers: &mut Numbers| numbers.next();
    Event {
        cluster: format!("cluster-{:03}", numbers.below(500)),
        uid: format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            n,
            hex(numbers) & 0xffff,
            hex(numbers) & 0xfff,
            hex(numbers) & 0xfff,
            hex(numbers) & 0xffff_ffff_ffff
        ),
        resource_version: 1_000_000 + n,
        namespace: format!("team-{namespace}"),
        event_name: format!("{pod}.{:016x}", hex(numbers)),
        kind: "Pod".into(),
        message: format!(
            "{words} {pod}_team-{namespace}({:08x}){needle}",
            hex(numbers) & 0xffff_ffff
        ),
        name: pod,
        object_uid: format!(
            "{:08x}-{:04x}-4000-a000-{:012x}",
            hex(numbers) & 0xffff_ffff,
            n & 0xffff,
            hex(numbers) & 0xffff_ffff_ffff
        ),
        field_path: "spec.containers{app}".into(),
        reason: reason.into(),
        type_: "Warning".into(),
        reporter: "kubelet".into(),
        reporter_instance: format!("node-{:04}", numbers.below(4000)),
        count: numbers.below(40) as u32 + 1,
        first_us: at_us - numbers.below(600_000_000) as i64,
        last_us: at_us,
        received_us: at_us,
        ..Event::default()
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    line("VmRSS:")
}

/// Durable ingest: prepared batches of a thousand, eight senders, over HTTP to a hub on a real disk.
async fn ingest(total: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let (admin, drain) = (Admin::new("bench", "0", ""), Drain::new());
    let config = Config {
        listen: Some("127.0.0.1:0".into()),
        data: dir.path().to_owned(),
        ..Config::defaults()
    };
    let bound = hub::build(config, &admin, &drain).await.expect("a hub");
    let url = format!("http://{}/api/v1/events", bound.address().expect("an address"));
    let own = drain.clone();
    drain.spawn("hub", async move { hub::run(bound, &own).await });
    let mut numbers = Numbers(42);
    let now = now_us();
    let (batches, mut bytes, mut sent) = (total.div_ceil(1000), 0, Vec::new());
    for b in 0..batches {
        let events = (0..1000).map(|i| event(b * 1000 + i, &mut numbers, now)).collect();
        let body =
            Batch { version: 1, events, ..Batch::default() }.encode(Encoding::Zstd).expect("bytes");
        bytes += body.len();
        sent.push(bytes::Bytes::from(body));
    }
    let queue = Arc::new(parking_lot::Mutex::new(sent));
    let client = reqwest::Client::new();
    let begun = Instant::now();
    let senders = (0..8).map(|_| {
        let (queue, client, url) = (Arc::clone(&queue), client.clone(), url.clone());
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            loop {
                let Some(body) = queue.lock().pop() else { return slowest };
                let begun = Instant::now();
                let request = client.post(&url).header("content-encoding", "zstd").body(body);
                let response = request.send().await.expect("an answer");
                assert!(response.status().is_success(), "{}", response.status());
                slowest = slowest.max(begun.elapsed());
            }
        })
    });
    let slowest = futures::future::join_all(senders).await.into_iter().filter_map(Result::ok).max();
    let took = begun.elapsed();
    println!(
        "ingest: {} events in {took:.2?}: {:.0}/s durable (asked: 20000/s), slowest batch of 1000 {:.0?}, {:.1} MB sent",
        batches * 1000,
        (batches * 1000) as f64 / took.as_secs_f64(),
        slowest.unwrap_or_default(),
        bytes as f64 / 1e6
    );
    drain.wait(Duration::from_secs(10)).await;
}

/// A day in files and a day in memory.
async fn fill(
    half: u64,
    directory: &std::path::Path,
    memory_bytes: usize,
) -> (Arc<RwLock<Memory>>, Arc<Files>) {
    let url = url::Url::from_directory_path(directory).expect("a path");
    let at = Location::parse(url.as_str().trim_end_matches('/')).expect("a location");
    let bucket = Bucket::open(&at, &OpenOptions::default()).expect("a bucket");
    let files = Arc::new(Files::new(bucket, 128 << 20).expect("files"));
    let mut list = files.load().await.expect("a list");
    let (begun, mut numbers) = (Instant::now(), Numbers(7));
    let midnight = now_us().div_euclid(DAY_US) * DAY_US;
    let step = DAY_US / i64::try_from(half).expect("a number");
    let mut n = 0;
    while n < half {
        let count = (half - n).min(1_000_000);
        let row = |i: u64| {
            let id = midnight - DAY_US + i64::try_from(n + i).expect("a number") * step;
            Row { id, event: event(n + i, &mut numbers, id - 300_000) }
        };
        let rows: Vec<Row> = (0..count).map(row).collect();
        list.files.push(files.write(list.seed, rows, 1).await.expect("a file"));
        n += count;
    }
    list.flushed_below = midnight;
    files.commit(&list).await.expect("a list");
    let size: u64 = list.files.iter().map(|f| f.bytes).sum();
    println!(
        "files: {half} rows in {:.1?}, {:.1} B a row",
        begun.elapsed(),
        size as f64 / half as f64
    );
    let begun = Instant::now();
    let mut memory = upkeep::open(&files, i64::MAX, 0).await.expect("memory");
    for i in 0..half {
        let id = midnight + i64::try_from(i).expect("a number") * step;
        if memory.is_full(id) {
            let packed = Memory::pack(list.seed, &memory.open_rows());
            memory.seal(packed);
        }
        memory.merge(1, Row { id, event: event(half + i, &mut numbers, id - 300_000) }, None);
    }
    println!(
        "memory: {half} rows in {:.1?}, {:.1} B a row by its own count; {} MiB of {} MiB allowed",
        begun.elapsed(),
        memory.bytes() as f64 / half as f64,
        memory.bytes() >> 20,
        memory_bytes >> 20
    );
    (Arc::new(RwLock::new(memory)), files)
}

async fn searches(searcher: &Searcher) {
    let with = |fields: &[(Field, &str)], text: Option<&str>| {
        let mut filter = Filter::default();
        for (field, value) in fields {
            filter.one_of(*field, &[(*value).to_owned()]).expect("a matcher");
        }
        filter.texts.extend(text.map(|t| Text::holds(t, true, false).expect("a text")));
        filter
    };
    let pair = [(Field::Namespace, "team-12"), (Field::Reason, "BackOff")];
    let rare = [(Field::Namespace, "team-7"), (Field::Reason, "NodeNotReady")];
    for (what, filter, asked) in [
        ("namespace and reason, newest 100", with(&pair, None), "50 ms"),
        ("a rare namespace and reason, newest 100", with(&rare, None), "50 ms"),
        (
            "a pair that is nowhere",
            with(&[(Field::Namespace, "team-7"), (Field::Reason, "Nobody")], None),
            "50 ms",
        ),
        ("text that is common", with(&[], Some("no victims found")), "500 ms"),
        ("text that is rare", with(&[], Some("quota-exceeded-zq81")), "500 ms"),
        ("text that is nowhere", with(&[], Some("segmentation fault")), "500 ms"),
        (
            "a cluster's text",
            with(&[(Field::Cluster, "cluster-123")], Some("memory. threshold")),
            "500 ms",
        ),
    ] {
        let (mut times, mut found) = (Vec::new(), 0);
        for _ in 0..5 {
            let query =
                PageQuery { filter: filter.clone(), newest_first: true, limit: 100, after: None };
            let begun = Instant::now();
            let page = searcher.page(query).await.expect("a page");
            times.push(begun.elapsed());
            assert!(page.warnings.is_empty());
            found = page.rows.len();
        }
        let first = times[0];
        times.sort();
        println!(
            "search: {what}: {found} rows, first {first:.1?}, median {:.1?} (asked: {asked})",
            times[2]
        );
    }
    let query = CountQuery {
        filter: Filter::default(),
        by: vec![Field::Reason],
        step_us: Some(3_600_000_000),
        origin_us: 0,
    };
    let begun = Instant::now();
    let counted = searcher.count(query).await.expect("counts");
    let rows: u64 = counted.groups.iter().flat_map(|g| g.points.values()).map(|p| p.0).sum();
    println!("count: all {rows} rows by reason and hour in {:.1?}", begun.elapsed());
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|a| a == "--scale");
    let scale: f64 = at.and_then(|i| args.get(i + 1)?.parse().ok()).unwrap_or(0.01);
    let half = (5e6 * scale) as u64;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        ingest((400_000.0 * scale).max(20_000.0) as u64).await;
        let dir = tempfile::tempdir().expect("a directory");
        let allowed = Config::defaults().memory;
        let (memory, files) = fill(half, dir.path(), allowed).await;
        let searcher = Searcher::new(memory, files, 4, Duration::from_secs(60));
        searches(&searcher).await;
        println!("memory of the process: {} MiB (asked: below 1024)", resident());
    });
}
