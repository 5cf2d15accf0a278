//! Rows to batches.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use periplus_model::{FloatHistogram, Labels};

use crate::convert::fleet_histogram_to_wire;
use crate::fleet::{Batch, HistogramAt, Row};

/// A batch is handed out once it holds about this many bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// One series of results to send.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// One bit a step, 64 steps a word, lowest bit first.
    pub present: &'a [u64],
    /// Columns of one value a step.
    pub columns: &'a [&'a [f64]],
    /// The samples that are histograms, by ascending step.
    pub histograms: &'a [HistogramRef<'a>],
}

/// A sample to send that is a histogram.
#[derive(Clone, Copy, Debug)]
pub struct HistogramRef<'a> {
    /// Which step.
    pub step: u32,
    /// The histogram.
    pub histogram: &'a FloatHistogram,
    /// The error terms of a partial sum.
    pub compensation: Option<&'a FloatHistogram>,
}

/// Collects rows into batches.
#[derive(Debug)]
pub struct BatchEncoder {
    steps: usize,
    symbols: HashMap<Box<str>, u32>,
    pending: Batch,
    pending_bytes: usize,
}

impl BatchEncoder {
    /// An encoder for rows over a grid of `steps` evaluations.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self { steps, symbols: HashMap::new(), pending: Batch::default(), pending_bytes: 0 }
    }

    fn symbol(&mut self, s: &str) -> u32 {
        if let Some(n) = self.symbols.get(s) {
            return *n;
        }
        let n = self.symbols.len() as u32;
        self.symbols.insert(s.into(), n);
        self.pending_bytes += s.len() + 3;
        self.pending.symbols.push(s.to_owned());
        n
    }

    /// Adds a row; a full batch comes back to be sent at once. A row without samples is left out.
    pub fn push(&mut self, row: RowRef<'_>) -> Option<Batch> {
        let ones: usize = row.present.iter().map(|w| w.count_ones() as usize).sum();
        if ones == 0 {
            return None;
        }
        let mut label_refs = Vec::with_capacity(2 * row.labels.len());
        for (name, value) in row.labels {
            label_refs.push(self.symbol(name));
            label_refs.push(self.symbol(value));
        }
        let present = if ones >= self.steps {
            Bytes::new()
        } else {
            let bytes: Vec<u8> = row.present.iter().flat_map(|w| w.to_le_bytes()).collect();
            Bytes::from(bytes).slice(..self.steps.div_ceil(8).min(row.present.len() * 8))
        };
        let columns: Vec<Bytes> =
            row.columns.iter().map(|c| packed(c, row.present, ones)).collect();
        let histograms: Vec<HistogramAt> = row
            .histograms
            .iter()
            .map(|h| HistogramAt {
                step: h.step,
                histogram: Some(fleet_histogram_to_wire(h.histogram, h.compensation)),
            })
            .collect();
        self.pending_bytes += label_refs.len() * 3
            + present.len()
            + columns.iter().map(|c| c.len() + 4).sum::<usize>()
            + row.histograms.iter().map(histogram_bytes).sum::<usize>();
        self.pending.rows.push(Row { label_refs, present, columns, histograms });
        (self.pending_bytes >= BATCH_BYTES).then(|| self.take())
    }

    /// The last batch, when there is something in it.
    pub fn finish(&mut self) -> Option<Batch> {
        (!self.pending.rows.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Batch {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }
}

fn histogram_bytes(h: &HistogramRef<'_>) -> usize {
    let one = |h: &FloatHistogram| {
        64 + 8 * (h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len())
    };
    one(h.histogram) + h.compensation.map_or(0, one)
}

/// The values of the present steps, one after the other.
fn packed(column: &[f64], present: &[u64], ones: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(ones * 8);
    for (i, word) in present.iter().enumerate() {
        let mut w = *word;
        while w != 0 {
            let step = i * 64 + w.trailing_zeros() as usize;
            w &= w - 1;
            let value = column.get(step).copied().unwrap_or(0.0);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    out.freeze()
}
