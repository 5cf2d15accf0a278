//! How fast a block is opened and searched: 50,000 series, as 500 pods of one cluster have them.
//! `reference` reads every series and asks the matchers, which is what the postings save.

use divan::{Bencher, black_box};
use periplus_block::Block;
use periplus_block::chunk::{ChunkSamples, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_model::{Labels, MatchOp, Matcher, TimeRange};
use std::path::PathBuf;
use std::sync::LazyLock;

fn main() {
    divan::main();
}

const METRICS: usize = 100;
const PODS: usize = 500;

/// Written once, removed at exit.
static BLOCK: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let ulid = ulid::Ulid::generate();
    let mut writer = BlockWriter::create(dir.path(), ulid).expect("a writer");
    let mut samples = ChunkSamples::new();
    (0..120).for_each(|i| samples.push(1_760_000_000_000 + i * 15_000, i as f64, 0));
    let chunks = encode(&samples).expect("chunks");
    let mut all: Vec<Labels> = (0..METRICS * PODS)
        .map(|i| {
            let (metric, pod) = (i / PODS, i % PODS);
            Labels::from_pairs([
                ("__name__", format!("container_metric_{metric:03}_total")),
                ("namespace", format!("namespace-{}", pod % 20)),
                ("node", format!("node-{}.example.internal", pod % 50)),
                ("pod", format!("deployment-{}-7d9f8b6c5-{pod:05}", pod % 100)),
                ("container", "main".into()),
                ("job", "kubelet".into()),
            ])
        })
        .collect();
    all.sort();
    for labels in &all {
        writer.add(labels, &chunks).expect("a series");
    }
    writer.finish(BlockInfo::default()).expect("a block");
    let path = dir.path().join(ulid.to_string());
    (dir, path)
});

fn matchers() -> [Matcher; 3] {
    let m = |n: &str, op, v: &str| Matcher::new(n, op, v).expect("a matcher");
    [
        Matcher::equal("__name__", "container_metric_042_total"),
        m("namespace", MatchOp::Regex, "namespace-1.*"),
        m("pod", MatchOp::NotRegex, "deployment-.*-00$"),
    ]
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let path = &BLOCK.1;
    bencher.bench_local(|| Block::open(black_box(path)).expect("a block"));
}

#[divan::bench]
fn open_and_select_by_three_matchers(bencher: Bencher<'_, '_>) {
    let path = &BLOCK.1;
    let matchers = matchers();
    bencher.bench_local(|| {
        let block = Block::open(black_box(path)).expect("a block");
        let found = block.select(&matchers).expect("series");
        assert_eq!(found.len(), 275);
        found
    });
}

#[divan::bench]
fn select_by_three_matchers(bencher: Bencher<'_, '_>) {
    let block = Block::open(&BLOCK.1).expect("a block");
    let matchers = matchers();
    bencher.bench_local(|| block.select(black_box(&matchers)).expect("series"));
}

#[divan::bench(sample_count = 10)]
fn reference(bencher: Bencher<'_, '_>) {
    let block = Block::open(&BLOCK.1).expect("a block");
    let matchers = matchers();
    bencher.bench_local(|| {
        let all = block.select(&[]).expect("series");
        all.into_iter()
            .filter(|r| {
                let series = block.series(*r).expect("a series");
                matchers.iter().all(|m| m.matches(series.labels.value(&m.name)))
            })
            .count()
    });
}

#[divan::bench]
fn read_the_selected_series(bencher: Bencher<'_, '_>) {
    let block = Block::open(&BLOCK.1).expect("a block");
    let found = block.select(&matchers()).expect("series");
    let mut out = ChunkSamples::new();
    bencher.counter(divan::counter::ItemsCount::new(found.len() * 120)).bench_local(|| {
        for r in &found {
            let series = block.series(*r).expect("a series");
            out.clear();
            for c in &series.chunks {
                block.decode(&series, c, TimeRange::ALL, &mut out).expect("samples");
            }
        }
    });
}
