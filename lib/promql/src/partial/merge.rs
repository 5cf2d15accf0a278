//! Merges parts of an aggregation.

use std::sync::Arc;

use ahash::AHashMap;
use periplus_model::{FloatHistogram, HistogramMean, HistogramSum, Labels, Reconciled, kahan_add};

use super::{PartialGroup, PartialHistogram, PartialKind, PartialMatrix, flags};
use crate::engine::QueryError;
use crate::exec::aggregate::{AggregateJob, Part};
use crate::exec::topk::Best;

/// Takes in parts one after the other. What it gives does not depend on how the parts were made as
/// far as floats allow: counts, extremes, groups and the best k exactly, sums, means and variances
/// but for the last bits.
#[derive(Default)]
pub(crate) struct Merger {
    whole: Option<PartialMatrix>,
    ids: AHashMap<Labels, usize>,
    best: Option<Best>,
    /// The k of each step of `topk` and its like, where they differ.
    k_at: Option<Arc<Vec<u64>>>,
}

impl Merger {
    pub(crate) fn new(k_at: Option<Arc<Vec<u64>>>) -> Self {
        Self { k_at, ..Self::default() }
    }

    /// Takes in a part of a run within this process.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(crate) fn add_part(&mut self, part: Part, job: &AggregateJob) -> Result<(), QueryError> {
        let other = match part {
            Part::Groups(p) => return self.add(p),
            Part::Best(b) => b,
        };
        if self.whole.is_none() {
            let groups = Vec::new();
            self.add(PartialMatrix { kind: job.kind, grid: job.grid, groups })?;
        }
        match &mut self.best {
            Some(best) if best.is_empty() => *best = other,
            Some(best) => best.merge(other),
            None => return Err(QueryError::internal("best series of an aggregation of sums")),
        }
        Ok(())
    }

    /// # Errors
    /// A part of another kind or grid than the first, or of inconsistent lengths.
    pub(crate) fn add(&mut self, part: PartialMatrix) -> Result<(), QueryError> {
        part.check()?;
        let Some(whole) = &mut self.whole else {
            return self.first(part);
        };
        if whole.kind != part.kind || whole.grid != part.grid {
            return Err(QueryError::internal(format!(
                "parts of different aggregations can't be merged: {:?} over {:?} and {:?} over {:?}",
                whole.kind, whole.grid, part.kind, part.grid
            )));
        }
        if let Some(best) = &mut self.best {
            part.groups.into_iter().for_each(|g| best.add_partial(g));
            return Ok(());
        }
        for g in part.groups {
            match self.ids.get(&g.labels).and_then(|i| whole.groups.get_mut(*i)) {
                Some(known) => known.merge(whole.kind, g),
                None => {
                    self.ids.insert(g.labels.clone(), whole.groups.len());
                    whole.groups.push(g);
                }
            }
        }
        Ok(())
    }

    fn first(&mut self, mut part: PartialMatrix) -> Result<(), QueryError> {
        let groups = std::mem::take(&mut part.groups);
        if matches!(
            part.kind,
            PartialKind::Topk { .. } | PartialKind::Bottomk { .. } | PartialKind::Limitk { .. }
        ) {
            self.best = Some(Best::new(part.kind, part.grid.steps(), self.k_at.clone()));
        }
        let again = PartialMatrix { groups, ..part };
        self.whole = Some(part);
        self.add(again)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        let best = self.best.as_ref().map_or(0, Best::bytes);
        let whole = self.whole.as_ref().map_or(0, PartialMatrix::bytes);
        best + whole
    }

    /// # Errors
    /// Nothing was taken in.
    pub(crate) fn finish(self) -> Result<PartialMatrix, QueryError> {
        let Some(mut whole) = self.whole else {
            return Err(QueryError::internal("there are no parts of an aggregation to merge"));
        };
        if let Some(best) = self.best {
            whole.groups = best.finish();
        }
        whole.groups.sort_by(|a, b| (&a.group, &a.labels).cmp(&(&b.group, &b.labels)));
        Ok(whole)
    }
}

impl PartialMatrix {
    pub(crate) fn bytes(&self) -> u64 {
        self.groups.iter().map(PartialGroup::bytes).sum()
    }
}

