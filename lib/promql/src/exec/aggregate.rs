//! Aggregations: series by series into groups, a column of partial results each.
//!
//! A [`Groups`] takes in rows one after the other and becomes a [`PartialMatrix`]; parts made from
//! blocks of series are merged by [`crate::partial`], as are parts from other processes.

use std::sync::Arc;

use ahash::AHashMap;
use periplus_model::{
    CounterResetHint, FloatHistogram, HistogramMean, HistogramSum, Labels, METRIC_NAME, kahan_add,
};

use crate::annotations::{Annotation, Annotations, HistogramOperation};
use crate::exec::row::Row;
use crate::exec::topk::Best;
use crate::parse::ast::{AggregateOp, Span};
use crate::partial::{PartialGroup, PartialHistogram, PartialKind, PartialMatrix, flags};
use crate::plan::Aggregate;
use crate::value::{Bitmap, StepGrid};

/// How rows find their group.
#[derive(Clone, Debug)]
pub(crate) struct Grouping {
    labels: Vec<String>,
    without: bool,
}

impl Grouping {
    /// Everything in one group.
    #[cfg(test)]
    pub(crate) fn all() -> Self {
        Self { labels: Vec::new(), without: false }
    }

    pub(crate) fn of(a: &Aggregate) -> Self {
        Self { labels: a.grouping.clone(), without: a.without }
    }

    /// The labels of a series' group.
    pub(crate) fn key(&self, labels: &Labels) -> Labels {
        let named = |n: &str| self.labels.iter().any(|l| l == n);
        if self.without {
            labels.filter(|n| n != METRIC_NAME && !named(n))
        } else if self.labels.is_empty() {
            Labels::empty()
        } else {
            labels.filter(named)
        }
    }
}

/// What is aggregated and how, for one run.
#[derive(Clone, Debug)]
pub(crate) struct AggregateJob {
    pub(crate) kind: PartialKind,
    pub(crate) grouping: Grouping,
    pub(crate) grid: StepGrid,
    /// Where annotations about the input point, and where those about the whole do.
    pub(crate) expr_span: Span,
    pub(crate) span: Span,
    /// The k of each step, where they differ.
    pub(crate) k_at: Option<Arc<Vec<u64>>>,
}

impl AggregateJob {
    /// Whether series are kept rather than sums. Which ones does not depend on the order they come in.
    pub(crate) fn keeps_best(&self) -> bool {
        matches!(
            self.kind,
            PartialKind::Topk { .. } | PartialKind::Bottomk { .. } | PartialKind::Limitk { .. }
        )
    }
}

/// The kind of partial result of an aggregation, if it has one.
pub(crate) fn partial_kind(op: AggregateOp, k: u64) -> Option<PartialKind> {
    Some(match op {
        AggregateOp::Sum => PartialKind::Sum,
        AggregateOp::Avg => PartialKind::Avg,
        AggregateOp::Count => PartialKind::Count,
        AggregateOp::Min => PartialKind::Min,
        AggregateOp::Max => PartialKind::Max,
        AggregateOp::Group => PartialKind::Group,
        AggregateOp::Stddev => PartialKind::Stddev,
        AggregateOp::Stdvar => PartialKind::Stdvar,
        AggregateOp::Topk => PartialKind::Topk { k },
        AggregateOp::Bottomk => PartialKind::Bottomk { k },
        AggregateOp::Limitk => PartialKind::Limitk { k },
        AggregateOp::CountValues | AggregateOp::Quantile | AggregateOp::LimitRatio => return None,
    })
}

enum HistogramState {
    Sum(HistogramSum),
    Mean(HistogramMean),
}

/// One group while rows are taken in.
struct Group {
    labels: Labels,
    drop_name: bool,
    columns: Vec<Vec<f64>>,
    present: Bitmap,
    flags: Vec<u8>,
    hist: std::collections::BTreeMap<u32, HistogramState>,
}

