//! Counts over ranges, as Loki answers them.

use std::collections::BTreeMap;

use super::labels;
use super::logql::Metric;
use crate::search::{CountQuery, SearchError, Searcher};

/// Steps of an answer at most, as in Loki.
pub const STEPS_MAX: i64 = 11_000;

/// Times to evaluate at, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// The first.
    pub start: i64,
    /// Not after.
    pub end: i64,
    /// From one to the next.
    pub step: i64,
}

/// A series: labels, and value by time.
pub type Series = (BTreeMap<String, String>, Vec<(i64, f64)>);

fn greatest_common_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// Evaluates at each time; gives warnings besides.
///
/// # Errors
/// As a search.
pub async fn evaluate(
    searcher: &Searcher,
    metric: &Metric,
    grid: Grid,
) -> Result<(Vec<Series>, Vec<String>), SearchError> {
    let range = metric.range_us;
    // Points that make up every window exactly: (t - range, t].
    let point = greatest_common_divisor(range, grid.step);
    let first = grid.start.saturating_sub(range).saturating_add(1);
    let mut filter = metric.filter.clone();
    filter.from_us = filter.from_us.max(first);
    filter.to_us = filter.to_us.min(grid.end.saturating_add(1));
    let stream = || labels::STREAM.iter().map(|f| f.as_str().to_owned()).collect::<Vec<_>>();
    let names = metric.by.clone().unwrap_or_else(stream);
    let known: Vec<(String, crate::store::Field)> =
        names.into_iter().filter_map(|n| labels::field(&n).map(|f| (n, f))).collect();
    let by = known.iter().map(|(_, f)| *f).collect();
    let query = CountQuery { filter, by, step_us: Some(point), origin_us: first };
    let counted = searcher.count(query).await?;
    // Different values of a field may be one of a label.
    let mut groups: BTreeMap<BTreeMap<String, String>, BTreeMap<i64, u64>> = BTreeMap::new();
    for group in counted.groups {
        let named = known.iter().zip(group.values);
        let mut labels: BTreeMap<String, String> = named
            .map(|((name, _), value)| (name.clone(), labels::shown(name, value)))
            .filter(|(_, v)| !v.is_empty())
            .collect();
        if metric.by.is_none() {
            labels.insert("source".to_owned(), labels::SOURCE.to_owned());
        }
        let points = groups.entry(labels).or_default();
        for (at, (events, _)) in group.points {
            *points.entry(at).or_default() += events;
        }
    }
    let mut series: Vec<Series> = groups
        .into_iter()
        .map(|(labels, points)| (labels, windows(&points, metric, grid)))
        .filter(|(_, values)| !values.is_empty())
        .collect();
    if let Some(k) = metric.top {
        top(&mut series, k);
    }
    Ok((series, counted.warnings))
}

/// The sum of the points in each window; nothing where there are none.
#[expect(clippy::cast_precision_loss, reason = "counts, exact below 2^53")]
fn windows(points: &BTreeMap<i64, u64>, metric: &Metric, grid: Grid) -> Vec<(i64, f64)> {
    let mut out = Vec::new();
    let all: Vec<(i64, u64)> = points.iter().map(|(t, n)| (*t, *n)).collect();
    let (mut from, mut to, mut sum) = (0, 0, 0_u64);
    let mut t = grid.start;
    while t <= grid.end {
        while let Some((_, n)) = all.get(to).filter(|p| p.0 <= t) {
            sum += n;
            to += 1;
        }
        while let Some((_, n)) = all.get(from).filter(|p| from < to && p.0 <= t - metric.range_us) {
            sum -= n;
            from += 1;
        }
        if sum > 0 {
            let value = sum as f64;
            let seconds = metric.range_us as f64 / 1e6;
            out.push((t, if metric.rate { value / seconds } else { value }));
        }
        t = t.saturating_add(grid.step.max(1));
    }
    out
}

/// Leaves at each time the `k` largest; of equal ones those with the lesser labels.
fn top(series: &mut Vec<Series>, k: usize) {
    let mut by_time: BTreeMap<i64, Vec<(f64, usize)>> = BTreeMap::new();
    for (n, (_, values)) in series.iter().enumerate() {
        for (t, v) in values {
            by_time.entry(*t).or_default().push((*v, n));
        }
    }
    let mut kept = std::collections::HashSet::new();
    for (t, mut values) in by_time {
        values.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        kept.extend(values.into_iter().take(k).map(|(_, n)| (n, t)));
    }
    for (n, (_, values)) in series.iter_mut().enumerate() {
        values.retain(|(t, _)| kept.contains(&(n, *t)));
    }
    series.retain(|(_, values)| !values.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Filter;

    #[test]
    fn windows_are_left_open() {
        let metric =
            Metric { filter: Filter::default(), range_us: 20, rate: false, by: None, top: None };
        // Points of ten from 81 on: each holds what is in (80, 90], (90, 100], …
        let points = BTreeMap::from([(81, 1), (91, 2), (101, 4), (121, 8)]);
        let grid = Grid { start: 100, end: 150, step: 10 };
        let got = windows(&points, &metric, grid);
        assert_eq!(got, [(100, 3.0), (110, 6.0), (120, 4.0), (130, 8.0), (140, 8.0)]);
    }

    #[test]
    fn the_largest_at_each_time() {
        let one = |name: &str, values: &[(i64, f64)]| {
            (BTreeMap::from([("n".to_owned(), name.to_owned())]), values.to_vec())
        };
        let mut all = vec![
            one("a", &[(1, 1.0), (2, 9.0)]),
            one("b", &[(1, 2.0), (2, 1.0)]),
            one("c", &[(1, 2.0), (2, 0.5)]),
        ];
        top(&mut all, 1);
        assert_eq!(all, [one("a", &[(2, 9.0)]), one("b", &[(1, 2.0)])]);
    }
}
