//! A day of a simulated fleet, written as one block.

use std::path::{Path, PathBuf};

use periplus_block::chunk::{ChunkSamples, EncodedChunk, HistogramValue, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_model::{Histogram, Labels, METRIC_NAME, Span};
use periplus_promql::value::StepGrid;
use periplus_simfleet::{Fleet, FleetConfig, ScrapeConfig, ScrapedSeries};
use ulid::Ulid;

/// The first scrape is at or after this; on a border of two hours, where blocks begin.
const FROM_MS: i64 = 1_790_006_400_000 / 7_200_000 * 7_200_000;
const UNTIL_MS: i64 = FROM_MS + 24 * 3_600_000;
const SCRAPE_MS: i64 = 30_000;
const CLUSTERS: u32 = 3;

/// What is asked for: all but the first hour, in steps of two minutes.
pub(crate) const GRID: StepGrid =
    StepGrid { start_ms: FROM_MS + 3_600_000, end_ms: UNTIL_MS - 60_000, step_ms: 120_000 };

/// The block in `dir`, written if it is not there yet.
pub(crate) fn block(dir: &Path, pods: u32) -> PathBuf {
    // Named after what is in it, so that another size is another block.
    let ulid = Ulid::from_parts(FROM_MS as u64, u128::from(pods));
    let path = dir.join(ulid.to_string());
    if path.exists() {
        return path;
    }
    assert!(!dir.exists(), "{} holds other data", dir.display());
    std::fs::create_dir_all(dir).expect("a directory");
    let mut series = scraped(pods);
    series.extend(native());
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut writer = BlockWriter::create(dir, ulid).expect("a new block");
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    for some in series.chunks(64 * workers) {
        // Each worker encodes its share; they are added in order.
        let encoded: Vec<Vec<Vec<EncodedChunk>>> = std::thread::scope(|scope| {
            let shares: Vec<_> = some
                .chunks(64)
                .map(|share| scope.spawn(|| share.iter().map(Generated::chunks).collect()))
                .collect();
            shares.into_iter().map(|s| s.join().expect("samples")).collect()
        });
        for (one, chunks) in some.iter().zip(encoded.iter().flatten()) {
            if !chunks.is_empty() {
                writer.add(&one.labels, chunks).expect("series in order");
            }
        }
    }
    let stats = writer.finish(BlockInfo::default()).expect("a block").stats;
    println!("a block of {} series and {} samples", stats.num_series, stats.num_samples);
    path
}

struct Generated {
    labels: Labels,
    kind: Kind,
}

enum Kind {
    Scraped(Box<ScrapedSeries>),
    Native(u64),
}

impl Generated {
    fn chunks(&self) -> Vec<EncodedChunk> {
        let mut out = ChunkSamples::new();
        match &self.kind {
            // Of two samples of one time a Prometheus would have kept the first.
            Kind::Scraped(s) => s.samples().for_each(|(t, v)| {
                if out.ts.last().is_none_or(|last| *last < t) {
                    out.push(t, v, 0);
                }
            }),
            Kind::Native(seed) => histograms(*seed, &mut out),
        }
        encode(&out).expect("samples in order")
    }
}

/// The fleet's series, with their clusters' names as a layer above would see them.
fn scraped(pods: u32) -> Vec<Generated> {
    let fleet = Fleet::new(FleetConfig { clusters: CLUSTERS, nodes: 4, pods, seed: 1 });
    let scrape = ScrapeConfig { interval_ms: SCRAPE_MS, replica: 0 };
    let mut all = Vec::new();
    for cluster in fleet.clusters() {
        for series in cluster.scraped(FROM_MS, UNTIL_MS, scrape) {
            let mut labels = series.labels.to_builder();
            labels.set("cluster", cluster.name());
            let labels = labels.build();
            all.push(Generated { labels, kind: Kind::Scraped(Box::new(series)) });
        }
    }
    all
}

/// Native histograms of latencies: three clusters, ten services, four instances of each.
fn native() -> impl Iterator<Item = Generated> {
    (0..120u64).map(|i| {
        let labels = Labels::from_pairs([
            (METRIC_NAME.to_owned(), "rpc_duration_seconds".to_owned()),
            ("cluster".to_owned(), format!("cluster-{}", i % 3)),
            ("instance".to_owned(), format!("10.9.0.{i}:8080")),
            ("service".to_owned(), format!("service-{}", i / 3 % 10)),
        ]);
        Generated { labels, kind: Kind::Native(i + 1) }
    })
}

/// Buckets that grow by 2^(1/2), from a millisecond to eight seconds, most observations in the middle.
const BUCKETS: i32 = 26;
const FIRST_BUCKET: i32 = -20;

/// Counts that only rise, begin anew twice a day, and leave out a bucket here and there.
fn histograms(seed: u64, out: &mut ChunkSamples) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut counts = vec![0u64; BUCKETS as usize];
    let (mut zero_count, mut sum) = (0u64, 0.0);
    let offset = (seed * 977 % SCRAPE_MS as u64) as i64;
    let peak = 8 + (seed % 10) as i32;
    for i in 0..(UNTIL_MS - FROM_MS) / SCRAPE_MS {
        if i == 0 || next(1440) == 0 {
            counts.fill(1);
            (zero_count, sum) = (1, 0.0);
        }
        for (b, count) in counts.iter_mut().enumerate() {
            let distance = (b as i32 - peak).unsigned_abs();
            let new = next(1 + (40u64 >> distance.min(8)));
            *count += new;
            sum += new as f64 * 2f64.powf(f64::from(FIRST_BUCKET + b as i32) / 2.0 - 0.25);
        }
        zero_count += next(2);
        let histogram = Histogram {
            schema: 1,
            zero_threshold: 1e-9,
            zero_count,
            count: zero_count + counts.iter().sum::<u64>(),
            sum: (sum * 1e6).round() / 1e6,
            positive_spans: vec![
                Span { offset: FIRST_BUCKET, length: 12 },
                Span { offset: 1, length: BUCKETS as u32 - 12 },
            ],
            positive_buckets: deltas(&counts),
            ..Histogram::default()
        };
        let t = FROM_MS + offset + i * SCRAPE_MS;
        out.push_histogram(t, HistogramValue::Integer(histogram), 0);
    }
}

/// Each count as the difference to the one before.
fn deltas(counts: &[u64]) -> Vec<i64> {
    let before = std::iter::once(&0).chain(counts);
    counts.iter().zip(before).map(|(c, b)| *c as i64 - *b as i64).collect()
}
