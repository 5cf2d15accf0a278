//! All of a block as JSON, a line per series, bit for bit: floats as the hexadecimal of their bits.
//!
//! `labels`; `chunks` with encoding, times and number of samples; `samples` in the order of the
//! chunks: `t`, `st` (start timestamp, where there is one), `bits` or `h` (a histogram with absolute
//! buckets; `hint` 0 unknown, 1 reset, 2 not reset, 3 gauge), and in downsampled blocks `aggregate`.
//! Deletions are not applied: this shows what is stored.

use std::collections::BTreeMap;
use std::io::{self, Write};

use periplus_model::{CounterResetHint, FloatHistogram, Span, TimeRange};
use serde::{Serialize, Serializer};

use crate::block::Block;
use crate::chunk::{Aggregate, ChunkEncoding, ChunkSamples, HistogramValue};
use crate::error::BlockError;
use crate::index::{ChunkMeta, Series};

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The block is bad.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// What is written to failed.
    #[error("writing the dump: {0}")]
    Io(#[from] io::Error),
}

/// A float's bits.
struct Bits(f64);

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:016x}", self.0.to_bits()))
    }
}

#[derive(Serialize)]
struct Line<'a> {
    labels: BTreeMap<&'a str, &'a str>,
    chunks: Vec<ChunkLine>,
    samples: Vec<SampleLine>,
}

#[derive(Serialize)]
struct ChunkLine {
    encoding: &'static str,
    max_t: i64,
    min_t: i64,
    samples: usize,
}

#[derive(Serialize)]
struct SampleLine {
    t: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    st: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregate: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<Bits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<HistogramLine>,
}

#[derive(Serialize)]
struct HistogramLine {
    count: Bits,
    custom: Vec<Bits>,
    hint: u8,
    integer: bool,
    neg: Vec<Bits>,
    neg_spans: Option<Vec<SpanLine>>,
    pos: Vec<Bits>,
    pos_spans: Option<Vec<SpanLine>>,
    schema: i32,
    sum: Bits,
    zero_count: Bits,
    zero_threshold: Bits,
}

#[derive(Serialize)]
struct SpanLine {
    #[serde(rename = "Offset")]
    offset: i32,
    #[serde(rename = "Length")]
    length: u32,
}

fn spans(spans: &[Span]) -> Option<Vec<SpanLine>> {
    (!spans.is_empty())
        .then(|| spans.iter().map(|s| SpanLine { offset: s.offset, length: s.length }).collect())
}

fn bits(values: &[f64]) -> Vec<Bits> {
    values.iter().copied().map(Bits).collect()
}

impl HistogramLine {
    fn new(h: &FloatHistogram, integer: bool) -> Self {
        Self {
            count: Bits(h.count),
            custom: bits(&h.custom_values),
            hint: match h.counter_reset_hint {
                CounterResetHint::Unknown => 0,
                CounterResetHint::Reset => 1,
                CounterResetHint::NotReset => 2,
                CounterResetHint::Gauge => 3,
            },
            integer,
            neg: bits(&h.negative_buckets),
            neg_spans: spans(&h.negative_spans),
            pos: bits(&h.positive_buckets),
            pos_spans: spans(&h.positive_spans),
            schema: h.schema,
            sum: Bits(h.sum),
            zero_count: Bits(h.zero_count),
            zero_threshold: Bits(h.zero_threshold),
        }
    }
}

/// Writes all series of a block.
///
/// # Errors
/// The first bad series or chunk; what is written to failing.
pub fn dump(block: &Block, out: &mut dyn Write) -> Result<(), DumpError> {
    for reference in block.select(&[])? {
        let series = block.series(reference)?;
        let mut line = Line {
            labels: series.labels.iter().collect(),
            chunks: Vec::with_capacity(series.chunks.len()),
            samples: Vec::new(),
        };
        for chunk in &series.chunks {
            dump_chunk(block, &series, chunk, &mut line)?;
        }
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn dump_chunk(
    block: &Block,
    series: &Series,
    chunk: &ChunkMeta,
    line: &mut Line<'_>,
) -> Result<(), BlockError> {
    let stored = block.chunk(series, chunk)?;
    let encoding = stored.encoding().map_err(|e| block.at(Some(&series.labels), e))?;
    let before = line.samples.len();
    if encoding == ChunkEncoding::Aggregate {
        block.with_aggregate(series, chunk, |parts| {
            for aggregate in Aggregate::ALL.into_iter().filter(|a| parts.get(*a).is_some()) {
                let mut samples = ChunkSamples::new();
                parts.decode(aggregate, TimeRange::ALL, &mut samples)?;
                push(samples, Some(aggregate.name()), &mut line.samples);
            }
            Ok(())
        })?;
    } else {
        let mut samples = ChunkSamples::new();
        block.decode_stored(series, chunk, TimeRange::ALL, &mut samples)?;
        push(samples, None, &mut line.samples);
    }
    line.chunks.push(ChunkLine {
        encoding: encoding.name(),
        max_t: chunk.range.max_t,
        min_t: chunk.range.min_t,
        samples: line.samples.len() - before,
    });
    Ok(())
}

fn push(samples: ChunkSamples, aggregate: Option<&'static str>, out: &mut Vec<SampleLine>) {
    let mut histograms = samples.histograms.into_iter().peekable();
    for (i, (&t, &v)) in samples.ts.iter().zip(&samples.values).enumerate() {
        let h = histograms.next_if(|(at, _)| *at as usize == i).map(|(_, h)| {
            let integer = matches!(h, HistogramValue::Integer(_));
            HistogramLine::new(&h.into_float(), integer)
        });
        let st = samples.start_ts.get(i).copied().filter(|st| *st != 0);
        let bits = h.is_none().then_some(Bits(v));
        out.push(SampleLine { t, st, aggregate, bits, h });
    }
}