/// What became of a part of the rows.
pub(crate) enum Part {
    Groups(PartialMatrix),
    /// The best series, not spread out into columns yet.
    Best(Best),
}

/// Groups while rows are taken in.
pub(crate) struct Groups<'a> {
    job: &'a AggregateJob,
    ids: AHashMap<Labels, usize>,
    groups: Vec<Group>,
    /// For topk and its like: series instead of sums.
    best: Option<Best>,
    /// Of all groups.
    bytes: u64,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(job: &'a AggregateJob) -> Self {
        let best =
            job.keeps_best().then(|| Best::new(job.kind, job.grid.steps(), job.k_at.clone()));
        Self::onto(job, best)
    }

    /// Goes on from the best series of an earlier part.
    pub(crate) fn onto(job: &'a AggregateJob, best: Option<Best>) -> Self {
        Self { job, ids: AHashMap::new(), groups: Vec::new(), best, bytes: 0 }
    }

    /// Takes in a series.
    pub(crate) fn add(&mut self, row: &Row, annotations: &mut Annotations) {
        if !row.present.any() {
            return;
        }
        let key = self.job.grouping.key(&row.labels);
        if let Some(best) = &mut self.best {
            best.add(key, row, self.job.span, annotations);
            return;
        }
        let steps = self.job.grid.steps();
        let kind = self.job.kind;
        let next = self.groups.len();
        let id = *self.ids.entry(key).or_insert_with_key(|key| {
            let with_flags = matches!(kind, PartialKind::Sum | PartialKind::Avg);
            let a_step = kind.columns() * 8 + usize::from(with_flags);
            self.bytes += (steps * a_step + steps / 8 + key.heap_bytes() + 200) as u64;
            self.groups.push(Group {
                labels: key.clone(),
                drop_name: false,
                columns: vec![vec![0.0; steps]; kind.columns()],
                present: Bitmap::new(steps, false),
                flags: if with_flags { vec![0; steps] } else { Vec::new() },
                hist: std::collections::BTreeMap::new(),
            });
            next
        });
        if let Some(g) = self.groups.get_mut(id) {
            g.drop_name |= row.drop_name;
            g.add(kind, row, self.job.expr_span, annotations);
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.best.as_ref().map_or(0, Best::bytes)
    }

    /// What the groups hold, ready to be merged with other parts of the same run.
    pub(crate) fn into_part(mut self) -> Part {
        match self.best.take() {
            Some(best) => Part::Best(best),
            None => Part::Groups(self.finish()),
        }
    }

    pub(crate) fn finish(self) -> PartialMatrix {
        let groups = match self.best {
            Some(best) => best.finish(),
            None => self.groups.into_iter().map(Group::finish).collect(),
        };
        PartialMatrix { kind: self.job.kind, grid: self.job.grid, groups }
    }
}

impl Group {
    fn add(&mut self, kind: PartialKind, row: &Row, span: Span, annotations: &mut Annotations) {
        match kind {
            PartialKind::Sum => self.sum(row, span, annotations),
            PartialKind::Avg => self.avg(row, span, annotations),
            PartialKind::Count => self.count(row),
            PartialKind::Group => self.present.union_with(&row.present),
            PartialKind::Min => self.extreme("min", row, span, annotations, |v, best| v < best),
            PartialKind::Max => self.extreme("max", row, span, annotations, |v, best| v > best),
            PartialKind::Stddev => self.variance("stddev", row, span, annotations),
            PartialKind::Stdvar => self.variance("stdvar", row, span, annotations),
            PartialKind::Topk { .. }
            | PartialKind::Bottomk { .. }
            | PartialKind::Limitk { .. }
            | PartialKind::CountValues => {}
        }
    }

    fn count(&mut self, row: &Row) {
        let Some(counts) = self.columns.first_mut() else { return };
        for i in row.present.ones() {
            counts[i] += 1.0;
        }
        self.present.union_with(&row.present);
    }

