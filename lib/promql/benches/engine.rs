//! How many samples a second the engine takes in from compressed chunks in memory:
//! `cargo bench -p periplus-promql --bench engine [-- SERIES HOURS]`.
//!
//! Every query runs with one worker and with two, over the same chunks; decoding alone is measured in
//! the same run, so that figures can be compared on a machine that is busy with other things.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark says what it finds")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_block::chunk::{ChunkEncoding, XorEncoder, decode_samples};
use periplus_model::{Labels, SampleBuffer, TimeRange};
use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse::parse;
use periplus_promql::source::{
    EncodedSeries, SelectRequest, SeriesEntry, SeriesStream, Source, SourceError,
};
use periplus_promql::value::{StepGrid, Value};

const SCRAPE_MS: i64 = 30_000;
const PER_CHUNK: usize = 120;

/// A series as the head of a Prometheus holds it: XOR chunks of 120 samples.
struct Chunks {
    chunks: Vec<(TimeRange, Vec<u8>)>,
}

impl EncodedSeries for Chunks {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        for (covers, payload) in self.chunks.iter().filter(|(r, _)| r.overlaps(&range)) {
            let within = covers.intersect(&range);
            decode_samples(ChunkEncoding::Xor, payload, within, out)
                .map_err(|e| SourceError::Corrupt(e.to_string()))?;
        }
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.chunks.iter().map(|(_, c)| c.len()).sum()
    }
}

struct Memory(Vec<SeriesEntry>);

struct Stream(std::vec::IntoIter<SeriesEntry>);

impl SeriesStream for Stream {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        let block: Vec<SeriesEntry> = self.0.by_ref().take(512).collect();
        Ok((!block.is_empty()).then_some(block))
    }
}

impl Source for Memory {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let all: Vec<SeriesEntry> = self
            .0
            .iter()
            .filter(|e| request.matchers.iter().all(|m| m.matches(e.labels.value(&m.name))))
            .cloned()
            .collect();
        Ok(Box::new(Stream(all.into_iter())))
    }
}

/// Counters that go up by a few at each scrape and now and then begin anew.
fn series(id: usize, samples: usize) -> SeriesEntry {
    let mut state = id as u64 * 0x9e37_79b9_7f4a_7c15 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut v, mut t) = (0.0, (next() % 30_000) as i64);
    let mut chunks = Vec::new();
    let mut encoder = XorEncoder::new();
    let (mut first, mut n) = (t, 0);
    for i in 0..samples {
        if next() % 20_000 == 0 {
            v = 0.0;
        }
        v += (next() % 50) as f64 + if id.is_multiple_of(3) { 0.25 } else { 0.0 };
        encoder.append(t, v).unwrap();
        n += 1;
        if n == PER_CHUNK || i + 1 == samples {
            let done = std::mem::take(&mut encoder);
            chunks.push((TimeRange::new(first, t), done.finish()));
            n = 0;
            first = t + SCRAPE_MS;
        }
        t += SCRAPE_MS;
    }
    let labels = Labels::from_pairs([
        ("__name__".to_owned(), "http_requests_total".to_owned()),
        ("cluster".to_owned(), format!("c{}", id % 10)),
        ("instance".to_owned(), format!("10.0.{}.{}:9100", id / 256, id % 256)),
        ("job".to_owned(), "api".to_owned()),
        ("pod".to_owned(), format!("api-{id:05}")),
    ]);
    SeriesEntry { labels, samples: Arc::new(Chunks { chunks }) }
}

/// CPU time of this process: what a machine that is busy with other things does not distort.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// The shortest of several runs in CPU time, with its time by the clock.
fn best_of<T>(times: usize, mut f: impl FnMut() -> T) -> (Duration, T, Duration) {
    let mut best: Option<(Duration, T, Duration)> = None;
    for _ in 0..times {
        let (began, used) = (Instant::now(), cpu());
        let out = f();
        let (took, wall) = (cpu() - used, began.elapsed());
        if best.as_ref().is_none_or(|(t, ..)| took < *t) {
            best = Some((took, out, wall));
        }
    }
    best.unwrap()
}

fn main() {
    let args: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let count = args.first().copied().unwrap_or(10_000);
    let hours = args.get(1).copied().unwrap_or(24);
    let per_series = hours * 120;
    let source = Memory((0..count).map(|id| series(id, per_series)).collect());
    let total = (count * per_series) as f64;
    let bytes: usize = source.0.iter().map(|e| e.samples.encoded_bytes()).sum();
    println!("{count} series, {hours} h, {:.2} bytes a sample", bytes as f64 / total);
    let (decode, ..) = best_of(3, || {
        let mut buf = SampleBuffer::new();
        for e in &source.0 {
            buf.clear();
            e.samples.decode(TimeRange::ALL, &mut buf).unwrap();
            std::hint::black_box(&buf);
        }
    });
    println!("decode alone: {:.1} M samples/CPU s", total / decode.as_secs_f64() / 1e6);
    let grid = StepGrid { start_ms: 5 * 60_000, end_ms: hours as i64 * 3_600_000, step_ms: 60_000 };
    let engines: Vec<Engine> = [1, 2]
        .map(|workers| Engine::new(&EngineConfig { workers, ..EngineConfig::default() }).unwrap())
        .into();
    for query in [
        "sum by (cluster) (rate(http_requests_total[5m]))",
        "topk(10, rate(http_requests_total[5m]))",
        "topk by (cluster) (10, sum by (cluster, pod) (rate(http_requests_total[5m])))",
        "avg by (cluster) (avg_over_time(http_requests_total[5m]))",
        "max by (cluster) (max_over_time(http_requests_total[5m]))",
        "sum by (cluster) (http_requests_total)",
        "count(http_requests_total > 1000)",
        "quantile by (cluster) (0.9, rate(http_requests_total[5m]))",
        "sum(rate(http_requests_total[5m]) / rate(http_requests_total[10m]))",
        "max_over_time(sum(rate(http_requests_total[5m]))[1h:5m])",
    ] {
        let expr = parse(query).unwrap();
        let mut line = String::new();
        let mut one = None;
        for engine in &engines {
            let spec = QuerySpec::range(expr.clone(), query, grid);
            let (took, result, wall) = best_of(3, || {
                engine.execute(&spec, &source, &Leaves::new(), &Cancel::new()).unwrap()
            });
            let Value::Vector(m) = &result.value else { panic!("not a vector") };
            let per_core = total / took.as_secs_f64() / 1e6;
            let per_second = total / wall.as_secs_f64() / 1e6;
            let ratio = one.map_or(1.0, |o: f64| per_second / o);
            one.get_or_insert(per_second);
            line.push_str(&format!(
                "  {} worker(s): {per_core:6.1} M samples/CPU s, {per_second:6.1} M/s ({ratio:.2}x, \
                 peak {} MiB, {} series)",
                engine.workers(),
                result.stats.peak_bytes >> 20,
                m.series.len()
            ));
        }
        println!("{query}\n{line}");
    }
}
