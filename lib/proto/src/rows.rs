//! The columns of results on their way between a sidecar and a query layer: [`BatchEncoder`] and
//! [`BatchDecoder`] for the fleet protocol's batches.
//!
//! A row is one result series: its labels by reference into a table of symbols that grows from batch to
//! batch, one bit a step for where it has samples, and for each column one double for each present step. The
//! columns' meaning is the partial kind's. In memory a column has a value at every step, meaningless where
//! the bit is not set; on the wire only present ones are sent.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use periplus_model::{FloatHistogram, Labels};

pub use decode::BatchDecoder;
pub use encode::{BatchEncoder, HistogramRef, RowRef};

/// One series of results, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    /// Its labels.
    pub labels: Labels,
    /// Whether there is a sample at a step: 64 steps a word, lowest bit first; bits beyond the grid are 0.
    pub present: Vec<u64>,
    /// Columns of one value a step, 0 where no sample is present.
    pub columns: Vec<Vec<f64>>,
    /// The samples that are histograms, by ascending step.
    pub histograms: Vec<HistogramPoint>,
}

/// A sample that is a histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramPoint {
    /// Which step.
    pub step: u32,
    /// The histogram.
    pub histogram: Arc<FloatHistogram>,
    /// The error terms of a partial sum.
    pub compensation: Option<Arc<FloatHistogram>>,
}
