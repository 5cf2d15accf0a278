//! The catalog alone, over memory, with others that commit and stores that break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::memory::InMemory;
use serde_json::json;
use ulid::Ulid;

use super::*;
use crate::OpenOptions;
use crate::blocks::Silent;
use crate::layer::fault::{Fault, FaultStore, Op};

fn quick() -> OpenOptions {
    OpenOptions { backoff_max: Duration::from_millis(20), ..OpenOptions::default() }
}

fn over(store: Arc<dyn object_store::ObjectStore>) -> Arc<Catalog> {
    Catalog::new(Bucket::from_store(store, "test", &quick()))
}

fn external() -> BTreeMap<String, String> {
    BTreeMap::from([("cluster".to_owned(), "c1".to_owned())])
}

fn part_of(stream: u64, day: i32, id: u128, sources: &[u128]) -> Part {
    let part = Ulid::from_parts(1_000, id);
    let start = i64::from(day) * 86_400_000;
    let sources: Vec<Ulid> = sources.iter().map(|s| Ulid::from(*s)).collect();
    let description = json!({
        "part": part, "external": external(), "day": day, "resolution": "raw",
        "sources": sources, "range": [start, start + 1000], "series": 3, "samples": 10,
        "histograms": 0, "names": "00ff", "version": 1,
        "files": [
            {"file": "series", "size": 10, "tail_len": 4, "tail_crc32": 1, "rows": 3},
            {"file": "samples", "size": 20, "tail_len": 5, "tail_crc32": 2, "rows": 10},
        ],
    });
    let directory = format!("{PREFIX}/{stream:016x}/day={day}/resolution=raw/part={part}");
    Part::describe(&description, &directory).unwrap()
}

fn add(parts: &[Part]) -> Change {
    Change { add: parts.to_vec(), ..Change::default() }
}

async fn ids(catalog: &Arc<Catalog>) -> BTreeSet<Ulid> {
    let snapshot = catalog.snapshot(Duration::ZERO).await.unwrap();
    snapshot.all_parts().await.unwrap().iter().map(|p| p.part).collect()
}

