//! Histograms in parts: sums and means are those of the whole, to the last bit that matters.

use std::sync::Arc;

use periplus_model::{FloatHistogram, Labels, Span as Buckets};

use super::{PartialKind, PartialMatrix, merge};
use crate::annotations::Annotations;
use crate::exec::aggregate::{AggregateJob, Grouping, Groups};
use crate::exec::row::Row;
use crate::parse::ast::Span;
use crate::value::StepGrid;

fn histogram(count: f64) -> FloatHistogram {
    FloatHistogram {
        count,
        sum: count,
        positive_spans: vec![Buckets { offset: 0, length: 1 }],
        positive_buckets: vec![count],
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: periplus_model::CUSTOM_BUCKETS_SCHEMA,
        custom_values: bounds.to_vec(),
        ..histogram(1.0)
    }
}

/// Aggregates each part by itself, merges them, and gives the one histogram that results.
fn check(kind: PartialKind, parts: &[&[FloatHistogram]]) -> (Option<FloatHistogram>, Vec<String>) {
    let job = AggregateJob {
        kind,
        grouping: Grouping::all(),
        grid: StepGrid::instant(0),
        k_at: None,
        expr_span: Span::default(),
        span: Span::default(),
    };
    let mut annotations = Annotations::new();
    let mut id = 0;
    let parts: Vec<PartialMatrix> = parts
        .iter()
        .map(|part| {
            let mut groups = Groups::new(&job);
            for h in *part {
                id += 1;
                let mut row = Row::empty(Labels::from_pairs([("id", id.to_string())]), 1);
                row.push_histogram(0, Arc::new(h.clone()));
                groups.add(&row, &mut annotations);
            }
            groups.finish()
        })
        .collect();
    let (matrix, said) = merge(parts).unwrap().finish(Span::default()).unwrap();
    annotations.merge(said);
    let (warnings, infos) = annotations.to_strings("", 0);
    let series = matrix.series.first().filter(|s| s.present.get(0));
    let found = series.and_then(|s| s.histogram_at(0)).map(|h| FloatHistogram::clone(h));
    (found, warnings.into_iter().chain(infos).collect())
}

#[test]
fn what_rounding_loses_travels() {
    let (a, b, c) = (histogram(1e100), histogram(1.0), histogram(-1e100));
    for parts in [
        &[&[a.clone(), b.clone(), c.clone()][..]][..],
        &[std::slice::from_ref(&a), std::slice::from_ref(&b), std::slice::from_ref(&c)],
        &[&[a.clone(), b.clone()], std::slice::from_ref(&c)],
        &[std::slice::from_ref(&a), &[b.clone(), c.clone()]],
    ] {
        let sum = check(PartialKind::Sum, parts).0.unwrap();
        assert_eq!((sum.count, sum.positive_buckets[0]), (1.0, 1.0));
        let mean = check(PartialKind::Avg, parts).0.unwrap();
        assert_eq!((mean.count, mean.positive_buckets[0]), (1.0 / 3.0, 1.0 / 3.0));
    }
}

#[test]
fn means_of_parts_survive_overflow() {
    let huge = histogram(f64::MAX);
    let part = [huge.clone(), huge.clone()];
    for parts in [&[&part[..], &part[..1]][..], &[&part[..1], &part[..1], &part], &[&part, &part]] {
        let mean = check(PartialKind::Avg, parts).0.unwrap();
        assert!((mean.count / f64::MAX - 1.0).abs() < 1e-12, "{}", mean.count);
    }
}

#[test]
fn what_had_to_be_reconciled_is_said_by_the_whole() {
    let (a, b) = (custom(&[1.0, 2.0]), custom(&[1.0, 3.0]));
    let whole = check(PartialKind::Sum, &[&[a.clone(), b.clone()]]);
    let parts = check(PartialKind::Sum, &[std::slice::from_ref(&a), &[b]]);
    assert_eq!(whole, parts);
    assert_eq!(parts.1.len(), 1);
    assert_eq!(check(PartialKind::Sum, &[&[a], &[histogram(1.0)]]).0, None);
}
