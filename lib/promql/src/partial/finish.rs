//! From partial results to values.

use std::sync::Arc;

use periplus_model::{HistogramMean, HistogramSum};

use super::{PartialGroup, PartialKind, PartialMatrix, flags};
use crate::annotations::{Annotation, Annotations, HistogramOperation};
use crate::exec::topk;
use crate::parse::ast::Span;
use crate::value::StepSeries;

/// The series of the result, and of each whether its name is to be dropped. `best_first`: the
/// series that `topk` and its like keep come in that order.
pub(crate) fn rows(
    mut p: PartialMatrix,
    best_first: bool,
    span: Span,
    annotations: &mut Annotations,
) -> Vec<(bool, StepSeries)> {
    let keeps_series = matches!(
        p.kind,
        PartialKind::Topk { .. } | PartialKind::Bottomk { .. } | PartialKind::Limitk { .. }
    );
    if keeps_series && best_first {
        topk::sort_instant(p.kind, &mut p.groups);
    }
    let kind = p.kind;
    let mut out: Vec<(bool, StepSeries)> = p
        .groups
        .into_iter()
        .map(|g| (g.drop_name, group(kind, g, span, annotations)))
        .filter(|(_, s)| s.present.any())
        .collect();
    if !(keeps_series && best_first) {
        out.sort_by(|a, b| a.1.labels.cmp(&b.1.labels));
    }
    out
}

fn group(
    kind: PartialKind,
    g: PartialGroup,
    span: Span,
    annotations: &mut Annotations,
) -> StepSeries {
    let PartialGroup { labels, columns, mut present, flags: marks, mut histograms, .. } = g;
    let steps = present.len();
    for (i, f) in marks.iter().enumerate() {
        if f & flags::HISTOGRAM == 0 {
            continue;
        }
        if f & flags::FLOAT != 0 {
            annotations.add(Annotation::mixed_floats_histograms_aggregation(span));
            present.set(i, false);
        } else if f & flags::INCOMPATIBLE != 0 {
            present.set(i, false);
        } else if f & flags::RESET != 0 && f & flags::NOT_RESET != 0 {
            let op = HistogramOperation::Aggregation;
            annotations.add(Annotation::reset_collision(op, span));
        }
        if f & flags::BOUNDS != 0 {
            let op = HistogramOperation::Aggregation;
            annotations.add(Annotation::mismatched_custom_buckets(op, span));
        }
    }
    histograms.retain(|h| present.get(h.step as usize));
    let histograms = histograms
        .into_iter()
        .map(|h| {
            let i = h.step as usize;
            let comp = h.compensation.map(Arc::unwrap_or_clone);
            let whole = match kind {
                PartialKind::Sum => {
                    HistogramSum::from_parts(Arc::unwrap_or_clone(h.value), comp).finish()
                }
                PartialKind::Avg => {
                    let count = columns.get(2).and_then(|c| c.get(i)).copied().unwrap_or(1.0);
                    let mark = marks.get(i).copied().unwrap_or(0);
                    let incremental = mark & flags::HISTOGRAM_INCREMENTAL != 0;
                    let value = Arc::unwrap_or_clone(h.value);
                    HistogramMean::from_parts(value, comp, count, incremental).finish()
                }
                _ => return (h.step, h.value),
            };
            (h.step, Arc::new(whole.compacted(0)))
        })
        .collect();
    let values = values(kind, columns, &marks, steps);
    StepSeries { labels, values, present, histograms }
}

fn values(kind: PartialKind, columns: Vec<Vec<f64>>, marks: &[u8], steps: usize) -> Vec<f64> {
    let mut columns = columns.into_iter();
    let Some(mut first) = columns.next() else { return vec![1.0; steps] };
    match kind {
        PartialKind::Sum => {
            let comps = columns.next().unwrap_or_default();
            first.iter_mut().zip(&comps).for_each(|(v, c)| *v += c);
        }
        PartialKind::Avg => {
            let (comps, counts) =
                (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
            let rest = comps.iter().zip(&counts).zip(marks);
            for (v, ((c, n), f)) in first.iter_mut().zip(rest) {
                *v = match f & flags::INCREMENTAL {
                    0 => *v / n + c / n,
                    _ => *v + c,
                };
            }
        }
        PartialKind::Stddev | PartialKind::Stdvar => {
            let squares = columns.nth(1).unwrap_or_default();
            for (v, s) in first.iter_mut().zip(&squares) {
                let variance = s / *v;
                *v = if kind == PartialKind::Stddev { variance.sqrt() } else { variance };
            }
        }
        _ => {}
    }
    first
}
