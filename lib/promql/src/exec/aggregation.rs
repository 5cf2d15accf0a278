//! Aggregations as nodes: parameters, pipelines or whole frames below, and the three that need all
//! series at once (`quantile`, `count_values`, `limit_ratio`).

use std::sync::Arc;

use ahash::AHashMap;
use periplus_model::Labels;
use periplus_model::float::{format_float, format_g};
use rayon::prelude::*;

use super::Exec;
use super::aggregate::{AggregateJob, Grouping, Groups, Part, partial_kind};
use super::fuse;
use super::ranges::Piped;
use super::row::{Frame, Row};
use crate::annotations::{Annotation, Annotations};
use crate::engine::QueryError;
use crate::functions::quantile::quantile;
use crate::limits::Charge;
use crate::parse::ast::AggregateOp;
use crate::partial::{Merger, PartialGroup, PartialHistogram, PartialKind, PartialMatrix, finish};
use crate::plan::{Aggregate, Node, NodeId, Op};
use crate::value::Bitmap;

/// Rows of a frame that are aggregated in one go.
const CHUNK: usize = 1024;

impl Exec<'_> {
    pub(super) fn aggregation(&mut self, a: &Aggregate, n: &Node) -> Result<Frame, QueryError> {
        match a.op {
            AggregateOp::Quantile => return self.quantile(a, n),
            AggregateOp::LimitRatio => return self.limit_ratio(a, n),
            _ => {}
        }
        let Some(partial) = self.partial(a, n)? else { return Ok(Frame::default()) };
        let keeps_series =
            matches!(a.op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk);
        let instant = n.grid.steps() == 1;
        let rows =
            finish::rows(partial, keeps_series && instant, a.expr_span, &mut self.annotations);
        let rows = rows
            .into_iter()
            .map(|(drop_name, s)| Row {
                labels: s.labels,
                drop_name,
                values: s.values,
                present: s.present,
                hist: s.histograms,
            })
            .collect();
        let mut f = Frame::new(rows);
        f.ordered = instant && matches!(a.op, AggregateOp::Topk | AggregateOp::Bottomk);
        Ok(f)
    }

    /// The partial result of the aggregation that is the root.
    pub(super) fn partial_of(&mut self, root: NodeId) -> Result<PartialMatrix, QueryError> {
        let plan = self.plan;
        let unsupported = || {
            QueryError::internal(
                "only sum, avg, count, min, max, group, stddev, stdvar, topk, bottomk, limitk \
                 and count_values can be evaluated in part",
            )
        };
        let n = plan.nodes.get(root).ok_or_else(unsupported)?;
        if let Op::Repeat(child) = &n.op {
            let once = self.partial_of(*child)?;
            return Ok(repeated(once, n));
        }
        let Op::Aggregate(a) = &n.op else { return Err(unsupported()) };
        if matches!(a.op, AggregateOp::Quantile | AggregateOp::LimitRatio) {
            return Err(unsupported());
        }
        let mut p = match self.partial(a, n)? {
            Some(p) => p,
            None => {
                let kind = partial_kind(a.op, 0).ok_or_else(unsupported)?;
                PartialMatrix { kind, grid: n.grid, groups: Vec::new() }
            }
        };
        for g in &mut p.groups {
            if std::mem::take(&mut g.drop_name) {
                g.labels = super::row::without_metadata(&g.labels);
                g.group = super::row::without_metadata(&g.group);
            }
        }
        p.groups.sort_by(|a, b| (&a.group, &a.labels).cmp(&(&b.group, &b.labels)));
        Ok(p)
    }

    /// The partial result; `None` when the parameter asks for nothing.
    fn partial(&mut self, a: &Aggregate, n: &Node) -> Result<Option<PartialMatrix>, QueryError> {
        if a.op == AggregateOp::CountValues {
            return self.count_values(a, n).map(Some);
        }
        let (mut k, mut k_at) = (0, None);
        if let Some(param) = a.param {
            let params = self.take_scalar(param)?;
            let Some((most, varies)) = self.k_of(&params)? else {
                self.skip(a.child)?;
                return Ok(None);
            };
            k = most;
            if varies {
                let all = params.iter().map(|v| if *v < 1.0 { 0 } else { *v as u64 }).collect();
                k_at = Some(Arc::new(all));
            }
        }
        let kind = partial_kind(a.op, k)
            .ok_or_else(|| QueryError::internal(format!("{} in parts", a.op.as_str())))?;
        let job = AggregateJob {
            kind,
            grouping: Grouping::of(a),
            grid: n.grid,
            expr_span: a.expr_span,
            span: n.span,
            k_at,
        };
        if self.fused.get(a.child) == Some(&true)
            && let Some(chain) =
                fuse::chain(self.plan, &self.plan_uses, a.child, self.spec.delayed_name_removal)
        {
            return match self.pipe(&chain, Some(&job))? {
                Piped::Partial(p) => Ok(Some(p)),
                Piped::Rows(_) => Ok(None),
            };
        }
        let f = self.take_frame(a.child)?;
        self.fold(&f, &job).map(Some)
    }

    /// Evaluation order has already evaluated a child that is not needed after all.
    fn skip(&mut self, child: NodeId) -> Result<(), QueryError> {
        if self.fused.get(child) != Some(&true) {
            self.take(child)?;
        }
        Ok(())
    }

    /// Aggregates a frame, a chunk of rows at a time.
    fn fold(&mut self, f: &Frame, job: &AggregateJob) -> Result<PartialMatrix, QueryError> {
        let mut merger = Merger::new(job.k_at.clone());
        let mut charge = Charge::new(&self.account, 0)?;
        let empty = PartialMatrix { kind: job.kind, grid: job.grid, groups: Vec::new() };
        let cancel = self.cancel;
        let parts: Vec<Result<(Part, u64, Annotations), QueryError>> = self.pool.install(|| {
            let chunk = |rows: &[Row]| {
                let (mut groups, mut said) = (Groups::new(job), Annotations::new());
                for r in rows {
                    cancel.check()?;
                    groups.add(r, &mut said);
                }
                let bytes = groups.bytes();
                Ok((groups.into_part(), bytes, said))
            };
            f.rows.par_chunks(CHUNK).map(chunk).collect()
        });
        for part in parts {
            let (part, bytes, said) = part?;
            self.annotations.merge(said);
            charge.grow(bytes)?;
            merger.add_part(part, job)?;
        }
        merger.add(empty)?;
        merger.finish()
    }

    /// The largest k, and whether it differs between steps; `None` when all are below one.
    fn k_of(&self, params: &[f64]) -> Result<Option<(u64, bool)>, QueryError> {
        if params.iter().all(|v| *v < 1.0) {
            return Ok(None);
        }
        if params.iter().any(|v| v.is_nan()) {
            return Err(QueryError::execution("Parameter value is NaN"));
        }
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in params {
            (low, high) = (low.min(*v), high.max(*v));
        }
        if low <= -9_223_372_036_854_775_808.0 {
            let text = format!("Scalar value {} underflows int64", format_g(low));
            return Err(QueryError::execution(text));
        }
        if high >= 9_223_372_036_854_775_807.0 {
            let text = format!("Scalar value {} overflows int64", format_g(high));
            return Err(QueryError::execution(text));
        }
        Ok(Some((high as u64, low as i64 != high as i64)))
    }

    fn params(&mut self, a: &Aggregate) -> Result<Vec<f64>, QueryError> {
        match a.param {
            Some(p) => self.take_scalar(p),
            None => Err(QueryError::internal(format!("{} lacks its parameter", a.op.as_str()))),
        }
    }

    fn quantile(&mut self, a: &Aggregate, n: &Node) -> Result<Frame, QueryError> {
        let q = self.params(a)?;
        let f = self.take_frame(a.child)?;
        let off = |v: &&f64| !(0.0..=1.0).contains(*v);
        let mut odd: Vec<f64> = q.iter().filter(off).copied().collect();
        odd.dedup_by(|a, b| a.to_bits() == b.to_bits());
        if odd.iter().any(|v| v.is_nan()) {
            self.annotations.add(Annotation::invalid_quantile(f64::NAN, a.param_span));
        }
        let above = odd.iter().copied().filter(|v| *v > 1.0).fold(f64::NAN, f64::max);
        let below = odd.iter().copied().filter(|v| *v < 0.0).fold(f64::NAN, f64::min);
        for v in [above, below].into_iter().filter(|v| !v.is_nan()) {
            self.annotations.add(Annotation::invalid_quantile(v, a.param_span));
        }
        let groups = group_rows(&f, &Grouping::of(a));
        let steps = n.grid.steps();
        let mut out = Vec::with_capacity(groups.len());
        let mut values = Vec::new();
        for (labels, members) in groups {
            let mut row = Row::empty(labels, steps);
            row.drop_name = members.iter().any(|r| r.drop_name);
            if members.iter().any(|r| !r.hist.is_empty()) {
                let note = Annotation::histogram_ignored_in_aggregation("quantile", a.expr_span);
                self.annotations.add(note);
            }
            for i in 0..steps {
                values.clear();
                values.extend(
                    members
                        .iter()
                        .filter(|r| r.present.get(i) && r.histogram(i).is_none())
                        .map(|r| r.values[i]),
                );
                if !values.is_empty() {
                    row.set_float(i, quantile(q.get(i).copied().unwrap_or(0.0), &mut values));
                }
            }
            self.cancel.check()?;
            if row.present.any() {
                out.push(row);
            }
        }
        Ok(Frame::new(out))
    }

    fn limit_ratio(&mut self, a: &Aggregate, n: &Node) -> Result<Frame, QueryError> {
        let ratios = self.params(a)?;
        let mut f = self.take_frame(a.child)?;
        if ratios.iter().all(|r| *r == 0.0) {
            return Ok(Frame::default());
        }
        if ratios.iter().any(|r| r.is_nan()) {
            return Err(QueryError::execution("Ratio value is NaN"));
        }
        let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        if high > 1.0 {
            self.annotations.add(Annotation::invalid_ratio(high, 1.0, a.param_span));
        }
        if low < -1.0 {
            self.annotations.add(Annotation::invalid_ratio(low, -1.0, a.param_span));
        }
        let steps = n.grid.steps();
        for r in &mut f.rows {
            let offset = sample_offset(&r.labels);
            let mut keep = Bitmap::new(steps, false);
            for (i, ratio) in ratios.iter().enumerate() {
                let ratio = ratio.clamp(-1.0, 1.0);
                let inside = if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio };
                keep.set(i, ratio != 0.0 && inside);
            }
            r.keep_steps(&keep);
        }
        f.drop_empty();
        Ok(f)
    }

    fn count_values(&mut self, a: &Aggregate, n: &Node) -> Result<PartialMatrix, QueryError> {
        let f = self.take_frame(a.child)?;
        let mut grouping = a.clone();
        if !a.without {
            grouping.grouping.push(a.label.clone());
        }
        let grouping = Grouping::of(&grouping);
        let steps = n.grid.steps();
        let mut ids: AHashMap<Labels, usize> = AHashMap::new();
        let mut groups: Vec<PartialGroup> = Vec::new();
        let mut charge = Charge::new(&self.account, 0)?;
        for r in &f.rows {
            self.cancel.check()?;
            let mut known: AHashMap<u64, usize> = AHashMap::new();
            for i in r.present.ones() {
                let text = match r.histogram(i) {
                    Some(h) => h.to_string(),
                    None => {
                        if let Some(id) = known.get(&r.values[i].to_bits()) {
                            count_one(&mut groups, *id, i);
                            continue;
                        }
                        format_float(r.values[i])
                    }
                };
                let whole = r.labels.to_builder().set(a.label.as_str(), text).build();
                let key = grouping.key(&whole);
                let next = groups.len();
                let id = *ids.entry(key).or_insert(next);
                if id == next {
                    let labels = grouping.key(&whole);
                    charge.grow((steps * 9 + 200 + 2 * labels.heap_bytes()) as u64)?;
                    groups.push(PartialGroup {
                        group: labels.clone(),
                        labels,
                        drop_name: false,
                        columns: vec![vec![0.0; steps]],
                        present: Bitmap::new(steps, false),
                        flags: Vec::new(),
                        histograms: Vec::new(),
                    });
                }
                if r.histogram(i).is_none() {
                    known.insert(r.values[i].to_bits(), id);
                }
                count_one(&mut groups, id, i);
            }
        }
        Ok(PartialMatrix { kind: PartialKind::CountValues, grid: n.grid, groups })
    }
}

