use std::collections::BTreeMap;

use periplus_bucket::{Bucket, Key, Location, OpenOptions};

use super::*;
use crate::event::Event;

/// The beginning of some day.
const DAY: i64 = 20_000 * DAY_US;

fn row(uid: usize, id: i64, count: u32) -> Row {
    let event = Event {
        cluster: format!("c{}", uid % 2),
        uid: format!("uid-{uid}"),
        resource_version: u64::try_from(id).unwrap(),
        message: format!("message of {uid}"),
        count,
        last_us: id - 1000,
        first_us: DAY,
        ..Event::default()
    };
    Row { id, event }
}

struct Store {
    memory: Arc<RwLock<Memory>>,
    files: Arc<Files>,
    upkeep: Upkeep,
}

impl Store {
    async fn open() -> Self {
        let at = Location::parse(&format!("memory://{}", ulid::Ulid::generate())).unwrap();
        let bucket = Bucket::open(&at, &OpenOptions::default()).unwrap();
        let files = Arc::new(Files::new(bucket, 1 << 20).unwrap());
        let memory = Arc::new(RwLock::new(open(&files, 0, 0).await.unwrap()));
        let config = UpkeepConfig {
            settle: Duration::from_secs(60),
            memory_bytes: 1,
            flush_rows_min: 1,
            merge_rows_max: 250,
            retention: Duration::from_secs(10 * 86_400),
        };
        let upkeep = Upkeep::new(config, Arc::clone(&memory), Arc::clone(&files));
        Self { memory, files, upkeep }
    }

    /// Takes in rows, puts them into a file and out of memory.
    async fn take(&self, rows: impl Iterator<Item = (usize, i64, u32)>, filed: &[Row]) {
        {
            let mut memory = self.memory.write();
            for (uid, id, count) in rows {
                let old = filed.iter().find(|r| r.event.uid == format!("uid-{uid}"));
                memory.merge(1, row(uid, id, count), old);
            }
            let packed = Memory::pack(memory.files().seed, &memory.open_rows());
            memory.seal(packed);
        }
        self.upkeep.flush(i64::MAX).await.unwrap();
        self.memory.write().evict(1);
    }

    /// What files hold and counts: count by uid.
    async fn rows(&self) -> BTreeMap<String, u32> {
        let (list, dead) = (self.memory.read().files(), self.memory.read().dead());
        let mut out = BTreeMap::new();
        for meta in &list.files {
            for row in self.files.rows(meta, |id| !dead.contains(&id)).await.unwrap() {
                let doubled = out.insert(row.event.uid.clone(), row.event.count);
                assert_eq!(doubled, None, "{} is there twice", row.event.uid);
            }
        }
        out
    }

    fn count(&self) -> usize {
        self.memory.read().files().files.len()
    }
}

#[tokio::test]
async fn files_of_a_day_become_few_and_old_ones_go() {
    let store = Store::open().await;
    let mut want = BTreeMap::new();
    // Two days of ten files with fifty rows each.
    for day in 0..2_i64 {
        for n in 0..10_i64 {
            let first = usize::try_from(day * 500 + n * 50).unwrap();
            let at = DAY + day * DAY_US + n * 3_600_000_000;
            let rows = (0..50).map(|i| (first + i, at + i64::try_from(i).unwrap(), 1));
            want.extend(rows.clone().map(|(uid, ..)| (format!("uid-{uid}"), 1)));
            store.take(rows, &[]).await;
        }
    }
    assert_eq!((store.count(), store.rows().await), (20, want.clone()));
    // On the second day some rows of the first change: their old states lie dead in files of the first.
    let old: Vec<Row> = (0..40)
        .map(|i| {
            row(
                i * 10,
                DAY + i64::try_from(i / 5).unwrap() * 3_600_000_000
                    + i64::try_from(i * 10 % 50).unwrap(),
                1,
            )
        })
        .collect();
    let late = DAY + DAY_US + 20 * 3_600_000_000;
    store.take((0..40).map(|i| (i * 10, late + i64::try_from(i).unwrap(), 9)), &old).await;
    want.extend((0..40).map(|i| (format!("uid-{}", i * 10), 9)));
    assert_eq!(store.rows().await, want);
    assert_eq!(store.memory.read().dead().len(), 40);
    // While a day is under way its files stay; once it is over they become few, and what is dead is left out.
    let during = store.upkeep.round(DAY + 3_600_000_000).await.unwrap();
    assert_eq!((during.merged, store.count()), (0, 21));
    let now = DAY + 2 * DAY_US + 3_600_000_000;
    let mut merged = 0;
    for _ in 0..20 {
        merged += store.upkeep.round(now).await.unwrap().merged;
    }
    assert_eq!(merged, 20);
    assert_eq!(store.count(), 5);
    assert!(store.memory.read().dead().is_empty());
    assert_eq!(store.rows().await, want);
    let days = store
        .memory
        .read()
        .files()
        .files
        .iter()
        .all(|f| f.min_id.div_euclid(DAY_US) == f.max_id.div_euclid(DAY_US));
    assert!(days, "a file holds rows of one day");
    // A store that is opened again has the same, and nothing that nobody needs is left in the bucket.
    let list = store.files.load().await.unwrap();
    assert_eq!(&list, &*store.memory.read().files());
    assert_eq!(store.files.sweep(&list).await.unwrap(), 0);
    // The first day's files go when all in them is old, then the second day's.
    let first = DAY + DAY_US + 10 * DAY_US;
    assert!(store.upkeep.round(first).await.unwrap().expired > 0);
    want.retain(|uid, count| {
        *count == 9 || uid.strip_prefix("uid-").unwrap().parse::<usize>().unwrap() >= 500
    });
    assert_eq!(store.rows().await, want);
    assert!(store.upkeep.round(first + 2 * DAY_US).await.unwrap().expired > 0);
    assert_eq!((store.count(), store.rows().await.len()), (0, 0));
    let prefix = Key::parse("events/v1").unwrap();
    let left = store.files.bucket().list_all(&prefix).await.unwrap();
    let left: Vec<&str> = left.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(left, ["events/v1/files.json"]);
}
