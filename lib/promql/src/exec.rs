//! Runs a plan.
//!
//! Nodes are evaluated from the first to the last, so that every input is there when it is needed;
//! a value is freed after its last use. A chain that ends in a selector (range function, then
//! operations on each series, then perhaps an aggregation) is one *pipeline*: its nodes are not
//! evaluated one by one, but series after series by all workers (`pipeline`), and an aggregation at
//! its end keeps only groups. Everything else works on whole [`row::Frame`]s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::annotations::Annotations;
use crate::engine::{Leaves, QueryError, QuerySpec};
use crate::explain::OperatorReport;
use crate::limits::{Account, Cancel, Charge};
use crate::partial::PartialMatrix;
use crate::plan::{Node, NodeId, Op, Plan};
use crate::source::{SeriesEntry, SeriesStream, Source};
use crate::value::StepGrid;

pub(crate) mod aggregate;
mod aggregation;
mod binary;
mod fuse;
mod histogram;
mod info;
mod instant;
mod labels;
mod leaf;
pub(crate) mod map;
mod matching;
mod pipeline;
mod ranges;
pub(crate) mod row;
mod samples;
mod scalars;
mod set;
mod sort;
pub(crate) mod stats;
pub(crate) mod topk;
mod window;

use pipeline::Stage;
use row::{Frame, Row, Val};
use stats::Counts;

/// What the operators of one query share.
pub(crate) struct Exec<'a> {
    pub(crate) pool: &'a rayon::ThreadPool,
    pub(crate) spec: &'a QuerySpec,
    pub(crate) plan: &'a Plan,
    pub(crate) source: &'a dyn Source,
    pub(crate) leaves: &'a Leaves,
    pub(crate) cancel: &'a Cancel,
    pub(crate) account: Arc<Account>,
    pub(crate) annotations: Annotations,
    /// One for each context.
    counts: Vec<Counts>,
    values: Vec<Option<Val>>,
    uses: Vec<usize>,
    /// `uses` as they were before anything was evaluated.
    plan_uses: Vec<usize>,
    /// Nodes that a pipeline evaluates for a node above.
    fused: Vec<bool>,
    streams: Vec<Selected>,
    /// Samples held now and at most.
    held: u64,
    peak: u64,
    reports: Vec<Option<OperatorReport>>,
}

/// What a select has come to.
enum Selected {
    /// Nobody has read it yet.
    Stream(Box<dyn SeriesStream>),
    /// Read by several selectors: the series, and how many readers are still to come.
    Held(Arc<Vec<SeriesEntry>>, Option<Charge>),
    Gone,
}

/// What a whole run gives.
pub(crate) struct Outcome {
    pub(crate) value: Val,
    pub(crate) annotations: Annotations,
    pub(crate) counts: Counts,
    pub(crate) peak_samples: u64,
    pub(crate) reports: Vec<OperatorReport>,
}

