//! `info`: adds the labels of info series (`target_info` and its like) to series of the same
//! `instance` and `job`.

use std::collections::{BTreeMap, BTreeSet};

use ahash::{AHashMap, AHashSet};
use periplus_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, TimeRange};

use super::Exec;
use super::matching::printed;
use super::pipeline::{Feed, Pipeline, Reader, Run};
use super::row::{Frame, Row};
use super::stats::Counts;
use crate::engine::{ErrorKind, QueryError};
use crate::plan::{Info, Node, Read, Selection};
use crate::source::{SelectHints, SelectRequest};
use crate::value::Bitmap;

/// The labels by which series and info series find each other.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// An info series: its name and what identifies its target, and, a step at a time, when its
/// sample was taken.
struct InfoRow {
    name: String,
    identity: Labels,
    row: Row,
}

impl Exec<'_> {
    pub(super) fn info(&mut self, info: &Info, n: &Node) -> Result<Frame, QueryError> {
        let base = self.take_frame(info.child)?;
        let target = || Matcher::equal(METRIC_NAME, "target_info");
        let matchers = info.matchers.clone().unwrap_or_else(|| vec![target()]);
        let (names, data): (Vec<Matcher>, Vec<Matcher>) =
            matchers.into_iter().partition(|m| *m.name == *METRIC_NAME);
        let names = effective_names(names)?;
        let data = if info.matchers.is_some() { data } else { Vec::new() };
        // Info series themselves stay as they are.
        let ignored: AHashSet<&Labels> = base
            .rows
            .iter()
            .filter(|r| names.iter().all(|m| m.matches(r.labels.value(METRIC_NAME))))
            .map(|r| &r.labels)
            .collect();
        let rows = self.info_rows(&base, &ignored, &names, &data, info, n)?;
        let mut out: Vec<Row> = Vec::new();
        let mut ids: AHashMap<Labels, usize> = AHashMap::new();
        let newest = newest(&rows, n.grid.steps(), &base)?;
        for r in &base.rows {
            self.cancel.check()?;
            if ignored.contains(&r.labels) {
                add(&mut out, &mut ids, r.clone())?;
                continue;
            }
            for (labels, steps) in enriched(r, &rows, &newest, &data)? {
                let mut part = r.clone();
                part.labels = labels;
                part.keep_steps(&steps);
                add(&mut out, &mut ids, part)?;
            }
        }
        let mut f = Frame::new(out);
        f.drop_empty();
        Ok(f)
    }

    /// Selects the info series of the targets among the base series.
    fn info_rows(
        &mut self,
        base: &Frame,
        ignored: &AHashSet<&Labels>,
        names: &[Matcher],
        data: &[Matcher],
        info: &Info,
        n: &Node,
    ) -> Result<Vec<InfoRow>, QueryError> {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for r in base.rows.iter().filter(|r| !ignored.contains(&r.labels)) {
            for l in IDENTIFYING {
                if let Some(v) = r.labels.get(l) {
                    values.entry(l).or_default().insert(v);
                }
            }
        }
        if values.is_empty() || n.grid.steps() == 0 {
            return Ok(Vec::new());
        }
        let mut matchers = Vec::new();
        for (label, values) in values {
            let alternatives: Vec<String> = values.into_iter().map(regex::escape).collect();
            let m = Matcher::new(label, MatchOp::Regex, alternatives.join("|"))
                .map_err(|e| QueryError::new(ErrorKind::Limit, format!("info(): {e}")))?;
            matchers.push(m);
        }
        matchers.extend(data.iter().cloned());
        matchers.extend(names.iter().cloned());
        let (first, last) = match info.at {
            Some(at) => (at, at),
            None => (n.grid.time(0), n.grid.time(n.grid.steps() - 1)),
        };
        let range = TimeRange::new(
            first.saturating_sub(info.offset_ms).saturating_sub(self.spec.lookback_ms - 1),
            last.saturating_sub(info.offset_ms),
        );
        let hints =
            SelectHints { step_ms: n.grid.step_ms, func: Some("info"), ..SelectHints::default() };
        let mut stream = self.source.select(&SelectRequest { matchers, range, hints })?;
        let selection = Selection {
            select: 0,
            at: info.at,
            offset_ms: info.offset_ms,
            read: Read::InfoTime,
            stats_only: false,
        };
        let counts = Counts::like(self.counts_of(n.context)?);
        let pipeline = Pipeline {
            reader: Reader::Instant { selection, lookback_ms: self.spec.lookback_ms, span: n.span },
            grid: n.grid,
            range,
            maps: Vec::new(),
            aggregate: None,
            // Keeps the names.
            delayed: true,
            start_timestamps: false,
            type_and_unit: false,
            counts: &counts,
            chain: &[],
            analyze: false,
        };
        let run = Run { pool: self.pool, account: &self.account, cancel: self.cancel };
        let mut rows = Vec::new();
        let mut read = Counts::like(&counts);
        run.stream(&pipeline, Feed::Stream(&mut *stream), |out| {
            read.merge(&out.counts);
            for row in out.rows {
                if !row.hist.is_empty() {
                    let text = "this should be an info metric, with float samples: ";
                    return Err(QueryError::execution(format!("{text}{}", printed(&row.labels))));
                }
                let name = row.labels.value(METRIC_NAME).to_owned();
                let identity = identity(&row.labels);
                rows.push(InfoRow { name, identity, row });
            }
            Ok(())
        })?;
        self.counts_of(n.context)?.merge(&read);
        Ok(rows)
    }
}

