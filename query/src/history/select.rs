//! From a selector to the series that match and the places where their samples lie.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use periplus_model::{Labels, METRIC_NAME, Matcher, TimeRange};

use super::coverage::{Coverage, Pick, without};
use super::open::{Parts, ReadError, Table};
use super::resolution::Reads;

/// Parts that are opened at once for one selector.
const OPENED_AT_ONCE: usize = 24;

/// Streams that are replicas of each other.
#[derive(Clone, Debug)]
pub struct Replicas {
    /// Their external labels less those that tell them apart.
    pub labels: Labels,
    /// Their indexes in the [`Coverage`].
    pub streams: Vec<usize>,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// All must match, over a series' own and its stream's labels.
    pub matchers: Vec<Matcher>,
    /// When there must be samples.
    pub range: TimeRange,
    /// What of them is wanted.
    pub reads: Reads,
    /// Where.
    pub among: Vec<Replicas>,
    /// Labels that series are without.
    pub replica_labels: Vec<String>,
    /// Series that may be found.
    pub series_max: u64,
}

/// Where a series' samples of one day and stream lie.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Index among the picks.
    pub pick: u32,
    /// Index among the tables.
    pub table: u32,
    /// The series in its table.
    pub row: u32,
}

/// A series that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its labels, external ones included, those of replicas left out.
    pub labels: Labels,
    /// Where its samples lie, by stream and in order of days.
    pub places: Vec<Place>,
}

/// A part that could not be read.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The stream's external labels.
    pub labels: Labels,
    /// The part, by its place in the bucket.
    pub part: String,
    /// Why.
    pub why: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The parts.
    pub picks: Vec<Pick>,
    /// The tables of series.
    pub tables: Vec<Arc<Table>>,
    /// The series, by labels.
    pub series: Vec<Found>,
    /// What could not be read.
    pub lost: Vec<Lost>,
}

/// Why nothing can be found.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// More series than may be.
    #[error("more than {0} series match in the bucket; narrow the selector down")]
    TooMany(u64),
}

/// One part that may have matching series.
struct Looked {
    group: usize,
    pick: Pick,
    own: Arc<Vec<Matcher>>,
}

/// One part that has matching series.
#[derive(Clone, Debug)]
pub struct Matched {
    /// Index among the streams of the wish.
    pub group: usize,
    /// The part.
    pub pick: Pick,
    /// Its tables, each with the series that match.
    pub tables: Vec<(Arc<Table>, Vec<u32>)>,
}

/// Finds the parts that have series which match, and which these are; and what could not be read.
pub async fn matching(
    parts: &Parts,
    coverage: &Coverage,
    wish: &Wish,
) -> (Vec<Matched>, Vec<Lost>) {
    let mut opened = stream::iter(candidates(coverage, wish).into_iter().map(|l| async move {
        let found = parts.select(&l.pick.part, &l.own, wish.range).await;
        (l, found)
    }))
    .buffered(OPENED_AT_ONCE);
    let (mut matched, mut lost_parts) = (Vec::new(), Vec::new());
    while let Some((looked, found)) = opened.next().await {
        let Looked { group, pick, .. } = looked;
        match found {
            Ok(tables) if tables.is_empty() => {}
            Ok(tables) => matched.push(Matched { group, pick, tables }),
            Err(error) => lost_parts.push(lost(coverage, &pick, &error)),
        }
    }
    (matched, lost_parts)
}

/// Finds the series.
///
/// # Errors
/// More series than may be. A part that can't be read is not an error: it is [`Selection::lost`].
pub async fn select(
    parts: &Parts,
    coverage: &Coverage,
    wish: &Wish,
) -> Result<Selection, SelectError> {
    let (matched, lost) = matching(parts, coverage, wish).await;
    let mut out = Selection { lost, ..Selection::default() };
    let mut by_key: HashMap<(usize, u128), usize> = HashMap::new();
    for m in matched {
        add(&mut out, &mut by_key, wish, m)?;
    }
    finish(&mut out);
    Ok(out)
}

/// What is lost with a part.
#[must_use]
pub fn lost(coverage: &Coverage, pick: &Pick, error: &ReadError) -> Lost {
    let stream = coverage.streams().get(pick.stream);
    Lost {
        labels: stream.map(|s| s.external.clone()).unwrap_or_default(),
        part: pick.part.directory.clone(),
        why: error.to_string(),
    }
}

fn candidates(coverage: &Coverage, wish: &Wish) -> Vec<Looked> {
    let mut out = Vec::new();
    for (group, replicas) in wish.among.iter().enumerate() {
        for pick in coverage.pick(&replicas.streams, wish.range, &wish.reads) {
            let Some(stream) = coverage.streams().get(pick.stream) else { continue };
            let is_external = |m: &&Matcher| stream.external.get(&m.name).is_some();
            let (external, own): (Vec<&Matcher>, Vec<&Matcher>) =
                wish.matchers.iter().partition(is_external);
            if !external.iter().all(|m| m.matches(stream.external.value(&m.name))) {
                continue;
            }
            if !may_have_name(&pick, &own) {
                continue;
            }
            let own = Arc::new(own.into_iter().cloned().collect());
            out.push(Looked { group, pick, own });
        }
    }
    out
}

fn may_have_name(pick: &Pick, own: &[&Matcher]) -> bool {
    let names = own.iter().filter(|m| &*m.name == METRIC_NAME).find_map(|m| m.literal_values());
    let Some(names) = names else { return true };
    names.iter().any(|n| pick.part.names.may_contain(n))
}

fn add(
    out: &mut Selection,
    by_key: &mut HashMap<(usize, u128), usize>,
    wish: &Wish,
    matched: Matched,
) -> Result<(), SelectError> {
    let Matched { group, pick, tables } = matched;
    out.picks.push(pick);
    let pick = out.picks.len() as u32 - 1;
    let external: BTreeMap<String, String> = wish
        .among
        .get(group)
        .map(|g| g.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
        .unwrap_or_default();
    for (table, rows) in tables {
        let at = out.tables.len() as u32;
        for row in rows {
            let Some(key) = table.keys.get(row as usize) else { continue };
            let place = Place { pick, table: at, row };
            let series = *by_key.entry((group, *key)).or_insert_with(|| {
                let labels = table.series.labels(row, &external);
                let labels = without(&labels, &wish.replica_labels);
                out.series.push(Found { labels, places: Vec::new() });
                out.series.len() - 1
            });
            if out.series.len() as u64 > wish.series_max {
                return Err(SelectError::TooMany(wish.series_max));
            }
            if let Some(found) = out.series.get_mut(series) {
                found.places.push(place);
            }
        }
        out.tables.push(table);
    }
    Ok(())
}

/// Orders series by labels. Two can have become equal, when a series had a label of its own that tells
/// replicas apart; then it is one.
fn finish(out: &mut Selection) {
    out.series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
    out.series.dedup_by(|b, a| {
        let same = a.labels == b.labels;
        if same {
            a.places.append(&mut b.places);
        }
        same
    });
    let Selection { picks, series, .. } = out;
    for s in series.iter_mut() {
        s.places.sort_by_key(|p| {
            let pick = picks.get(p.pick as usize);
            pick.map(|k| (k.stream, k.part.day, k.part.range.min_t))
        });
    }
}
