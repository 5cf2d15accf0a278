//! `load`: samples at even distances.

use std::collections::BTreeMap;

use periplus_model::float::parse_go_float;
use periplus_model::{ClassicBucket, Labels, METRIC_NAME, from_classic, is_stale};

use super::items::Item;
use super::series;
use super::store::Sample;

/// A `load` block.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Load {
    /// The samples of each series.
    pub(super) series: BTreeMap<Labels, Vec<Sample>>,
}

/// Reads the lines of a block; `lines` are numbered from 1.
///
/// # Errors
/// The line and what is wrong with it.
pub(super) fn parse(
    step_ms: i64,
    with_nhcb: bool,
    lines: &[(usize, &str)],
) -> Result<Load, (usize, String)> {
    let mut load = Load::default();
    let mut starts: Option<(usize, series::Starts)> = None;
    for (number, line) in lines {
        let at = |e: String| (*number, e);
        if let Some(found) = series::parse_starts(line).map_err(at)? {
            if let Some((number, _)) = starts.replace((*number, found)) {
                return Err((number, "no samples follow the start timestamps".to_owned()));
            }
            continue;
        }
        let (labels, items) = series::parse(line).map_err(at)?;
        let offsets = match starts.take() {
            None => Vec::new(),
            Some((n, (of, _))) if of != labels => {
                return Err((n, "the next line is not of the same series".to_owned()));
            }
            Some((n, (_, offsets))) if offsets.len() != items.len() => {
                let text = "start timestamps and samples are not of the same number";
                return Err((n, format!("{text}: {} and {}", offsets.len(), items.len())));
            }
            Some((_, (_, offsets))) => offsets,
        };
        load.series.insert(labels, samples(&items, &offsets, step_ms));
    }
    if let Some((number, _)) = starts {
        return Err((number, "no samples follow the start timestamps".to_owned()));
    }
    if with_nhcb {
        add_custom_buckets(&mut load).map_err(|e| (lines.first().map_or(0, |l| l.0), e))?;
    }
    Ok(load)
}

fn samples(items: &[Item], offsets: &[Option<i64>], step_ms: i64) -> Vec<Sample> {
    let mut out = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let t = step_ms.saturating_mul(i as i64);
        let start = offsets.get(i).copied().flatten().map_or(0, |o| t.saturating_add(o));
        let (value, histogram) = match item {
            Item::Missing => continue,
            Item::Float(v) => (*v, None),
            Item::Histogram(h, _) => (0.0, Some(h.clone())),
        };
        out.push(Sample { t, start, value, histogram });
    }
    out
}

/// What the classic series of one histogram say at one time.
#[derive(Default)]
struct Classic {
    buckets: Vec<ClassicBucket>,
    count: Option<f64>,
    sum: f64,
}

/// Adds for every classic histogram a native one with the same bounds under the base name.
fn add_custom_buckets(load: &mut Load) -> Result<(), String> {
    let mut found: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for (labels, samples) in &load.series {
        let name = labels.value(METRIC_NAME);
        let kinds = ["_bucket", "_sum", "_count"];
        let Some((kind, base)) =
            kinds.iter().find_map(|k| name.strip_suffix(k).map(|base| (*k, base)))
        else {
            continue;
        };
        let bound = match kind {
            "_bucket" => match parse_go_float(labels.value("le")) {
                Ok(le) if !le.is_nan() => le,
                _ => continue,
            },
            _ => 0.0,
        };
        let pairs = labels.iter().filter(|(n, _)| *n != "le" && *n != METRIC_NAME);
        let of = Labels::from_pairs(pairs.chain([(METRIC_NAME, base)]));
        let times = found.entry(of).or_default();
        for s in samples.iter().filter(|s| s.histogram.is_none() && !is_stale(s.value)) {
            let at = times.entry(s.t).or_default();
            match kind {
                "_bucket" => {
                    at.buckets.push(ClassicBucket { upper_bound: bound, count: s.value });
                }
                "_sum" => at.sum = s.value,
                _ => at.count = Some(s.value),
            }
        }
    }
    for (labels, times) in found {
        let mut samples = Vec::new();
        for (t, c) in times {
            let h = from_classic(&c.buckets, c.count, c.sum)
                .map_err(|e| format!("converting {labels:?} at {t} ms: {e}"))?;
            samples.push(Sample { t, start: 0, value: 0.0, histogram: Some(h.into()) });
        }
        load.series.insert(labels, samples);
    }
    Ok(())
}