#[tokio::test]
async fn changes_are_seen_whole() {
    let store = Arc::new(InMemory::new());
    let catalog = over(Arc::clone(&store) as _);
    assert!(catalog.snapshot(Duration::ZERO).await.unwrap().is_empty());
    // Over two streams and three months.
    let parts =
        [part_of(1, 20_000, 1, &[1]), part_of(1, 20_040, 2, &[2]), part_of(2, 20_080, 3, &[3])];
    let old = catalog.commit(&add(&parts)).await.unwrap();
    assert_eq!((old.part_count(), old.streams().len()), (3, 2));
    let reader = over(Arc::clone(&store) as _);
    let seen = reader.snapshot(Duration::ZERO).await.unwrap();
    assert!(seen.loaded_parts().is_none());
    assert_eq!(seen.all_parts().await.unwrap().len(), 3);
    assert_eq!(seen.loaded_parts().unwrap().len(), 3);
    let day = |d: i64| (d * 86_400_000, d * 86_400_000 + 5);
    let stream = format!("{:016x}", 1);
    assert_eq!(seen.parts(&stream, day(20_040)).await.unwrap()[0].part, parts[1].part);
    assert!(seen.parts(&stream, day(20_041)).await.unwrap().is_empty());
    assert_eq!(seen.parts(&stream, (i64::MIN, i64::MAX)).await.unwrap().len(), 2);
    // Replacing keeps the old snapshot readable and its files known.
    let change = Change {
        add: vec![part_of(1, 20_000, 9, &[1, 7])],
        remove: vec![parts[0].reference()],
        forget: vec![],
    };
    let new = catalog.commit(&change).await.unwrap();
    assert_eq!(new.generation(), 2);
    let fresh = over(Arc::clone(&store) as _);
    assert_eq!(fresh.superseded().await.unwrap()[0].part.part, parts[0].part);
    let late = Snapshot { root: Arc::clone(&old.root), catalog: fresh };
    assert!(late.all_parts().await.unwrap().iter().any(|p| p.part == parts[0].part));
    let forget = Change { forget: vec![parts[0].reference()], ..Change::default() };
    catalog.commit(&forget).await.unwrap();
    assert!(catalog.superseded().await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_doubled_and_nothing_is_replaced_twice() {
    let catalog = over(Arc::new(InMemory::new()));
    let one = part_of(1, 20_000, 1, &[1, 2]);
    catalog.commit(&add(std::slice::from_ref(&one))).await.unwrap();
    // The same commit again is the same commit.
    assert_eq!(catalog.commit(&add(std::slice::from_ref(&one))).await.unwrap().generation(), 1);
    let double = catalog.commit(&add(&[part_of(1, 20_000, 2, &[2, 3])])).await.unwrap_err();
    assert!(matches!(double, CommitError::Overlap { .. }) && double.is_conflict(), "{double}");
    let other_day = catalog.commit(&add(&[part_of(1, 20_001, 3, &[2])])).await;
    assert_eq!(other_day.unwrap().part_count(), 2);
    let replace = |id: u128| Change {
        add: vec![part_of(1, 20_000, id, &[1, 2])],
        remove: vec![one.reference()],
        ..Change::default()
    };
    catalog.commit(&replace(4)).await.unwrap();
    let again = catalog.commit(&replace(5)).await.unwrap_err();
    assert!(matches!(again, CommitError::Gone(_)), "{again}");
    // An answer that was lost: the same change once more is no conflict.
    catalog.commit(&replace(4)).await.unwrap();
    assert_eq!(ids(&catalog).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commit_at_once() {
    let store = Arc::new(InMemory::new());
    let committers = (0..8u128).map(|who| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let catalog = over(store as _);
            for n in 0..5u128 {
                let id = who * 100 + n;
                let part = part_of(who as u64 % 2, 20_000, id, &[id]);
                while let Err(error) = catalog.commit(&add(std::slice::from_ref(&part))).await {
                    assert!(matches!(error, CommitError::Busy(_)), "{error}");
                }
            }
        })
    });
    for committer in committers.collect::<Vec<_>>() {
        committer.await.unwrap();
    }
    let catalog = over(Arc::clone(&store) as _);
    assert_eq!(ids(&catalog).await.len(), 40);
    assert_eq!(catalog.snapshot(Duration::ZERO).await.unwrap().generation(), 40);
    // Of the lost tries nothing stays.
    let later = SystemTime::now() + Duration::from_secs(60);
    assert!(catalog.orphans(later).await.unwrap().is_empty());
}

/// Every call of a commit fails once in each way; what readers see is the catalog before it or after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_breaks_anywhere_is_made_or_not_made() {
    for fault in [Fault::Denied, Fault::Unavailable, Fault::UnavailableButApplied] {
        for n in 0..40 {
            let store = Arc::new(InMemory::new());
            let catalog = over(Arc::clone(&store) as _);
            let old = part_of(1, 20_000, 1, &[1]);
            catalog.commit(&add(std::slice::from_ref(&old))).await.unwrap();
            let seen = Arc::new(AtomicU64::new(0));
            let (fault, count) = (fault.clone(), Arc::clone(&seen));
            let broken = FaultStore::new(Arc::clone(&store) as _, move |call| {
                if call.op == Op::List {
                    return None;
                }
                (count.fetch_add(1, Ordering::Relaxed) == n).then(|| fault.clone())
            });
            let writer = over(Arc::new(broken));
            let change = Change {
                add: vec![part_of(1, 20_000, 2, &[1]), part_of(2, 20_100, 3, &[3])],
                remove: vec![old.reference()],
                ..Change::default()
            };
            let done = writer.commit(&change).await;
            let there = ids(&over(Arc::clone(&store) as _)).await;
            let after: BTreeSet<Ulid> = change.add.iter().map(|p| p.part).collect();
            let before = BTreeSet::from([old.part]);
            assert!(there == before || there == after, "call {n}: {there:?}");
            assert!(done.is_err() || there == after, "call {n}: {done:?}");
            // Once the store is back, the same change goes through.
            catalog.commit(&change).await.unwrap();
            assert_eq!(ids(&catalog).await, after);
            if seen.load(Ordering::Relaxed) <= n {
                break;
            }
        }
    }
}

