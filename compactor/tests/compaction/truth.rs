//! What is in the blocks of a bucket, what is in its parts, and that both are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use object_store::{ObjectStore, ObjectStoreExt};
use periplus_block::Block;
use periplus_block::chunk::{ChunkSamples, HistogramValue};
use periplus_bucket::blocks::scan;
use periplus_bucket::catalog::{Catalog, Part};
use periplus_bucket::{Bucket, Key};
use periplus_columnar::{Day, PartDir, PartReader, Resolution, SeriesData};
use periplus_compactor::committed;
use periplus_model::{Labels, TimeRange};
use ulid::Ulid;

/// A stream's external labels.
pub(crate) type Stream = BTreeMap<String, String>;
/// Samples by stream, series and time, every bit of each as text.
pub(crate) type Truth = BTreeMap<(Stream, String), BTreeMap<i64, String>>;

/// A sample as text that differs where any bit does.
fn text(samples: &ChunkSamples, i: usize) -> String {
    let start = samples.start_ts.get(i).copied().unwrap_or(0);
    match samples.histogram_at(i) {
        Some(HistogramValue::Integer(h)) => format!("i {start} {:x} {h:?}", h.sum.to_bits()),
        Some(HistogramValue::Float(h)) => format!("f {start} {:x} {h:?}", h.sum.to_bits()),
        None => format!("{start} {:016x}", samples.values[i].to_bits()),
    }
}

