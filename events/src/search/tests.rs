use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use periplus_bucket::{Bucket, Location, OpenOptions};
use proptest::prelude::*;

use super::*;

use crate::event::Event;
use crate::store::files::Files;
use crate::store::filter::{Field, Filter, Text};
use crate::store::upkeep::{Upkeep, UpkeepConfig, open};
use crate::store::{Memory, Row};

fn row(i: usize) -> Row {
    let event = Event {
        cluster: format!("c{}", i % 3),
        uid: format!("uid-{i}"),
        namespace: format!("ns{}", i % 7),
        kind: ["Pod", "Node"][i % 2].into(),
        name: format!("web-{}", i % 50),
        reason: ["BackOff", "Failed", "Unhealthy", "Killing"][i % 4].into(),
        type_: ["Warning", "Normal"][i % 5 / 4].into(),
        message: format!("message {} of {i}", ["alpha", "beta", "gamma"][i % 3]),
        count: u32::try_from(i % 9).unwrap() + 1,
        // Out of step with the numbers, and often the same.
        last_us: 1_000_000 + ((i * 7_919) % 600) as i64,
        first_us: 1,
        ..Event::default()
    };
    Row { id: 1_000_000 + i as i64, event }
}

/// A store with a third in files only, a third in both, the rest in memory, part of it open.
async fn store() -> (Searcher, Vec<Row>) {
    let name = ulid::Ulid::generate();
    let at = Location::parse(&format!("memory://{name}")).unwrap();
    let bucket = Bucket::open(&at, &OpenOptions::default()).unwrap();
    let files = Arc::new(Files::new(bucket, 1 << 20).unwrap());
    let memory = Arc::new(RwLock::new(open(&files, 0, 0).await.unwrap()));
    let rows: Vec<Row> = (0..3000).map(row).collect();
    let config = UpkeepConfig {
        settle: Duration::ZERO,
        flush_rows_min: 1,
        memory_bytes: 1,
        ..UpkeepConfig::default()
    };
    let upkeep = Upkeep::new(config, Arc::clone(&memory), Arc::clone(&files));
    for (n, part) in rows.chunks(500).enumerate() {
        for row in part {
            // Each first in an earlier state, which must never be seen again.
            let mut old = row.clone();
            (old.event.count, old.event.reason) = (77, "Old".into());
            old.event.last_us -= 1;
            memory.write().merge(1, old, None);
            memory.write().merge(1, row.clone(), None);
        }
        if n < 5 {
            let (seed, open) = (memory.read().files().seed, memory.read().open_rows());
            let packed = Memory::pack(seed, &open);
            memory.write().seal(packed);
        }
        if n < 4 {
            upkeep.flush(i64::MAX).await.unwrap();
        }
        if n == 1 {
            assert!(memory.write().evict(1));
        }
    }
    (Searcher::new(memory, files, 4, Duration::from_secs(60)), rows)
}

fn filters() -> impl Strategy<Value = Filter> {
    let one = |field: Field, values: &'static [&'static str]| {
        prop::collection::vec(prop::sample::select(values), 0..3)
            .prop_map(move |values| (field, values))
    };
    let text =
        prop::sample::select(&["", "ALPHA", "of 12", "nothing", "ge", "message beta of"][..]);
    (
        one(Field::Cluster, &["c0", "c1", "c9"]),
        one(Field::Namespace, &["ns1", "ns2", "ns3", "ns6"]),
        one(Field::Reason, &["BackOff", "Failed", "Old", "Nobody"]),
        one(Field::Name, &["web-1", "web-49", "web-50"]),
        prop::option::of(text),
        prop::option::of((0..700_i64, 0..700_i64)),
    )
        .prop_map(|(a, b, c, d, text, time)| {
            let mut filter = Filter::default();
            for (field, values) in [a, b, c, d] {
                let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
                filter.one_of(field, &values).unwrap();
            }
            filter.texts.extend(text.map(|t| Text::holds(t, true, false).unwrap()));
            if let Some((a, b)) = time {
                (filter.from_us, filter.to_us) = (1_000_000 + a.min(b), 1_000_000 + a.max(b));
            }
            filter
        })
}

