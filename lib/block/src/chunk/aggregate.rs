//! Thanos's aggregate chunk: up to five chunks in one, for what became of each window of raw
//! samples.
//!
//! In this order, each preceded by its length as a uvarint (0 where it is missing, and then nothing
//! follows) and one byte of encoding that the length does not count: count, sum, min, max, counter.

use periplus_model::TimeRange;

use super::{ChunkEncoding, ChunkError, ChunkSamples, decode};
use crate::varint;

/// What of a window of raw samples a chunk inside an aggregate chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// How many samples there were.
    Count,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The last one, with resets inside the chunk already added up: the first sample of the chunk
    /// is the first raw sample as it was, and the last one stands twice under the same timestamp,
    /// the second time as the raw sample was, so that a reset between this chunk and the next
    /// can be told. [`CounterSeries`] undoes this.
    Counter,
}

impl Aggregate {
    /// All of them, in the order of the bytes.
    pub const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Min, Self::Max, Self::Counter];

    /// Its name as Thanos writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Counter => "counter",
        }
    }
}

/// An aggregate chunk's parts: encoding and payload, in the order of [`Aggregate::ALL`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AggregateChunk<'a> {
    parts: [Option<(ChunkEncoding, &'a [u8])>; 5],
}

impl<'a> AggregateChunk<'a> {
    /// Finds the parts of an aggregate chunk's payload; decodes none of them.
    ///
    /// # Errors
    /// A length beyond the payload, an encoding that is unknown or again an aggregate.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ChunkError> {
        let truncated = || ChunkError::Truncated { encoding: ChunkEncoding::Aggregate };
        let mut rest = payload;
        let mut parts = [None; 5];
        for part in &mut parts {
            let (len, after) = varint::uvarint(rest).ok_or_else(truncated)?;
            rest = after;
            if len == 0 {
                continue;
            }
            let (&byte, after) = rest.split_first().ok_or_else(truncated)?;
            let len = usize::try_from(len).map_err(|_| truncated())?;
            let (data, after) = after.split_at_checked(len).ok_or_else(truncated)?;
            let encoding = ChunkEncoding::from_byte(byte)?;
            if encoding == ChunkEncoding::Aggregate {
                return Err(ChunkError::Corrupt {
                    encoding,
                    reason: "an aggregate chunk inside an aggregate chunk",
                });
            }
            *part = Some((encoding, data));
            rest = after;
        }
        Ok(Self { parts })
    }

    /// One part's encoding and payload; `None` where the chunk has none.
    #[must_use]
    pub fn get(&self, aggregate: Aggregate) -> Option<(ChunkEncoding, &'a [u8])> {
        self.parts.get(aggregate as usize).copied().flatten()
    }

    /// Decodes one part as [`decode`] does.
    ///
    /// # Errors
    /// Where the part is missing or its bytes are bad.
    pub fn decode(
        &self,
        aggregate: Aggregate,
        range: TimeRange,
        out: &mut ChunkSamples,
    ) -> Result<(), ChunkError> {
        let (encoding, data) =
            self.get(aggregate).ok_or(ChunkError::NoAggregate { name: aggregate.name() })?;
        decode(encoding, data, range, out)
    }
}

/// Writes an aggregate chunk's payload from its parts, in the order of [`Aggregate::ALL`].
#[must_use]
pub fn encode_aggregate(parts: &[Option<(ChunkEncoding, &[u8])>; 5]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            None => out.push(0),
            Some((encoding, data)) => {
                varint::put_uvarint(&mut out, data.len() as u64);
                out.push(encoding.byte());
                out.extend_from_slice(data);
            }
        }
    }
    out
}

/// Turns the counter parts of one series' aggregate chunks, given in order of time, back into one
/// counter that never falls.
///
/// The rules are Thanos's: a value at a later time adds its increase, or all of itself after a
/// reset; a value at the same time as the one before is the raw value that the next chunk's first
/// one is compared with; an earlier one (chunks may overlap) and a NaN are skipped. Histograms pass
/// through.
#[derive(Clone, Debug, Default)]
pub struct CounterSeries {
    /// Time and raw value of the sample before, and the counter's value.
    last: Option<(i64, f64, f64)>,
}

impl CounterSeries {
    /// Appends what the decoded counter part of the next chunk adds to the series.
    pub fn append(&mut self, part: &ChunkSamples, out: &mut ChunkSamples) {
        let mut histograms = part.histograms.iter().peekable();
        for (i, (&t, &v)) in part.ts.iter().zip(&part.values).enumerate() {
            if let Some((_, h)) = histograms.next_if(|(at, _)| *at as usize == i) {
                if self.last.is_none_or(|(last_t, ..)| t > last_t) {
                    self.last = Some(self.last.map_or((t, 0.0, 0.0), |(_, raw, v)| (t, raw, v)));
                    out.push_histogram(t, h.clone(), 0);
                }
                continue;
            }
            if v.is_nan() {
                continue;
            }
            match &mut self.last {
                None => {
                    self.last = Some((t, v, v));
                    out.push(t, v, 0);
                }
                Some((last_t, raw, total)) if t > *last_t => {
                    *total += if v >= *raw { v - *raw } else { v };
                    (*last_t, *raw) = (t, v);
                    out.push(t, *total, 0);
                }
                Some((last_t, raw, _)) if t == *last_t => *raw = v,
                Some(_) => {}
            }
        }
    }
}
