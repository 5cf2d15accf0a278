//! Columns of downsampled parts as samples.

use periplus_columnar::{ColumnarError, HistogramColumn, HistogramReader, SampleReader, Window};
use periplus_model::{SampleBuffer, TimeRange};

use super::resolution::Column;

/// Appends a column of floats. The average is the sum over the count.
///
/// # Errors
/// The pages are broken.
pub fn append(
    reader: &mut SampleReader,
    w: &Window,
    range: TimeRange,
    column: Column,
    out: &mut SampleBuffer,
) -> Result<(), ColumnarError> {
    use periplus_columnar::Aggregate as Stored;
    let stored = match column {
        Column::Value => {
            let begin = out.len();
            reader.append_aggregate(w, range, Stored::Sum, out)?;
            let mut counts = SampleBuffer::new();
            reader.append_aggregate(w, range, Stored::Count, &mut counts)?;
            divide(out, begin, &counts);
            pad(out);
            return Ok(());
        }
        Column::Count => Stored::Count,
        Column::Sum => Stored::Sum,
        Column::Min => Stored::Min,
        Column::Max => Stored::Max,
        Column::Counter => Stored::Counter,
    };
    reader.append_aggregate(w, range, stored, out)?;
    pad(out);
    Ok(())
}

/// Divides the samples from `begin` on by the counts of the same times; one without a count is no sample.
fn divide(out: &mut SampleBuffer, begin: usize, counts: &SampleBuffer) {
    let mut next = 0;
    let mut kept = begin;
    for i in begin..out.len() {
        let Some(t) = out.ts.get(i).copied() else { break };
        while counts.ts.get(next).is_some_and(|c| *c < t) {
            next += 1;
        }
        let count = counts.ts.get(next).filter(|c| **c == t).and(counts.values.get(next));
        if let (Some(count), Some(sum)) = (count.filter(|c| **c > 0.0), out.values.get(i).copied())
            && let (Some(ts), Some(v)) = (out.ts.get_mut(kept), out.values.get_mut(kept))
        {
            (*ts, *v) = (t, sum / count);
            kept += 1;
        }
    }
    out.ts.truncate(kept);
    out.values.truncate(kept);
}

/// Downsampled samples have no start timestamps.
fn pad(out: &mut SampleBuffer) {
    if !out.start_ts.is_empty() {
        out.start_ts.resize(out.ts.len(), 0);
    }
}

/// Appends histograms as scraped.
///
/// # Errors
/// The runs are broken.
pub fn raw_histograms(
    reader: &mut HistogramReader,
    w: &Window,
    range: TimeRange,
    out: &mut SampleBuffer,
) -> Result<(), ColumnarError> {
    reader.append(w, range, HistogramColumn::Raw, out)
}

/// Appends a column of downsampled histograms. They have neither smallest nor largest.
///
/// # Errors
/// The runs are broken.
pub fn append_histograms(
    reader: &mut HistogramReader,
    w: &Window,
    range: TimeRange,
    column: Column,
    out: &mut SampleBuffer,
) -> Result<(), ColumnarError> {
    match column {
        Column::Counter => reader.append(w, range, HistogramColumn::Counter, out),
        Column::Value => reader.append(w, range, HistogramColumn::Average, out),
        Column::Sum => reader.append(w, range, HistogramColumn::Sum, out),
        Column::Count => reader.append(w, range, HistogramColumn::Observations, out),
        Column::Min | Column::Max => Ok(()),
    }
}
