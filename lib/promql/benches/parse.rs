//! How long parsing takes: the golden queries (or, where the shared data is not there, generated
//! ones), each by itself for the median, and all of them beside the crate promql-parser, over the
//! queries that both accept.

use std::hint::black_box;
use std::time::Instant;

use divan::Bencher;
use divan::counter::ItemsCount;
use periplus_promql::parse::arbitrary::{Generator, Vocabulary};
use periplus_promql::parse::ast::ValueType;
use periplus_promql::parse::parse;

fn main() {
    report();
    divan::main();
}

fn queries() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/promql-parse/golden.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        let words = Vocabulary { disguise: false, ..Vocabulary::default() };
        return (0..2000)
            .map(|seed| Generator::new(&words, seed).query(ValueType::Vector, seed as usize % 30))
            .collect();
    };
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|line| line["query"].as_str().map(str::to_owned))
        .collect()
}

/// The queries both parsers accept. What is longer is left out: the other one is quadratic there.
fn shared() -> Vec<String> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut queries = queries();
    queries.retain(|q| {
        let other = || std::panic::catch_unwind(|| promql_parser::parser::parse(q).is_ok());
        q.len() < 2000 && parse(q).is_ok() && other().unwrap_or(false)
    });
    let _ = std::panic::take_hook();
    queries
}

/// The shortest of several runs of one query, in nanoseconds.
fn shortest_ns(run: impl Fn()) -> u128 {
    let once = || {
        let start = Instant::now();
        run();
        start.elapsed().as_nanos()
    };
    (0..20).map(|_| once()).min().unwrap_or(0)
}

#[expect(clippy::print_stdout, reason = "a bench reports what it measured")]
fn report() {
    let mut ours: Vec<u128> =
        queries().iter().map(|q| shortest_ns(|| drop(black_box(parse(q))))).collect();
    ours.sort_unstable();
    let at = |share: usize| ours.get(ours.len() * share / 100).copied().unwrap_or(0);
    println!(
        "{} queries, each: median {} ns, p90 {} ns, p99 {} ns",
        ours.len(),
        at(50),
        at(90),
        at(99)
    );

    let mut ratios: Vec<f64> = shared()
        .iter()
        .map(|q| {
            let ours = shortest_ns(|| drop(black_box(parse(q))));
            let theirs = shortest_ns(|| drop(black_box(promql_parser::parser::parse(q))));
            theirs as f64 / ours.max(1) as f64
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| ratios.get(ratios.len() * share / 100).copied().unwrap_or(0.0);
    println!(
        "{} queries that promql-parser accepts too: it takes {:.1} times as long in the median \
         ({:.1} to {:.1} for eight in ten)",
        ratios.len(),
        at(50),
        at(10),
        at(90)
    );
}

#[divan::bench]
fn ours(bencher: Bencher<'_, '_>) {
    let queries = shared();
    bencher.counter(ItemsCount::new(queries.len())).bench_local(|| {
        for q in &queries {
            let _ = black_box(parse(q));
        }
    });
}

#[divan::bench]
fn promql_parser_crate(bencher: Bencher<'_, '_>) {
    let queries = shared();
    bencher.counter(ItemsCount::new(queries.len())).bench_local(|| {
        for q in &queries {
            let _ = black_box(promql_parser::parser::parse(q));
        }
    });
}

#[divan::bench]
fn printing(bencher: Bencher<'_, '_>) {
    let trees: Vec<_> = shared().iter().filter_map(|q| parse(q).ok()).collect();
    bencher.counter(ItemsCount::new(trees.len())).bench_local(|| {
        for tree in &trees {
            let _ = black_box(tree.to_string());
        }
    });
}