fn ids(rows: &[&Row]) -> Vec<i64> {
    let mut ids: Vec<i64> = rows.iter().map(|r| r.id).collect();
    ids.sort_unstable();
    ids
}

/// The numbers of all rows that an export gives, each with its own message.
async fn exported(searcher: &Searcher, filter: &Filter) -> Vec<i64> {
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int64Type;
    let columns = vec!["message", "id"];
    let query = ExportQuery { filter: filter.clone(), columns, limit: usize::MAX };
    let mut batches = searcher.export(query).await.unwrap();
    let mut out = Vec::new();
    while let Some(batch) = batches.recv().await {
        let batch = batch.unwrap();
        let (messages, ids) = (batch.column(0), batch.column(1));
        for (message, id) in
            messages.as_string::<i32>().iter().zip(ids.as_primitive::<Int64Type>().values())
        {
            let i = usize::try_from(id - 1_000_000).unwrap();
            assert_eq!(message, Some(row(i).event.message.as_str()));
            out.push(*id);
        }
    }
    out.sort_unstable();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Pages, counts and exports over memory and files are what looking at every row gives.
    #[test]
    fn answers_are_those_of_looking_at_every_row(
        all in prop::collection::vec((filters(), any::<bool>(), 1..90_usize), 1..12)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let (searcher, rows) = store().await;
            for (filter, newest_first, limit) in all {
                let mut want: Vec<&Row> = rows.iter().filter(|r| filter.selects(r.id, &r.event)).collect();
                want.sort_by_key(|r| match newest_first {
                    true => (-r.event.last_us, -r.id),
                    false => (r.event.last_us, r.id),
                });
                let (mut got, mut after) = (Vec::new(), None);
                loop {
                    let query = PageQuery { filter: filter.clone(), newest_first, limit, after };
                    let page = searcher.page(query).await.unwrap();
                    assert_eq!(page.warnings, Vec::<String>::new());
                    assert!(page.rows.len() <= limit);
                    got.extend(page.rows);
                    after = page.next;
                    if after.is_none() || got.len() > 400 {
                        break;
                    }
                }
                let some = got.len();
                let same = got.iter().zip(&want).all(|(g, w)| g == *w);
                assert!(same && (some == want.len() || some > 400), "{filter:?}: {some} of {}", want.len());
                assert_eq!(exported(&searcher, &filter).await, ids(&want), "{filter:?}");
                for by in [vec![], vec![Field::Reason, Field::Name], vec![Field::Cluster]] {
                    let mut groups: std::collections::BTreeMap<Vec<String>, std::collections::BTreeMap<i64, (u64, u64)>> = Default::default();
                    for r in &want {
                        let values = by.iter().map(|f| f.of(&r.event).to_owned()).collect();
                        let at = (r.event.last_us - 7).div_euclid(100) * 100 + 7;
                        let point = groups.entry(values).or_default().entry(at).or_default();
                        *point = (point.0 + 1, point.1 + u64::from(r.event.count));
                    }
                    let query = CountQuery { filter: filter.clone(), by, step_us: Some(100), origin_us: 7 };
                    let counted = searcher.count(query).await.unwrap();
                    let want: Vec<Group> = groups.into_iter().map(|(values, points)| Group { values, points }).collect();
                    assert_eq!(counted.groups, want);
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_named() {
    let (searcher, rows) = store().await;
    let list = searcher.memory().read().files();
    let key = searcher.files.key(&format!("{}.parquet", list.files[0].name)).unwrap();
    searcher.files.bucket().delete(&key).await.unwrap();
    let query =
        PageQuery { filter: Filter::default(), newest_first: true, limit: 10_000, after: None };
    let page = searcher.page(query).await.unwrap();
    assert!(page.rows.len() < rows.len());
    assert!(page.warnings[0].contains(&list.files[0].name), "{:?}", page.warnings);
}
