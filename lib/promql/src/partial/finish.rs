//! From partial results to values.

use std::sync::Arc;

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
    }
    histograms.retain(|h| present.get(h.step as usize));
    let aggregated = matches!(kind, PartialKind::Sum | PartialKind::Avg);
    let histograms = histograms
        .into_iter()
        .map(|h| {
            let mut value = h.value;
            if aggregated {
                let own = Arc::make_mut(&mut value);
                if let Some(c) = h.compensation {
                    // The two come from the same buckets, so this can't be refused.
                    let _ = own.add(&c);
                }
                own.compact(0);
            }
            (h.step, value)
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
