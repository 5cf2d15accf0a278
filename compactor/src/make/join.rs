//! One run of samples from several that may overlap.

use periplus_block::chunk::ChunkSamples;
use periplus_columnar::AggregateSamples;

use super::input::Samples;
use crate::downsample::adopt::Adopted;

/// All of them as one.
#[must_use]
pub fn all(mut runs: Vec<Samples>) -> Samples {
    if runs.len() == 1
        && let Some(only) = runs.pop()
    {
        return only;
    }
    let (mut raw, mut aggregates) = (Vec::new(), Vec::new());
    for run in runs {
        match run {
            Samples::Raw(samples) => raw.push(samples),
            Samples::Aggregates(samples) => aggregates.push(samples),
        }
    }
    if aggregates.is_empty() {
        Samples::Raw(of_raw(raw))
    } else {
        Samples::Aggregates(of_aggregates(aggregates))
    }
}

fn of_raw(mut runs: Vec<ChunkSamples>) -> ChunkSamples {
    runs.sort_by_key(|r| r.ts.first().copied());
    let mut runs = runs.into_iter();
    let mut out = runs.next().unwrap_or_default();
    for run in runs {
        (0..run.len()).for_each(|i| out.push_from(&run, i));
    }
    in_order(&mut out);
    out
}

/// Puts samples in order of time. Of several at one time the first one stays: copies of one sample, or
/// one that came in late and lost against what was there, as in Prometheus.
pub fn in_order(samples: &mut ChunkSamples) {
    if samples.ts.is_sorted_by(|a, b| a < b) {
        return;
    }
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|i| samples.ts.get(*i).copied());
    let mut out = ChunkSamples::new();
    for i in order {
        if samples.ts.get(i) != out.ts.last() {
            out.push_from(samples, i);
        }
    }
    *samples = out;
}

/// Those that follow each other are joined as they are. Where they overlap, what is of a time that is
/// there already is left out.
fn of_aggregates(mut runs: Vec<AggregateSamples>) -> AggregateSamples {
    let first = |r: &AggregateSamples| {
        let floats = r.ts.first().copied().unwrap_or(i64::MAX);
        floats.min(r.histograms.first().map_or(i64::MAX, |h| h.ts))
    };
    runs.sort_by_key(first);
    let mut joined = Adopted::default();
    for run in &runs {
        joined.append(run);
    }
    joined.finish()
}
