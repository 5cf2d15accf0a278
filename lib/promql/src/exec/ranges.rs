//! Runs pipelines, and functions over subqueries; collects ranges.

use std::sync::Arc;

use periplus_model::{Labels, METRIC_NAME, SampleBuffer};
use rayon::prelude::*;

use super::aggregate::AggregateJob;
use super::fuse;
use super::map::MapJob;
use super::pipeline::{self, Feed, Pipeline, Reader, Run, Stage};
use super::row::{Frame, Row};
use super::samples::Samples;
use super::stats::Counts;
use super::window::Job;
use super::{Exec, Selected};
use crate::annotations::Annotations;
use crate::engine::QueryError;
use crate::functions::{Win, extended};
use crate::limits::Charge;
use crate::partial::{Merger, PartialMatrix};
use crate::plan::{Node, NodeId, Op, RangeCall, RangeInput, Read, Window};
use crate::source::SeriesEntry;

/// Rows a worker takes at a time where they are already there.
const ROWS: usize = 128;

/// What a pipeline has given.
pub(super) enum Piped {
    Rows(Frame),
    Partial(PartialMatrix),
}

impl Exec<'_> {
    /// The rows of the chain that ends at `end`, or of a chain's end whose child is evaluated.
    pub(super) fn rows_of(&mut self, end: NodeId) -> Result<Frame, QueryError> {
        let Some(chain) =
            fuse::chain(self.plan, &self.plan_uses, end, self.spec.delayed_name_removal)
        else {
            return self.map_evaluated(end);
        };
        let drops_early = !self.spec.delayed_name_removal && !fuse::one_name(self.plan, &chain);
        match self.pipe(&chain, None)? {
            Piped::Rows(mut f) => {
                if drops_early {
                    self.check_equal(&mut f, &chain)?;
                }
                Ok(f)
            }
            Piped::Partial(_) => Err(QueryError::internal("rows were aggregated")),
        }
    }

    /// Names were dropped: rows that have become equal are one, if they can be.
    fn check_equal(&self, f: &mut Frame, chain: &[NodeId]) -> Result<(), QueryError> {
        let ranges = chain
            .last()
            .and_then(|l| self.plan.nodes.get(*l))
            .is_some_and(|n| matches!(&n.op, Op::Range(c) if !pipeline::keeps_name(c.func)));
        // Nobody looks at the labels of what only has to be there.
        let absence = |n: &Node| matches!(&n.op, Op::Range(c) if c.func == "absent_over_time");
        if chain.last().and_then(|l| self.plan.nodes.get(*l)).is_some_and(absence) {
            return Ok(());
        }
        if ranges && f.has_doubles() {
            return Err(QueryError::same_labelset());
        }
        f.merge_equal()
    }

    /// A map over something that is no pipeline.
    fn map_evaluated(&mut self, end: NodeId) -> Result<Frame, QueryError> {
        let plan = self.plan;
        let (op, node) = match plan.nodes.get(end) {
            Some(n) => match &n.op {
                Op::Map(m) => (m, n),
                _ => return Err(QueryError::internal("a chain without a beginning")),
            },
            None => return Err(QueryError::internal("a chain without an end")),
        };
        let mut frame = self.take_frame(op.child)?;
        let job = self.map_job(end, node)?;
        let cancel = self.cancel;
        let said: Vec<Result<Annotations, QueryError>> = self.pool.install(|| {
            let chunk = |rows: &mut [Row]| {
                let mut said = Annotations::new();
                for r in rows {
                    cancel.check()?;
                    job.apply(r, &mut said);
                }
                Ok(said)
            };
            frame.rows.par_chunks_mut(ROWS).map(chunk).collect()
        });
        for s in said {
            self.annotations.merge(s?);
        }
        frame.drop_empty();
        if job.drops_name() && !self.spec.delayed_name_removal {
            frame.merge_equal()?;
        }
        Ok(frame)
    }

    fn map_job(&mut self, id: NodeId, node: &Node) -> Result<MapJob, QueryError> {
        let Op::Map(m) = &node.op else {
            return Err(QueryError::internal(format!("node {id} is no map")));
        };
        let mut scalars = Vec::with_capacity(m.scalars.len());
        for s in &m.scalars {
            scalars.push(Arc::new(self.take_scalar(*s)?));
        }
        Ok(MapJob {
            op: m.op,
            scalars,
            grid: node.grid,
            span: node.span,
            delayed: self.spec.delayed_name_removal,
        })
    }

    /// Runs a chain, given from its end to its selector, into an aggregation or into rows.
    pub(super) fn pipe(
        &mut self,
        chain: &[NodeId],
        aggregate: Option<&AggregateJob>,
    ) -> Result<Piped, QueryError> {
        let plan = self.plan;
        let missing = || QueryError::internal("a chain without a selector");
        let leaf = chain.last().and_then(|l| plan.nodes.get(*l)).ok_or_else(missing)?;
        let mut maps = Vec::new();
        for id in chain.iter().rev().skip(1) {
            let node = plan.nodes.get(*id).ok_or_else(missing)?;
            maps.push(self.map_job(*id, node)?);
        }
        let select = leaf.op.select().ok_or_else(missing)?;
        let mut args = Vec::new();
        if let Op::Range(c) = &leaf.op {
            for a in &c.args {
                args.push(self.take_scalar(*a)?);
            }
        }
        let Some(reader) = self.reader(leaf, &args) else {
            return Ok(Piped::Rows(Frame::default()));
        };
        let range = plan.selects.get(select).ok_or_else(missing)?.range;
        let counts = self.counts_of(leaf.context)?.clone();
        let pipeline = Pipeline {
            reader,
            grid: leaf.grid,
            range,
            maps,
            aggregate,
            delayed: self.spec.delayed_name_removal,
            start_timestamps: self.spec.start_timestamps,
            type_and_unit: self.spec.type_and_unit_labels,
            counts: &Counts::like(&counts),
            chain,
            analyze: self.spec.analyze,
        };
        self.drive(&pipeline, select, leaf.context)
    }

    /// How the selector of a chain reads series; `None` when there is nothing to read.
    fn reader<'b>(&self, leaf: &Node, args: &'b [Vec<f64>]) -> Option<Reader<'b>> {
        match &leaf.op {
            Op::Select(s) => {
                if s.read == Read::StartTimestamp && !self.spec.start_timestamps {
                    return None;
                }
                Some(Reader::Instant {
                    selection: *s,
                    lookback_ms: self.spec.lookback_ms,
                    span: leaf.span,
                })
            }
            Op::Range(c) => Some(Reader::Window {
                job: Job {
                    func: c.func,
                    window: c.window,
                    grid: leaf.grid,
                    lookback_ms: self.spec.lookback_ms,
                    args: args.iter().map(Vec::as_slice).collect(),
                },
                span: c.at_span,
                stats_only: matches!(c.input, RangeInput::Select { stats_only: true, .. }),
            }),
            _ => None,
        }
    }

    fn drive(
        &mut self,
        pipeline: &Pipeline<'_>,
        select: usize,
        context: usize,
    ) -> Result<Piped, QueryError> {
        let mut feed = self.feed(select)?;
        let run = Run { pool: self.pool, account: &self.account, cancel: self.cancel };
        let mut rows: Vec<Row> = Vec::new();
        let k_at = pipeline.aggregate.and_then(|a| a.k_at.clone());
        let mut merger = Merger::new(k_at);
        let mut charge = Charge::new(&self.account, 0)?;
        let mut merged = 0u64;
        let (mut points, mut counts) = (0u64, Counts::like(pipeline.counts));
        let mut stages = vec![Stage::default(); pipeline.chain.len()];
        let annotations = &mut self.annotations;
        let feed_ref = match &mut feed {
            Selected::Stream(s) => Feed::Stream(&mut **s),
            Selected::Held(all, _) => Feed::Held(all),
            Selected::Gone => Feed::Held(&[]),
        };
        run.stream(pipeline, feed_ref, |out| {
            points += out.points;
            counts.merge(&out.counts);
            stages.iter_mut().zip(&out.stages).for_each(|(all, s)| all.merge(s));
            annotations.merge(out.annotations);
            match out.part.zip(pipeline.aggregate) {
                Some((part, job)) => {
                    merger.add_part(part, job)?;
                    let now = merger.bytes();
                    charge.grow(now.saturating_sub(merged))?;
                    merged = merged.max(now);
                }
                None => {
                    rows.extend(out.rows);
                    charge.absorb(out.charge);
                }
            }
            Ok(())
        })?;
        self.counts_of(context)?.merge(&counts);
        if pipeline.analyze {
            self.report_stages(pipeline.chain, &stages, counts.total);
        }
        self.peak = self.peak.max(self.held + points);
        if let Some(job) = pipeline.aggregate {
            let empty = PartialMatrix { kind: job.kind, grid: job.grid, groups: Vec::new() };
            merger.add(empty)?;
            return merger.finish().map(Piped::Partial);
        }
        Ok(Piped::Rows(Frame { rows, ordered: false, charge: Some(charge) }))
    }

    /// The series of a select. What several selectors read is collected by the first.
    fn feed(&mut self, select: usize) -> Result<Selected, QueryError> {
        let readers = self.plan.nodes.iter().filter(|n| n.op.select() == Some(select)).count();
        let Some(slot) = self.streams.get_mut(select) else { return Ok(Selected::Gone) };
        let taken = std::mem::replace(slot, Selected::Gone);
        if readers < 2 {
            return Ok(taken);
        }
        let (all, charge) = match taken {
            Selected::Stream(mut s) => {
                let mut all: Vec<SeriesEntry> = Vec::new();
                let mut charge = Charge::new(&self.account, 0)?;
                while let Some(block) = s.next_block()? {
                    self.cancel.check()?;
                    let bytes: usize = block
                        .iter()
                        .map(|e| e.samples.encoded_bytes() + e.labels.heap_bytes())
                        .sum();
                    charge.grow(bytes as u64)?;
                    all.extend(block);
                }
                (Arc::new(all), Some(charge))
            }
            Selected::Held(all, charge) => (all, charge),
            Selected::Gone => return Ok(Selected::Gone),
        };
        let again = Arc::clone(&all);
        if let Some(slot) = self.streams.get_mut(select) {
            *slot = Selected::Held(all, charge);
        }
        Ok(Selected::Held(again, None))
    }

    /// A range function over the points of a subquery.
    pub(super) fn range_over_subquery(
        &mut self,
        c: &RangeCall,
        n: &Node,
    ) -> Result<Frame, QueryError> {
        let RangeInput::Subquery(child) = c.input else {
            return Err(QueryError::internal("a range without a subquery"));
        };
        let inner = self.plan.nodes.get(child).map_or(n.grid, |n| n.grid);
        let frame = self.subquery_frame(child)?;
        let mut args = Vec::new();
        for a in &c.args {
            args.push(self.take_scalar(*a)?);
        }
        let job = Job {
            func: c.func,
            window: c.window,
            grid: n.grid,
            lookback_ms: self.spec.lookback_ms,
            args: args.iter().map(Vec::as_slice).collect(),
        };
        let delayed = self.spec.delayed_name_removal;
        let mut counts = Counts::like(self.counts_of(n.context)?);
        let steps = n.grid.steps();
        let charge = Charge::new(&self.account, (frame.rows.len() * (steps * 9 + 160)) as u64)?;
        let (cancel, typed) = (self.cancel, self.spec.type_and_unit_labels);
        type Part = Result<(Vec<Row>, Counts, Annotations), QueryError>;
        let parts: Vec<Part> = self.pool.install(|| {
            let chunk = |rows: &[Row]| {
                let (mut samples, mut out) = (Samples::default(), Vec::with_capacity(rows.len()));
                let (mut counts, mut said) = (Counts::like(&counts), Annotations::new());
                for r in rows {
                    cancel.check()?;
                    samples.take_points(r, inner);
                    let mut row = Row::empty(r.labels.clone(), steps);
                    row.drop_name = r.drop_name;
                    let name = r.labels.value(METRIC_NAME);
                    let span = c.at_span;
                    let to = (&mut counts, &mut said);
                    pipeline::run_window(&job, span, &samples, &mut row, name, to.0, to.1)?;
                    pipeline::counter_hint(c.func, typed, &row, span, &mut said);
                    if !pipeline::keeps_name(c.func) || row.drop_name {
                        super::map::drop_name(&mut row, delayed);
                    }
                    if row.present.any() {
                        out.push(row);
                    }
                }
                Ok((out, counts, said))
            };
            frame.rows.par_chunks(ROWS).map(chunk).collect()
        });
        let mut rows = Vec::with_capacity(frame.rows.len());
        for part in parts {
            let (more, counted, said) = part?;
            rows.extend(more);
            counts.merge(&counted);
            self.annotations.merge(said);
        }
        // What windows of a subquery read was read inside of it.
        counts.read = 0;
        counts.read_at.iter_mut().for_each(|n| *n = 0);
        self.counts_of(n.context)?.merge(&counts);
        let frame = Frame { rows, ordered: false, charge: Some(charge) };
        if !delayed && c.func != "absent_over_time" && frame.has_doubles() {
            return Err(QueryError::same_labelset());
        }
        Ok(frame)
    }

    /// The rows inside a subquery; a number is a series without labels.
    fn subquery_frame(&mut self, child: NodeId) -> Result<Frame, QueryError> {
        match self.take(child)? {
            super::Val::Vector(f) => Ok(f),
            super::Val::Scalar(v) => {
                let mut row = Row::empty(Labels::empty(), v.len());
                row.present = crate::value::Bitmap::new(v.len(), true);
                row.values = v;
                Ok(Frame::new(vec![row]))
            }
            _ => Err(QueryError::internal("a subquery of neither vector nor scalar")),
        }
    }

    /// The points of a subquery that is the result.
    pub(super) fn raw_subquery(
        &mut self,
        child: NodeId,
    ) -> Result<Vec<(Labels, SampleBuffer)>, QueryError> {
        let grid = self.plan.nodes.get(child).map_or(self.spec.grid, |n| n.grid);
        let mut f = self.subquery_frame(child)?;
        for r in f.rows.iter_mut().filter(|r| r.drop_name) {
            super::map::drop_name(r, false);
        }
        f.merge_equal()?;
        let mut out = Vec::with_capacity(f.rows.len());
        for r in f.rows {
            let mut buf = SampleBuffer::new();
            for i in r.present.ones() {
                match r.get(i) {
                    Some(crate::functions::Point::Float(v)) => buf.push(grid.time(i), v),
                    Some(crate::functions::Point::Hist(h)) => buf.push_histogram(grid.time(i), h),
                    None => {}
                }
            }
            if !buf.is_empty() {
                out.push((r.labels, buf));
            }
        }
        Ok(out)
    }

    /// The samples of a range selector that is the result.
    pub(super) fn raw_range(
        &mut self,
        select: usize,
        window: Window,
        n: &Node,
    ) -> Result<Vec<(Labels, SampleBuffer)>, QueryError> {
        let range = self.plan.selects.get(select).map(|s| s.range);
        let Some(range) = range else { return Ok(Vec::new()) };
        let mut feed = self.feed(select)?;
        let mut out = Vec::new();
        let mut charge = Charge::new(&self.account, 0)?;
        let (mut samples, mut total) = (Samples::default(), 0u64);
        loop {
            let block = match &mut feed {
                Selected::Stream(s) => s.next_block()?,
                Selected::Held(all, _) => (!all.is_empty()).then(|| std::mem::take(all).to_vec()),
                Selected::Gone => None,
            };
            let Some(block) = block else { break };
            self.account.add_series(block.len() as u64)?;
            for e in block {
                self.cancel.check()?;
                let mut buf = SampleBuffer::new();
                e.samples.decode(range, &mut buf)?;
                samples.take(&mut buf, false);
                let found = raw_points(&samples, window, self.spec.lookback_ms, n.grid.start_ms)?;
                charge.grow((found.capacity_bytes() + e.labels.heap_bytes()) as u64)?;
                if !found.is_empty() {
                    let heavy: usize =
                        found.histograms.iter().map(|(_, h)| super::row::histogram_weight(h)).sum();
                    total += (found.len() - found.histograms.len() + heavy) as u64;
                    out.push((e.labels, found));
                }
            }
        }
        self.counts_of(n.context)?.at_step(0, total, total);
        Ok(out)
    }
}

