//! Counting what a filter selects, by fields and over time.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::sources::{self, Source, look};
use super::{Context, SearchError};
use crate::store::filter::{Field, Filter};

/// Series of an answer at most.
pub const GROUPS_MAX: usize = 10_000;
/// Points of all series together at most.
const POINTS_MAX: usize = 1_000_000;

/// What is asked.
#[derive(Clone, Debug)]
pub struct CountQuery {
    /// What is selected.
    pub filter: Filter,
    /// A series for each combination of values of these.
    pub by: Vec<Field>,
    /// Microseconds of a point's time, which begins at a multiple of it from `origin_us`; `None`: one point for all.
    pub step_us: Option<i64>,
    /// Where a point begins.
    pub origin_us: i64,
}

/// One series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Values of the fields asked for, in their order.
    pub values: Vec<String>,
    /// By the beginning of each point: events whose last time lies in it, and the sum of their counts.
    pub points: BTreeMap<i64, (u64, u64)>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The series, by values.
    pub groups: Vec<Group>,
    /// What is missing.
    pub warnings: Vec<String>,
}

type Groups = HashMap<Vec<String>, BTreeMap<i64, (u64, u64)>>;

pub(super) fn run(context: &Context, query: &CountQuery) -> Result<Counted, SearchError> {
    let mut warnings = Vec::new();
    let mut all = sources::in_memory(context);
    all.extend(sources::in_files(context, &query.filter, |_| true, &mut warnings));
    let next = AtomicUsize::new(0);
    let (total, said, stop) = (Mutex::new(Groups::new()), Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        let mut own = Groups::new();
        while let Some(source) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (min, max) = source.last();
            if max < query.filter.from_us || min >= query.filter.to_us {
                continue;
            }
            if context.is_late() {
                *stop.lock() = Some(SearchError::Late(std::time::Duration::ZERO));
                return;
            }
            if let Err(text) = count_one(context, query, source, &mut own) {
                said.lock().push(text);
            }
            if own.len() > GROUPS_MAX || own.values().map(BTreeMap::len).sum::<usize>() > POINTS_MAX
            {
                *stop.lock() = Some(SearchError::TooManyGroups(GROUPS_MAX));
                next.store(all.len(), Ordering::Relaxed);
                return;
            }
        }
        let mut total = total.lock();
        for (values, points) in own {
            let into = total.entry(values).or_default();
            for (at, (events, count)) in points {
                let point = into.entry(at).or_default();
                point.0 += events;
                point.1 += count;
            }
        }
    };
    super::on_threads(all.len(), context.threads, work);
    if let Some(error) = stop.into_inner() {
        return Err(error);
    }
    let total = total.into_inner();
    if total.len() > GROUPS_MAX {
        return Err(SearchError::TooManyGroups(GROUPS_MAX));
    }
    warnings.extend(said.into_inner());
    let mut groups: Vec<Group> =
        total.into_iter().map(|(values, points)| Group { values, points }).collect();
    groups.sort_by(|a, b| a.values.cmp(&b.values));
    Ok(Counted { groups, warnings })
}

fn count_one(
    context: &Context,
    query: &CountQuery,
    source: &Source,
    into: &mut Groups,
) -> Result<(), String> {
    let missing = |e: &dyn std::fmt::Display| format!("rows are missing: {e}");
    let (found, rows) = look(context, source, &query.filter).map_err(|e| missing(&e))?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut fields = Vec::with_capacity(query.by.len());
    for field in &query.by {
        fields.push(found.values(*field, &rows, &query.filter).map_err(|e| missing(&e))?);
    }
    // Few combinations in a run: texts are made once for each.
    let mut local: HashMap<(Vec<u32>, i64), (u64, u64)> = HashMap::new();
    for (i, row) in rows.iter().enumerate() {
        let (last, count) = found.counted(*row);
        let at = query.step_us.map_or(query.origin_us, |step| {
            let step = step.max(1);
            let since = last.saturating_sub(query.origin_us);
            query.origin_us.saturating_add(since.div_euclid(step).saturating_mul(step))
        });
        let codes = fields.iter().map(|(_, codes)| codes.get(i).copied().unwrap_or(0)).collect();
        let point = local.entry((codes, at)).or_default();
        point.0 += 1;
        point.1 += u64::from(count);
    }
    for ((codes, at), (events, count)) in local {
        let value = |(n, code): (usize, &u32)| {
            let values = fields.get(n).map(|(values, _)| values);
            values.and_then(|v| v.get(*code as usize)).cloned().unwrap_or_default()
        };
        let values = codes.iter().enumerate().map(value).collect();
        let point = into.entry(values).or_default().entry(at).or_default();
        point.0 += events;
        point.1 += count;
    }
    Ok(())
}

/// The distinct values of a field among what is selected.
#[must_use]
pub fn values_query(filter: Filter, field: Field) -> CountQuery {
    CountQuery { filter, by: vec![field], step_us: None, origin_us: 0 }
}
