//! Streams blocks of series through decode, function and aggregation, over all workers.
//!
//! The thread that executes the query pulls blocks from the source (which may block), cuts them
//! into chunks of [`CHUNK`] series and hands those to the pool; results are taken in strictly in the
//! order of the chunks. So what comes out depends on the order of the source, and not on how many
//! workers there are or which is faster. At most twice as many chunks as workers are under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use periplus_model::{METRIC_NAME, SampleBuffer, TimeRange};

use crate::annotations::{Annotation, Annotations};
use crate::engine::QueryError;
use crate::exec::aggregate::{AggregateJob, Groups, Part};
use crate::exec::instant;
use crate::exec::map::{MapJob, drop_name};
use crate::exec::row::Row;
use crate::exec::samples::{Samples, drop_buckets};
use crate::exec::stats::Counts;
use crate::exec::topk::Best;
use crate::exec::window::Job;
use crate::functions::Cx;
use crate::limits::{Account, Cancel, Charge};
use crate::parse::ast::Span;
use crate::plan::{NodeId, Read, Selection};
use crate::source::{SeriesEntry, SeriesStream};
use crate::value::StepGrid;

/// Series per chunk of work: small enough to be spread, large enough to be worth handing over.
pub(crate) const CHUNK: usize = 128;

/// How a series becomes a row.
pub(crate) enum Reader<'a> {
    Instant { selection: Selection, lookback_ms: i64, span: Span },
    Window { job: Job<'a>, span: Span, stats_only: bool },
}

/// What is done with every series.
pub(crate) struct Pipeline<'a> {
    pub(crate) reader: Reader<'a>,
    pub(crate) grid: StepGrid,
    /// What the source was asked for; nothing outside is decoded.
    pub(crate) range: TimeRange,
    pub(crate) maps: Vec<MapJob>,
    /// Aggregate instead of collecting rows.
    pub(crate) aggregate: Option<&'a AggregateJob>,
    pub(crate) delayed: bool,
    pub(crate) start_timestamps: bool,
    pub(crate) type_and_unit: bool,
    /// Counts like these are wanted.
    pub(crate) counts: &'a Counts,
    /// The nodes this stands for, from the last map to the selector.
    pub(crate) chain: &'a [NodeId],
    /// Whether to say what each of them did.
    pub(crate) analyze: bool,
}

/// What one node of a pipeline passed on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage {
    pub(crate) series: u64,
    pub(crate) points: u64,
    pub(crate) bytes: u64,
    /// In it and the stages before it, of all workers together.
    pub(crate) time: Duration,
}

impl Stage {
    fn passed(&mut self, row: &Row, time: Duration) {
        if row.present.any() {
            self.series += 1;
            self.points += row.points();
            self.bytes += row.bytes();
        }
        self.time += time;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.series += other.series;
        self.points += other.points;
        self.bytes += other.bytes;
        self.time += other.time;
    }
}

/// What became of a chunk of series.
pub(crate) struct Output {
    pub(crate) rows: Vec<Row>,
    pub(crate) part: Option<Part>,
    pub(crate) counts: Counts,
    pub(crate) annotations: Annotations,
    /// Points of all rows, also of those aggregated away.
    pub(crate) points: u64,
    /// Of the selector and each map, where asked for.
    pub(crate) stages: Vec<Stage>,
    pub(crate) charge: Charge,
}

/// Memory a worker uses again and again.
#[derive(Default)]
struct Scratch {
    buf: SampleBuffer,
    samples: Samples,
    row: Row,
    /// The best series so far of the chunks that were evaluated with this memory, and their bytes.
    best: Option<(Best, Charge)>,
}

impl Output {
    fn new(pipeline: &Pipeline<'_>, account: &Arc<Account>) -> Result<Self, QueryError> {
        let stages = if pipeline.analyze { 1 + pipeline.maps.len() } else { 0 };
        Ok(Self {
            rows: Vec::new(),
            part: None,
            counts: Counts::like(pipeline.counts),
            annotations: Annotations::new(),
            points: 0,
            stages: vec![Stage::default(); stages],
            charge: Charge::new(account, 0)?,
        })
    }
}

