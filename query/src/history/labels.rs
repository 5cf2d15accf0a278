//! Names and values of labels, and label sets, from the tables of series.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use periplus_model::{Labels, Matcher, TimeRange};
use periplus_promql::engine::{ErrorKind, QueryError};

use super::resolution::Reads;
use super::select::{Matched, Wish, matching, select};
use super::source::missing;
use super::{Reading, fleet_streams};
use crate::fanout::Question;
use crate::plan::parts_matching;

/// What is asked of a series: it satisfies these matchers and has samples in this range.
fn wish(q: &Question, reading: &Reading, set: &[Matcher], range: TimeRange) -> Wish {
    let parts = parts_matching(&q.fleet, set);
    let max = reading.max();
    Wish {
        matchers: set.to_vec(),
        range,
        reads: Reads { or_what_is_left: max.or_what_is_left, ..Reads::new(max, None, 0, 0) },
        among: fleet_streams(q, reading, parts.iter()),
        replica_labels: q.fleet.replica_labels.clone(),
        series_max: q.limits.series,
    }
}

/// The label sets of the bucket's series that satisfy one of the sets of matchers.
///
/// # Errors
/// Too many.
pub async fn series(
    q: &Arc<Question>,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<Vec<Labels>, QueryError> {
    let Some(reading) = &q.history else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for set in sets {
        let found =
            select(reading.parts(), reading.coverage(), &wish(q, reading, set, range)).await;
        let found = found.map_err(|e| QueryError::new(ErrorKind::Limit, e.to_string()))?;
        q.notes.missing(found.lost.into_iter().map(|l| missing(reading, l)));
        out.extend(found.series.into_iter().map(|s| s.labels));
    }
    Ok(out)
}

/// The parts that have such series, and the external labels that these have there.
async fn found(
    q: &Arc<Question>,
    reading: &Arc<Reading>,
    set: &[Matcher],
    range: TimeRange,
) -> Vec<(Matched, Labels)> {
    let wish = wish(q, reading, set, range);
    let (matched, lost) = matching(reading.parts(), reading.coverage(), &wish).await;
    q.notes.missing(lost.into_iter().map(|l| missing(reading, l)));
    let external = |m: &Matched| wish.among.get(m.group).map(|g| g.labels.clone());
    matched
        .into_iter()
        .map(|m| (external(&m), m))
        .map(|(e, m)| (m, e.unwrap_or_default()))
        .collect()
}

/// The names of labels that they have.
///
/// # Errors
/// None so far.
pub async fn names(
    q: &Arc<Question>,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<BTreeSet<String>, QueryError> {
    let mut out = BTreeSet::new();
    let Some(reading) = &q.history else { return Ok(out) };
    for set in sets {
        for (matched, external) in found(q, reading, set, range).await {
            let mut add = |name: &str| {
                if !out.contains(name) {
                    out.insert(name.to_owned());
                }
            };
            external.iter().for_each(|(n, _)| add(n));
            for (table, rows) in &matched.tables {
                match rows.len() == table.series.len() {
                    true => table.series.label_names().for_each(&mut add),
                    false => {
                        let own = BTreeMap::new();
                        for row in rows {
                            table.series.labels(*row, &own).iter().for_each(|(n, _)| add(n));
                        }
                    }
                }
            }
        }
    }
    Ok(out)
}

/// The values that one label has among them.
///
/// # Errors
/// None so far.
pub async fn values(
    q: &Arc<Question>,
    name: &str,
    sets: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<BTreeSet<String>, QueryError> {
    let mut out = BTreeSet::new();
    let Some(reading) = &q.history else { return Ok(out) };
    for set in sets {
        for (matched, external) in found(q, reading, set, range).await {
            if let Some(value) = external.get(name) {
                out.insert(value.to_owned());
                continue;
            }
            for (table, rows) in &matched.tables {
                for value in table.series.label_values(name, rows) {
                    if !out.contains(value) {
                        out.insert(value.to_owned());
                    }
                }
            }
        }
    }
    Ok(out)
}
