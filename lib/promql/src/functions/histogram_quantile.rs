//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`: what needs all buckets of a
//! histogram, whether they are in one sample (native) or in a series each (classic).
//!
//! Series are sorted into histograms once, by their labels less `le`; then each histogram is
//! evaluated over all steps by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use periplus_model::float::{format_g, parse_go_float};
use periplus_model::{
    ClassicBucket, FloatHistogram, Labels, METRIC_NAME, NanObservations, classic_fraction,
    classic_quantile,
};
use rayon::prelude::*;

use crate::annotations::{Annotation, Annotations, Detail};
use crate::exec::row::{Row, without_metadata};
use crate::parse::ast::Span;
use crate::value::StepGrid;

/// The label that holds a classic bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// What is asked of each histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// `histogram_quantile`: one scalar.
    Quantile,
    /// `histogram_quantiles`: any number of scalars, a series of results each.
    Quantiles,
    /// `histogram_fraction`: lower and upper bound.
    Fraction,
}

/// A call with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct BucketJob<'a> {
    pub(crate) ask: Ask,
    /// Scalar arguments, one value a step each, with their positions.
    pub(crate) scalars: Vec<(&'a [f64], Span)>,
    /// The label that tells the quantiles of `histogram_quantiles` apart.
    pub(crate) label: &'a str,
    /// Where the vector stands.
    pub(crate) vector_span: Span,
    pub(crate) grid: StepGrid,
    /// Whether names are dropped at the end only.
    pub(crate) delayed: bool,
}

/// The series of one histogram.
#[derive(Debug)]
struct Histogram<'a> {
    /// Its labels, without `le`.
    labels: Labels,
    /// Series with native histograms.
    native: Vec<&'a Row>,
    /// Classic buckets: upper bound and series, ascending.
    classic: Vec<(f64, &'a Row)>,
}