impl Pipeline<'_> {
    /// Runs a chunk.
    fn chunk(
        &self,
        entries: &[SeriesEntry],
        scratch: &mut Scratch,
        account: &Arc<Account>,
        cancel: &Cancel,
    ) -> Result<Output, QueryError> {
        let mut out = Output::new(self, account)?;
        // The best series are kept from chunk to chunk, as most series have no chance against those
        // of many. Which they are does not depend on the order; sums do, and have a part a chunk.
        let keeps_best = self.aggregate.is_some_and(AggregateJob::keeps_best);
        let (best, mut kept) = match scratch.best.take() {
            Some((best, charge)) => (Some(best), charge),
            None => (None, Charge::new(account, 0)?),
        };
        let mut counted = best.as_ref().map_or(0, Best::bytes);
        let mut groups = self.aggregate.map(|job| match best {
            Some(best) => Groups::onto(job, Some(best)),
            None => Groups::new(job),
        });
        let steps = self.grid.steps();
        let row_bytes = (steps * 8 + steps / 8 + 160) as u64;
        for e in entries {
            cancel.check()?;
            scratch.row.reset(steps);
            scratch.row.labels = e.labels.clone();
            let began = self.analyze.then(Instant::now);
            self.read(e, scratch, &mut out, account)?;
            let row = &mut scratch.row;
            out.points += row.points();
            let mut stages = out.stages.iter_mut();
            if let (Some(stage), Some(began)) = (stages.next(), began) {
                stage.passed(row, began.elapsed());
            }
            for m in &self.maps {
                m.apply(row, &mut out.annotations);
                if let (Some(stage), Some(began)) = (stages.next(), began) {
                    stage.passed(row, began.elapsed());
                }
            }
            if !row.present.any() {
                continue;
            }
            match &mut groups {
                Some(g) => {
                    g.add(row, &mut out.annotations);
                    let now = g.bytes();
                    let charge = if keeps_best { &mut kept } else { &mut out.charge };
                    charge.grow(now.saturating_sub(counted))?;
                    counted = counted.max(now);
                }
                None => {
                    out.charge.grow(row_bytes + row.labels.heap_bytes() as u64)?;
                    out.rows.push(std::mem::take(row));
                }
            }
        }
        match groups.map(Groups::into_part) {
            Some(Part::Best(best)) => scratch.best = Some((best, kept)),
            part => out.part = part,
        }
        Ok(out)
    }

    /// Decodes a series and evaluates it at every step.
    fn read(
        &self,
        e: &SeriesEntry,
        scratch: &mut Scratch,
        out: &mut Output,
        account: &Arc<Account>,
    ) -> Result<(), QueryError> {
        let Scratch { buf, samples, row, .. } = scratch;
        buf.clear();
        e.samples.decode(self.range, buf)?;
        let _decoded = Charge::new(account, buf.capacity_bytes() as u64)?;
        let name = e.labels.value(METRIC_NAME);
        match &self.reader {
            Reader::Instant { selection, lookback_ms, span } => {
                if selection.read == Read::Smoothed {
                    samples.take(buf, false);
                    let notes = (&mut out.annotations, name, *span);
                    instant::lookup_smoothed(
                        samples,
                        selection,
                        self.grid,
                        *lookback_ms,
                        row,
                        notes,
                    );
                } else {
                    if selection.stats_only {
                        let from = self.range.min_t;
                        let before = buf.ts.partition_point(|t| *t < from);
                        let inside = |(i, _): &&mut (u32, _)| *i as usize >= before;
                        drop_buckets(buf.histograms.iter_mut().filter(inside).map(|(_, h)| h));
                    }
                    let (s, counts) = (selection, &mut out.counts);
                    instant::lookup(buf, s, self.grid, *lookback_ms, row, counts);
                }
                if matches!(selection.read, Read::Timestamp | Read::StartTimestamp) {
                    drop_name(row, self.delayed);
                }
            }
            Reader::Window { job, span, stats_only } => {
                samples.take(buf, self.start_timestamps && uses_starts(job.func));
                if *stats_only {
                    drop_buckets(samples.hv.iter_mut());
                }
                self.window(job, *span, samples, row, name, out)?;
            }
        }
        Ok(())
    }

    fn window(
        &self,
        job: &Job<'_>,
        span: Span,
        samples: &Samples,
        row: &mut Row,
        name: &str,
        out: &mut Output,
    ) -> Result<(), QueryError> {
        run_window(job, span, samples, row, name, &mut out.counts, &mut out.annotations)?;
        counter_hint(job.func, self.type_and_unit, row, span, &mut out.annotations);
        if !keeps_name(job.func) {
            drop_name(row, self.delayed);
        }
        Ok(())
    }
}

/// Functions that look at start timestamps.
fn uses_starts(func: &str) -> bool {
    matches!(func, "rate" | "irate" | "increase" | "resets")
}

/// Functions that give samples as they were.
pub(crate) fn keeps_name(func: &str) -> bool {
    matches!(func, "last_over_time" | "first_over_time")
}

/// Evaluates a range function over the samples of a series.
pub(crate) fn run_window(
    job: &Job<'_>,
    span: Span,
    samples: &Samples,
    row: &mut Row,
    name: &str,
    counts: &mut Counts,
    annotations: &mut Annotations,
) -> Result<(), QueryError> {
    let mut cx = Cx::new(annotations, name, span);
    job.run(samples, row, counts, &mut cx);
    cx.error.map_or(Ok(()), Err)
}

/// Says so when `rate` or `increase` meet what does not look like a counter.
pub(crate) fn counter_hint(
    func: &str,
    type_and_unit: bool,
    row: &Row,
    span: Span,
    annotations: &mut Annotations,
) {
    if !matches!(func, "rate" | "increase") || row.present.count() == row.hist.len() {
        return;
    }
    let Some(name) = row.labels.get(METRIC_NAME) else { return };
    if type_and_unit {
        let kind = row.labels.value("__type__");
        if kind != "counter" && kind != "histogram" {
            annotations.add(Annotation::possible_non_counter_label(name, kind, span));
        }
    } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|s| name.ends_with(s)) {
        annotations.add(Annotation::possible_non_counter(name, span));
    }
}