fn identity(labels: &Labels) -> Labels {
    labels.filter(|n| IDENTIFYING.contains(&n))
}

/// Which names info series may have: as asked for, or any that ends in `_info` when only excluded
/// names are given.
fn effective_names(given: Vec<Matcher>) -> Result<Vec<Matcher>, QueryError> {
    if given.is_empty() {
        return Ok(vec![Matcher::equal(METRIC_NAME, "target_info")]);
    }
    if given.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex)) {
        return Ok(given);
    }
    let any = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info")
        .map_err(|e| QueryError::internal(e.to_string()))?;
    Ok(std::iter::once(any).chain(given).collect())
}

/// For each name and target the info series that counts at each step: the one with the newest
/// sample. `usize::MAX` where there is none.
type Newest = AHashMap<(String, Labels), Vec<usize>>;

fn newest(rows: &[InfoRow], steps: usize, base: &Frame) -> Result<Newest, QueryError> {
    let mut wanted = Bitmap::new(steps, false);
    base.rows.iter().for_each(|r| wanted.union_with(&r.present));
    let mut out: Newest = AHashMap::new();
    for (id, r) in rows.iter().enumerate() {
        let key = (r.name.clone(), r.identity.clone());
        let best = out.entry(key).or_insert_with(|| vec![usize::MAX; steps]);
        for i in r.row.present.ones() {
            let Some(slot) = best.get_mut(i) else { continue };
            let Some(known) = rows.get(*slot) else {
                *slot = id;
                continue;
            };
            let (old, new) = (known.row.values[i], r.row.values[i]);
            if new > old {
                *slot = id;
            } else if new == old && wanted.get(i) {
                let ms = |s: f64| (s * 1000.0).round() as i64;
                return Err(QueryError::execution(format!(
                    "found duplicate series for info metric: existing {} @ {}, new {} @ {}",
                    printed(&known.row.labels),
                    ms(old),
                    printed(&r.row.labels),
                    ms(new)
                )));
            }
        }
    }
    Ok(out)
}

/// The labels a series gets, and at which steps: they differ where info series come and go.
fn enriched(
    r: &Row,
    rows: &[InfoRow],
    newest: &Newest,
    data: &[Matcher],
) -> Result<Vec<(Labels, Bitmap)>, QueryError> {
    let target = identity(&r.labels);
    let mut candidates: Vec<&Vec<usize>> = Vec::new();
    let mut names: Vec<&(String, Labels)> =
        newest.keys().filter(|(_, identity)| *identity == target).collect();
    names.sort();
    for key in names {
        candidates.extend(newest.get(key));
    }
    let may_be_absent = data.iter().all(Matcher::matches_empty);
    let mut out: Vec<(Vec<usize>, Option<Labels>, Bitmap)> = Vec::new();
    for i in r.present.ones() {
        let found: Vec<usize> = candidates
            .iter()
            .filter_map(|c| c.get(i).copied())
            .filter(|id| *id != usize::MAX)
            .collect();
        if let Some((_, _, steps)) = out.iter_mut().find(|(f, _, _)| *f == found) {
            steps.set(i, true);
            continue;
        }
        let labels = if found.is_empty() && !may_be_absent {
            None
        } else {
            Some(combined(r, found.iter().filter_map(|id| rows.get(*id)), data)?)
        };
        let mut steps = Bitmap::new(r.present.len(), false);
        steps.set(i, true);
        out.push((found, labels, steps));
    }
    Ok(out.into_iter().filter_map(|(_, labels, steps)| Some((labels?, steps))).collect())
}

fn combined<'a>(
    r: &Row,
    info: impl Iterator<Item = &'a InfoRow>,
    data: &[Matcher],
) -> Result<Labels, QueryError> {
    let mut added = LabelsBuilder::new();
    for i in info {
        for (n, v) in &i.row.labels {
            let wanted = data.is_empty() || data.iter().any(|m| *m.name == *n);
            if n == METRIC_NAME || !wanted {
                continue;
            }
            if added.get(n).is_some_and(|known| known != v) {
                return Err(QueryError::execution(format!("conflicting label: {n}")));
            }
            if r.labels.get(n).is_none() {
                added.set(n, v);
            }
        }
    }
    let mut out = r.labels.to_builder();
    for (n, v) in &added.build() {
        out.set(n, v);
    }
    Ok(out.build())
}

fn add(out: &mut Vec<Row>, ids: &mut AHashMap<Labels, usize>, row: Row) -> Result<(), QueryError> {
    match ids.get(&row.labels).and_then(|i| out.get_mut(*i)) {
        Some(known) => known.merge(row),
        None => {
            ids.insert(row.labels.clone(), out.len());
            out.push(row);
            Ok(())
        }
    }
}
