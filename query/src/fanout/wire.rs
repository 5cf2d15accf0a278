//! Rows of the fleet protocol to columns and back.

use periplus_model::Labels;
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_promql::partial::{PartialGroup, PartialHistogram, PartialKind, PartialMatrix};
use periplus_promql::value::{Bitmap, StepGrid, StepMatrix, StepSeries};
use periplus_proto::fleet;
use periplus_proto::rows::{BatchEncoder, HistogramRef, ResultRow, RowRef};

use crate::plan::Grouping;

/// The number of a kind on the wire.
#[must_use]
pub const fn kind_number(kind: Option<PartialKind>) -> fleet::PartialKind {
    match kind {
        None => fleet::PartialKind::Whole,
        Some(PartialKind::Sum) => fleet::PartialKind::Sum,
        Some(PartialKind::Avg) => fleet::PartialKind::Avg,
        Some(PartialKind::Count) => fleet::PartialKind::Count,
        Some(PartialKind::Min) => fleet::PartialKind::Min,
        Some(PartialKind::Max) => fleet::PartialKind::Max,
        Some(PartialKind::Group) => fleet::PartialKind::Group,
        Some(PartialKind::Stddev) => fleet::PartialKind::Stddev,
        Some(PartialKind::Stdvar) => fleet::PartialKind::Stdvar,
        Some(PartialKind::Topk { .. }) => fleet::PartialKind::Topk,
        Some(PartialKind::Bottomk { .. }) => fleet::PartialKind::Bottomk,
        Some(PartialKind::Limitk { .. }) => fleet::PartialKind::Limitk,
        Some(PartialKind::CountValues) => fleet::PartialKind::CountValues,
    }
}

const fn has_flags(kind: PartialKind) -> bool {
    matches!(kind, PartialKind::Sum | PartialKind::Avg)
}

/// Columns of a row: one for a plain result; those of a partial, and its flags where it has some.
#[must_use]
pub const fn columns(kind: Option<PartialKind>) -> usize {
    match kind {
        None => 1,
        Some(kind) => kind.columns() + has_flags(kind) as usize,
    }
}

/// Moves rows over some steps to where these steps are in a longer grid.
pub(super) fn widen(rows: &mut [ResultRow], offset: usize, steps: usize) {
    for row in rows {
        let own = row.columns.first().map_or(0, Vec::len);
        let old = Bitmap::from_words(std::mem::take(&mut row.present), steps);
        let mut present = Bitmap::new(steps, false);
        old.ones().for_each(|i| present.set(i + offset, true));
        row.present = present.words().to_vec();
        for column in &mut row.columns {
            let mut wide = vec![0.0; steps];
            let end = (offset + own.min(column.len())).min(steps);
            for (to, from) in wide.iter_mut().take(end).skip(offset).zip(column.iter()) {
                *to = *from;
            }
            *column = wide;
        }
        for h in &mut row.histograms {
            h.step += offset as u32;
        }
    }
}

/// Whether the rows of a partial state are series, not groups.
pub(super) const fn keeps_series(kind: PartialKind) -> bool {
    matches!(
        kind,
        PartialKind::Topk { .. } | PartialKind::Bottomk { .. } | PartialKind::Limitk { .. }
    )
}

/// Rows of the same labels as one, where they are about different steps. All are over the same grid.
pub(super) fn rejoin(mut rows: Vec<ResultRow>) -> Vec<ResultRow> {
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut out: Vec<ResultRow> = Vec::with_capacity(rows.len());
    for row in rows {
        match out.last_mut() {
            Some(last) if last.labels == row.labels && apart(last, &row) => absorb(last, row),
            _ => out.push(row),
        }
    }
    out
}

fn apart(a: &ResultRow, b: &ResultRow) -> bool {
    a.present.iter().zip(&b.present).all(|(a, b)| a & b == 0)
}

fn absorb(into: &mut ResultRow, from: ResultRow) {
    for (to, column) in into.columns.iter_mut().zip(&from.columns) {
        for (i, word) in from.present.iter().enumerate() {
            for step in (0..64).filter(|bit| word >> bit & 1 == 1).map(|bit| i * 64 + bit) {
                if let (Some(cell), Some(v)) = (to.get_mut(step), column.get(step)) {
                    *cell = *v;
                }
            }
        }
    }
    into.present.iter_mut().zip(&from.present).for_each(|(a, b)| *a |= b);
    into.histograms.extend(from.histograms);
    into.histograms.sort_unstable_by_key(|h| h.step);
}

/// A plain result.
pub(super) fn series(row: ResultRow, steps: usize) -> StepSeries {
    StepSeries {
        labels: row.labels,
        values: row.columns.into_iter().next().unwrap_or_default(),
        present: Bitmap::from_words(row.present, steps),
        histograms: row.histograms.into_iter().map(|h| (h.step, h.histogram)).collect(),
    }
}

/// A partial state.
pub(super) fn partial(
    rows: Vec<ResultRow>,
    kind: PartialKind,
    grouping: &Grouping,
    grid: StepGrid,
) -> PartialMatrix {
    let steps = grid.steps();
    let mut groups: Vec<PartialGroup> =
        rows.into_iter().map(|row| group(row, kind, grouping, steps)).collect();
    groups.sort_by(|a, b| a.group.cmp(&b.group).then_with(|| a.labels.cmp(&b.labels)));
    PartialMatrix { kind, grid, groups }
}