impl BucketJob<'_> {
    /// Evaluates the call over `rows`. Rows of the result may have equal labels.
    pub(crate) fn evaluate(&self, rows: &[Row], annotations: &mut Annotations) -> Vec<Row> {
        if self.ask != Ask::Fraction {
            self.check_quantiles(annotations);
        }
        let histograms = self.sort(rows, annotations);
        let done: Vec<(Vec<Row>, Annotations)> =
            histograms.par_iter().map(|h| self.histogram(h)).collect();
        let mut out = Vec::with_capacity(done.len());
        for (rows, said) in done {
            out.extend(rows);
            annotations.merge(said);
        }
        out
    }

    fn check_quantiles(&self, annotations: &mut Annotations) {
        for (values, span) in &self.scalars {
            for q in values.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                annotations.add(Annotation::invalid_quantile(*q, *span));
            }
        }
    }

    /// The metric's name in annotations: none where names are dropped early.
    fn name<'l>(&self, labels: &'l Labels) -> &'l str {
        if self.delayed { labels.value(METRIC_NAME) } else { "" }
    }

    /// Sorts series into histograms.
    fn sort<'a>(&self, rows: &'a [Row], annotations: &mut Annotations) -> Vec<Histogram<'a>> {
        let mut ids: AHashMap<Labels, usize> = AHashMap::new();
        let mut out: Vec<Histogram<'a>> = Vec::new();
        let mut find = |labels: Labels, out: &mut Vec<Histogram<'a>>| {
            *ids.entry(labels).or_insert_with_key(|labels| {
                let labels = labels.clone();
                out.push(Histogram { labels, native: Vec::new(), classic: Vec::new() });
                out.len() - 1
            })
        };
        for row in rows {
            if !row.hist.is_empty() {
                let id = find(row.labels.clone(), &mut out);
                if let Some(h) = out.get_mut(id) {
                    h.native.push(row);
                }
            }
            if row.present.count() == row.hist.len() {
                continue;
            }
            let le = row.labels.value(BUCKET_LABEL);
            let Ok(bound) = parse_go_float(le) else {
                let name = self.name(&row.labels);
                annotations.add(Annotation::bad_bucket_label(name, le, self.vector_span));
                continue;
            };
            let id = find(row.labels.filter(|n| n != BUCKET_LABEL), &mut out);
            if let Some(h) = out.get_mut(id) {
                h.classic.push((bound, row));
            }
        }
        for h in &mut out {
            h.classic.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        out
    }

    fn histogram(&self, h: &Histogram<'_>) -> (Vec<Row>, Annotations) {
        let mut said = Annotations::new();
        let labels = if self.delayed { h.labels.clone() } else { without_metadata(&h.labels) };
        let mut results = Results::new(self, labels);
        let mut buckets = Vec::with_capacity(h.classic.len());
        for step in 0..self.grid.steps() {
            buckets.clear();
            for (bound, row) in &h.classic {
                if row.present.get(step) && row.histogram(step).is_none() {
                    let count = row.values.get(step).copied().unwrap_or(f64::NAN);
                    buckets.push(ClassicBucket { upper_bound: *bound, count });
                }
            }
            let mut native = h.native.iter().filter_map(|row| row.histogram(step)).peekable();
            if native.peek().is_some() && !buckets.is_empty() {
                let name = self.name(&h.labels);
                said.add(Annotation::mixed_classic_native(name, self.vector_span));
                continue;
            }
            for histogram in native {
                self.native(h, histogram, step, &mut results, &mut said);
            }
            if !buckets.is_empty() {
                self.classic(h, &mut buckets, step, &mut results, &mut said);
            }
        }
        (results.rows.into_values().collect(), said)
    }

    fn native(
        &self,
        h: &Histogram<'_>,
        histogram: &Arc<FloatHistogram>,
        step: usize,
        results: &mut Results<'_>,
        said: &mut Annotations,
    ) {
        if self.ask == Ask::Fraction {
            let (v, note) = histogram.fraction(self.scalar(0, step), self.scalar(1, step));
            self.note(h, note, said);
            results.set(0, f64::NAN, step, v);
            return;
        }
        for n in 0..self.scalars.len() {
            let q = self.scalar(n, step);
            let (v, note) = histogram.quantile(q);
            self.note(h, note, said);
            results.set(n, q, step, v);
        }
    }

    fn note(&self, h: &Histogram<'_>, note: Option<NanObservations>, said: &mut Annotations) {
        let (name, span) = (self.name(&h.labels), self.vector_span);
        said.add(match note {
            None => return,
            Some(NanObservations::ResultNan) => Annotation::quantile_nan_result(name, span),
            Some(NanObservations::Skewed) => Annotation::quantile_nan_skew(name, span),
            Some(NanObservations::Excluded) => Annotation::fraction_nans(name, span),
        });
    }

    fn classic(
        &self,
        h: &Histogram<'_>,
        buckets: &mut Vec<ClassicBucket>,
        step: usize,
        results: &mut Results<'_>,
        said: &mut Annotations,
    ) {
        if self.ask == Ask::Fraction {
            let v = classic_fraction(self.scalar(0, step), self.scalar(1, step), buckets);
            results.set(0, f64::NAN, step, v);
            return;
        }
        for n in 0..self.scalars.len() {
            let q = self.scalar(n, step);
            let (v, forced) = classic_quantile(q, buckets);
            if let Some(f) = forced {
                let t = self.grid.time(step);
                let detail = Detail::Monotonicity {
                    times: (t, t),
                    buckets: (f.bucket_min, f.bucket_max),
                    max_diff: f.diff_max,
                    count: 1,
                };
                let name = self.name(&h.labels);
                said.add(Annotation::forced_monotonicity(name, self.vector_span, detail));
            }
            results.set(n, q, step, v);
        }
    }

    fn scalar(&self, n: usize, step: usize) -> f64 {
        self.scalars.get(n).and_then(|(s, _)| s.get(step)).copied().unwrap_or(f64::NAN)
    }
}

/// The rows of one histogram's results.
struct Results<'a> {
    job: &'a BucketJob<'a>,
    labels: Labels,
    /// By argument and, for `histogram_quantiles`, by the quantile's bits: the label follows the
    /// value, which may change from step to step.
    rows: BTreeMap<(usize, u64), Row>,
}

impl<'a> Results<'a> {
    fn new(job: &'a BucketJob<'a>, labels: Labels) -> Self {
        Self { job, labels, rows: BTreeMap::new() }
    }

    fn set(&mut self, n: usize, q: f64, step: usize, v: f64) {
        let tells = self.job.ask == Ask::Quantiles;
        let key = if tells { (n, q.to_bits()) } else { (0, 0) };
        let row = self.rows.entry(key).or_insert_with(|| {
            let labels = if tells {
                let mut b = self.labels.to_builder();
                b.set(self.job.label, quantile_text(q));
                b.build()
            } else {
                self.labels.clone()
            };
            let mut row = Row::empty(labels, self.job.grid.steps());
            row.drop_name = self.job.delayed;
            row
        });
        row.set_float(step, v);
    }
}

/// A quantile as a label's value: always with a point or an exponent.
fn quantile_text(q: f64) -> String {
    let text = format_g(q);
    if text.contains(['.', 'e', 'I', 'N']) { text } else { text + ".0" }
}
