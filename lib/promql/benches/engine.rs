//! How many samples a second the engine takes in from compressed chunks in memory:
//! `cargo bench -p periplus-promql --bench engine [-- SERIES HOURS QUERY...]` (queries that contain one
//! of the texts; there are a twentieth as many native histograms as other series).
//!
//! Every query runs with one worker and with two, over the same chunks; decoding alone is measured in
//! the same run, so that figures can be compared on a machine that is busy with other things.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark says what it finds")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_block::chunk::{
    ChunkEncoding, ChunkSamples, HistogramValue, XorEncoder, decode_samples, encode,
};
use periplus_model::{Histogram, Labels, SampleBuffer, Span, TimeRange};
use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse::parse;
use periplus_promql::source::{
    EncodedSeries, SelectRequest, SeriesEntry, SeriesStream, Source, SourceError,
};
use periplus_promql::value::{StepGrid, Value};

const SCRAPE_MS: i64 = 30_000;
const PER_CHUNK: usize = 120;

/// A series as the head of a Prometheus holds it: chunks of 120 samples.
struct Chunks {
    encoding: ChunkEncoding,
    chunks: Vec<(TimeRange, Vec<u8>)>,
}

impl EncodedSeries for Chunks {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        for (covers, payload) in self.chunks.iter().filter(|(r, _)| r.overlaps(&range)) {
            let within = covers.intersect(&range);
            decode_samples(self.encoding, payload, within, out)
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
    SeriesEntry { labels, samples: Arc::new(Chunks { encoding: ChunkEncoding::Xor, chunks }) }
}

/// Latencies as native histograms: a few observations at each scrape, around a median that is the
/// series' own, in buckets that once filled stay.
fn histograms(id: usize, samples: usize) -> SeriesEntry {
    let mut state = id as u64 * 0x9e37_79b9_7f4a_7c15 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (first, mut counts, mut sum) = (-60 - (id % 7) as i32, [0i64; 48], 0.0);
    let mut all = ChunkSamples::new();
    for i in 0..samples {
        for _ in 0..next() % 12 {
            // The sum of several is about normal.
            let bucket = (0..6).map(|_| next() % 9).sum::<u64>() as usize;
            counts[bucket.min(47)] += 1;
            sum += 2f64.powf(f64::from(first + bucket as i32) / 8.0);
        }
        let mut h = Histogram { schema: 3, zero_threshold: 1e-9, sum, ..Histogram::default() };
        h.count = counts.iter().sum::<i64>().unsigned_abs();
        let (mut end, mut before) = (0, 0);
        for (at, n) in (first..).zip(counts).filter(|(_, n)| *n > 0) {
            match h.positive_spans.last_mut() {
                Some(span) if at == end => span.length += 1,
                _ => h.positive_spans.push(Span { offset: at - end, length: 1 }),
            }
            h.positive_buckets.push(n - before);
            (end, before) = (at + 1, n);
        }
        let t = i as i64 * SCRAPE_MS + (id as i64 * 7919) % SCRAPE_MS;
        all.push_histogram(t, HistogramValue::Integer(h), 0);
    }
    let chunks = encode(&all).unwrap().into_iter().map(|c| (c.range, c.payload)).collect();
    let labels = Labels::from_pairs([
        ("__name__".to_owned(), "rpc_duration_seconds".to_owned()),
        ("cluster".to_owned(), format!("c{}", id % 10)),
        ("pod".to_owned(), format!("api-{id:05}")),
    ]);
    SeriesEntry { labels, samples: Arc::new(Chunks { encoding: ChunkEncoding::Histogram, chunks }) }
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

/// What is asked of the counters, and of the native histograms.
const FLOATS: [&str; 10] = [
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
];
const HISTOGRAMS: [&str; 4] = [
    "histogram_quantile(0.99, sum by (cluster) (rate(rpc_duration_seconds[5m])))",
    "histogram_fraction(0, 0.1, sum by (cluster) (rate(rpc_duration_seconds[5m])))",
    "sum by (cluster) (histogram_count(rate(rpc_duration_seconds[5m])))",
    "histogram_quantile(0.99, rate(rpc_duration_seconds[5m]))",
];

fn main() {
    let args: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let count = args.first().copied().unwrap_or(10_000);
    let hours = args.get(1).copied().unwrap_or(24);
    let only: Vec<String> = std::env::args().skip(1).filter(|a| a.contains('(')).collect();
    let make: [fn(usize, usize) -> SeriesEntry; 2] = [series, histograms];
    for (make, count, queries) in
        [(make[0], count, &FLOATS[..]), (make[1], count.div_ceil(20), &HISTOGRAMS[..])]
    {
        let wanted = |q: &&&str| only.is_empty() || only.iter().any(|o| q.contains(o));
        let queries: Vec<&str> = queries.iter().filter(wanted).copied().collect();
        if !queries.is_empty() {
            let source = Memory((0..count).map(|id| make(id, hours * 120)).collect());
            measure(&source, count, hours, &queries);
        }
    }
}

fn measure(source: &Memory, count: usize, hours: usize, queries: &[&str]) {
    let per_series = hours * 120;
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
    for query in queries.iter().copied() {
        let expr = parse(query).unwrap();
        let mut line = String::new();
        let mut one = None;
        for engine in &engines {
            let spec = QuerySpec::range(expr.clone(), query, grid);
            let (took, result, wall) = best_of(3, || {
                engine.execute(&spec, source, &Leaves::new(), &Cancel::new()).unwrap()
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
