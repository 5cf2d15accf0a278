//! The newest or oldest rows that a filter selects, a page at a time.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::sources::{self, Source, look};
use super::{Context, SearchError};
use crate::store::columns::Row;
use crate::store::filter::Filter;

/// What is asked.
#[derive(Clone, Debug)]
pub struct PageQuery {
    /// What is selected.
    pub filter: Filter,
    /// The newest first, by last time; else the oldest.
    pub newest_first: bool,
    /// Rows at most.
    pub limit: usize,
    /// Where the page before ended: last time and number.
    pub after: Option<(i64, i64)>,
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Rows in the order asked for.
    pub rows: Vec<Row>,
    /// Where the next page begins, where there may be one.
    pub next: Option<(i64, i64)>,
    /// What is missing.
    pub warnings: Vec<String>,
}

/// Ascending in the order of the answer.
type Rank = (i64, i64);

/// A row that is among the best so far: its rank, source and place.
type Best = (Rank, usize, u32);

struct Race<'a> {
    query: &'a PageQuery,
    /// One more than the page: whether there is a next one.
    keep: usize,
    best: Mutex<BinaryHeap<Best>>,
}

impl Race<'_> {
    fn rank(&self, (last, id): (i64, i64)) -> Rank {
        // The complement turns the order around and can't overflow.
        if self.query.newest_first { (!last, !id) } else { (last, id) }
    }

    /// Whether a run whose last times lie in these bounds can add anything.
    fn can_add(&self, (min, max): (i64, i64)) -> bool {
        let best = self.best.lock();
        let nearest = if self.query.newest_first { !max } else { min };
        best.len() < self.keep || best.peek().is_none_or(|worst| nearest <= worst.0.0)
    }

    fn add(&self, found: impl Iterator<Item = Best>) {
        let after = self.query.after.map(|a| self.rank(a));
        let mut best = self.best.lock();
        for candidate in found {
            if after.is_some_and(|after| candidate.0 <= after) {
                continue;
            }
            if best.len() < self.keep {
                best.push(candidate);
            } else if best.peek().is_some_and(|worst| candidate < *worst) {
                best.pop();
                best.push(candidate);
            }
        }
    }
}

pub(super) fn run(context: &Context, query: &PageQuery) -> Result<Page, SearchError> {
    let race = Race { query, keep: query.limit.saturating_add(1), best: Mutex::default() };
    let mut warnings = Vec::new();
    let mut all = in_order(sources::in_memory(context), query.newest_first);
    look_through(context, &race, &all, 0, &mut warnings)?;
    let from_files = sources::in_files(
        context,
        &query.filter,
        |meta| race.can_add((meta.min_last, meta.max_last)),
        &mut warnings,
    );
    let begin = all.len();
    all.extend(in_order(from_files, query.newest_first));
    look_through(context, &race, all.get(begin..).unwrap_or_default(), begin, &mut warnings)?;
    let mut best = race.best.into_inner().into_sorted_vec();
    let more = best.len() > query.limit;
    best.truncate(query.limit);
    let rows = fetch(context, query, &all, &best, &mut warnings);
    let next = rows.last().filter(|_| more).map(|r| (r.event.last_us, r.id));
    Ok(Page { rows, next, warnings })
}

fn in_order(mut all: Vec<Source>, newest_first: bool) -> Vec<Source> {
    all.sort_by_key(|s| if newest_first { !s.last().1 } else { s.last().0 });
    all
}

fn look_through(
    context: &Context,
    race: &Race<'_>,
    all: &[Source],
    begin: usize,
    warnings: &mut Vec<String>,
) -> Result<(), SearchError> {
    let (next, late, said) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = all.get(n) else { return };
            // They are in order: nothing behind this one can be better.
            if !race.can_add(source.last()) {
                next.store(all.len(), Ordering::Relaxed);
                return;
            }
            if context.is_late() {
                late.store(1, Ordering::Relaxed);
                return;
            }
            match look(context, source, &race.query.filter) {
                Ok((found, rows)) => race
                    .add(rows.into_iter().map(|row| (race.rank(found.rank(row)), begin + n, row))),
                Err(error) => said.lock().push(format!("rows are missing: {error}")),
            }
        }
    };
    super::on_threads(all.len(), context.threads, work);
    warnings.extend(said.into_inner());
    if late.into_inner() > 0 {
        return Err(SearchError::Late(std::time::Duration::ZERO));
    }
    Ok(())
}

/// The rows themselves, in the order of the answer.
fn fetch(
    context: &Context,
    query: &PageQuery,
    all: &[Source],
    best: &[Best],
    warnings: &mut Vec<String>,
) -> Vec<Row> {
    let mut by_source: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (_, source, row) in best {
        by_source.entry(*source).or_default().push(*row);
    }
    let jobs: Vec<(usize, Vec<u32>)> = by_source.into_iter().collect();
    let (next, out, said) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let work = || {
        while let Some((n, rows)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(source) = all.get(*n) else { continue };
            let mut rows = rows.clone();
            rows.sort_unstable();
            match rows_of(context, source, &rows) {
                Ok(rows) => out.lock().extend(rows),
                Err(text) => said.lock().push(text),
            }
        }
    };
    super::on_threads(jobs.len(), context.threads, work);
    warnings.extend(said.into_inner());
    let mut rows: Vec<Row> = out.into_inner();
    rows.sort_by_key(|r| match query.newest_first {
        true => (!r.event.last_us, !r.id),
        false => (r.event.last_us, r.id),
    });
    rows
}

pub(super) fn rows_of(
    context: &Context,
    source: &Source,
    rows: &[u32],
) -> Result<Vec<Row>, String> {
    let missing = |e: &dyn std::fmt::Display| format!("rows are missing: {e}");
    match source {
        Source::Open(all) => {
            Ok(rows.iter().filter_map(|r| all.get(*r as usize)).map(|r| Row::clone(r)).collect())
        }
        Source::Block(sealed) => Ok(sealed.block.rows(rows)),
        Source::Group(meta, index, n) => {
            let reader = context.runtime.block_on(context.files.group(meta, index, *n));
            let reader = reader.map_err(|e| missing(&e))?;
            reader.rows(Some(rows)).map_err(|e| missing(&context.files.wrong(meta, e)))
        }
    }
}
