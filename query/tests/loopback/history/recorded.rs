//! Questions with the answers that Prometheus or Thanos gave.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use periplus_model::Labels;
use periplus_promql::value::{StepGrid, Value};
use periplus_query::answer::When;
use serde_json::Value as Json;

/// External labels of the recorded fleet.
pub(crate) const EXTERNAL: [&str; 3] = ["cluster", "region", "replica"];

/// A question and its answer: series by their labels, points by their time in milliseconds.
pub(crate) struct Recorded {
    pub(crate) query: String,
    pub(crate) when: When,
    pub(crate) answer: BTreeMap<Labels, BTreeMap<i64, String>>,
}

/// Where the shared bucket is; `None` where it is not, which is an error in CI.
pub(crate) fn shared() -> Option<PathBuf> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/thanos-bucket"));
    if dir.is_dir() {
        return Some(dir);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the shared bucket is missing");
    eprintln!("skipped: no shared bucket beside this checkout");
    None
}

/// All questions of one recording.
pub(crate) fn recorded(name: &str) -> Vec<Recorded> {
    let Some(dir) = shared() else { return Vec::new() };
    let file = std::fs::File::open(dir.join(format!("answers/{name}.jsonl.gz"))).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines().map(|l| parse(&serde_json::from_str(l).unwrap())).collect()
}

fn ms(v: &Json) -> i64 {
    (v.as_f64().unwrap() * 1000.0).round() as i64
}

fn labels(metric: &Json) -> Labels {
    let pairs = metric.as_object().unwrap().iter();
    Labels::from_pairs(pairs.map(|(n, v)| (n.as_str(), v.as_str().unwrap())))
}

fn parse(line: &Json) -> Recorded {
    let (p, data) = (&line["params"], &line["response"]["data"]);
    let when = match line["path"].as_str().unwrap() {
        "query" => When::instant(ms(&p["time"])),
        _ => When::range(StepGrid {
            start_ms: ms(&p["start"]),
            end_ms: ms(&p["end"]),
            step_ms: ms(&p["step"]),
        }),
    };
    let mut answer = BTreeMap::new();
    for series in data["result"].as_array().unwrap() {
        let points = match &series["values"] {
            Json::Array(all) => all.as_slice(),
            _ => std::slice::from_ref(&series["value"]),
        };
        let points =
            points.iter().map(|p| (ms(&p[0]), p[1].as_str().unwrap().to_owned())).collect();
        answer.insert(labels(&series["metric"]), points);
    }
    Recorded { query: p["query"].as_str().unwrap().to_owned(), when, answer }
}

/// An answer of ours in the same form, less `without`.
pub(crate) fn points(value: &Value, without: &[&str]) -> BTreeMap<Labels, BTreeMap<i64, f64>> {
    let Value::Vector(matrix) = value else { panic!("not a vector: {value:?}") };
    let mut out: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
    for s in &matrix.series {
        assert!(s.histograms.is_empty(), "no recorded answer has histograms");
        let labels = s.labels.filter(|n| !without.contains(&n));
        let points: BTreeMap<i64, f64> =
            s.present.ones().map(|i| (matrix.grid.time(i), s.values[i])).collect();
        if !points.is_empty() {
            assert!(out.insert(labels, points).is_none(), "labels are left twice");
        }
    }
    out
}

/// Compares point by point; `close` says whether two numbers are the same.
#[track_caller]
pub(crate) fn compare(r: &Recorded, ours: &BTreeMap<Labels, BTreeMap<i64, f64>>, close: f64) {
    let about = |text: String| format!("{} over {:?}: {text}", r.query, r.when.grid);
    let keys: Vec<&Labels> = ours.keys().collect();
    assert_eq!(keys, r.answer.keys().collect::<Vec<_>>(), "{}", about("series".into()));
    for (labels, theirs) in &r.answer {
        let mine = &ours[labels];
        let times: Vec<i64> = mine.keys().copied().collect();
        assert_eq!(
            times,
            theirs.keys().copied().collect::<Vec<_>>(),
            "{}",
            about(format!("{labels:?}"))
        );
        for (t, text) in theirs {
            let (theirs, mine): (f64, f64) = (text.parse().unwrap(), mine[t]);
            let same = theirs == mine
                || (theirs.is_nan() && mine.is_nan())
                || (theirs - mine).abs() <= close * theirs.abs().max(mine.abs());
            assert!(same, "{}", about(format!("{labels:?} at {t}: {mine}, recorded {theirs}")));
        }
    }
}