#[tokio::test]
async fn orphans_are_found() {
    let store = Arc::new(InMemory::new());
    let catalog = over(Arc::clone(&store) as _);
    let part = part_of(1, 20_000, 1, &[1]);
    for key in part.keys() {
        catalog.bucket().put(&key, Bytes::from_static(b"x")).await.unwrap();
    }
    let stray = part_of(1, 20_000, 2, &[2]).key("series").unwrap();
    catalog.bucket().put(&stray, Bytes::from_static(b"x")).await.unwrap();
    catalog.commit(&add(&[part])).await.unwrap();
    let later = SystemTime::now() + Duration::from_secs(60);
    let orphans = catalog.orphans(later).await.unwrap();
    assert_eq!(orphans.iter().map(|e| &e.key).collect::<Vec<_>>(), [&stray]);
    let earlier = SystemTime::now() - Duration::from_secs(60);
    assert!(catalog.orphans(earlier).await.unwrap().is_empty());
}

#[tokio::test]
async fn altered_objects_are_refused() {
    let store = Arc::new(InMemory::new());
    let catalog = over(Arc::clone(&store) as _);
    catalog.commit(&add(&[part_of(1, 20_000, 1, &[1])])).await.unwrap();
    let bucket = catalog.bucket();
    for prefix in ["catalog/root", "catalog/manifests"] {
        let prefix = Key::parse(&format!("{PREFIX}/{prefix}")).unwrap();
        let mut found = bucket.list_all(&Key::parse(PREFIX).unwrap()).await.unwrap();
        found.retain(|e| e.key == prefix || e.key.within(&prefix).is_some());
        let key = &found.first().unwrap().key;
        let (whole, _) = bucket.get(key, 1 << 20).await.unwrap().unwrap();
        for at in 0..whole.len() {
            let mut altered = whole.to_vec();
            if let Some(byte) = altered.get_mut(at) {
                *byte ^= 1 << (at % 8);
            }
            bucket.put(key, altered.into()).await.unwrap();
            let fresh = over(Arc::clone(&store) as _);
            let read = async { fresh.snapshot(Duration::ZERO).await?.all_parts().await };
            let error = read.await.unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Corrupt, "byte {at}: {error}");
            assert!(error.to_string().contains(key.as_str()), "{error}");
        }
        bucket.put(key, whole).await.unwrap();
    }
    assert_eq!(ids(&catalog).await.len(), 1);
}

#[test]
fn parts_that_contradict_themselves_are_refused() {
    let good = part_of(1, 20_000, 1, &[1]);
    let bad = |change: &dyn Fn(&mut Part)| {
        let mut part = good.clone();
        change(&mut part);
        part.check().unwrap_err()
    };
    bad(&|p| p.directory = "history/v1/../../x".to_owned());
    bad(&|p| p.directory = format!("{}/..", p.directory));
    bad(&|p| p.resolution = "7m".to_owned());
    bad(&|p| p.range = Some((0, 1)));
    bad(&|p| p.files[0].file = "../../etc".to_owned());
    bad(&|p| p.files[0].tail_len = 1 << 60);
    bad(&|p| drop(p.files.remove(0)));
    assert_eq!(Month::of_day(20_000).to_string(), "2024-10");
    assert_eq!(Month::of_day(0).to_string(), "1970-01");
    assert!(Month::of_day(i32::MAX) > Month::of_day(i32::MIN));
}