    fn sum(&mut self, row: &Row, span: Span, annotations: &mut Annotations) {
        if row.hist.is_empty() && self.hist.is_empty() {
            let [sums, comps] = self.columns.as_mut_slice() else { return };
            for (w, (new, known)) in
                row.present.words().iter().zip(self.present.words()).enumerate()
            {
                let range = w * 64..(w * 64 + 64).min(row.values.len());
                let (sums, comps) = (&mut sums[range.clone()], &mut comps[range.clone()]);
                let (marks, values) = (&mut self.flags[range.clone()], &row.values[range]);
                if *new == u64::MAX && *known == u64::MAX {
                    sum_dense(values, sums, comps);
                } else {
                    sum_sparse(*new, *known, values, (sums, comps, marks));
                }
            }
            self.present.union_with(&row.present);
            return;
        }
        for i in row.present.ones() {
            let first = !self.present.get(i);
            self.present.set(i, true);
            if self.flags[i] & flags::INCOMPATIBLE != 0 {
                continue;
            }
            if let Some(h) = row.histogram(i) {
                self.histogram(i, first, h, false, (row, span), annotations);
                continue;
            }
            self.flags[i] |= flags::FLOAT;
            let [sums, comps] = self.columns.as_mut_slice() else { return };
            if first {
                sums[i] = row.values[i];
            } else {
                (sums[i], comps[i]) = kahan_add(row.values[i], sums[i], comps[i]);
            }
        }
    }

    fn avg(&mut self, row: &Row, span: Span, annotations: &mut Annotations) {
        for i in row.present.ones() {
            let first = !self.present.get(i);
            self.present.set(i, true);
            if self.flags[i] & flags::INCOMPATIBLE != 0 {
                continue;
            }
            if let Some(h) = row.histogram(i) {
                if let Some(n) = self.columns.get_mut(2).and_then(|c| c.get_mut(i)) {
                    *n += 1.0;
                }
                self.histogram(i, first, h, true, (row, span), annotations);
                continue;
            }
            let [sums, comps, counts] = self.columns.as_mut_slice() else { return };
            counts[i] += 1.0;
            self.flags[i] |= flags::FLOAT;
            let v = row.values[i];
            if first {
                sums[i] = v;
                continue;
            }
            let n = counts[i];
            if self.flags[i] & flags::INCREMENTAL == 0 {
                let (next, c) = kahan_add(v, sums[i], comps[i]);
                if !next.is_infinite() {
                    (sums[i], comps[i]) = (next, c);
                    continue;
                }
                self.flags[i] |= flags::INCREMENTAL;
                sums[i] /= n - 1.0;
                comps[i] /= n - 1.0;
            }
            let weight = (n - 1.0) / n;
            (sums[i], comps[i]) = kahan_add(v / n, weight * sums[i], weight * comps[i]);
        }
    }

    /// Takes in a histogram at a step. Where floats came before there is no result anyway.
    fn histogram(
        &mut self,
        i: usize,
        first: bool,
        h: &Arc<FloatHistogram>,
        mean: bool,
        (row, span): (&Row, Span),
        annotations: &mut Annotations,
    ) {
        self.flags[i] |= flags::HISTOGRAM;
        if !first && !self.hist.contains_key(&(i as u32)) {
            return;
        }
        self.flags[i] |= match h.counter_reset_hint {
            CounterResetHint::Reset => flags::RESET,
            CounterResetHint::NotReset => flags::NOT_RESET,
            _ => 0,
        };
        let Some(state) = self.hist.get_mut(&(i as u32)) else {
            let own = FloatHistogram::clone(h);
            let state = match mean {
                true => HistogramState::Mean(HistogramMean::new(own)),
                false => HistogramState::Sum(HistogramSum::new(own)),
            };
            self.hist.insert(i as u32, state);
            return;
        };
        let done = match state {
            HistogramState::Sum(s) => s.add(h),
            HistogramState::Mean(m) => m.add(h),
        };
        match done {
            Ok(r) if r.bounds => {
                let op = HistogramOperation::Aggregation;
                annotations.add(Annotation::mismatched_custom_buckets(op, span));
            }
            Ok(_) => {}
            Err(_) => {
                let name = row.labels.value(METRIC_NAME);
                annotations.add(Annotation::mixed_exponential_custom(name, span));
                self.flags[i] |= flags::INCOMPATIBLE;
            }
        }
    }