impl PartialGroup {
    pub(crate) fn bytes(&self) -> u64 {
        let columns: usize = self.columns.iter().map(|c| c.len() * 8).sum();
        let hist: usize = self.histograms.iter().map(|h| 32 + h.value.bytes()).sum();
        (columns
            + self.flags.len()
            + self.present.len() / 8
            + hist
            + self.labels.heap_bytes()
            + 200) as u64
    }

    fn merge(&mut self, kind: PartialKind, mut other: Self) {
        self.drop_name |= other.drop_name;
        let marks = self.merge_histograms(kind, &mut other);
        for i in other.present.ones() {
            let both = self.present.get(i);
            if both {
                self.merge_step(kind, i, &other);
            } else {
                for (to, from) in self.columns.iter_mut().zip(&other.columns) {
                    to[i] = from[i];
                }
                if let (Some(to), Some(from)) = (self.flags.get_mut(i), other.flags.get(i)) {
                    *to = *from;
                }
            }
        }
        for (i, mark) in marks {
            if let Some(f) = self.flags.get_mut(i) {
                *f |= mark;
            }
        }
        self.present.union_with(&other.present);
    }

    fn merge_step(&mut self, kind: PartialKind, i: usize, other: &Self) {
        let (a, b) = (&mut self.columns, &other.columns);
        match kind {
            PartialKind::Sum => merge_sum(a, b, i, &mut self.flags, &other.flags),
            PartialKind::Avg => merge_avg(a, b, i, &mut self.flags, &other.flags),
            PartialKind::Count | PartialKind::CountValues => a[0][i] += b[0][i],
            PartialKind::Min => {
                if b[0][i] < a[0][i] || a[0][i].is_nan() {
                    a[0][i] = b[0][i];
                }
            }
            PartialKind::Max => {
                if b[0][i] > a[0][i] || a[0][i].is_nan() {
                    a[0][i] = b[0][i];
                }
            }
            PartialKind::Stddev | PartialKind::Stdvar => merge_variance(a, b, i),
            PartialKind::Group
            | PartialKind::Topk { .. }
            | PartialKind::Bottomk { .. }
            | PartialKind::Limitk { .. } => {}
        }
    }

    /// Histograms of both sides at the same step become one; needs counts and flags from before the
    /// rest is merged, and gives the flags that come to it by step.
    fn merge_histograms(&mut self, kind: PartialKind, other: &mut Self) -> Vec<(usize, u8)> {
        let mut marks = Vec::new();
        for h in std::mem::take(&mut other.histograms) {
            let at = match self.histograms.binary_search_by_key(&h.step, |x| x.step) {
                Ok(at) => at,
                Err(at) => {
                    self.histograms.insert(at, h);
                    continue;
                }
            };
            let i = h.step as usize;
            let (ours, theirs) = (self.mean_so_far(i), other.mean_so_far(i));
            let Some(own) = self.histograms.get_mut(at) else { continue };
            let mark = match kind {
                PartialKind::Avg => merge_means(own, ours, h, theirs),
                _ => merge_sums(own, h),
            };
            marks.push((i, mark.unwrap_or(flags::INCOMPATIBLE)));
        }
        marks
    }

    /// Number of samples at a step, and whether the histogram there is a mean already.
    fn mean_so_far(&self, i: usize) -> (f64, bool) {
        let count = self.columns.get(2).and_then(|c| c.get(i)).copied().unwrap_or(1.0);
        let incremental = self.flags.get(i).is_some_and(|f| f & flags::HISTOGRAM_INCREMENTAL != 0);
        (count, incremental)
    }
}

/// Value and compensation, copied only where somebody else holds them, too.
fn parts(h: PartialHistogram) -> (FloatHistogram, Option<FloatHistogram>) {
    (Arc::unwrap_or_clone(h.value), h.compensation.map(Arc::unwrap_or_clone))
}

/// As [`parts`] of what gets new ones.
fn take_parts(h: &mut PartialHistogram) -> (FloatHistogram, Option<FloatHistogram>) {
    let (value, compensation) = (std::mem::take(&mut h.value), h.compensation.take());
    parts(PartialHistogram { step: h.step, value, compensation })
}

