//! Hostile queries are refused or stopped, quickly and by name.

#![expect(clippy::unwrap_used, reason = "a test says what it finds")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::{Labels, SampleBuffer};
use periplus_promql::engine::{Engine, EngineConfig, ErrorKind, Leaves, QueryError, QuerySpec};
use periplus_promql::limits::{Cancel, Limits, ProcessLimits};
use periplus_promql::parse::parse;
use periplus_promql::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};
use periplus_promql::value::StepGrid;

struct Many(usize);

struct Stream {
    next: usize,
    end: usize,
}

impl SeriesStream for Stream {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        let to = (self.next + 100).min(self.end);
        let block: Vec<SeriesEntry> = (self.next..to)
            .map(|i| {
                let labels = Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]);
                let mut buf = SampleBuffer::new();
                (0..10).for_each(|k| buf.push(k * 30_000, k as f64));
                SeriesEntry { labels, samples: Arc::new(buf) }
            })
            .collect();
        self.next = to;
        Ok((!block.is_empty()).then_some(block))
    }
}

impl Source for Many {
    fn select(&self, _: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        Ok(Box::new(Stream { next: 0, end: self.0 }))
    }
}

const GRID: StepGrid = StepGrid { start_ms: 0, end_ms: 300_000, step_ms: 10_000 };

fn ask(query: &str, grid: StepGrid, series: usize, limits: Limits) -> Result<(), QueryError> {
    let engine = Engine::new(&EngineConfig { workers: 2, ..EngineConfig::default() }).unwrap();
    let expr = parse(query).unwrap();
    let spec = QuerySpec { limits, ..QuerySpec::range(expr, query, grid) };
    let began = Instant::now();
    let result = engine.execute(&spec, &Many(series), &Leaves::new(), &Cancel::new());
    assert!(began.elapsed() < Duration::from_secs(20), "{query} took {:?}", began.elapsed());
    assert_eq!(engine.bytes_in_use(), 0, "{query} leaves bytes behind");
    assert_eq!(engine.queries_in_use(), 0);
    result.map(|_| ())
}

#[track_caller]
fn refused(query: &str, grid: StepGrid, series: usize, limits: Limits, words: &str) {
    let e = ask(query, grid, series, limits).unwrap_err();
    assert_eq!(e.kind, ErrorKind::Limit, "{query}: {e}");
    assert!(e.message.contains(words), "{query}: {e}");
}

#[test]
fn limits_are_named() {
    let d = Limits::default;
    refused(
        "m",
        GRID,
        500,
        Limits { series: 99, ..d() },
        "series of a query, over the limit of 99",
    );
    refused("m", GRID, 500, Limits { samples: 1000, ..d() }, "over the limit of 1000");
    let memory = Limits { memory_bytes: 100_000, ..d() };
    refused("m + m", GRID, 5000, memory, "memory bytes of a query, over the limit of 100000");
    let output = Limits { output_points: 50, ..d() };
    refused("m", GRID, 500, output, "over the limit of 50");
    let regex = Limits { regex_bytes: 10, ..d() };
    refused("m{a=~\"0123456789.*\"}", GRID, 1, regex, "over the limit of 10");
    let steps = Limits { subquery_steps: 100, ..d() };
    refused("sum_over_time(m[1h:1s])", GRID, 1, steps, "subquery steps, over the limit of 100");
}

#[test]
fn enormous_grids_are_refused() {
    let d = Limits::default;
    let endless = StepGrid { start_ms: i64::MIN / 4, end_ms: i64::MAX / 4, step_ms: 1 };
    refused("m", endless, 1, d(), "steps");
    refused("sum_over_time(m[100y:1ms])", GRID, 1, d(), "subquery steps");
    refused("sum_over_time(sum_over_time(m[5y:1s])[5y:1s])", GRID, 1, d(), "subquery steps");
}

#[test]
fn the_process_has_a_limit_too() {
    let process = ProcessLimits { memory_bytes: 50_000, ..ProcessLimits::default() };
    let engine = Engine::new(&EngineConfig { workers: 1, process }).unwrap();
    let spec = QuerySpec::range(parse("m").unwrap(), "m", GRID);
    let e = engine.execute(&spec, &Many(5000), &Leaves::new(), &Cancel::new()).unwrap_err();
    assert!(e.message.contains("memory bytes of the process, over the limit of 50000"), "{e}");
    assert_eq!(engine.bytes_in_use(), 0);
}

#[test]
fn time_and_cancel_stop_a_query() {
    let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap();
    let query = "sum(quantile_over_time(0.5, m[5m]))";
    let mut spec = QuerySpec::range(parse(query).unwrap(), query, GRID);
    spec.limits.wall_time = Some(Duration::from_millis(30));
    let began = Instant::now();
    let run = |spec: &QuerySpec, cancel: &Cancel| {
        engine.execute(spec, &Many(100_000_000), &Leaves::new(), cancel).unwrap_err()
    };
    assert_eq!(run(&spec, &Cancel::new()).kind, ErrorKind::Timeout);
    spec.limits.wall_time = None;
    let cancel = Cancel::new();
    let other = cancel.clone();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        other.cancel();
    });
    assert_eq!(run(&spec, &cancel).kind, ErrorKind::Canceled);
    canceller.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn deep_trees_are_no_danger() {
    for query in [
        format!("{}m{}", "(".repeat(100), ")".repeat(100)),
        format!("{}m", "-".repeat(100)),
        format!("m{}", " + m".repeat(200)),
        format!("{}m{}", "abs(".repeat(100), ")".repeat(100)),
    ] {
        ask(&query, StepGrid::instant(60_000), 3, Limits::default()).unwrap();
    }
}