    fn extreme(
        &mut self,
        name: &str,
        row: &Row,
        span: Span,
        annotations: &mut Annotations,
        better: impl Fn(f64, f64) -> bool,
    ) {
        let floats = floats_of(name, row, span, annotations);
        let Some(best) = self.columns.first_mut() else { return };
        for i in floats.ones() {
            let v = row.values[i];
            if !self.present.get(i) || better(v, best[i]) || best[i].is_nan() {
                best[i] = v;
            }
        }
        self.present.union_with(&floats);
    }

    fn variance(&mut self, name: &str, row: &Row, span: Span, annotations: &mut Annotations) {
        let floats = floats_of(name, row, span, annotations);
        let [counts, means, squares] = self.columns.as_mut_slice() else { return };
        for i in floats.ones() {
            let v = row.values[i];
            if !self.present.get(i) {
                counts[i] = 1.0;
                means[i] = v;
                squares[i] = if v.is_finite() { 0.0 } else { f64::NAN };
                continue;
            }
            counts[i] += 1.0;
            let delta = v - means[i];
            means[i] += delta / counts[i];
            squares[i] += delta * (v - means[i]);
        }
        self.present.union_with(&floats);
    }

    fn finish(mut self) -> PartialGroup {
        let histograms = self
            .hist
            .into_iter()
            .map(|(step, state)| {
                let (value, comp) = match state {
                    HistogramState::Sum(s) => s.into_parts(),
                    HistogramState::Mean(m) => {
                        let (value, comp, _, incremental) = m.into_parts();
                        if incremental && let Some(f) = self.flags.get_mut(step as usize) {
                            *f |= flags::HISTOGRAM_INCREMENTAL;
                        }
                        (value, comp)
                    }
                };
                let compensation = comp.map(Arc::new);
                PartialHistogram { step, value: Arc::new(value), compensation }
            })
            .collect();
        PartialGroup {
            group: self.labels.clone(),
            labels: self.labels,
            drop_name: self.drop_name,
            columns: self.columns,
            present: self.present,
            flags: self.flags,
            histograms,
        }
    }
}

/// Adds values to sums where all are present. Without branches, so that it runs on several values at
/// a time; the same operations as [`kahan_add`].
fn sum_dense(values: &[f64], sums: &mut [f64], comps: &mut [f64]) {
    for ((v, sum), c) in values.iter().zip(sums).zip(comps) {
        let t = *sum + *v;
        let (large, small) = if sum.abs() >= v.abs() { (*sum, *v) } else { (*v, *sum) };
        let next = *c + ((large - t) + small);
        *c = if t.abs() == f64::INFINITY { 0.0 } else { next };
        *sum = t;
    }
}

fn sum_sparse(
    new: u64,
    known: u64,
    values: &[f64],
    (sums, comps, marks): (&mut [f64], &mut [f64], &mut [u8]),
) {
    for (i, v) in values.iter().enumerate() {
        if new >> i & 1 == 0 {
            continue;
        }
        if known >> i & 1 == 1 {
            (sums[i], comps[i]) = kahan_add(*v, sums[i], comps[i]);
        } else {
            sums[i] = *v;
            marks[i] = flags::FLOAT;
        }
    }
}

/// Where a row has floats; says so when histograms are left out.
fn floats_of(name: &str, row: &Row, span: Span, annotations: &mut Annotations) -> Bitmap {
    let mut floats = row.present.clone();
    if !row.hist.is_empty() {
        annotations.add(Annotation::histogram_ignored_in_aggregation(name, span));
        row.hist.iter().for_each(|(s, _)| floats.set(*s as usize, false));
    }
    floats
}
