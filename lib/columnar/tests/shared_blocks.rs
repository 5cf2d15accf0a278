//! Real blocks, written by Prometheus, become parts and come back bit for bit.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail loudly and skip aloud")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use periplus_block::Block;
use periplus_block::chunk::ChunkSamples;
use periplus_columnar::{
    DAY_MS, Day, MemorySinks, PartMeta, PartReader, PartWriter, Resolution, WriteOptions,
};
use periplus_model::{Labels, TimeRange};
use ulid::Ulid;

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(name);
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", path.display());
    eprintln!("skipped: {} is missing", path.display());
    None
}

/// A series' samples of a day, chunks that overlap left out.
fn of_day(block: &Block, series: &periplus_block::index::Series, day: Day) -> ChunkSamples {
    let mut out = ChunkSamples::new();
    for chunk in &series.chunks {
        let after = out.ts.last().map_or(i64::MIN, |t| t + 1);
        let range = day.range().intersect(&TimeRange::new(after, i64::MAX));
        if chunk.range.overlaps(&range) {
            block.decode_stored(series, chunk, range, &mut out).unwrap();
        }
    }
    out
}

#[test]
fn blocks_come_back() {
    let Some(blocks) = shared("blocks") else { return };
    let mut histograms = 0;
    for name in ["xor-tombstoned", "xor2", "start-timestamps"] {
        let block = Block::open(blocks.join(name)).unwrap();
        let series: Vec<_> =
            block.select(&[]).unwrap().into_iter().map(|r| block.series(r).unwrap()).collect();
        let days: BTreeSet<i64> = series
            .iter()
            .flat_map(|s| &s.chunks)
            .flat_map(|c| [c.range.min_t, c.range.max_t])
            .map(|t| t.div_euclid(DAY_MS))
            .collect();
        assert!(!series.is_empty() && !days.is_empty());
        for day in days {
            let day = Day(day as i32);
            let all: Vec<(&Labels, ChunkSamples)> =
                series.iter().map(|s| (&s.labels, of_day(&block, s, day))).collect();
            let meta = PartMeta {
                part: Ulid::generate(),
                external: BTreeMap::new(),
                replica_labels: vec![],
                day,
                resolution: Resolution::Raw,
                sources: vec![block.meta().ulid],
                inputs: vec![],
                promoted: vec!["pod".to_owned()],
            };
            let sinks = MemorySinks::default();
            let options = WriteOptions::default();
            let mut writer = PartWriter::new(meta, options, Box::new(sinks.clone())).unwrap();
            for (labels, samples) in &all {
                writer.push(labels, samples).unwrap();
            }
            let summary = writer.finish().unwrap();
            histograms += summary.histograms;
            let mut reader = PartReader::open(&sinks).unwrap();
            for (labels, samples) in all.iter().filter(|(_, s)| !s.is_empty()) {
                reader.expect_raw(labels, samples).unwrap();
            }
            reader.expect_end().unwrap();
        }
    }
    assert!(histograms > 100, "{histograms}");
}
