//! Series and their chunks.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use periplus_model::{Labels, TimeRange};

use super::Report;
use crate::chunk::{self, Aggregate, AggregateChunk, ChunkEncoding, ChunkSamples};
use crate::error::FileError;
use crate::index::{ChunkMeta, Index, Series, SeriesRef};
use crate::segment::Segments;

/// What reading the series told, to hold the postings against.
#[derive(Default)]
pub(super) struct Seen {
    hasher: RandomState,
    /// By hash of name and value: how many series have it, and a sum over them that tells which.
    pairs: HashMap<u64, (u64, u64)>,
    /// Every series, ascending.
    series: Vec<SeriesRef>,
}

impl Seen {
    fn add(&mut self, reference: SeriesRef, labels: &Labels) {
        self.series.push(reference);
        for (name, value) in labels.iter() {
            self.pair(reference, name, value);
        }
    }

    fn pair(&mut self, reference: SeriesRef, name: &str, value: &str) {
        let key = self.hasher.hash_one((name, value));
        let sum = self.hasher.hash_one(reference);
        let entry = self.pairs.entry(key).or_default();
        entry.0 += 1;
        entry.1 = entry.1.wrapping_add(sum);
    }

    /// Whether a postings list names exactly the series that have the label.
    pub(super) fn agrees(&self, name: &str, value: &str, list: &[SeriesRef]) -> bool {
        if name.is_empty() && value.is_empty() {
            return list == self.series;
        }
        let sum = list.iter().fold(0u64, |s, r| s.wrapping_add(self.hasher.hash_one(*r)));
        let key = self.hasher.hash_one((name, value));
        self.pairs.get(&key).copied() == Some((list.len() as u64, sum))
    }

    /// How many different labels there are.
    pub(super) fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn has(&self, series: u64) -> bool {
        u32::try_from(series).is_ok_and(|s| self.series.binary_search(&s).is_ok())
    }
}

pub(super) fn check(
    index: &Index,
    segments: Option<&Segments>,
    range: Option<TimeRange>,
    seen: &mut Seen,
    report: &mut Report,
) {
    let all = match index.all_series() {
        Ok(all) => all,
        Err(e) => return report.bad(&e),
    };
    if !all.is_sorted_by(|a, b| a < b) {
        report.error("index: the list of all series is not sorted", "queries miss series");
    }
    let mut before: Option<Labels> = None;
    for reference in all {
        let series = match index.series(reference) {
            Ok(series) => series,
            Err(e) => {
                report.bad(&e);
                continue;
            }
        };
        report.stats.num_series += 1;
        if before.as_ref().is_some_and(|b| *b >= series.labels) {
            report.error(
                format!("index: series {:?} is not in order of labels", series.labels),
                "merging answers of several blocks goes wrong",
            );
        }
        seen.add(reference, &series.labels);
        check_order(&series, range, report);
        if let Some(segments) = segments {
            for chunk in &series.chunks {
                check_chunk(&series, chunk, segments, report);
            }
        }
        before = Some(series.labels);
    }
}

fn check_order(series: &Series, range: Option<TimeRange>, report: &mut Report) {
    for (i, chunk) in series.chunks.iter().enumerate() {
        let place = || format!("index: series {:?} chunk {i}", series.labels);
        if chunk.range.is_empty() {
            report.error(format!("{} ends before it begins", place()), "it is never read");
        }
        let before = i.checked_sub(1).and_then(|i| series.chunks.get(i));
        if before.is_some_and(|b| b.range.max_t >= chunk.range.min_t) {
            report.error(
                format!("{} overlaps the one before", place()),
                "samples may be counted twice",
            );
        }
        if range.is_some_and(|r| r.intersect(&chunk.range) != chunk.range) {
            report.error(
                format!(
                    "{} has samples from {} to {}, outside the times in meta.json",
                    place(),
                    chunk.range.min_t,
                    chunk.range.max_t
                ),
                "a query that goes by meta.json misses them",
            );
        }
    }
}

fn check_chunk(series: &Series, chunk: &ChunkMeta, segments: &Segments, report: &mut Report) {
    report.stats.num_chunks += 1;
    let place = |e: &dyn std::fmt::Display| format!("series {:?}: {e}", series.labels);
    let advice = "the chunk's samples are lost; all others can be read";
    let samples = match samples(chunk, segments) {
        Ok(samples) => samples,
        Err(e) => return report.error(place(&e), advice),
    };
    let file = chunk.reference.file();
    let at = format!("{file}: chunk at offset {}", chunk.reference.offset());
    let n = samples.len() as u64;
    report.stats.num_samples += n;
    report.stats.num_histogram_samples += samples.histograms.len() as u64;
    report.stats.num_float_samples += n - samples.histograms.len() as u64;
    if !samples.ts.is_sorted_by(|a, b| a < b) {
        report.error(place(&format_args!("{at}: its samples do not ascend in time")), advice);
    }
    let (first, last) = (samples.ts.first(), samples.ts.last());
    if (first, last) != (Some(&chunk.range.min_t), Some(&chunk.range.max_t)) {
        report.error(
            place(&format_args!(
                "{at}: its samples run from {first:?} to {last:?}, the index says {} to {}",
                chunk.range.min_t, chunk.range.max_t
            )),
            "a query that goes by the index misses samples",
        );
    }
}

/// A chunk's samples; of an aggregate chunk all parts are read and the first one counts.
fn samples(chunk: &ChunkMeta, segments: &Segments) -> Result<ChunkSamples, FileError> {
    let stored = segments.read(chunk.reference)?;
    let encoding = stored.encoding()?;
    let wrong = |source| FileError::Chunk {
        file: chunk.reference.file(),
        offset: u64::from(chunk.reference.offset()),
        source,
    };
    let mut out = ChunkSamples::new();
    if encoding != ChunkEncoding::Aggregate {
        chunk::decode(encoding, &stored.payload, TimeRange::ALL, &mut out).map_err(wrong)?;
        return Ok(out);
    }
    let parts = AggregateChunk::parse(&stored.payload).map_err(wrong)?;
    for aggregate in Aggregate::ALL.into_iter().rev().filter(|a| parts.get(*a).is_some()) {
        out.clear();
        parts.decode(aggregate, TimeRange::ALL, &mut out).map_err(wrong)?;
    }
    Ok(out)
}
