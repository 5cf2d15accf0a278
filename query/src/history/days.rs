//! Answers of whole days, kept.
//!
//! A range query over weeks is asked again every minute by whoever looks at a dashboard, and all of it but
//! the newest day is as it was. So the steps of a query are divided at midnights (UTC), and the answers of
//! days are kept that are whole and settled: the bucket holds all that they look at, and nobody is missing
//! in them. Under which parts of the bucket a day was answered belongs to its key, so a block that comes
//! late, or a merge, makes a new key and nothing has to be forgotten; the oldest go when there is no room.
//!
//! What refers to the query's own start, end, range or step is evaluated as one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;
use periplus_model::{Labels, TimeRange};
use periplus_promql::annotations::Annotations;
use periplus_promql::parse::ast::Expr;
use periplus_promql::value::{Bitmap, StepGrid, StepMatrix, StepSeries};
use xxhash_rust::xxh3::Xxh3;

use super::coverage::DAY_MS;
use crate::answer::Options;
use crate::fanout::Question;
use crate::plan::sub_grid;
use crate::times::pin;

/// Series that one kept day may have: more are evaluated again.
const SERIES_MAX: usize = 20_000;

/// One day's answer.
#[derive(Debug)]
pub struct Day {
    series: Vec<StepSeries>,
    annotations: Annotations,
}

/// Kept days. Clones share everything.
#[derive(Clone, Debug)]
pub struct Days {
    kept: Cache<u128, Arc<Day>>,
    hits: Arc<AtomicU64>,
}

/// Some steps of a query: kept already, to be kept, or not to be kept.
#[derive(Debug)]
pub enum Piece {
    /// Kept.
    Kept {
        /// Which steps.
        steps: Range<usize>,
        /// Their answer.
        day: Arc<Day>,
    },
    /// To be evaluated.
    Wanted {
        /// Which steps.
        steps: Range<usize>,
        /// The days among them that are to be kept then: their steps and keys.
        keep: Vec<(Range<usize>, u128)>,
    },
}

impl Days {
    /// Keeps up to so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let weigh = |_: &u128, d: &Arc<Day>| u32::try_from(d.bytes()).unwrap_or(u32::MAX);
        let kept = Cache::builder().max_capacity(bytes).weigher(weigh).build();
        Self { kept, hits: Arc::default() }
    }

    /// How often a day was there already.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Divides the steps of a query; `None` where no day of it can be kept.
    #[must_use]
    pub fn divide(
        &self,
        q: &Question,
        e: &Expr,
        grid: StepGrid,
        options: &Options,
    ) -> Option<Vec<Piece>> {
        let days = whole_days(grid);
        if days.is_empty() || pin(e, q.times) != *e {
            return None;
        }
        let asked = asked(q, e, grid.step_ms, options);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut any = false;
        let mut done = 0;
        for steps in days {
            if done < steps.start {
                want(&mut pieces, done..steps.start, None);
            }
            done = steps.end;
            let own = sub_grid(grid, &steps);
            let at = TimeRange::new(own.start_ms, own.end_ms);
            let key = match q.clock().data_range(e, at) {
                Some(seen) if is_settled(q, seen) => Some(key(q, asked, own, seen)),
                _ => None,
            };
            any |= key.is_some();
            match key.and_then(|k| self.kept.get(&k)) {
                Some(day) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    pieces.push(Piece::Kept { steps, day });
                }
                None => want(&mut pieces, steps, key),
            }
        }
        if done < grid.steps() {
            want(&mut pieces, done..grid.steps(), None);
        }
        any.then_some(pieces)
    }

    /// Keeps the days of a piece that was evaluated, if nobody is missing in it.
    pub fn keep(
        &self,
        keep: &[(Range<usize>, u128)],
        steps: &Range<usize>,
        matrix: &StepMatrix,
        annotations: &Annotations,
    ) {
        if matrix.series.len() > SERIES_MAX {
            return;
        }
        for (day, key) in keep {
            let own = day.start - steps.start..day.end - steps.start;
            let series = matrix.series.iter().filter_map(|s| part(s, &own)).collect();
            let day = Day { series, annotations: annotations.clone() };
            self.kept.insert(*key, Arc::new(day));
        }
    }
}

