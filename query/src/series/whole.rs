//! Series for readers of samples: replicas merged, chunks without overlap, in the encodings that every
//! reader knows.

use bytes::Bytes;
use periplus_block::chunk::{ChunkEncoding, ChunkSamples, HistogramValue, encode};
use periplus_model::{Labels, SampleBuffer, TimeRange};
use periplus_promql::source::{EncodedSeries, SourceError};
use periplus_proto::convert::labels_from_thanos;
use periplus_proto::{WireLimits, thanos};

use super::chunks::{ChunkSeries, EncodedChunk};

/// A series with the chunks of all its replicas.
#[derive(Debug)]
pub struct WholeSeries {
    /// Its labels.
    pub labels: Labels,
    chunks: ChunkSeries,
}

/// A chunk as it is given out.
#[derive(Clone, Debug)]
pub struct OutChunk {
    /// Times of the first and the last sample.
    pub range: TimeRange,
    /// The number the encoding has in a block: 1 XOR, 2 histogram, 3 float histogram.
    pub encoding: i32,
    /// The chunk without length, encoding and checksum.
    pub data: Bytes,
}

impl WholeSeries {
    /// Of a message as [`super::pass_on`] sends it.
    ///
    /// # Errors
    /// Labels that are no labels; chunks that are not raw samples.
    pub fn new(series: thanos::Series) -> Result<Self, SourceError> {
        let corrupt = |e: String| SourceError::Corrupt(e);
        let labels = labels_from_thanos(&series.labels, &WireLimits::default())
            .map_err(|e| corrupt(e.to_string()))?;
        let mut chunks = Vec::with_capacity(series.chunks.len());
        for c in series.chunks {
            let Some(raw) = c.raw else {
                return Err(corrupt(format!("series {labels:?}: a chunk without raw samples")));
            };
            let range = TimeRange::new(c.min_time, c.max_time);
            chunks.push(EncodedChunk { range, encoding: raw.r#type, data: raw.data });
        }
        Ok(Self { chunks: ChunkSeries::new(labels.clone(), chunks), labels })
    }

    /// Appends the samples of `range` to `out`, which is cleared first.
    ///
    /// # Errors
    /// Chunks that can't be decoded.
    pub fn samples(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        let mut all = SampleBuffer::new();
        self.chunks.decode(range, &mut all)?;
        out.clear();
        all.decode(range, out)
    }

    /// The samples of `range` as chunks. Those that lie within it are passed on as they came where they do not
    /// overlap and every reader knows their encoding; else they are decoded, merged and encoded.
    ///
    /// # Errors
    /// Chunks that can't be decoded.
    pub fn chunks(&self, range: TimeRange) -> Result<Vec<OutChunk>, SourceError> {
        if let Some(as_they_are) = self.chunks.as_they_are(range) {
            return Ok(as_they_are);
        }
        let mut samples = SampleBuffer::new();
        self.samples(range, &mut samples)?;
        let corrupt = |e: periplus_block::chunk::ChunkError| {
            SourceError::Corrupt(format!("series {:?}: {e}", self.labels))
        };
        let encoded = encode(&columns(samples)).map_err(corrupt)?;
        let out = encoded.into_iter().filter_map(|c| {
            let encoding = match c.encoding {
                ChunkEncoding::Xor => 1,
                ChunkEncoding::Histogram => 2,
                ChunkEncoding::FloatHistogram => 3,
                _ => return None,
            };
            Some(OutChunk { range: c.range, encoding, data: c.payload.into() })
        });
        Ok(out.collect())
    }
}

fn columns(s: SampleBuffer) -> ChunkSamples {
    let histogram = |(i, h): (u32, std::sync::Arc<periplus_model::FloatHistogram>)| {
        (i, HistogramValue::Float(std::sync::Arc::unwrap_or_clone(h)))
    };
    ChunkSamples {
        ts: s.ts,
        values: s.values,
        histograms: s.histograms.into_iter().map(histogram).collect(),
        start_ts: Vec::new(),
    }
}

impl ChunkSeries {
    /// The chunks that overlap `range`, if all can be given out as they came.
    fn as_they_are(&self, range: TimeRange) -> Option<Vec<OutChunk>> {
        if !self.disjoint {
            return None;
        }
        let wanted = self.chunks.iter().filter(|c| c.range.overlaps(&range));
        wanted
            .map(|c| {
                let inside = c.range.min_t >= range.min_t && c.range.max_t <= range.max_t;
                let known = (0..=2).contains(&c.encoding);
                let chunk =
                    || OutChunk { range: c.range, encoding: c.encoding + 1, data: c.data.clone() };
                (inside && known).then(chunk)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use periplus_proto::convert::labels_to_thanos;

    use super::*;

    fn series(runs: &[&[(i64, f64)]]) -> thanos::Series {
        let labels = labels_to_thanos(&Labels::from_pairs([("__name__", "m")]));
        let mut chunks = Vec::new();
        for run in runs {
            let mut samples = ChunkSamples::new();
            run.iter().for_each(|(t, v)| samples.push(*t, *v, 0));
            for c in encode(&samples).unwrap() {
                chunks.push(thanos::AggrChunk {
                    min_time: c.range.min_t,
                    max_time: c.range.max_t,
                    raw: Some(thanos::Chunk { data: c.payload.into(), ..Default::default() }),
                    ..Default::default()
                });
            }
        }
        thanos::Series { labels, chunks }
    }

    #[test]
    fn chunks_within_the_range_pass_and_others_are_cut() {
        let all: Vec<(i64, f64)> = (0..300).map(|i| (i * 1000, i as f64)).collect();
        let one = WholeSeries::new(series(&[&all])).unwrap();
        let passed = one.chunks(TimeRange::ALL).unwrap();
        assert_eq!(passed.len(), 3);
        let cut = one.chunks(TimeRange::new(5_000, 7_000)).unwrap();
        assert_eq!(cut.len(), 1);
        assert_eq!(cut[0].range, TimeRange::new(5_000, 7_000));
        let mut out = SampleBuffer::new();
        one.samples(TimeRange::new(5_000, 7_000), &mut out).unwrap();
        assert_eq!(out.values, [5.0, 6.0, 7.0]);
    }

    #[test]
    fn replicas_become_one() {
        let a: Vec<(i64, f64)> = (0..100).map(|i| (i * 1000, 1.0)).collect();
        let b: Vec<(i64, f64)> = (0..100).map(|i| (i * 1000 + 300, 1.0)).collect();
        let chunks = WholeSeries::new(series(&[&a, &b])).unwrap().chunks(TimeRange::ALL).unwrap();
        let mut last = i64::MIN;
        for c in &chunks {
            assert!(c.range.min_t > last, "chunks overlap");
            last = c.range.max_t;
        }
    }
}
