//! The samples of the shared bucket's raw blocks.

use std::collections::BTreeMap;

use periplus_block::Block;
use periplus_block::chunk::ChunkSamples;
use periplus_model::{Labels, SampleBuffer, TimeRange};
use ulid::Ulid;

use super::recorded::shared;

/// One stream: its external labels, the blocks it came from, its series.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) external: BTreeMap<String, String>,
    pub(crate) sources: Vec<Ulid>,
    pub(crate) series: BTreeMap<Labels, ChunkSamples>,
}

impl Stream {
    /// A stream of a simulated cluster.
    pub(crate) fn of(external: &Labels, series: &[(Labels, SampleBuffer)]) -> Self {
        let chunk = |samples: &SampleBuffer| {
            let mut out = ChunkSamples::new();
            samples.ts.iter().zip(&samples.values).for_each(|(t, v)| out.push(*t, *v, 0));
            out
        };
        Self {
            external: external.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            sources: vec![Ulid::generate()],
            series: series.iter().map(|(l, s)| (l.clone(), chunk(s))).collect(),
        }
    }

    /// Leaves only what lies in a range.
    pub(crate) fn cut(&mut self, range: TimeRange) {
        self.series.values_mut().for_each(|s| *s = of_day(s, range));
    }
}

/// All raw blocks, by stream.
pub(crate) fn streams() -> Vec<Stream> {
    let Some(dir) = shared() else { return Vec::new() };
    let mut dirs: Vec<_> = std::fs::read_dir(dir.join("bucket")).unwrap().collect();
    dirs.sort_by_key(|d| d.as_ref().unwrap().path());
    let mut out: BTreeMap<BTreeMap<String, String>, Stream> = BTreeMap::new();
    for dir in dirs {
        let block = Block::open(dir.unwrap().path()).unwrap();
        let thanos = block.meta().thanos.clone().unwrap();
        if thanos.downsample.resolution != 0 {
            continue;
        }
        let external: BTreeMap<String, String> = thanos.labels.into_iter().collect();
        let stream = out.entry(external.clone()).or_default();
        stream.external = external;
        stream.sources.extend(block.meta().compaction.sources.iter().copied());
        for reference in block.select(&[]).unwrap() {
            let series = block.series(reference).unwrap();
            let mut samples = ChunkSamples::new();
            for c in &series.chunks {
                block.decode(&series, c, TimeRange::ALL, &mut samples).unwrap();
            }
            let all = stream.series.entry(series.labels.clone()).or_default();
            merge(all, &samples);
        }
    }
    out.into_values().collect()
}

/// Blocks of several levels may hold the same samples.
fn merge(all: &mut ChunkSamples, more: &ChunkSamples) {
    let had = std::mem::take(all);
    let (mut a, mut b) = (0, 0);
    while a < had.len() || b < more.len() {
        let (ta, tb) = (had.ts.get(a), more.ts.get(b));
        if tb.is_none() || ta.is_some_and(|ta| Some(ta) <= tb) {
            b += usize::from(ta == tb);
            all.push_from(&had, a);
            a += 1;
        } else {
            all.push_from(more, b);
            b += 1;
        }
    }
}

/// The samples of one day.
pub(crate) fn of_day(all: &ChunkSamples, day: TimeRange) -> ChunkSamples {
    let mut out = ChunkSamples::new();
    for i in 0..all.len() {
        if day.contains(all.ts[i]) {
            out.push_from(all, i);
        }
    }
    out
}