/// A partial result of one step, for every step of a node.
fn repeated(mut p: PartialMatrix, n: &Node) -> PartialMatrix {
    let steps = n.grid.steps();
    for g in &mut p.groups {
        for c in &mut g.columns {
            *c = vec![c.first().copied().unwrap_or(0.0); steps];
        }
        if let Some(f) = g.flags.first().copied() {
            g.flags = vec![f; steps];
        }
        if let Some(h) = g.histograms.pop() {
            let at = |i: usize| PartialHistogram { step: i as u32, ..h.clone() };
            g.histograms = (0..steps).map(at).collect();
        }
        g.present = Bitmap::new(steps, g.present.get(0));
    }
    PartialMatrix { grid: n.grid, ..p }
}

fn count_one(groups: &mut [PartialGroup], id: usize, step: usize) {
    if let Some(g) = groups.get_mut(id) {
        g.present.set(step, true);
        if let Some(n) = g.columns.first_mut().and_then(|c| c.get_mut(step)) {
            *n += 1.0;
        }
    }
}

/// Rows by group, groups in order of first appearance.
fn group_rows<'a>(f: &'a Frame, grouping: &Grouping) -> Vec<(Labels, Vec<&'a Row>)> {
    let mut ids: AHashMap<Labels, usize> = AHashMap::new();
    let mut groups: Vec<(Labels, Vec<&Row>)> = Vec::new();
    for r in &f.rows {
        let key = grouping.key(&r.labels);
        let next = groups.len();
        let id = *ids.entry(key.clone()).or_insert(next);
        if id == next {
            groups.push((key, Vec::new()));
        }
        if let Some((_, members)) = groups.get_mut(id) {
            members.push(r);
        }
    }
    groups
}

/// Where a series stands between 0 and 1 for `limit_ratio`: its hash, as Prometheus computes it
/// (XXH64 over names and values, each after its length in one byte, or 255 and three).
fn sample_offset(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(labels.heap_bytes());
    for (n, v) in labels {
        for part in [n, v] {
            let len = part.len();
            if len < 255 {
                bytes.push(len as u8);
            } else {
                bytes.extend([255, len as u8, (len >> 8) as u8, (len >> 16) as u8]);
            }
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0) as f64 / u64::MAX as f64
}
