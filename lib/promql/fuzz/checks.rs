//! What must hold for any bytes at all. The fuzz targets beside this file look for bytes for which it
//! does not, and `tests/fuzz.rs` does the same for a bounded time with a stable compiler.

use std::sync::{Arc, LazyLock};

use periplus_model::{
    CounterResetHint, FloatHistogram, Labels, METRIC_NAME, SampleBuffer, Span, re2, stale_nan,
};
use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::{Cancel, Limits};
use periplus_promql::parse::{golden, parse, parse_metric, parse_metric_selector};
use periplus_promql::script;
use periplus_promql::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};
use periplus_promql::value::{StepGrid, StepMatrix, Value};

/// Any text: no panic; what is accepted prints as something that is accepted and prints the same.
pub(crate) fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        let _ = re2::check(data);
        return;
    };
    let _ = parse_metric(text);
    let _ = parse_metric_selector(text);
    if let Ok(pattern) = re2::translate(text) {
        assert!(pattern.len() <= 64 * (text.len() + 1), "{text:?}");
    }
    let Ok(accepted) = golden::answer(text).outcome else { return };
    // Infinity is printed with a sign, and a NaN offset and parts of a millisecond as they are in
    // Prometheus: not as something that reads back.
    let odd = ["+Inf", "offset -106751d", "[0s", ":0s"];
    if odd.iter().any(|odd| accepted.str.contains(odd)) {
        return;
    }
    let again = match parse(&accepted.str) {
        Ok(tree) => tree,
        // Printing adds spaces and resolves escapes; the text may have become too long.
        Err(e) if e.message.contains("longer than the limit") => return,
        Err(e) => panic!("{text:?} printed as {:?}: {e}", accepted.str),
    };
    assert_eq!(again.to_string(), accepted.str, "{text:?}");
}

/// Any text as a test script: no panic, and errors name a line.
pub(crate) fn script(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(e) = script::parse(&text) {
        assert!(!e.to_string().is_empty());
    }
}

/// Any query, evaluated at an instant and over a range: a result of the right shape or an error, all
/// memory given back, within limits that a small query never meets.
pub(crate) fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(expr) = parse(text) else { return };
    let grid = StepGrid { start_ms: 400_000, end_ms: 1_300_000, step_ms: 45_000 };
    let limits = Limits {
        samples: 2_000_000,
        series: 1_000,
        memory_bytes: 64 << 20,
        output_points: 500_000,
        subquery_steps: 20_000,
        ..Limits::default()
    };
    let mut spec = QuerySpec { limits, ..QuerySpec::range(expr, text, grid) };
    for instant in [false, true] {
        if instant {
            (spec.grid, spec.instant) = (StepGrid::instant(900_000), true);
        }
        let result = ENGINE.execute(&spec, &*STORE, &Leaves::new(), &Cancel::new());
        assert_eq!(ENGINE.bytes_in_use(), 0, "{text:?} keeps memory");
        match result.map(|r| r.value) {
            Ok(Value::Vector(m)) => check(text, &m, spec.grid),
            Ok(Value::Scalar { grid, values }) => {
                assert_eq!(values.len(), grid.steps(), "{text:?}")
            }
            Ok(Value::Range(series)) => {
                for (_, samples) in series {
                    assert_eq!(samples.ts.len(), samples.values.len(), "{text:?}");
                    assert!(samples.ts.windows(2).all(|w| w[0] < w[1]), "{text:?}");
                }
            }
            Ok(Value::String(_)) => {}
            Err(e) => assert!(!e.to_string().contains("internal"), "{text:?}: {e}"),
        }
    }
}

fn check(text: &str, m: &StepMatrix, grid: StepGrid) {
    let steps = grid.steps();
    for s in &m.series {
        assert_eq!((s.values.len(), s.present.len()), (steps, steps), "{text:?}");
        assert!(s.present.any(), "{text:?} gives a series without samples");
        assert!(s.histograms.windows(2).all(|w| w[0].0 < w[1].0), "{text:?}");
        assert!(s.histograms.iter().all(|(i, _)| s.present.get(*i as usize)), "{text:?}");
    }
    let mut labels: Vec<_> = m.series.iter().map(|s| &s.labels).collect();
    labels.sort();
    labels.dedup();
    assert_eq!(labels.len(), m.series.len(), "{text:?} gives a series twice");
}

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).expect("an engine")
});

/// A few series under the names and labels that the query generator uses by itself.
static STORE: LazyLock<Store> = LazyLock::new(store);

struct Store(Vec<SeriesEntry>);

struct Once(Option<Vec<SeriesEntry>>);

impl SeriesStream for Once {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        Ok(self.0.take().filter(|all| !all.is_empty()))
    }
}

impl Source for Store {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let fits =
            |e: &&SeriesEntry| request.matchers.iter().all(|m| m.matches(e.labels.value(&m.name)));
        Ok(Box::new(Once(Some(self.0.iter().filter(fits).cloned().collect()))))
    }
}

fn store() -> Store {
    const ODD: [f64; 6] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e308, 5e-324];
    let mut all = Vec::new();
    for (n, name) in ["up", "http_requests_total", "sum"].iter().enumerate() {
        for (p, pod) in ["a-0", "a-1"].iter().enumerate() {
            for le in ["", "0.5", "+Inf"] {
                let labels = [(METRIC_NAME, *name), ("job", "api"), ("pod", *pod), ("le", le)];
                let mut samples = SampleBuffer::new();
                for i in 0..60i64 {
                    let t = i * 20_000 + (n + p) as i64 * 7;
                    match (i * 31 + n as i64 * 7 + p as i64) % 23 {
                        0 => samples.push(t, stale_nan()),
                        1 => samples.push(t, ODD[(i % 6) as usize]),
                        2 => continue,
                        3..=6 if n == 2 && le.is_empty() => {
                            samples.push_histogram(t, Arc::new(histogram(i)));
                        }
                        _ if n == 1 && le.is_empty() => {
                            samples.push_histogram(t, Arc::new(histogram(i)));
                        }
                        v => samples.push(t, v as f64),
                    }
                }
                all.push(SeriesEntry {
                    labels: Labels::from_pairs(labels),
                    samples: Arc::new(samples),
                });
            }
        }
    }
    Store(all)
}

/// One of each kind: exponential, with custom bounds, a gauge, a malformed one.
fn histogram(i: i64) -> FloatHistogram {
    let plain = FloatHistogram {
        schema: 2,
        zero_threshold: 0.01,
        zero_count: i as f64,
        count: 4.0 * i as f64,
        sum: 1.5 * i as f64,
        positive_spans: vec![Span { offset: -1, length: 2 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![i as f64; 3],
        ..FloatHistogram::default()
    };
    match i % 7 {
        0 => FloatHistogram {
            schema: periplus_model::CUSTOM_BUCKETS_SCHEMA,
            custom_values: vec![1.0, 2.0],
            zero_count: 0.0,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            ..plain
        },
        1 => FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, schema: 0, ..plain },
        2 => FloatHistogram { positive_spans: vec![Span { offset: i32::MAX, length: 9 }], ..plain },
        _ => plain,
    }
}
