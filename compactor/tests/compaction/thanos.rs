//! A bucket that Thanos compacted and downsampled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use periplus_block::Block;
use periplus_block::chunk::ChunkSamples;
use periplus_columnar::{AggregateSamples, Day, Resolution, SeriesData};
use periplus_compactor::config::Config;
use periplus_compactor::downsample::{self, adopt};
use periplus_compactor::plan::Policy;
use periplus_model::Labels;
use tokio_util::sync::CancellationToken;

use crate::made_up::compactor_with;
use crate::truth::{count, of_blocks, of_parts, part, parts, same};

fn directory() -> Option<PathBuf> {
    let dir =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/thanos-bucket/bucket"));
    if !dir.is_dir() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the shared bucket is missing");
        println!("skipped: no shared bucket beside this checkout");
        return None;
    }
    Some(dir)
}

async fn load(dir: &Path) -> Arc<dyn ObjectStore> {
    let store = InMemory::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let key = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let bytes = PutPayload::from(std::fs::read(&path).unwrap());
            store.put(&object_store::path::Path::from(key), bytes).await.unwrap();
        }
    }
    Arc::new(store)
}

fn resolution(block: &Block) -> i64 {
    block.meta().thanos.as_ref().unwrap().downsample.resolution
}

/// By interval: count, sum, min, max as bits. Thanos ends an interval where a chunk ends, so one may have
/// several rows.
fn intervals(a: &AggregateSamples, resolution: Resolution) -> BTreeMap<i64, [u64; 4]> {
    let mut all: BTreeMap<i64, [f64; 4]> = BTreeMap::new();
    for (i, t) in a.ts.iter().enumerate() {
        let row = [a.count[i], a.sum[i], a.min[i], a.max[i]];
        let interval = all.entry(t.div_euclid(resolution.ms()));
        interval
            .and_modify(|[count, sum, min, max]| {
                *count += row[0];
                *sum += row[1];
                *min = min.min(row[2]);
                *max = max.max(row[3]);
            })
            .or_insert(row);
    }
    all.into_iter().map(|(t, row)| (t, row.map(f64::to_bits))).collect()
}

/// What the counter grew by, over all days: resets and seams told apart by first and last raw values.
fn grown(days: &[AggregateSamples]) -> f64 {
    let (mut grown, mut last) = (0.0, None::<f64>);
    for day in days {
        let (Some((_, first)), Some(raw)) = (day.counter_first, day.counter_last) else { continue };
        if let Some(last) = last {
            grown += if first >= last { first - last } else { first };
        }
        grown += day.counter.last().unwrap() - first;
        last = Some(raw);
    }
    grown
}

/// Wherever Thanos has both, what is made here of the raw samples is what Thanos made of them.
#[test]
fn downsampling_is_thanos() {
    let Some(dir) = directory() else { return };
    let open = |e: std::io::Result<std::fs::DirEntry>| Block::open(e.unwrap().path()).unwrap();
    let blocks: Vec<Block> = std::fs::read_dir(dir).unwrap().map(open).collect();
    let twin = |b: &Block, res: i64| {
        blocks.iter().find(|other| {
            resolution(other) == res
                && other.meta().compaction.sources == b.meta().compaction.sources
                && other.meta().thanos.as_ref().unwrap().labels
                    == b.meta().thanos.as_ref().unwrap().labels
        })
    };
    let (mut compared, mut histograms) = (0, 0);
    for five in blocks.iter().filter(|b| resolution(b) == 300_000) {
        let raw = twin(five, 0).unwrap();
        let range = five.meta().range();
        let days: Vec<Day> =
            (Day::of_ms(range.min_t).0..=Day::of_ms(range.max_t).0).map(Day).collect();
        for reference in five.select(&[]).unwrap() {
            let theirs = five.series(reference).unwrap();
            let own = of_series(raw, &theirs.labels);
            let (mut made, mut adopted) = (Vec::new(), Vec::new());
            for day in &days {
                let mut samples = ChunkSamples::new();
                for chunk in own.chunks.iter().filter(|c| c.range.overlaps(&day.range())) {
                    raw.decode(&own, chunk, day.range(), &mut samples).unwrap();
                }
                made.push(downsample::raw(&samples, Resolution::FiveMinutes));
                let day = day.range();
                adopted.push(adopt::series(five, &theirs, day, Resolution::FiveMinutes).unwrap());
            }
            for (made, adopted) in made.iter().zip(&adopted) {
                assert_eq!(
                    intervals(made, Resolution::FiveMinutes),
                    intervals(adopted, Resolution::FiveMinutes),
                    "{:?}",
                    theirs.labels
                );
                histograms += compare_histograms(made, adopted);
            }
            close(grown(&made), grown(&adopted), &theirs.labels);
            if let Some(hour) = twin(five, 3_600_000) {
                let theirs = of_series(hour, &theirs.labels);
                let mut hours = Vec::new();
                for (day, adopted) in days.iter().zip(&adopted) {
                    let of_day =
                        adopt::series(hour, &theirs, day.range(), Resolution::OneHour).unwrap();
                    let made = downsample::coarser(adopted, Resolution::OneHour);
                    let (a, b) = (
                        intervals(&made, Resolution::OneHour),
                        intervals(&of_day, Resolution::OneHour),
                    );
                    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
                    for (a, b) in a.values().zip(b.values()) {
                        assert_eq!((a[0], a[2], a[3]), (b[0], b[2], b[3]), "{:?}", theirs.labels);
                        close(f64::from_bits(a[1]), f64::from_bits(b[1]), &theirs.labels);
                    }
                    hours.push(of_day);
                }
                close(grown(&hours), grown(&adopted), &theirs.labels);
            }
            compared += 1;
        }
    }
    println!("{compared} series, {histograms} intervals of histograms");
    assert!(compared > 100 && histograms > 100, "{compared} {histograms}");
}

