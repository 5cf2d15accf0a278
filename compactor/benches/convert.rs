//! How many samples a second and core a block's day is converted at, written, read back and compared, and
//! the memory that takes: `cargo bench -p periplus-compactor --bench convert [-- PODS HOURS]`.
//!
//! Decoding the block's chunks alone is measured in the same run, so that figures can be compared on a
//! machine that is busy with other things.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark says what it finds")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use periplus_block::Block;
use periplus_block::chunk::{ChunkSamples, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_columnar::{Day, PartMeta, Resolution};
use periplus_compactor::make::input::{Files, Opened};
use periplus_compactor::make::{self, Job};
use periplus_compactor::plan::{Input, Kind, Step};
use periplus_model::TimeRange;
use periplus_simfleet::{Fleet, FleetConfig, ScrapeConfig};
use ulid::Ulid;

/// 2026-03-01
const START: i64 = 20_513 * 86_400_000;

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse::<u32>().ok());
    let (pods, hours) = (args.next().unwrap_or(100), args.next().unwrap_or(24));
    let fleet = Fleet::new(FleetConfig { clusters: 1, pods, ..FleetConfig::default() });
    let until = START + i64::from(hours) * 3_600_000;
    let scrape = ScrapeConfig { interval_ms: 30_000, replica: 0 };
    let dir = tempfile::tempdir().unwrap();
    let id = Ulid::generate();
    let (mut series, mut samples) = (0, 0);
    {
        let mut scraped = fleet.clusters()[0].scraped(START, until, scrape);
        scraped.sort_by(|a, b| a.labels.cmp(&b.labels));
        scraped.dedup_by(|a, b| a.labels == b.labels);
        let mut writer = BlockWriter::create(dir.path(), id).unwrap();
        for s in &scraped {
            let mut columns = ChunkSamples::new();
            s.samples().for_each(|(t, v)| columns.push(t, v, 0));
            if !columns.is_empty() {
                samples += columns.len();
                series += 1;
                writer.add(&s.labels, &encode(&columns).unwrap()).unwrap();
            }
        }
        writer.finish(BlockInfo::default()).unwrap();
    }
    let block = Arc::new(Block::open(dir.path().join(id.to_string())).unwrap());
    println!("{series} series, {samples} samples; peak before {} KiB", peak_kib());
    let rate = |started: Instant| samples as f64 / started.elapsed().as_secs_f64() / 1e6;

    let started = Instant::now();
    let mut columns = ChunkSamples::new();
    for reference in block.select(&[]).unwrap() {
        let series = block.series(reference).unwrap();
        for chunk in &series.chunks {
            columns.clear();
            block.decode(&series, chunk, TimeRange::ALL, &mut columns).unwrap();
        }
    }
    println!("decoding alone:            {:6.2} M samples/s", rate(started));

    for _ in 0..3 {
        let step = Step {
            kind: Kind::Convert,
            stream: BTreeMap::new(),
            replica_labels: Vec::new(),
            day: Day::of_ms(START),
            resolution: Resolution::Raw,
            inputs: vec![Input::Block(id)],
            sources: BTreeSet::from([id]),
            replaces: Vec::new(),
        };
        let meta = PartMeta {
            part: Ulid::generate(),
            external: BTreeMap::new(),
            replica_labels: Vec::new(),
            day: step.day,
            resolution: step.resolution,
            sources: vec![id],
            inputs: Vec::new(),
            promoted: Vec::new(),
        };
        let files = Files::Block(Arc::clone(&block), Resolution::Raw);
        let inputs = vec![Opened { input: Input::Block(id), group: 0, files }];
        let job = Job { step: &step, meta, inputs, erasures: Vec::new(), go_on: &|| true };
        let out = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let summary = make::make(&job, out.path()).unwrap();
        let bytes: u64 = summary.files.iter().map(|f| f.size).sum();
        println!(
            "converted and verified:    {:6.2} M samples/s, {:.2} B/sample, peak {} KiB",
            rate(started),
            bytes as f64 / samples as f64,
            peak_kib()
        );
    }
}
