//! Two hours of every kind of series, as one block.

use std::path::Path;
use std::sync::Arc;

use periplus_block::chunk::{ChunkSamples, HistogramValue, decode_samples, encode};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_model::{
    CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Labels, METRIC_NAME, SampleBuffer, Span,
    TimeRange, stale_nan,
};
use periplus_promql::source::SeriesEntry;

use super::super::data::Dice;
use super::engine::Store;

/// On a border of two hours, where blocks begin.
pub(crate) const FROM_MS: i64 = 1_700_006_400_000;
pub(crate) const UNTIL_MS: i64 = FROM_MS + 7_200_000;

/// The metrics of floats; the generator asks for `h.+` where it names none.
pub(crate) const FLOAT_METRICS: &[&str] = &["h_gauge", "h_total", "h_sparse", "odd"];

/// All metrics.
pub(crate) const METRICS: &[&str] = &[
    "h_gauge", "h_total", "h_sparse", "odd", "h_bucket", "h_native", "h_native", "h_gauges",
    "h_custom", "mixed",
];

const STEP_MS: i64 = 20_000;

/// Writes the block into `dir` and gives what it holds.
pub(crate) fn block(dir: &Path, native: bool) -> Store {
    std::fs::create_dir_all(dir).expect("a directory");
    let mut all = floats();
    if native {
        all.extend(histograms());
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let ulid = ulid::Ulid::from_parts(FROM_MS as u64, 1);
    let mut writer = BlockWriter::create(dir, ulid).expect("a new block");
    let entries = all.into_iter().map(|(labels, samples)| {
        let chunks = encode(&samples).expect("samples in order");
        writer.add(&labels, &chunks).expect("series in order");
        // Read back, as a chunk knows less of resets than what was put into it.
        let mut out = SampleBuffer::new();
        for c in &chunks {
            decode_samples(c.encoding, &c.payload, TimeRange::ALL, &mut out)
                .expect("our own bytes");
        }
        SeriesEntry { labels, samples: Arc::new(out) }
    });
    let store = Store(entries.collect());
    writer.finish(BlockInfo::default()).expect("a block");
    store
}

fn labels(name: &str, job: &str, pod: usize, more: &[(&str, &str)]) -> Labels {
    let pod = format!("a-{pod}");
    let own = [(METRIC_NAME, name), ("job", job), ("pod", &pod)];
    Labels::from_pairs(own.iter().chain(more).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
}

/// The times of a series: none at a whole or half second, and a gap now and then.
fn times(dice: &mut Dice, missing: f64) -> Vec<i64> {
    let offset = 37 + dice.below(400) as i64;
    let mut all: Vec<i64> = (0..(UNTIL_MS - FROM_MS) / STEP_MS)
        .map(|i| FROM_MS + offset + i * STEP_MS)
        .filter(|_| !dice.chance(missing))
        .collect();
    if dice.chance(0.4) {
        let (from, len) = (dice.below(all.len()), dice.below(60));
        all.drain(from..(from + len).min(all.len()));
    }
    all
}

fn floats() -> Vec<(Labels, ChunkSamples)> {
    let mut dice = Dice(3);
    let mut all = Vec::new();
    for (i, zone) in ["x", "y"].iter().enumerate() {
        for (j, job) in ["api", "db"].iter().enumerate() {
            for pod in 0..3 {
                let id = (6 * i + 3 * j + pod) as f64;
                let zone = &[("zone", *zone)][..];
                let mut gauge = ChunkSamples::new();
                for t in times(&mut dice, 0.02) {
                    // The fraction tells the series apart at any time.
                    gauge.push(t, dice.below(40) as f64 - 12.0 + id / 16.0, 0);
                }
                all.push((labels("h_gauge", job, pod, zone), gauge));
                let (mut total, mut v) = (ChunkSamples::new(), 0.0);
                for t in times(&mut dice, 0.02) {
                    v = if dice.chance(0.01) { 0.0 } else { v + dice.below(9) as f64 };
                    total.push(t, v, 0);
                }
                all.push((labels("h_total", job, pod, zone), total));
                if pod < 2 {
                    all.push((labels("h_sparse", job, pod, zone), sparse(&mut dice)));
                }
                if pod == 0 {
                    all.push((labels("odd", job, pod, zone), odd(&mut dice)));
                }
            }
        }
    }
    all
}

/// Comes and goes, with and without a marker.
fn sparse(dice: &mut Dice) -> ChunkSamples {
    let (mut out, mut there) = (ChunkSamples::new(), true);
    for t in times(dice, 0.0) {
        let before = there;
        there = if there { !dice.chance(0.03) } else { dice.chance(0.06) };
        if there {
            out.push(t, dice.below(4) as f64, 0);
        } else if before && dice.chance(0.7) {
            out.push(t, stale_nan(), 0);
        }
    }
    out
}

/// What no exporter should send.
fn odd(dice: &mut Dice) -> ChunkSamples {
    const ODD: [f64; 8] =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, -1e-300, 7.0];
    let mut out = ChunkSamples::new();
    for t in times(dice, 0.3) {
        out.push(t, if dice.chance(0.3) { *dice.pick(&ODD) } else { dice.below(3) as f64 }, 0);
    }
    out
}

fn histograms() -> Vec<(Labels, ChunkSamples)> {
    let mut dice = Dice(5);
    let mut all = Vec::new();
    for job in ["api", "db"] {
        let ts = times(&mut dice, 0.02);
        let bounds = ["0.1", "0.5", "1", "2.5", "+Inf"];
        let mut counts = [0.0; 5];
        let mut buckets = vec![ChunkSamples::new(); 5];
        for t in ts {
            let from = dice.below(5);
            counts.iter_mut().skip(from).for_each(|c| *c += 2.0);
            buckets.iter_mut().zip(counts).for_each(|(b, c)| b.push(t, c, 0));
        }
        for (bound, samples) in bounds.iter().zip(buckets) {
            all.push((labels("h_bucket", job, 0, &[("le", *bound)]), samples));
        }
        for pod in 0..3 {
            let (integer, schema) = (pod > 0, if pod == 2 { 1 } else { 2 });
            all.push((
                labels("h_native", job, pod, &[]),
                exponential(&mut dice, schema, integer, false),
            ));
        }
        all.push((labels("h_gauges", job, 0, &[]), exponential(&mut dice, 0, false, true)));
        for pod in 0..2 {
            all.push((labels("h_custom", job, pod, &[]), custom(&mut dice, pod)));
        }
        all.push((labels("mixed", job, 0, &[]), mixed(&mut dice)));
    }
    all
}

/// Counts that rise and begin anew, of a few buckets with a gap between them.
fn exponential(dice: &mut Dice, schema: i32, integer: bool, gauge: bool) -> ChunkSamples {
    let mut out = ChunkSamples::new();
    let mut counts = [0i64; 6];
    let (mut zero, mut sum) = (0u64, 0.0);
    for t in times(dice, 0.03) {
        if dice.chance(0.012) {
            (counts, zero, sum) = ([0; 6], 0, 0.0);
        }
        for (i, c) in counts.iter_mut().enumerate() {
            let more = dice.below(4) as i64 - i64::from(gauge);
            *c = (*c + more).max(0);
            sum += more as f64 * (i as f64 - 1.5);
        }
        zero += dice.below(2) as u64;
        if dice.chance(0.01) {
            let stale = FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() };
            let stale = match integer {
                true => {
                    HistogramValue::Integer(Histogram { sum: stale_nan(), ..Histogram::default() })
                }
                false => HistogramValue::Float(stale),
            };
            out.push_histogram(t, stale, 0);
            continue;
        }
        let deltas = |c: &[i64]| {
            let before = std::iter::once(&0).chain(c);
            c.iter().zip(before).map(|(c, b)| c - b).collect::<Vec<i64>>()
        };
        let h = Histogram {
            counter_reset_hint: match gauge {
                true => periplus_model::CounterResetHint::Gauge,
                false => periplus_model::CounterResetHint::Unknown,
            },
            schema,
            zero_threshold: 0.001,
            zero_count: zero,
            count: zero + counts.iter().sum::<i64>() as u64,
            sum,
            positive_spans: vec![Span { offset: -1, length: 2 }, Span { offset: 1, length: 2 }],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: deltas(&counts[..4]),
            negative_buckets: deltas(&counts[4..]),
            ..Histogram::default()
        };
        let value = match integer {
            true => HistogramValue::Integer(h),
            false => HistogramValue::Float(h.into_float()),
        };
        out.push_histogram(t, value, 0);
    }
    out
}