#[track_caller]
fn close(a: f64, b: f64, labels: &Labels) {
    assert!((a - b).abs() <= 1e-9 * a.abs().max(b.abs()), "{labels:?}: {a} {b}");
}

/// Sums and counts of histograms by interval, and what their counters grew by within the day.
fn compare_histograms(made: &AggregateSamples, adopted: &AggregateSamples) -> usize {
    assert_eq!(made.histograms.len(), adopted.histograms.len());
    for (a, b) in made.histograms.iter().zip(&adopted.histograms) {
        assert_eq!(a.ts.div_euclid(300_000), b.ts.div_euclid(300_000));
        assert_eq!(a.observations, b.observations);
        let (x, y) = (a.sum.as_ref().unwrap(), b.sum.as_ref().unwrap());
        let compact = |h: &periplus_model::FloatHistogram| {
            let h = h.clone().compacted(0);
            (h.schema, h.count, h.sum, h.zero_count, h.positive_spans, h.positive_buckets)
        };
        assert_eq!(compact(x), compact(y));
    }
    made.histograms.len()
}

fn of_series(block: &Block, labels: &Labels) -> periplus_block::index::Series {
    let all = block.select(&[]).unwrap();
    let mut series = all.into_iter().map(|r| block.series(r).unwrap());
    series.find(|s| s.labels == *labels).unwrap()
}

/// All of it: every raw sample bit for bit, Thanos's own resolutions, replicas merged, the rest made here;
/// and not one byte of a block changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_bucket() {
    let Some(dir) = directory() else { return };
    let store = load(&dir).await;
    let truth = of_blocks(&store).await;
    let config = Config {
        policy: Policy { replica_labels: vec!["replica".into()], ..Policy::default() },
        // 2026-11-01, a while after the last block.
        now_ms: Some(1_793_491_200_000),
        concurrency: 2,
        ..Config::default()
    };
    let mut compactor = compactor_with(Arc::clone(&store), config);
    let report = compactor.once(&CancellationToken::new()).await.unwrap();
    assert_eq!((&report.quarantined[..], report.conflicts), (&[][..], 0));
    same(&of_parts(&store).await, &truth);
    let all = parts(&store).await;
    println!("{report:?}");
    // 22 days: raw of 3 streams and of the merged one; 5 m and 1 h of at least c2 and of the merged one.
    assert_eq!(count(&all, Resolution::Raw), 22 * 4);
    for resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
        for cluster in ["c1", "c2"] {
            for day in 20_717..20_717 + 22 {
                let final_one = all.iter().filter(|p| {
                    let is_final = cluster == "c2" || !p.replica_labels.is_empty();
                    p.external["cluster"] == cluster
                        && p.day == day
                        && p.resolution == resolution.as_str()
                        && is_final
                });
                assert_eq!(final_one.count(), 1, "{cluster} {day} {resolution}");
            }
        }
    }
    one_answer_for_replicas(&store, &all).await;
    assert_eq!(compactor.once(&CancellationToken::new()).await.unwrap().steps(), 0);
    // Thanos sees what it saw.
    let mut open = vec![dir.clone()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let key = path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
            let there = store.get(&object_store::path::Path::from(key)).await.unwrap();
            assert_eq!(there.bytes().await.unwrap(), std::fs::read(&path).unwrap());
        }
    }
    let top = store.list_with_delimiter(None).await.unwrap();
    let own: Vec<String> = top
        .common_prefixes
        .iter()
        .map(ToString::to_string)
        .filter(|p| periplus_bucket::key::parse_ulid(p).is_none())
        .collect();
    assert!(own.iter().all(|p| p == "history" || p == "periplus"), "{own:?}");
}

/// A merged day has what merging the replicas' samples of that day gives.
async fn one_answer_for_replicas(
    store: &Arc<dyn ObjectStore>,
    all: &[Arc<periplus_bucket::catalog::Part>],
) {
    let mut compared = 0;
    let is_merged = |p: &&Arc<periplus_bucket::catalog::Part>| {
        !p.replica_labels.is_empty() && p.resolution == "raw"
    };
    for merged in all.iter().filter(is_merged).step_by(7) {
        let mut by_series: BTreeMap<Labels, Vec<ChunkSamples>> = BTreeMap::new();
        let mut replicas: Vec<_> = all
            .iter()
            .filter(|p| {
                p.day == merged.day
                    && p.resolution == "raw"
                    && p.replica_labels.is_empty()
                    && p.external["cluster"] == merged.external["cluster"]
            })
            .collect();
        replicas.sort_by_key(|p| p.external.clone());
        for replica in replicas {
            for (labels, data) in part(store, replica).await {
                let SeriesData::Raw(samples) = data else { panic!() };
                by_series.entry(labels).or_default().push(samples);
            }
        }
        for (labels, data) in part(store, merged).await {
            let SeriesData::Raw(samples) = data else { panic!() };
            let mut expect = ChunkSamples::new();
            let counter = periplus_model::replicas::counts(&labels, None);
            let runs = &by_series[&labels];
            periplus_model::replicas::merge(runs, counter, &mut expect);
            assert_eq!(samples.ts, expect.ts, "{labels:?}");
            let bits = |s: &ChunkSamples| s.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&samples), bits(&expect));
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared}");
}
