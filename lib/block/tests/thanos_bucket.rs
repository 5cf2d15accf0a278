//! Blocks that Thanos compacted and downsampled.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests skip aloud and fail loudly")]

use std::path::PathBuf;

use periplus_block::chunk::{Aggregate, ChunkSamples, CounterSeries};
use periplus_block::{Block, check};
use periplus_model::{Labels, Matcher, TimeRange};

fn blocks() -> Vec<PathBuf> {
    let dir =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/thanos-bucket/bucket"));
    let Ok(entries) = std::fs::read_dir(&dir) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the shared bucket is missing");
        println!("skipped: no shared bucket beside this checkout");
        return Vec::new();
    };
    let mut blocks: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.join("meta.json").is_file()).collect();
    blocks.sort();
    blocks
}

#[test]
fn every_block_is_whole() {
    let (mut raw, mut downsampled) = (0, 0);
    for dir in blocks() {
        let report = check::check(&dir);
        let block = Block::open(&dir).unwrap();
        let thanos = block.meta().thanos.as_ref().unwrap();
        assert!(thanos.labels.contains_key("cluster") && !thanos.files.is_empty());
        let again = periplus_block::meta::Meta::parse(&block.meta().to_bytes()).unwrap();
        assert_eq!(again, *block.meta());
        if thanos.downsample.resolution == 0 {
            raw += 1;
            assert!(report.findings.is_empty(), "{report}");
        } else {
            downsampled += 1;
            assert!(report.is_ok(), "{report}");
        }
    }
    println!("{raw} raw, {downsampled} downsampled");
}

/// One column of a series, over all its chunks.
fn column(block: &Block, labels: &Labels, aggregate: Option<Aggregate>) -> ChunkSamples {
    let matchers: Vec<Matcher> = labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
    let mut out = ChunkSamples::new();
    let mut counter = CounterSeries::default();
    for reference in block.select(&matchers).unwrap() {
        let series = block.series(reference).unwrap();
        for c in &series.chunks {
            match aggregate {
                None => block.decode(&series, c, TimeRange::ALL, &mut out).unwrap(),
                Some(Aggregate::Counter) => {
                    let mut part = ChunkSamples::new();
                    block
                        .with_aggregate(&series, c, |a| {
                            a.decode(Aggregate::Counter, TimeRange::ALL, &mut part)
                        })
                        .unwrap();
                    counter.append(&part, &mut out);
                }
                Some(which) => block
                    .with_aggregate(&series, c, |a| a.decode(which, TimeRange::ALL, &mut out))
                    .unwrap(),
            }
        }
    }
    out
}

/// For every downsampled block whose raw twin is there: counts and sums add up to the raw ones,
/// minima and maxima are the raw ones, and the counter grew as the raw one did.
#[test]
fn aggregates_tell_of_the_raw_samples() {
    let open: Vec<Block> = blocks().iter().map(|d| Block::open(d).unwrap()).collect();
    let resolution = |b: &Block| b.meta().thanos.as_ref().unwrap().downsample.resolution;
    let mut compared = 0;
    for down in open.iter().filter(|b| resolution(b) > 0) {
        let raw = open.iter().find(|b| {
            resolution(b) == 0
                && b.meta().thanos.as_ref().unwrap().labels
                    == down.meta().thanos.as_ref().unwrap().labels
                && b.meta().compaction.sources == down.meta().compaction.sources
        });
        let Some(raw) = raw else { continue };
        for reference in down.select(&[]).unwrap() {
            let labels = down.series(reference).unwrap().labels;
            let samples = column(raw, &labels, None);
            if !samples.histograms.is_empty() {
                continue;
            }
            let real: Vec<f64> = samples.values.iter().copied().filter(|v| !v.is_nan()).collect();
            let get = |a| column(down, &labels, Some(a)).values;
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
            assert_eq!(get(Aggregate::Count).iter().sum::<f64>(), real.len() as f64, "{labels:?}");
            let sum: f64 = get(Aggregate::Sum).iter().sum();
            assert!(close(sum, real.iter().sum()), "{labels:?}");
            let min = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
            let max = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(min(&get(Aggregate::Min)), min(&real), "{labels:?}");
            assert_eq!(max(&get(Aggregate::Max)), max(&real), "{labels:?}");
            let counter = get(Aggregate::Counter);
            assert!(counter.is_sorted(), "{labels:?}");
            let grown =
                real.windows(2).fold(0.0, |g, w| g + if w[1] >= w[0] { w[1] - w[0] } else { w[1] });
            let told = counter.last().unwrap() - counter.first().unwrap();
            assert!(close(grown, told), "{labels:?}: {grown} {told}");
            compared += 1;
        }
    }
    println!("{compared} series compared");
}