/// Buckets with bounds of their own, which differ between pods.
fn custom(dice: &mut Dice, pod: usize) -> ChunkSamples {
    let bounds = if pod == 0 { vec![0.5, 1.0, 5.0] } else { vec![1.0, 2.0, 5.0] };
    let mut out = ChunkSamples::new();
    let (mut counts, mut sum) = ([0.0f64; 4], 0.0);
    for t in times(dice, 0.03) {
        for c in &mut counts {
            let more = dice.below(3) as f64;
            *c += more;
            sum += more;
        }
        if dice.chance(0.01) {
            (counts, sum) = ([0.0; 4], 0.0);
        }
        let h = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: counts.iter().sum(),
            sum,
            positive_spans: vec![Span { offset: 0, length: 4 }],
            positive_buckets: counts.to_vec(),
            custom_values: bounds.clone(),
            ..FloatHistogram::default()
        };
        out.push_histogram(t, HistogramValue::Float(h), 0);
    }
    out
}

/// Floats for a while, then histograms, and so on.
fn mixed(dice: &mut Dice) -> ChunkSamples {
    let (as_histograms, mut out) = (exponential(dice, 2, false, false), ChunkSamples::new());
    let mut float = false;
    for (i, h) in &as_histograms.histograms {
        let t = as_histograms.ts[*i as usize];
        float ^= dice.chance(0.05);
        match float {
            true => out.push(t, dice.below(20) as f64, 0),
            false => out.push_histogram(t, h.clone(), 0),
        }
    }
    out
}