fn mark(r: Reconciled) -> u8 {
    if r.bounds { flags::BOUNDS } else { 0 }
}

/// Adds two sums; gives flags, `None` where they can't be added.
fn merge_sums(own: &mut PartialHistogram, other: PartialHistogram) -> Option<u8> {
    let ((value, comp), (more, more_comp)) = (take_parts(own), parts(other));
    let mut sum = HistogramSum::from_parts(value, comp);
    let done = sum.merge(&HistogramSum::from_parts(more, more_comp));
    let (value, comp) = sum.into_parts();
    (own.value, own.compensation) = (Arc::new(value), comp.map(Arc::new));
    Some(mark(done.ok()?))
}

/// Merges two means, each with its count and whether it is a mean already; as [`merge_sums`].
fn merge_means(
    own: &mut PartialHistogram,
    (count, incremental): (f64, bool),
    other: PartialHistogram,
    (more_count, more_incremental): (f64, bool),
) -> Option<u8> {
    let ((value, comp), (more, more_comp)) = (take_parts(own), parts(other));
    let mut mean = HistogramMean::from_parts(value, comp, count, incremental);
    let more = HistogramMean::from_parts(more, more_comp, more_count, more_incremental);
    let done = mean.merge(&more);
    let (value, comp, _, incremental) = mean.into_parts();
    (own.value, own.compensation) = (Arc::new(value), comp.map(Arc::new));
    Some(mark(done.ok()?) | if incremental { flags::HISTOGRAM_INCREMENTAL } else { 0 })
}

fn merge_sum(a: &mut [Vec<f64>], b: &[Vec<f64>], i: usize, fa: &mut [u8], fb: &[u8]) {
    let float = |f: u8| f & flags::FLOAT != 0;
    match (float(fa[i]), float(fb[i])) {
        (true, true) => {
            let (sum, c) = kahan_add(b[0][i], a[0][i], a[1][i]);
            a[0][i] = sum;
            a[1][i] = if sum.is_infinite() { 0.0 } else { c + b[1][i] };
        }
        (false, true) => (a[0][i], a[1][i]) = (b[0][i], b[1][i]),
        _ => {}
    }
    fa[i] |= fb[i];
}

fn merge_avg(a: &mut [Vec<f64>], b: &[Vec<f64>], i: usize, fa: &mut [u8], fb: &[u8]) {
    let (n, m) = (a[2][i], b[2][i]);
    let all = n + m;
    a[2][i] = all;
    let float = |f: u8| f & flags::FLOAT != 0;
    match (float(fa[i]), float(fb[i])) {
        (true, true) => {}
        (false, true) => {
            (a[0][i], a[1][i]) = (b[0][i], b[1][i]);
            fa[i] |= fb[i];
            return;
        }
        _ => {
            fa[i] |= fb[i];
            return;
        }
    }
    let incremental = (fa[i] | fb[i]) & flags::INCREMENTAL != 0;
    if !incremental {
        let (sum, c) = kahan_add(b[0][i], a[0][i], a[1][i]);
        if !sum.is_infinite() {
            (a[0][i], a[1][i]) = (sum, c + b[1][i]);
            fa[i] |= fb[i];
            return;
        }
    }
    let as_mean = |sum: f64, c: f64, n: f64, f: u8| match f & flags::INCREMENTAL {
        0 => (sum / n, c / n),
        _ => (sum, c),
    };
    let (ma, ca) = as_mean(a[0][i], a[1][i], n, fa[i]);
    let (mb, cb) = as_mean(b[0][i], b[1][i], m, fb[i]);
    let (mean, c) = kahan_add(mb * (m / all), ma * (n / all), ca * (n / all));
    (a[0][i], a[1][i]) = (mean, c + cb * (m / all));
    fa[i] |= fb[i] | flags::INCREMENTAL;
}

fn merge_variance(a: &mut [Vec<f64>], b: &[Vec<f64>], i: usize) {
    let (n, m) = (a[0][i], b[0][i]);
    let all = n + m;
    let delta = b[1][i] - a[1][i];
    a[0][i] = all;
    a[1][i] += delta * (m / all);
    a[2][i] += b[2][i] + delta * delta * (n * m / all);
}