impl<'a> Exec<'a> {
    /// Begins all selections.
    ///
    /// # Errors
    /// A source that refuses.
    pub(crate) fn new(
        pool: &'a rayon::ThreadPool,
        spec: &'a QuerySpec,
        plan: &'a Plan,
        (source, leaves): (&'a dyn Source, &'a Leaves),
        cancel: &'a Cancel,
        account: Arc<Account>,
    ) -> Result<Self, QueryError> {
        let used: Vec<bool> = {
            let mut used = vec![false; plan.selects.len()];
            for s in plan.nodes.iter().filter_map(|n| n.op.select()) {
                if let Some(u) = used.get_mut(s) {
                    *u = true;
                }
            }
            used
        };
        let mut streams = Vec::with_capacity(plan.selects.len());
        for (request, used) in plan.selects.iter().zip(used) {
            streams.push(if used && !request.range.is_empty() {
                Selected::Stream(source.select(request)?)
            } else {
                Selected::Gone
            });
        }
        let counts = plan
            .contexts
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let by_step = if i == 0 { spec.per_step_stats } else { c.grid.steps() > 1 };
                Counts::new(by_step.then(|| c.grid.steps()))
            })
            .collect();
        let uses = plan.uses();
        Ok(Self {
            pool,
            spec,
            plan,
            source,
            leaves,
            cancel,
            account,
            annotations: Annotations::new(),
            counts,
            values: plan.nodes.iter().map(|_| None).collect(),
            fused: fuse::fused(plan, &uses, spec.delayed_name_removal),
            plan_uses: uses.clone(),
            uses,
            streams,
            held: 0,
            peak: 0,
            reports: plan.nodes.iter().map(|_| None).collect(),
        })
    }

    /// Evaluates everything below `until`, itself included unless it is to give a partial.
    fn evaluate(&mut self, until: NodeId, itself: bool) -> Result<(), QueryError> {
        for id in 0..=until {
            let wanted = self.uses.get(id).is_some_and(|u| *u > 0);
            if !wanted || self.fused.get(id) == Some(&true) || (id == until && !itself) {
                continue;
            }
            self.cancel.check()?;
            let began = Instant::now();
            let plan = self.plan;
            let Some(node) = plan.nodes.get(id) else { continue };
            let before = self.counts.get(node.context).map_or(0, |c| c.total);
            let mut value = self.node(id, node)?;
            self.settle(&mut value)?;
            let after = self.counts.get(node.context).map_or(0, |c| c.total);
            if self.spec.analyze {
                self.report(id, &value, after.saturating_sub(before), began.elapsed());
            }
            if let Some(slot) = self.values.get_mut(id) {
                *slot = Some(value);
            }
        }
        Ok(())
    }

    /// Counts a value that has come to be.
    fn settle(&mut self, value: &mut Val) -> Result<(), QueryError> {
        let points = points_of(value);
        self.held += points;
        self.peak = self.peak.max(self.held);
        if self.held > self.spec.limits.samples {
            return Err(QueryError::new(
                crate::engine::ErrorKind::Limit,
                format!(
                    "query processing would load too many samples into memory in query \
                     execution: {} samples, over the limit of {}",
                    self.held, self.spec.limits.samples
                ),
            ));
        }
        if let Val::Vector(f) = value
            && f.charge.is_none()
        {
            f.charge = Some(Charge::new(&self.account, f.bytes())?);
        }
        Ok(())
    }

    fn report(&mut self, id: NodeId, value: &Val, samples: u64, time: Duration) {
        let (series, bytes) = match value {
            Val::Vector(f) => (f.rows.len() as u64, f.bytes()),
            Val::Scalar(v) => (1, v.len() as u64 * 8),
            Val::Text(_) => (1, 0),
            Val::Range(r) => (r.len() as u64, 0),
        };
        let report = OperatorReport {
            series,
            points: points_of(value),
            samples,
            bytes,
            time,
            ..OperatorReport::default()
        };
        if let Some(slot) = self.reports.get_mut(id) {
            *slot = Some(report);
        }
    }

    /// What the nodes of a pipeline did, given from its end to its selector, as their stages are not.
    fn report_stages(&mut self, chain: &[NodeId], stages: &[Stage], samples: u64) {
        for (i, (id, stage)) in chain.iter().rev().zip(stages).enumerate() {
            let report = OperatorReport {
                series: stage.series,
                points: stage.points,
                samples: if i == 0 { samples } else { 0 },
                bytes: stage.bytes,
                time: stage.time,
                pipelined: true,
                ..OperatorReport::default()
            };
            if let Some(slot) = self.reports.get_mut(*id) {
                *slot = Some(report);
            }
        }
    }

    /// The value of a node, freed when nobody else needs it.
    fn take(&mut self, id: NodeId) -> Result<Val, QueryError> {
        let uses = self.uses.get_mut(id).ok_or_else(|| missing(id))?;
        *uses = uses.saturating_sub(1);
        let slot = self.values.get_mut(id).ok_or_else(|| missing(id))?;
        if *uses > 0 {
            return match slot {
                Some(Val::Scalar(v)) => Ok(Val::Scalar(v.clone())),
                Some(Val::Vector(f)) => {
                    let charge = Some(Charge::new(&self.account, f.bytes())?);
                    Ok(Val::Vector(Frame { rows: f.rows.clone(), ordered: f.ordered, charge }))
                }
                Some(Val::Text(s)) => Ok(Val::Text(s.clone())),
                Some(Val::Range(r)) => Ok(Val::Range(r.clone())),
                None => Err(missing(id)),
            };
        }
        let value = slot.take().ok_or_else(|| missing(id))?;
        self.held = self.held.saturating_sub(points_of(&value));
        Ok(value)
    }

    fn take_frame(&mut self, id: NodeId) -> Result<Frame, QueryError> {
        match self.take(id)? {
            Val::Vector(f) => Ok(f),
            _ => Err(QueryError::internal(format!("node {id} is no vector"))),
        }
    }

    fn take_scalar(&mut self, id: NodeId) -> Result<Vec<f64>, QueryError> {
        match self.take(id)? {
            Val::Scalar(v) => Ok(v),
            _ => Err(QueryError::internal(format!("node {id} is no scalar"))),
        }
    }

    fn counts_of(&mut self, context: usize) -> Result<&mut Counts, QueryError> {
        let text = || QueryError::internal("a node without a context");
        self.counts.get_mut(context).ok_or_else(text)
    }

    fn node(&mut self, id: NodeId, n: &Node) -> Result<Val, QueryError> {
        let grid = n.grid;
        if let Some(v) = self.scalar_node(&n.op, grid)? {
            return Ok(v);
        }
        let frame = match &n.op {
            Op::Select(_) | Op::Map(_) => self.rows_of(id)?,
            Op::Range(c) => match c.input {
                crate::plan::RangeInput::Select { .. } => self.rows_of(id)?,
                crate::plan::RangeInput::Subquery(_) => self.range_over_subquery(c, n)?,
            },
            Op::Repeat(c) => return self.repeat(*c, grid),
            Op::RawRange { select, window } => {
                return self.raw_range(*select, *window, n).map(Val::Range);
            }
            Op::RawSubquery(c) => return self.raw_subquery(*c).map(Val::Range),
            Op::ToVector(c) => self.vector_of(*c, grid)?,
            Op::Leaf(leaf) => return self.leaf(*leaf, n),
            Op::Binary(b) if b.op.is_set() => self.set_operation(b, grid)?,
            Op::Binary(b) => self.vector_binary(b, n)?,
            Op::Aggregate(a) => self.aggregation(a, n)?,
            Op::LabelReplace { .. } | Op::LabelJoin { .. } => self.relabel(&n.op)?,
            Op::Sort { child, descending, labels } => {
                self.sort(*child, *descending, labels.as_deref(), n)?
            }
            Op::Absent { child, labels } => self.absent(*child, labels, grid)?,
            Op::AbsentOverTime { child, labels } => self.absent(*child, labels, grid)?,
            Op::Histogram(h) => self.histogram_call(h, grid)?,
            Op::Info(i) => self.info(i, n)?,
            Op::Number(_)
            | Op::Text(_)
            | Op::Time
            | Op::ScalarBinary { .. }
            | Op::ScalarPick { .. }
            | Op::ToScalar(_) => return Err(QueryError::internal("a scalar that is none")),
        };
        Ok(Val::Vector(frame))
    }

    /// A value of one step, for every step.
    fn repeat(&mut self, child: NodeId, grid: StepGrid) -> Result<Val, QueryError> {
        let steps = grid.steps();
        let value = self.take(child)?;
        Ok(match value {
            Val::Scalar(v) => Val::Scalar(vec![v.first().copied().unwrap_or(f64::NAN); steps]),
            Val::Vector(f) => {
                let bytes = (f.rows.len() * (steps * 9 + 96)) as u64;
                let charge = Some(Charge::new(&self.account, bytes)?);
                let rows = f.rows.into_iter().map(|r| repeat_row(r, steps)).collect();
                Val::Vector(Frame { rows, ordered: false, charge })
            }
            other => other,
        })
    }

    /// `absent`: one where nothing else is.
    fn absent(
        &mut self,
        child: NodeId,
        labels: &periplus_model::Labels,
        grid: StepGrid,
    ) -> Result<Frame, QueryError> {
        let f = self.take_frame(child)?;
        let steps = grid.steps();
        let mut row = Row::empty(labels.clone(), steps);
        row.values.fill(1.0);
        row.present = crate::value::Bitmap::new(steps, true);
        for r in &f.rows {
            row.present.subtract(&r.present);
        }
        let mut out = Frame::new(vec![row]);
        out.drop_empty();
        Ok(out)
    }

    /// Runs the whole plan.
    ///
    /// # Errors
    /// Whatever can go wrong.
    pub(crate) fn run(mut self) -> Result<Outcome, QueryError> {
        self.evaluate(self.plan.root, true)?;
        let value = self.take(self.plan.root)?;
        self.outcome(value)
    }

    /// Runs everything but the end of the aggregation at the root.
    ///
    /// # Errors
    /// As [`Self::run`]; also when the root is no aggregation that can be merged.
    pub(crate) fn run_partial(mut self) -> Result<(PartialMatrix, Outcome), QueryError> {
        let root = self.plan.root;
        let end = match self.plan.nodes.get(root).map(|n| &n.op) {
            Some(Op::Repeat(child)) => *child,
            _ => root,
        };
        self.evaluate(end, false)?;
        let partial = self.partial_of(root)?;
        let outcome = self.outcome(Val::Scalar(Vec::new()))?;
        Ok((partial, outcome))
    }

    fn outcome(mut self, value: Val) -> Result<Outcome, QueryError> {
        for i in (1..self.plan.contexts.len()).rev() {
            let Some(context) = self.plan.contexts.get(i) else { continue };
            let Some(outer) = self.plan.contexts.get(context.parent) else { continue };
            let inner = self.counts.get_mut(i).map(std::mem::take).unwrap_or_default();
            self.counts_of(context.parent)?.absorb(&inner, context, outer);
        }
        let counts = self.counts.first_mut().map(std::mem::take).unwrap_or_default();
        let reports = crate::explain::arrange(self.plan, std::mem::take(&mut self.reports));
        Ok(Outcome {
            value,
            annotations: self.annotations,
            counts,
            peak_samples: self.peak,
            reports,
        })
    }
}

fn missing(id: NodeId) -> QueryError {
    QueryError::internal(format!("node {id} has not been evaluated"))
}

fn points_of(value: &Val) -> u64 {
    match value {
        Val::Scalar(v) => v.len() as u64,
        Val::Vector(f) => f.points(),
        Val::Text(_) => 0,
        Val::Range(r) => r.iter().map(|(_, b)| b.len() as u64).sum(),
    }
}

fn repeat_row(mut r: Row, steps: usize) -> Row {
    if !r.present.get(0) {
        return Row::empty(r.labels, steps);
    }
    let hist = r.hist.pop().map(|(_, h)| h);
    let v = r.values.first().copied().unwrap_or(f64::NAN);
    Row {
        labels: r.labels,
        drop_name: r.drop_name,
        values: vec![v; steps],
        present: crate::value::Bitmap::new(steps, true),
        hist: match hist {
            Some(h) => (0..steps).map(|i| (i as u32, Arc::clone(&h))).collect(),
            None => Vec::new(),
        },
    }
}
