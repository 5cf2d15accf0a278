//! How long it takes to refuse what is made to hurt: `cargo bench -p periplus-promql --bench hostile`.
//!
//! Each query must end as the list says, error or answer, and take no memory to speak of; that fails a
//! run. The times are printed and the longest is set against the 100 ms that any of them may take.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark says what it finds")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::{Labels, SampleBuffer};
use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::{Cancel, Limits};
use periplus_promql::parse::{QUERY_BYTES_MAX, parse};
use periplus_promql::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};
use periplus_promql::value::StepGrid;

/// What one may take, and what the process may grow by over all of them.
const TIME_MAX: Duration = Duration::from_millis(100);
const GROWTH_MAX: u64 = 256 << 20;

/// Gives series without an end, a block at a time: the same block again and again, as making up others
/// would take longer than the engine does.
struct Endless(Vec<SeriesEntry>);

struct Stream(Vec<SeriesEntry>);

impl SeriesStream for Stream {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        Ok(Some(self.0.clone()))
    }
}

impl Source for Endless {
    fn select(&self, _: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        Ok(Box::new(Stream(self.0.clone())))
    }
}

fn endless() -> Endless {
    let one = |i: u64| {
        let labels = Labels::from_pairs([("__name__", "x"), ("i", &i.to_string())]);
        let mut samples = SampleBuffer::new();
        (0..20).for_each(|k| samples.push(k * 15_000, k as f64));
        SeriesEntry { labels, samples: Arc::new(samples) }
    };
    Endless((0..256).map(one).collect())
}

/// CPU time of all threads of this process: what a machine that is busy with other things does not
/// distort.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let ns = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(ns.sum())
}

/// A mebibyte of a piece between a head and a tail.
fn mebibyte(head: &str, piece: &str, tail: &str) -> String {
    let times = (QUERY_BYTES_MAX - 64 - head.len() - tail.len()) / piece.len();
    format!("{head}{}{tail}", piece.repeat(times))
}

/// Name, query, grid.
fn hostile() -> Vec<(&'static str, String, StepGrid)> {
    let hour = StepGrid { start_ms: 0, end_ms: 3_600_000, step_ms: 15_000 };
    let at = StepGrid::instant(300_000);
    let eternity = StepGrid { start_ms: i64::MIN / 2, end_ms: i64::MAX / 2, step_ms: 1 };
    vec![
        ("parentheses", mebibyte("", "(", ""), hour),
        ("parentheses, closed", mebibyte("", "(", &format!("x{}", ")".repeat(1000))), hour),
        ("unary chain", mebibyte("", "-", "x"), hour),
        ("binary chain", mebibyte("x", " + x", ""), hour),
        ("chain of powers", mebibyte("x", " ^ x", ""), hour),
        ("chain with matching", mebibyte("x", " == on (a) group_left (b) x", ""), hour),
        ("nested calls", mebibyte("", "abs(", ""), hour),
        ("nested aggregations", mebibyte("", "sum by (a) (", ""), hour),
        ("nested subqueries", mebibyte("x", "[5m:1s]", ""), hour),
        ("nested duration expressions", mebibyte("x[", "-(", "1m]"), hour),
        ("a range of 1e20", "foo[1e20]".into(), hour),
        ("an offset beyond time", "foo offset 1e300".into(), hour),
        ("an open string", mebibyte("{a=\"", "\\\\", ""), hour),
        ("alternatives that repeat", mebibyte("x{a=~\"", "(a*)*", "b\"}"), hour),
        ("groups in groups", mebibyte("x{a=~\"", "(", "\"}"), hour),
        ("a counted repeat of repeats", "x{a=~\"((a{1000}){1000}){1000}\"}".into(), hour),
        ("many counted repeats", format!("x{{a=~\"{}\"}}", "a{1000}".repeat(9_000)), hour),
        ("a million steps by another", "sum_over_time(x[10y:1ms])".into(), at),
        ("subqueries in subqueries", "max_over_time(rate(x[1y:1s])[1y:1s])".into(), at),
        ("five of them", format!("{}x{}", "max_over_time(".repeat(5), "[1h:1s])".repeat(5)), hour),
        ("steps without an end", "x".into(), eternity),
        ("a scalar at all of them", "time()".into(), eternity),
        ("series without an end", "x".into(), hour),
        ("a sum of them", "sum(rate(x[1m]))".into(), hour),
        ("a join of them", "x * on (i) group_left x".into(), hour),
    ]
}

/// The most memory this process ever had, in bytes; 0 where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

fn main() {
    let engine = Engine::new(&EngineConfig { workers: 2, ..EngineConfig::default() }).unwrap();
    // As small as a process for many users would have them.
    let limits =
        Limits { series: 20_000, samples: 10_000_000, memory_bytes: 64 << 20, ..Limits::default() };
    let source = endless();
    let (before, mut longest) = (peak_memory(), Duration::ZERO);
    for (name, query, grid) in hostile() {
        let (began, used) = (Instant::now(), cpu());
        let outcome = match parse(&query) {
            Err(e) => Err(e.to_string()),
            Ok(expr) => {
                let spec = QuerySpec { limits: limits.clone(), ..QuerySpec::range(expr, "", grid) };
                let done = engine.execute(&spec, &source, &Leaves::new(), &Cancel::new());
                done.map(|_| ()).map_err(|e| e.to_string())
            }
        };
        let (wall, took) = (began.elapsed(), cpu().saturating_sub(used));
        longest = longest.max(took);
        let error = outcome.expect_err(name);
        let error: String = error.chars().take(90).collect();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        println!("{:8.2} ms, {:8.2} CPU ms  {name}: {error}", ms(wall), ms(took));
        assert_eq!(engine.bytes_in_use(), 0, "{name} keeps memory");
    }
    let grown = peak_memory().saturating_sub(before);
    println!(
        "the longest took {:.1} CPU ms ({} {} ms), memory grew by {} MiB",
        longest.as_secs_f64() * 1e3,
        if longest <= TIME_MAX { "within" } else { "BEYOND" },
        TIME_MAX.as_millis(),
        grown >> 20
    );
    assert!(grown < GROWTH_MAX, "memory grew by {} MiB", grown >> 20);
}