impl Day {
    fn bytes(&self) -> usize {
        let series = |s: &StepSeries| {
            let histograms = s.histograms.len() * 512;
            s.labels.heap_bytes() + s.values.len() * 9 + histograms + 160
        };
        self.series.iter().map(series).sum::<usize>() + 256
    }
}

/// Adds steps that are to be evaluated; neighbours are evaluated together.
fn want(pieces: &mut Vec<Piece>, more: Range<usize>, key: Option<u128>) {
    let kept = key.map(|k| (more.clone(), k));
    match pieces.last_mut() {
        Some(Piece::Wanted { steps, keep }) => {
            steps.end = more.end;
            keep.extend(kept);
        }
        _ => pieces.push(Piece::Wanted { steps: more, keep: kept.into_iter().collect() }),
    }
}

/// The steps of each day that the grid has all steps of.
fn whole_days(grid: StepGrid) -> Vec<Range<usize>> {
    let n = grid.steps();
    let step = grid.step_ms.max(1);
    if n < 2 || step > DAY_MS {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut begin = 0;
    while begin < n {
        let day = grid.time(begin).div_euclid(DAY_MS);
        let left = (day + 1) * DAY_MS - grid.time(begin);
        let count = usize::try_from((left + step - 1) / step).unwrap_or(usize::MAX);
        let end = begin.saturating_add(count);
        // Whole at both ends: the step before lies on the day before, the one after is there or would
        // lie on the day after.
        let first = grid.time(begin) - step < day * DAY_MS;
        if first && end <= n {
            out.push(begin..end);
        }
        begin = end;
    }
    out
}

/// Whether the bucket has all there will be of these times.
fn is_settled(q: &Question, seen: TimeRange) -> bool {
    q.fleet.parts.iter().all(|p| {
        if p.oldest_ms > seen.max_t {
            return true;
        }
        let streams = p.streams.iter().filter_map(|s| q.fleet.streams.get(*s));
        let only_stored = streams.flat_map(|s| &s.holders).all(|h| q.is_history(h.endpoint));
        let stored = p.candidates.iter().find(|c| q.is_history(c.endpoint));
        // What lies before all there is belongs to nobody.
        let held = TimeRange::new(p.oldest_ms.max(seen.min_t), seen.max_t);
        stored.is_some_and(|c| only_stored || !c.gaps.iter().any(|g| g.overlaps(&held)))
    })
}

/// What is asked, whenever it is.
fn asked(q: &Question, e: &Expr, step_ms: i64, options: &Options) -> u128 {
    let mut hash = Xxh3::new();
    let mut add = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(&e.to_string());
    // Positions in annotations point into the text as it was written.
    add(&q.text);
    add(&format!("{step_ms} {} {:?}", q.lookback_ms, options.resolution));
    add(&format!("{} {}", options.pushdown, options.delayed_name_removal));
    add(&format!("{:?} {:?}", q.fleet.replica_labels, options.stores));
    for s in &q.fleet.streams {
        for (name, value) in &s.labels {
            add(name);
            add(value);
        }
        add("");
    }
    hash.digest128()
}

/// The same for one day, over what the bucket holds of it.
fn key(q: &Question, asked: u128, own: StepGrid, seen: TimeRange) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&asked.to_le_bytes());
    hash.update(&own.start_ms.to_le_bytes());
    if let Some(history) = &q.history {
        history.coverage().each_part(seen, |p| hash.update(&p.id.to_bytes()));
    }
    hash.digest128()
}

/// A series' steps of one day; `None` where it has none.
fn part(s: &StepSeries, steps: &Range<usize>) -> Option<StepSeries> {
    let mut present = Bitmap::new(steps.len(), false);
    for i in steps.clone().filter(|i| s.present.get(*i)) {
        present.set(i - steps.start, true);
    }
    if !present.any() {
        return None;
    }
    let inside = |(i, _): &&(u32, _)| steps.contains(&(*i as usize));
    let moved = |(i, h): &(u32, Arc<_>)| (*i - steps.start as u32, Arc::clone(h));
    Some(StepSeries {
        labels: s.labels.clone(),
        values: s.values.get(steps.clone())?.to_vec(),
        present,
        histograms: s.histograms.iter().filter(inside).map(moved).collect(),
    })
}

