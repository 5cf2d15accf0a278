//! Broken, cut off and missing files: an answer lacks what they held and names them, or is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use periplus_daemon::drain::Drain;
use periplus_model::{Labels, TimeRange};
use periplus_promql::engine::QueryError;
use periplus_promql::parse;
use periplus_promql::value::StepGrid;
use periplus_promql::value::Value;
use periplus_query::answer::{Answered, Answerer, Options, When};

use super::blocks::streams;
use super::convert::{Converted, convert};
use super::raw::{answerer, config, options};
use super::recorded::points;

const DAY: i64 = 86_400_000;
const QUERY: &str = "sum by (cluster, replica, pod) (rate(container_cpu_usage_seconds_total[30m]))";

/// Two days of all streams.
async fn bucket() -> Option<(Converted, When)> {
    let streams = streams();
    let first =
        streams.iter().flat_map(|s| s.series.values()).filter_map(|s| s.ts.first()).min()?;
    let from = first.div_euclid(DAY) * DAY + DAY;
    let grid = StepGrid { start_ms: from, end_ms: from + 2 * DAY - 1, step_ms: 600_000 };
    let bucket = convert(&streams, TimeRange::new(from, grid.end_ms)).await;
    Some((bucket, When::range(grid)))
}

async fn ask(answerer: &Answerer, when: When, strict: bool) -> Result<Answered<Value>, QueryError> {
    let expr = parse::parse(QUERY).unwrap();
    answerer.answer(&expr, Arc::from(QUERY), when, &Options { strict, ..options() }).await
}

fn files(below: &Path, name: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut left = vec![below.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.file_name().is_some_and(|n| n == name) {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

/// What is in an answer that lacks something must be as in the whole one, or be missing.
#[track_caller]
fn is_part(
    whole: &BTreeMap<Labels, BTreeMap<i64, f64>>,
    part: &BTreeMap<Labels, BTreeMap<i64, f64>>,
    intact_until: i64,
) {
    for (labels, mine) in part {
        for (t, v) in mine.range(..=intact_until) {
            assert_eq!(whole[labels].get(t), Some(v), "{labels:?} at {t}");
        }
    }
}

/// Damages one file in some way; asks; puts it right again.
async fn damaged(bucket: &Converted, when: When, at: &Path, how: &dyn Fn(&mut Vec<u8>)) -> bool {
    let drain = Drain::new();
    let whole = std::fs::read(at).unwrap();
    let healthy = answerer(&config(bucket), &drain).await;
    let truth = points(&ask(&healthy, when, true).await.unwrap().value, &[]);
    let mut bytes = whole.clone();
    how(&mut bytes);
    std::fs::write(at, &bytes).unwrap();
    // A process that has read nothing yet.
    let fresh = answerer(&config(bucket), &drain).await;
    let lenient = ask(&fresh, when, false).await;
    let strict = ask(&fresh, when, true).await;
    std::fs::write(at, &whole).unwrap();
    let name = at.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let lenient = lenient.unwrap_or_else(|e| panic!("{}: {e}", at.display()));
    let got = points(&lenient.value, &[]);
    if lenient.missing.is_empty() {
        assert_eq!(got, truth, "{} is damaged, and nobody noticed", at.display());
        assert_eq!(points(&strict.unwrap().value, &[]), truth);
        return false;
    }
    let named = lenient.missing.iter().any(|m| m.address.contains(name) && !m.reason.is_empty());
    assert!(named, "{name} is not named: {:?}", lenient.missing);
    let refused = strict.expect_err("strict").message;
    assert!(refused.contains(name), "{refused}");
    // The first half hour of the second day reaches into the first.
    let day = if at.to_string_lossy().contains(&day_of(when.grid.start_ms)) { 0 } else { DAY };
    is_part(&truth, &got, when.grid.start_ms + day - 1);
    true
}

fn day_of(t: i64) -> String {
    periplus_columnar::Day::of_ms(t).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named() {
    let Some((bucket, when)) = bucket().await else { return };
    let mut noticed = 0;
    for name in ["series.parquet", "samples.parquet"] {
        let found = files(bucket.dir.path(), name);
        for at in found.iter().take(2) {
            let n = std::fs::metadata(at).unwrap().len() as usize;
            for place in [0, 5, n / 7, n / 3, n / 2, n * 4 / 5, n - 200, n - 60, n - 6, n - 1] {
                let flip = move |b: &mut Vec<u8>| b[place] ^= 0x55;
                noticed += usize::from(damaged(&bucket, when, at, &flip).await);
            }
            let cut = |b: &mut Vec<u8>| b.truncate(b.len() / 2);
            assert!(damaged(&bucket, when, at, &cut).await, "cut off");
            let empty = |b: &mut Vec<u8>| b.clear();
            assert!(damaged(&bucket, when, at, &empty).await, "empty");
        }
    }
    assert!(noticed > 20, "only {noticed} noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_cannot_be_read_is_missing_in_every_answer() {
    let Some((bucket, when)) = bucket().await else { return };
    let mut broken = 0;
    for at in files(bucket.dir.path(), "root") {
        std::fs::write(at, b"{").unwrap();
        broken += 1;
    }
    assert_eq!(broken, 1);
    let answerer = periplus_query::start(&config(&bucket), &Drain::new()).unwrap();
    let history = answerer.history.clone().unwrap();
    history.refresh().await.expect_err("it is broken");
    let answered = ask(&answerer, when, false).await.unwrap();
    let named = answered.missing.iter().any(|m| m.reason.contains("catalog"));
    assert!(named, "{:?}", answered.missing);
    ask(&answerer, when, true).await.expect_err("strict");
}
