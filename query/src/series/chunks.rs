//! Series as chunks, decoded when their samples are wanted.

use std::sync::Arc;

use bytes::Bytes;
use periplus_block::chunk::{ChunkEncoding, decode_samples};
use periplus_model::{Labels, SampleBuffer, TimeRange, replicas};
use periplus_promql::source::{EncodedSeries, SourceError};

/// One chunk as it came.
#[derive(Clone, Debug)]
pub(super) struct EncodedChunk {
    pub(super) range: TimeRange,
    /// The number `thanos.Store` gives the encoding.
    pub(super) encoding: i32,
    pub(super) data: Bytes,
}

/// One replica's chunks of a series.
#[derive(Debug)]
pub(super) struct ChunkSeries {
    labels: Labels,
    pub(super) chunks: Vec<EncodedChunk>,
    /// Whether no two chunks overlap.
    pub(super) disjoint: bool,
}

impl ChunkSeries {
    pub(super) fn new(labels: Labels, mut chunks: Vec<EncodedChunk>) -> Self {
        let ordered = |c: &[EncodedChunk]| {
            c.windows(2).all(|w| matches!(w, [a, b] if a.range.max_t < b.range.min_t))
        };
        let mut disjoint = ordered(&chunks);
        if !disjoint {
            chunks.sort_by_key(|c| (c.range.min_t, c.range.max_t));
            chunks.dedup_by(|b, a| a.range == b.range && a.data == b.data);
            disjoint = ordered(&chunks);
        }
        Self { labels, chunks, disjoint }
    }

    fn corrupt(&self, problem: impl std::fmt::Display) -> SourceError {
        SourceError::Corrupt(format!("series {:?}: {problem}", self.labels))
    }

    fn decode_one(
        &self,
        chunk: &EncodedChunk,
        range: TimeRange,
        out: &mut SampleBuffer,
    ) -> Result<(), SourceError> {
        let encoding =
            ChunkEncoding::from_store_api(chunk.encoding).map_err(|e| self.corrupt(e))?;
        decode_samples(encoding, &chunk.data, range, out).map_err(|e| self.corrupt(e))
    }
}

impl EncodedSeries for ChunkSeries {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        let wanted = self.chunks.iter().filter(|c| c.range.overlaps(&range));
        if self.disjoint {
            for chunk in wanted {
                let before = out.len();
                self.decode_one(chunk, range, out)?;
                let edge = out.ts.get(before.saturating_sub(1)..=before).unwrap_or_default();
                if before > 0 && matches!(edge, [a, b] if a >= b) {
                    return Err(self.corrupt("chunks hold samples outside their time ranges"));
                }
            }
            return Ok(());
        }
        // Chunks that overlap come of different replicas (a tier below passes on what both have), or
        // of blocks that hold the same samples: either way each run of chunks is a replica.
        let mut runs: Vec<(i64, SampleBuffer)> = Vec::new();
        for chunk in wanted {
            let free = runs.iter_mut().find(|(end, _)| *end < chunk.range.min_t);
            let run = match free {
                Some(run) => run,
                None => {
                    runs.push((i64::MIN, SampleBuffer::new()));
                    match runs.last_mut() {
                        Some(run) => run,
                        None => continue,
                    }
                }
            };
            self.decode_one(chunk, range, &mut run.1)?;
            run.0 = chunk.range.max_t;
        }
        let runs: Vec<SampleBuffer> = runs.into_iter().map(|(_, samples)| samples).collect();
        if runs.iter().any(|r| r.ts.windows(2).any(|w| matches!(w, [a, b] if a >= b))) {
            return Err(self.corrupt("chunks hold samples outside their time ranges"));
        }
        replicas::merge(&runs, replicas::counts(&self.labels, None), out);
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        let chunk = std::mem::size_of::<EncodedChunk>();
        self.labels.heap_bytes() + self.chunks.iter().map(|c| c.data.len() + chunk).sum::<usize>()
    }
}

/// The same series of several replicas.
pub(super) struct Replicas {
    pub(super) replicas: Vec<Arc<dyn EncodedSeries>>,
    pub(super) counter: bool,
}

impl EncodedSeries for Replicas {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        let mut each = Vec::with_capacity(self.replicas.len());
        for replica in &self.replicas {
            let mut samples = SampleBuffer::new();
            replica.decode(range, &mut samples)?;
            each.push(samples);
        }
        replicas::merge(&each, self.counter, out);
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.replicas.iter().map(|r| r.encoded_bytes()).sum()
    }
}