/// Files whose content is their own description.
struct Plain;

impl Describe for Plain {
    fn describe(&self, _: &str, _: u64, tail: &Bytes) -> Result<Described, DescribeError> {
        let description =
            serde_json::from_slice(tail).map_err(|e| DescribeError::Bad(e.to_string()))?;
        Ok(Described { description, rows: 1, tail_len: tail.len() as u64 })
    }

    fn crc32(&self, bytes: &[u8]) -> u32 {
        bytes.iter().fold(0, |a, b| a.rotate_left(3) ^ u32::from(*b))
    }
}

async fn put_part(bucket: &Bucket, part: &Part) {
    let description = serde_json::to_vec(part).unwrap();
    for key in part.keys() {
        bucket.put(&key, description.clone().into()).await.unwrap();
    }
}

#[tokio::test]
async fn it_is_rebuilt_from_the_bucket() {
    let store = Arc::new(InMemory::new());
    let catalog = over(Arc::clone(&store) as _);
    let bucket = catalog.bucket();
    let (a, b) = (part_of(1, 20_000, 1, &[1]), part_of(1, 20_000, 2, &[2]));
    let merged = part_of(1, 20_000, 3, &[1, 2]);
    let other = part_of(2, 20_500, 4, &[1]);
    for part in [&a, &b, &merged, &other] {
        put_part(bucket, part).await;
    }
    let half = part_of(1, 20_001, 5, &[3]);
    bucket
        .put(&half.key("samples").unwrap(), serde_json::to_vec(&half).unwrap().into())
        .await
        .unwrap();
    bucket.put(&stored::root_key().unwrap(), Bytes::from_static(b"broken")).await.unwrap();
    let dry = rebuild(&catalog, &Plain, true, &mut Silent).await.unwrap();
    assert_eq!((dry.parts.len(), dry.superseded.len(), dry.problems.len()), (2, 2, 1));
    assert!(catalog.snapshot(Duration::ZERO).await.is_err(), "nothing was written");
    rebuild(&catalog, &Plain, false, &mut Silent).await.unwrap();
    let reader = over(Arc::clone(&store) as _);
    assert_eq!(ids(&reader).await, BTreeSet::from([merged.part, other.part]));
    assert_eq!(reader.superseded().await.unwrap().len(), 2);
    assert_eq!(verify(&reader, Some(&Plain), &mut Silent).await.unwrap(), []);
    // What verify finds.
    bucket.put(&merged.key("samples").unwrap(), Bytes::from_static(b"{}")).await.unwrap();
    bucket.delete(&other.key("series").unwrap()).await.unwrap();
    let found = verify(&reader, None, &mut Silent).await.unwrap();
    assert_eq!(found.iter().map(|p| p.kind).collect::<Vec<_>>(), ["size", "missing"]);
}

#[tokio::test]
async fn ten_thousand_days_are_read_in_few_requests() {
    let catalog = over(Arc::new(InMemory::new()));
    let parts: Vec<Part> = (0..10_000u128)
        .map(|i| part_of(i as u64 / 250, 20_000 + (i % 250) as i32, i, &[i]))
        .collect();
    catalog.commit(&add(&parts)).await.unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    let counted = FaultStore::new(catalog.bucket().object_store(), move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        None
    });
    let reader = over(Arc::new(counted));
    let begun = std::time::Instant::now();
    assert_eq!(ids(&reader).await.len(), 10_000);
    println!("10,000 parts read in {:?}", begun.elapsed());
    // The root, and a manifest for each stream and month.
    assert_eq!(seen.load(Ordering::Relaxed), 1 + 40 * 9);
    let warm = reader.snapshot(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(warm.all_parts().await.unwrap().len(), 10_000);
    assert_eq!(seen.load(Ordering::Relaxed), 1 + 40 * 9, "warm planning asks nothing");
}