fn group(row: ResultRow, kind: PartialKind, grouping: &Grouping, steps: usize) -> PartialGroup {
    let mut columns = row.columns;
    let flags = match has_flags(kind) {
        true => columns.pop().unwrap_or_default().into_iter().map(|f| f as u8).collect(),
        false => Vec::new(),
    };
    let histograms = row.histograms.into_iter().map(|h| PartialHistogram {
        step: h.step,
        value: h.histogram,
        compensation: h.compensation,
    });
    PartialGroup {
        group: match kind {
            PartialKind::Topk { .. }
            | PartialKind::Bottomk { .. }
            | PartialKind::Limitk { .. }
            | PartialKind::CountValues => grouping.group(&row.labels),
            _ => row.labels.clone(),
        },
        labels: row.labels,
        columns,
        present: Bitmap::from_words(row.present, steps),
        flags,
        drop_name: false,
        histograms: histograms.collect(),
    }
}

/// The batches that say what `matrix` holds.
#[must_use]
pub fn encode_series(matrix: &StepMatrix) -> Vec<fleet::Batch> {
    let mut encoder = BatchEncoder::new(matrix.grid.steps());
    let mut out = Vec::new();
    for s in &matrix.series {
        let histograms: Vec<HistogramRef<'_>> = s
            .histograms
            .iter()
            .map(|(step, h)| HistogramRef { step: *step, histogram: h, compensation: None })
            .collect();
        out.extend(encoder.push(RowRef {
            labels: &s.labels,
            present: s.present.words(),
            columns: &[&s.values],
            histograms: &histograms,
        }));
    }
    out.extend(encoder.finish());
    out
}

/// The batches that say what a partial holds.
#[must_use]
pub fn encode_partial(partial: &PartialMatrix) -> Vec<fleet::Batch> {
    let mut encoder = BatchEncoder::new(partial.grid.steps());
    let mut out = Vec::new();
    for g in &partial.groups {
        let flags: Vec<f64> = match has_flags(partial.kind) {
            true if g.flags.is_empty() => vec![0.0; partial.grid.steps()],
            _ => g.flags.iter().map(|f| f64::from(*f)).collect(),
        };
        let mut columns: Vec<&[f64]> = g.columns.iter().map(Vec::as_slice).collect();
        if has_flags(partial.kind) {
            columns.push(&flags);
        }
        let histograms: Vec<HistogramRef<'_>> = g
            .histograms
            .iter()
            .map(|h| HistogramRef {
                step: h.step,
                histogram: &h.value,
                compensation: h.compensation.as_deref(),
            })
            .collect();
        out.extend(encoder.push(RowRef {
            labels: &g.labels,
            present: g.present.words(),
            columns: &columns,
            histograms: &histograms,
        }));
    }
    out.extend(encoder.finish());
    out
}

/// Puts plain results of many parts and slices into one matrix, sorted by labels. Steps of one
/// series that come from different slices are joined.
///
/// # Errors
/// Two samples of the same series for one step, as an evaluation would say it.
pub(super) fn join(mut all: Vec<StepSeries>, grid: StepGrid) -> Result<StepMatrix, QueryError> {
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut series: Vec<StepSeries> = Vec::with_capacity(all.len());
    for s in all {
        match series.last_mut() {
            Some(last) if last.labels == s.labels => fill(last, s)?,
            _ => series.push(s),
        }
    }
    Ok(StepMatrix { grid, series })
}

fn fill(into: &mut StepSeries, from: StepSeries) -> Result<(), QueryError> {
    for i in from.present.ones() {
        if into.present.get(i) {
            let text = format!(
                "vector cannot contain metrics with the same labelset: {:?} comes from two clusters",
                into.labels
            );
            return Err(QueryError::new(ErrorKind::Execution, text));
        }
        into.present.set(i, true);
        if let (Some(to), Some(v)) = (into.values.get_mut(i), from.values.get(i)) {
            *to = *v;
        }
    }
    into.histograms.extend(from.histograms);
    into.histograms.sort_unstable_by_key(|(step, _)| *step);
    Ok(())
}

/// Labels as a tier above is told who is missing.
#[must_use]
pub fn missing_to_wire(m: &crate::endpoints::Missing) -> fleet::Missing {
    fleet::Missing {
        external_labels: Some(periplus_proto::convert::label_set_to_fleet(&m.labels)),
        address: m.address.clone(),
        since_ms: m.since_ms,
        reason: m.reason.clone(),
    }
}

/// Who is missing below, as a tier says it.
#[must_use]
pub fn missing_from_wire(m: fleet::Missing) -> crate::endpoints::Missing {
    let limits = periplus_proto::WireLimits::default();
    let labels = m.external_labels.unwrap_or_default();
    let labels = periplus_proto::convert::label_set_from_fleet(&labels, &limits);
    let labels = labels.unwrap_or_else(|_| Labels::empty());
    let short = |mut s: String| {
        s.truncate(s.floor_char_boundary(500));
        s
    };
    crate::endpoints::Missing {
        labels,
        address: short(m.address),
        since_ms: m.since_ms,
        reason: short(m.reason),
    }
}
