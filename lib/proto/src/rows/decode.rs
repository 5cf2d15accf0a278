//! Batches to rows, checked.

use std::sync::Arc;

use periplus_model::Labels;

use super::{HistogramPoint, ResultRow};
use crate::convert::fleet_histogram_from_wire;
use crate::error::{WireError, WireLimits};
use crate::fleet::{Batch, HistogramAt, Row};

/// The most columns a partial kind has.
const COLUMNS_MAX: usize = 8;

/// Decodes the batches of one answer, in order.
#[derive(Debug)]
pub struct BatchDecoder {
    steps: usize,
    columns: usize,
    limits: WireLimits,
    symbols: Vec<String>,
    symbol_bytes: usize,
    rows: usize,
    cells: usize,
    histograms: usize,
}

impl BatchDecoder {
    /// A decoder for rows of `columns` columns over a grid of `steps` evaluations.
    #[must_use]
    pub fn new(steps: usize, columns: usize, limits: WireLimits) -> Self {
        Self {
            steps,
            columns: columns.min(COLUMNS_MAX),
            limits,
            symbols: Vec::new(),
            symbol_bytes: 0,
            rows: 0,
            cells: 0,
            histograms: 0,
        }
    }

    /// The rows of the next batch.
    ///
    /// # Errors
    /// Anything that does not add up, or exceeds the limits; the answer is then to be thrown away.
    pub fn decode(&mut self, batch: Batch) -> Result<Vec<ResultRow>, WireError> {
        let symbols = self.symbols.len() + batch.symbols.len();
        WireError::check("symbols of an answer", symbols, self.limits.symbols_max)?;
        for s in &batch.symbols {
            WireError::check("bytes of a label", s.len(), self.limits.label_bytes_max)?;
            self.symbol_bytes += s.len();
        }
        let bytes_max = self.limits.symbol_bytes_max;
        WireError::check("bytes of the symbols of an answer", self.symbol_bytes, bytes_max)?;
        self.symbols.extend(batch.symbols);

        self.rows += batch.rows.len();
        WireError::check("rows of an answer", self.rows, self.limits.rows_max)?;
        let per_row = self.steps.saturating_mul(self.columns);
        self.cells = self.cells.saturating_add(batch.rows.len().saturating_mul(per_row));
        WireError::check("values of an answer", self.cells, self.limits.cells_max)?;
        batch.rows.into_iter().map(|row| self.row(row)).collect()
    }

    fn row(&mut self, row: Row) -> Result<ResultRow, WireError> {
        let labels = self.labels(&row.label_refs)?;
        let present = present_words(&row.present, self.steps)?;
        let ones: usize = present.iter().map(|w| w.count_ones() as usize).sum();
        if row.columns.len() != self.columns {
            let problem = format!("{} columns instead of {}", row.columns.len(), self.columns);
            return Err(WireError::malformed("row", problem));
        }
        let mut columns = Vec::with_capacity(self.columns);
        for column in &row.columns {
            if column.len() != ones * 8 {
                let problem = format!("a column of {} bytes for {ones} samples", column.len());
                return Err(WireError::malformed("row", problem));
            }
            columns.push(spread(column, &present, self.steps));
        }
        let histograms = self.row_histograms(row.histograms, &present)?;
        Ok(ResultRow { labels, present, columns, histograms })
    }

    fn labels(&self, refs: &[u32]) -> Result<Labels, WireError> {
        let (pairs, rest) = refs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(WireError::malformed("row", "a label name without a value"));
        }
        WireError::check("labels of a row", pairs.len(), self.limits.labels_per_series_max)?;
        let symbol = |r: u32| {
            self.symbols.get(r as usize).map(String::as_str).ok_or_else(|| {
                WireError::malformed("row", format!("a reference to the unknown symbol {r}"))
            })
        };
        let mut labels: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
        for [name, value] in pairs {
            let (name, value) = (symbol(*name)?, symbol(*value)?);
            if name.is_empty() || labels.last().is_some_and(|(before, _)| *before >= name) {
                return Err(WireError::malformed("row", "labels out of order"));
            }
            labels.push((name, value));
        }
        Ok(Labels::from_pairs(labels))
    }

    fn row_histograms(
        &mut self,
        histograms: Vec<HistogramAt>,
        present: &[u64],
    ) -> Result<Vec<HistogramPoint>, WireError> {
        self.histograms = self.histograms.saturating_add(histograms.len());
        WireError::check("histograms of an answer", self.histograms, self.limits.histograms_max)?;
        let mut out: Vec<HistogramPoint> = Vec::with_capacity(histograms.len());
        for at in histograms {
            let step = at.step;
            let word = present.get(step as usize / 64).copied().unwrap_or(0);
            if word >> (step % 64) & 1 == 0 {
                return Err(WireError::malformed("row", "a histogram where no sample is"));
            }
            if out.last().is_some_and(|h| h.step >= step) {
                return Err(WireError::malformed("row", "histograms out of order"));
            }
            let Some(h) = at.histogram else {
                return Err(WireError::malformed("row", "an empty histogram"));
            };
            let (histogram, compensation) = fleet_histogram_from_wire(h, &self.limits)?;
            let (histogram, compensation) = (Arc::new(histogram), compensation.map(Arc::new));
            out.push(HistogramPoint { step, histogram, compensation });
        }
        Ok(out)
    }
}

/// The bits of a row; no bytes at all means "every step".
fn present_words(bytes: &[u8], steps: usize) -> Result<Vec<u64>, WireError> {
    let words = steps.div_ceil(64);
    let last_mask = if steps.is_multiple_of(64) { u64::MAX } else { (1u64 << (steps % 64)) - 1 };
    if bytes.is_empty() {
        let mut all = vec![u64::MAX; words];
        if let Some(last) = all.last_mut() {
            *last = last_mask;
        }
        return Ok(all);
    }
    if bytes.len() > words * 8 {
        return Err(WireError::malformed("row", "more bits than steps"));
    }
    let mut out = vec![0u64; words];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks(8)) {
        let mut le = [0u8; 8];
        for (to, from) in le.iter_mut().zip(chunk) {
            *to = *from;
        }
        *word = u64::from_le_bytes(le);
    }
    if out.last().is_some_and(|last| last & !last_mask != 0) {
        return Err(WireError::malformed("row", "a sample beyond the last step"));
    }
    Ok(out)
}

/// Puts the values of the present steps where they belong.
fn spread(column: &[u8], present: &[u64], steps: usize) -> Vec<f64> {
    let mut out = vec![0.0; steps];
    let (values, _) = column.as_chunks::<8>();
    let mut values = values.iter();
    for (i, word) in present.iter().enumerate() {
        let mut w = *word;
        while w != 0 {
            let step = i * 64 + w.trailing_zeros() as usize;
            w &= w - 1;
            if let (Some(cell), Some(v)) = (out.get_mut(step), values.next()) {
                *cell = f64::from_le_bytes(*v);
            }
        }
    }
    out
}