/// The samples in the window of an evaluation at `t`; of an anchored or smoothed one the values at
/// its ends and what lies between.
fn raw_points(
    s: &Samples,
    window: Window,
    lookback_ms: i64,
    t: i64,
) -> Result<SampleBuffer, QueryError> {
    let end = window.end(t);
    let start = end.saturating_sub(window.range_ms);
    let extended = window.anchored || window.smoothed;
    let lowest = if extended { start.saturating_sub(lookback_ms) } else { start };
    let highest = if window.smoothed { end.saturating_add(lookback_ms) } else { end };
    let within =
        |t: &[i64]| (t.partition_point(|t| *t <= lowest), t.partition_point(|t| *t <= highest));
    let (f, h) = (within(&s.ft), within(&s.ht));
    let (ft, fv) = (s.ft.get(f.0..f.1).unwrap_or(&[]), s.fv.get(f.0..f.1).unwrap_or(&[]));
    let (ht, hv) = (s.ht.get(h.0..h.1).unwrap_or(&[]), s.hv.get(h.0..h.1).unwrap_or(&[]));
    let mut out = SampleBuffer::new();
    if extended {
        if !hv.is_empty() {
            let word = if window.anchored { "anchored" } else { "smoothed" };
            let text = format!("{word} modifier is not supported with histograms");
            return Err(QueryError::execution(text));
        }
        let w = Win {
            t,
            start,
            end,
            range_ms: window.range_ms,
            ft,
            fv,
            fst: &[],
            ht,
            hv,
            hst: &[],
            args: [0.0; 2],
            anchored: window.anchored,
            smoothed: window.smoothed,
            calm: false,
        };
        let Some((first, last)) = extended_bounds(&w) else { return Ok(out) };
        let (left, right) = extended::float_ends(&w, first, last, false);
        out.push(start, left);
        for i in first..=last {
            if ft[i] > start && ft[i] < end {
                out.push(ft[i], fv[i]);
            }
        }
        out.push(end, right);
        return Ok(out);
    }
    let mut next = hv.iter().zip(ht).peekable();
    for (t, v) in ft.iter().zip(fv) {
        while let Some((h, ht)) = next.next_if(|(_, ht)| **ht < *t) {
            out.push_histogram(*ht, Arc::clone(h));
        }
        out.push(*t, *v);
    }
    for (h, ht) in next {
        out.push_histogram(*ht, Arc::clone(h));
    }
    Ok(out)
}

fn extended_bounds(w: &Win<'_>) -> Option<(usize, usize)> {
    let mut last = w.ft.len().checked_sub(1)?;
    let first = w.ft[..last].partition_point(|t| *t <= w.start).saturating_sub(1);
    if w.smoothed {
        last = w.ft[..last].partition_point(|t| *t < w.end);
    }
    (w.ft[last] > w.start).then_some((first, last))
}