/// Downloads a directory of the bucket.
pub(crate) async fn download(store: &Arc<dyn ObjectStore>, prefix: &Key, to: &Path) {
    let bucket = Bucket::from_store(Arc::clone(store), "truth", &crate::made_up::quick());
    for entry in bucket.list_all(prefix).await.unwrap() {
        let path = to.join(entry.key.within(prefix).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let got = store.get(&object_store::path::Path::from(entry.key.as_str())).await.unwrap();
        std::fs::write(path, got.bytes().await.unwrap()).unwrap();
    }
}

/// Adds a block's samples of some days; says how many were there already.
fn add_block(block: &Block, stream: &Stream, days: &[Day], to: &mut Truth) -> usize {
    let mut doubled = 0;
    for reference in block.select(&[]).unwrap() {
        let series = block.series(reference).unwrap();
        let mut samples = ChunkSamples::new();
        for chunk in &series.chunks {
            block.decode(&series, chunk, TimeRange::ALL, &mut samples).unwrap();
        }
        let name = format!("{:?}", series.labels);
        for (i, t) in samples.ts.iter().enumerate() {
            if days.contains(&Day::of_ms(*t)) {
                let at = to.entry((stream.clone(), name.clone())).or_default();
                doubled += usize::from(at.insert(*t, text(&samples, i)).is_some());
            }
        }
    }
    doubled
}

/// All raw samples of all blocks.
pub(crate) async fn of_blocks(store: &Arc<dyn ObjectStore>) -> Truth {
    let bucket = Bucket::from_store(Arc::clone(store), "truth", &crate::made_up::quick());
    let (mut truth, dir) = (Truth::new(), tempfile::tempdir().unwrap());
    for found in scan::blocks(&bucket).await.unwrap() {
        let Ok(meta) = &found.meta else { continue };
        if meta.thanos.downsample.resolution != 0 {
            continue;
        }
        let path = dir.path().join(found.id.to_string());
        download(store, &Key::block(found.id), &path).await;
        let days: Vec<Day> =
            (Day::of_ms(meta.min_time).0..=Day::of_ms(meta.max_time).0).map(Day).collect();
        add_block(&Block::open(&path).unwrap(), &meta.thanos.labels, &days, &mut truth);
    }
    truth
}

/// Reads a part from the bucket.
pub(crate) async fn part(store: &Arc<dyn ObjectStore>, part: &Part) -> Vec<(Labels, SeriesData)> {
    if part.files.is_empty() {
        return Vec::new();
    }
    let dir = tempfile::tempdir().unwrap();
    download(store, &Key::parse(&part.directory).unwrap(), dir.path()).await;
    let mut reader = PartReader::open(&PartDir(dir.path().to_owned())).unwrap();
    let mut all = Vec::new();
    while let Some(series) = reader.next_series().unwrap() {
        all.push((series.labels, series.data));
    }
    all
}

/// The parts that are committed.
pub(crate) async fn parts(store: &Arc<dyn ObjectStore>) -> Vec<Arc<Part>> {
    let bucket = Bucket::from_store(Arc::clone(store), "truth", &crate::made_up::quick());
    committed::load(&Catalog::new(bucket)).await.unwrap().parts
}

/// Raw samples of the parts of single streams (merged replicas left out); no sample may be in two.
pub(crate) async fn of_parts(store: &Arc<dyn ObjectStore>) -> Truth {
    let mut truth = Truth::new();
    for p in parts(store).await {
        if p.resolution == "raw" && p.replica_labels.is_empty() {
            add_part(store, &p, &mut truth).await;
        }
    }
    truth
}

async fn add_part(store: &Arc<dyn ObjectStore>, p: &Part, truth: &mut Truth) {
    for (labels, read) in part(store, p).await {
        let SeriesData::Raw(samples) = read else { panic!("{p:?} has aggregates") };
        let at = truth.entry((p.external.clone(), format!("{labels:?}"))).or_default();
        for (i, t) in samples.ts.iter().enumerate() {
            let doubled = at.insert(*t, text(&samples, i));
            assert_eq!(doubled, None, "{labels:?} at {t} is in two parts");
        }
    }
}

/// What a reader sees at this moment: the parts, and of each block the days that no part has. It has to
/// be the whole truth, and nothing of it twice.
pub(crate) async fn observe(store: &Arc<dyn ObjectStore>, truth: &Truth) {
    let bucket = Bucket::from_store(Arc::clone(store), "truth", &crate::made_up::quick());
    let parts = parts(store).await;
    let mut seen = Truth::new();
    for p in parts.iter().filter(|p| p.resolution == "raw" && p.replica_labels.is_empty()) {
        add_part(store, p, &mut seen).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let blocks = scan::blocks(&bucket).await.unwrap();
    let sources_of = |found: &scan::Found| -> BTreeSet<Ulid> {
        found.meta.iter().flat_map(|m| m.compaction.sources.clone()).collect()
    };
    for found in &blocks {
        let Ok(meta) = &found.meta else { continue };
        let sources = sources_of(found);
        // A compacted block stands for those it was made of, for any reader of blocks.
        let is_covered =
            blocks.iter().map(sources_of).any(|o| o != sources && sources.is_subset(&o));
        if meta.thanos.downsample.resolution != 0 || is_covered {
            continue;
        }
        let days = Day::of_ms(meta.min_time).0..=Day::of_ms(meta.max_time - 1).0;
        let open: Vec<Day> = days
            .map(Day)
            .filter(|day| {
                let of_day = parts.iter().filter(|p| {
                    p.resolution == "raw" && p.day == day.0 && p.external == meta.thanos.labels
                });
                let there: BTreeSet<Ulid> = of_day.flat_map(|p| p.sources.clone()).collect();
                !sources.is_subset(&there)
            })
            .collect();
        if open.is_empty() {
            continue;
        }
        let path = dir.path().join(found.id.to_string());
        download(store, &Key::block(found.id), &path).await;
        let block = Block::open(&path).unwrap();
        let doubled = add_block(&block, &meta.thanos.labels, &open, &mut seen);
        assert_eq!(doubled, 0, "samples of {} are in parts and in the block", found.id);
    }
    same(&seen, truth);
}

/// Tells the first difference.
#[track_caller]
pub(crate) fn same(got: &Truth, expect: &Truth) {
    for (series, samples) in expect {
        let there = got.get(series).unwrap_or_else(|| panic!("{series:?} is missing"));
        for (t, sample) in samples {
            assert_eq!(there.get(t), Some(sample), "{series:?} at {t}");
        }
        assert_eq!(there.len(), samples.len(), "{series:?} has more");
    }
    assert_eq!(got.len(), expect.len(), "series more");
}

/// How many parts of a resolution there are.
pub(crate) fn count(parts: &[Arc<Part>], resolution: Resolution) -> usize {
    parts.iter().filter(|p| p.resolution == resolution.as_str()).count()
}
