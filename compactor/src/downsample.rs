//! Samples at 5 m and 1 h: count, sum, min, max and counter of each interval, as Thanos defines them.
//!
//! [`raw`] makes them from the samples of one series and day, [`coarser`] 1 h from 5 m, [`adopt`] reads
//! Thanos's own aggregate chunks. An interval is said to end a millisecond before the next one begins,
//! the last one of a run of floats or of histograms at the run's last sample. Stale markers and other
//! NaNs belong to no interval.
//!
//! Where this differs from Thanos on purpose: infinite values are minima and maxima like others, and
//! a histogram is compared with the one before it as that was, not as it was brought to a coarser
//! resolution, which would look like a reset.

pub mod adopt;
mod histogram;

use std::sync::Arc;

use periplus_block::chunk::ChunkSamples;
use periplus_columnar::{AggregateHistogram, AggregateSamples, Resolution};

use histogram::HistogramRun;

/// The last millisecond of the interval that holds `t`.
fn interval_end(t: i64, resolution_ms: i64) -> i64 {
    t - t.rem_euclid(resolution_ms) + (resolution_ms - 1)
}

/// What became of floats in one interval.
#[derive(Clone, Copy, Debug)]
struct Interval {
    ts: i64,
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
    counter: f64,
}

impl Interval {
    fn push_to(self, out: &mut AggregateSamples) {
        out.ts.push(self.ts);
        out.count.push(self.count);
        out.sum.push(self.sum);
        out.min.push(self.min);
        out.max.push(self.max);
        out.counter.push(self.counter);
    }
}

/// A counter with its resets added up.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    /// The value before, as it was, and the total.
    last: Option<(f64, f64)>,
}

impl Counter {
    fn add(&mut self, v: f64) -> f64 {
        let total = match self.last {
            None => v,
            Some((before, total)) if v < before => total + v,
            Some((before, total)) => total + (v - before),
        };
        self.last = Some((v, total));
        total
    }
}

/// Aggregates of one series' raw samples, which are in order of time and lie in one day.
#[must_use]
pub fn raw(samples: &ChunkSamples, resolution: Resolution) -> AggregateSamples {
    let (mut out, mut counter) = (AggregateSamples::default(), Counter::default());
    let mut histograms = HistogramRun::new(samples);
    let mut floats: Vec<(i64, f64)> = Vec::new();
    let mut rest = samples.histograms.iter().peekable();
    for (i, (&t, &v)) in samples.ts.iter().zip(&samples.values).enumerate() {
        let histogram = rest.next_if(|(at, _)| *at as usize == i).map(|(_, h)| h);
        // A histogram's sum stands among the values.
        if v.is_nan() {
            continue;
        }
        match histogram {
            Some(h) => {
                float_run(&mut floats, resolution, &mut counter, &mut out);
                histograms.add(t, h.to_float(), resolution, &mut out.histograms);
            }
            None => {
                histograms.end(&mut out.histograms);
                floats.push((t, v));
            }
        }
    }
    float_run(&mut floats, resolution, &mut counter, &mut out);
    histograms.end(&mut out.histograms);
    [out.histogram_first, out.histogram_last] = histograms.ends();
    out
}

/// Ends a run of floats.
fn float_run(
    run: &mut Vec<(i64, f64)>,
    resolution: Resolution,
    counter: &mut Counter,
    out: &mut AggregateSamples,
) {
    let Some(&(last_t, last_v)) = run.last() else { return };
    let mut open: Option<(i64, Interval)> = None;
    for (t, v) in run.drain(..) {
        out.counter_first.get_or_insert((t, v));
        let counter = counter.add(v);
        match &mut open {
            Some((end, it)) if t <= *end => {
                it.count += 1.0;
                it.sum += v;
                it.min = if v < it.min { v } else { it.min };
                it.max = if v > it.max { v } else { it.max };
                it.counter = counter;
            }
            _ => {
                if let Some((_, done)) = open.take() {
                    done.push_to(out);
                }
                let end = interval_end(t, resolution.ms());
                // Thanos starts a sum from 0, which makes -0 to 0.
                let (count, sum, ts) = (1.0, 0.0 + v, end.min(last_t));
                open = Some((end, Interval { ts, count, sum, min: v, max: v, counter }));
            }
        }
    }
    if let Some((_, done)) = open {
        done.push_to(out);
    }
    out.counter_last = Some(last_v);
}

/// Aggregates of a coarser resolution from finer ones of the same series and day.
#[must_use]
pub fn coarser(from: &AggregateSamples, resolution: Resolution) -> AggregateSamples {
    let mut out = AggregateSamples {
        counter_first: from.counter_first,
        counter_last: from.counter_last,
        histogram_first: from.histogram_first.clone(),
        histogram_last: from.histogram_last.clone(),
        ..AggregateSamples::default()
    };
    let groups = intervals(from.ts.iter().copied(), resolution);
    out.ts = groups.iter().map(|(ts, _)| *ts).collect();
    let fold = |column: &[f64], with: fn(f64, f64) -> f64| -> Vec<f64> {
        let values = groups.iter().map(|(_, rows)| column.get(rows.clone()).unwrap_or_default());
        let values = values.filter_map(|v| v.iter().copied().reduce(with));
        values.collect()
    };
    out.count = fold(&from.count, |a, b| a + b);
    out.sum = fold(&from.sum, |a, b| a + b);
    out.min = fold(&from.min, |a, b| if b < a || a.is_nan() { b } else { a });
    out.max = fold(&from.max, |a, b| if b > a || a.is_nan() { b } else { a });
    out.counter = fold(&from.counter, |a, b| if b.is_nan() { a } else { b });
    for (ts, rows) in intervals(from.histograms.iter().map(|h| h.ts), resolution) {
        let rows = from.histograms.get(rows).unwrap_or_default();
        out.histograms.push(AggregateHistogram {
            ts,
            observations: rows.iter().map(|h| h.observations).sum(),
            sum: histogram::sum(rows.iter().filter_map(|h| h.sum.as_ref())).map(Arc::new),
            counter: rows.iter().rev().find_map(|h| h.counter.clone()),
        });
    }
    out
}

/// Cuts ascending times into intervals: their ends, and the indices in each.
fn intervals(
    times: impl Iterator<Item = i64>,
    resolution: Resolution,
) -> Vec<(i64, std::ops::Range<usize>)> {
    let (mut out, mut last) = (Vec::<(i64, std::ops::Range<usize>)>::new(), i64::MIN);
    for (i, t) in times.enumerate() {
        last = t;
        match out.last_mut() {
            Some((end, rows)) if t <= *end => rows.end = i + 1,
            _ => out.push((interval_end(t, resolution.ms()), i..i + 1)),
        }
    }
    if let Some((end, _)) = out.last_mut() {
        *end = last.min(*end);
    }
    out
}

#[cfg(test)]
mod tests;