/// Puts pieces together that are answers to neighbouring steps.
#[derive(Debug)]
pub struct Joined {
    grid: StepGrid,
    by_labels: HashMap<Labels, StepSeries>,
}

impl Joined {
    /// Nothing yet.
    #[must_use]
    pub fn new(grid: StepGrid) -> Self {
        Self { grid, by_labels: HashMap::new() }
    }

    /// Adds the series of some steps.
    pub fn add<'a>(
        &mut self,
        steps: &Range<usize>,
        series: impl IntoIterator<Item = &'a StepSeries>,
    ) {
        let n = self.grid.steps();
        for s in series {
            let to = match self.by_labels.get_mut(&s.labels) {
                Some(known) => known,
                None => self.by_labels.entry(s.labels.clone()).or_insert_with(|| StepSeries {
                    labels: s.labels.clone(),
                    values: vec![0.0; n],
                    present: Bitmap::new(n, false),
                    histograms: Vec::new(),
                }),
            };
            for i in s.present.ones().filter(|i| *i < steps.len()) {
                let at = steps.start + i;
                if let (Some(v), Some(slot)) = (s.values.get(i), to.values.get_mut(at)) {
                    *slot = *v;
                    to.present.set(at, true);
                }
            }
            let moved = s.histograms.iter().map(|(i, h)| (*i + steps.start as u32, Arc::clone(h)));
            to.histograms.extend(moved);
        }
    }

    /// Adds a kept day.
    pub fn add_day(&mut self, steps: &Range<usize>, day: &Day, annotations: &mut Annotations) {
        self.add(steps, &day.series);
        annotations.merge(day.annotations.clone());
    }

    /// All of it, by labels.
    #[must_use]
    pub fn finish(self) -> StepMatrix {
        let mut series: Vec<StepSeries> = self.by_labels.into_values().collect();
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        StepMatrix { grid: self.grid, series }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = 3_600_000;

    #[test]
    fn only_whole_days() {
        let days = |start_ms, end_ms, step_ms| -> Vec<std::ops::Range<usize>> {
            whole_days(StepGrid { start_ms, end_ms, step_ms })
        };
        assert_eq!(days(0, 2 * DAY_MS, H), [0..24, 24..48]);
        assert_eq!(days(H, 2 * DAY_MS - 1, H), vec![23..47]);
        assert_eq!(days(0, DAY_MS - H, H), vec![0..24]);
        assert!(days(0, DAY_MS - 2 * H, H).is_empty());
        // Steps that do not fall on midnight: the first of the day lies less than a step after it.
        assert_eq!(days(H / 2, DAY_MS, H), vec![0..24]);
        assert!(days(0, 10 * DAY_MS, 2 * DAY_MS).is_empty());
        assert_eq!(days(0, 3 * DAY_MS, DAY_MS), [0..1, 1..2, 2..3, 3..4]);
        assert!(days(5, 5, 1).is_empty());
    }

    #[test]
    fn pieces_join_to_the_whole() {
        let grid = StepGrid { start_ms: 0, end_ms: 9, step_ms: 1 };
        let mut present = Bitmap::new(10, true);
        present.set(3, false);
        present.set(7, false);
        let labels = Labels::from_pairs([("a", "b")]);
        let values = (0..10).map(f64::from).collect();
        let whole = StepSeries { labels, values, present, histograms: Vec::new() };
        let mut joined = Joined::new(grid);
        for steps in [0..4, 4..10] {
            joined.add(&steps, &part(&whole, &steps));
        }
        let mut got = joined.finish();
        let got = got.series.pop().expect("one");
        assert_eq!(got.present, whole.present);
        assert!(whole.present.ones().all(|i| got.values[i] == whole.values[i]));
    }
}