/// Where chunks come from.
pub(crate) enum Feed<'a> {
    Stream(&'a mut dyn SeriesStream),
    /// Series already collected, because several selectors read them.
    Held(&'a [SeriesEntry]),
}

impl Feed<'_> {
    fn next(&mut self) -> Result<Option<Vec<SeriesEntry>>, QueryError> {
        match self {
            Feed::Stream(s) => Ok(s.next_block()?),
            Feed::Held(all) => {
                let (now, later) = all.split_at(all.len().min(4 * CHUNK));
                *all = later;
                Ok((!now.is_empty()).then(|| now.to_vec()))
            }
        }
    }
}

/// What a run needs of the query.
pub(crate) struct Run<'a> {
    pub(crate) pool: &'a rayon::ThreadPool,
    pub(crate) account: &'a Arc<Account>,
    pub(crate) cancel: &'a Cancel,
}

type Done = (usize, Result<Output, QueryError>);

impl Run<'_> {
    /// Runs all chunks; `take` gets their outputs in order.
    ///
    /// # Errors
    /// The first one of a source, a chunk or `take`, or the query was cancelled.
    pub(crate) fn stream(
        &self,
        pipeline: &Pipeline<'_>,
        mut feed: Feed<'_>,
        mut take: impl FnMut(Output) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let workers = self.pool.current_num_threads();
        let scratches: Mutex<Vec<Scratch>> = Mutex::new(Vec::new());
        let (tx, rx) = mpsc::channel::<Done>();
        self.pool.in_place_scope(|scope| {
            let scratches = &scratches;
            let mut state = Progress::default();
            let mut queue: std::collections::VecDeque<Vec<SeriesEntry>> = Default::default();
            loop {
                while !state.ended && state.under_way < 2 * workers {
                    self.cancel.check()?;
                    let Some(chunk) = queue.pop_front() else {
                        match feed.next()? {
                            Some(block) => cut(block, self.account, &mut queue)?,
                            None => state.ended = true,
                        }
                        continue;
                    };
                    let (tx, id) = (tx.clone(), state.sent);
                    state.sent += 1;
                    state.under_way += 1;
                    scope.spawn(move |_| {
                        let mut scratch = pop_any(scratches).unwrap_or_default();
                        let out = self.one(pipeline, &chunk, &mut scratch);
                        push(scratches, scratch);
                        // Nobody listens any more when the query has failed.
                        let _ = tx.send((id, out));
                    });
                }
                if state.under_way == 0 {
                    break;
                }
                let Ok((id, out)) = rx.recv() else {
                    return Err(QueryError::internal("a query worker is gone"));
                };
                state.under_way -= 1;
                state.waiting.insert(id, out?);
                while let Some(out) = state.waiting.remove(&state.taken) {
                    state.taken += 1;
                    take(out)?;
                }
            }
            while let Some(Scratch { best, .. }) = pop_any(scratches) {
                let Some((best, charge)) = best else { continue };
                let part = Some(Part::Best(best));
                take(Output { part, charge, ..Output::new(pipeline, self.account)? })?;
            }
            Ok(())
        })
    }

    fn one(
        &self,
        pipeline: &Pipeline<'_>,
        chunk: &[SeriesEntry],
        scratch: &mut Scratch,
    ) -> Result<Output, QueryError> {
        let encoded: usize =
            chunk.iter().map(|e| e.samples.encoded_bytes() + e.labels.heap_bytes()).sum();
        let _held = Charge::new(self.account, encoded as u64)?;
        pipeline.chunk(chunk, scratch, self.account, self.cancel)
    }
}

#[derive(Default)]
struct Progress {
    ended: bool,
    sent: usize,
    taken: usize,
    under_way: usize,
    waiting: BTreeMap<usize, Output>,
}

fn cut(
    block: Vec<SeriesEntry>,
    account: &Account,
    queue: &mut std::collections::VecDeque<Vec<SeriesEntry>>,
) -> Result<(), QueryError> {
    account.add_series(block.len() as u64)?;
    // A few series can be a lot of work too. What this depends on is the source alone.
    let size = if block.len() <= CHUNK { block.len().div_ceil(4).max(CHUNK / 16) } else { CHUNK };
    let mut rest = block;
    while rest.len() > size {
        let later = rest.split_off(size);
        queue.push_back(std::mem::replace(&mut rest, later));
    }
    if !rest.is_empty() {
        queue.push_back(rest);
    }
    Ok(())
}

fn pop_any(scratches: &Mutex<Vec<Scratch>>) -> Option<Scratch> {
    scratches.lock().ok().and_then(|mut s| s.pop())
}

fn push(scratches: &Mutex<Vec<Scratch>>, scratch: Scratch) {
    if let Ok(mut s) = scratches.lock() {
        s.push(scratch);
    }
}
