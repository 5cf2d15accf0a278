//! How many samples a second and core a block's day is converted at, written, read back and compared, and
//! the memory that takes: `cargo bench -p periplus-compactor --bench convert [-- PODS HOURS ROUNDS]`.
//!
//! Rates are by the processor's time, which tells the same on a machine that is busy with other things.
//! Decoding the block's chunks alone is measured in the same run. The block is written by a process of its own,
//! so that the memory shown is that of converting alone.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark says what it finds")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use periplus_block::Block;
use periplus_block::chunk::{ChunkSamples, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_columnar::{Day, PartMeta, Resolution};
use periplus_compactor::config::Config;
use periplus_compactor::local;
use periplus_compactor::make::input::{Files, Opened};
use periplus_compactor::make::{self, Job};
use periplus_compactor::plan::{Input, Kind, Step};
use periplus_model::TimeRange;
use periplus_simfleet::{Fleet, FleetConfig, ScrapeConfig};
use ulid::Ulid;

/// 2026-03-01
const START: i64 = 20_513 * 86_400_000;
/// Where the process that writes the block is told to write it.
const WRITE_TO: &str = "CONVERT_BENCH_WRITE_TO";

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Seconds of processor time of this process so far, in ticks of 10 ms.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// A clock of both kinds.
struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), processor_seconds())
    }

    fn rates(&self, samples: u64) -> String {
        let (wall, cpu) = (self.0.elapsed().as_secs_f64(), processor_seconds() - self.1);
        let rate = |s: f64| samples as f64 / s.max(0.01) / 1e6;
        format!("{:7.2} M samples/s/core ({:.2} by the wall's clock)", rate(cpu), rate(wall))
    }
}

fn write_block(to: &Path, pods: u32, hours: u32) {
    let fleet = Fleet::new(FleetConfig { clusters: 1, pods, ..FleetConfig::default() });
    let until = START + i64::from(hours) * 3_600_000;
    let scrape = ScrapeConfig { interval_ms: 30_000, replica: 0 };
    let mut scraped = fleet.clusters()[0].scraped(START, until, scrape);
    scraped.sort_by(|a, b| a.labels.cmp(&b.labels));
    scraped.dedup_by(|a, b| a.labels == b.labels);
    let mut writer = BlockWriter::create(to, Ulid::generate()).unwrap();
    for s in &scraped {
        let mut columns = ChunkSamples::new();
        // Of two samples of one time the first, as a Prometheus keeps them.
        for (t, v) in s.samples() {
            if columns.ts.last().is_none_or(|last| *last < t) {
                columns.push(t, v, 0);
            }
        }
        if !columns.is_empty() {
            writer.add(&s.labels, &encode(&columns).unwrap()).unwrap();
        }
    }
    writer.finish(BlockInfo::default()).unwrap();
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse::<u32>().ok());
    let (pods, hours) = (args.next().unwrap_or(100), args.next().unwrap_or(24));
    let rounds = args.next().unwrap_or(3);
    if let Some(to) = std::env::var_os(WRITE_TO) {
        return write_block(Path::new(&to), pods, hours);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut writes = Command::new(std::env::current_exe().unwrap());
    writes.args([pods.to_string(), hours.to_string()]).env(WRITE_TO, dir.path());
    assert!(writes.status().unwrap().success());
    let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let block = Arc::new(local::open(&path).unwrap());
    let stats = &block.meta().stats;
    let (series, samples) = (stats.num_series, stats.num_samples);
    println!("{series} series, {samples} samples; peak before {} KiB", peak_kib());
    decode(&block, samples);
    for _ in 0..rounds {
        convert(&block, samples);
    }
}

fn decode(block: &Block, samples: u64) {
    let clock = Clock::start();
    let mut columns = ChunkSamples::new();
    for reference in block.select(&[]).unwrap() {
        let series = block.series(reference).unwrap();
        for chunk in &series.chunks {
            columns.clear();
            block.decode(&series, chunk, TimeRange::ALL, &mut columns).unwrap();
        }
    }
    println!("decoding alone:         {}", clock.rates(samples));
}

fn convert(block: &Arc<Block>, samples: u64) {
    let id = block.meta().ulid;
    let step = Step {
        kind: Kind::Convert,
        stream: BTreeMap::from([("cluster".to_owned(), "c1".to_owned())]),
        replica_labels: Vec::new(),
        day: Day::of_ms(START),
        resolution: Resolution::Raw,
        inputs: vec![Input::Block(id)],
        sources: BTreeSet::from([id]),
        replaces: Vec::new(),
    };
    let meta = PartMeta {
        part: Ulid::generate(),
        external: step.stream.clone(),
        replica_labels: Vec::new(),
        day: step.day,
        resolution: step.resolution,
        sources: vec![id],
        inputs: Vec::new(),
        promoted: Config::default().promoted,
    };
    let files = Files::Block(Arc::clone(block), Resolution::Raw);
    let inputs = vec![Opened { input: Input::Block(id), group: 0, files }];
    let job = Job { step: &step, meta, inputs, erasures: Vec::new(), go_on: &|| true };
    let out = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let summary = make::make(&job, out.path()).unwrap();
    let bytes: u64 = summary.files.iter().map(|f| f.size).sum();
    assert_eq!(summary.samples + summary.histograms, samples);
    println!(
        "converted and verified: {}, {:.3} B/sample, peak {} KiB",
        clock.rates(samples),
        bytes as f64 / samples as f64,
        peak_kib()
    );
}
