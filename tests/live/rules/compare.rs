//! The same rules over the same data, evaluated at the same moments by a ruler over the fleet and by a running
//! Prometheus: the same alerts in the same states at the same evaluations.
//!
//! What a rule sees must not depend on who is a few milliseconds later. So the data is written ahead of the
//! clock, half way between evaluations, and both only ever look back. The story repeats; a turn of it counts once
//! both have evaluated every step of it.

use std::collections::BTreeMap;
use std::path::Path;

use periplus_query::ruler::file::{FileDefaults, parse};
use periplus_query::ruler::schedule::slot;

use super::*;

const STEP_MS: i64 = 2_000;
/// Steps of one turn of the story. It begins and ends with nothing going on.
const TURN: i64 = 14;
const TURNS: i64 = 8;

const RULES: &str = r#"groups:
- name: NAME
  interval: 2s
  rules:
  - record: eval_time
    expr: vector(time())
  - record: job:m:sum
    expr: sum by (cluster, job) (m)
    labels: {by: rule}
  - alert: Plain
    expr: m > 0
  - alert: Late
    expr: m > 0
    for: 4s
  - alert: Kept
    expr: m > 1
    keep_firing_for: 4s
    labels: {severity: "{{ $labels.job }}-{{ $value }}"}
  - alert: Both
    expr: job:m:sum > 0
    for: 2s
    keep_firing_for: 6s
  - alert: OfAlerts
    expr: count by (job) (ALERTS{alertname="Plain", alertstate="firing"}) > 0
    for: 2s
"#;

/// What a series is at each step of a turn; no number: it ends there.
const STORY: [(&str, [Option<f64>; TURN as usize]); 3] = {
    const N: Option<f64> = None;
    const O: Option<f64> = Some(0.0);
    const A: Option<f64> = Some(1.0);
    const B: Option<f64> = Some(2.0);
    [
        ("steady", [O, A, A, A, A, O, O, O, O, O, O, O, O, O]),
        ("flapping", [O, B, O, A, B, B, O, B, O, O, O, O, O, O]),
        ("vanishing", [N, A, B, B, N, N, A, N, N, N, N, N, N, N]),
    ]
};

/// The story from `from_ms` on, half a step before each evaluation.
fn story(from_ms: i64, more: &[(&str, &str)]) -> Vec<SeriesData> {
    let one = |(job, values): &(&str, [Option<f64>; TURN as usize])| {
        let mut pairs = vec![("__name__", "m"), ("job", *job)];
        pairs.extend(more);
        let at = |i: i64| {
            let v = values[usize::try_from(i % TURN).expect("small")];
            (from_ms + i * STEP_MS - STEP_MS / 2, v.unwrap_or_else(periplus_model::stale_nan))
        };
        (Labels::from_pairs(pairs), (0..TURN * TURNS).map(at).collect())
    };
    STORY.iter().map(one).collect()
}

/// Values by series and time in Unix milliseconds, as somebody's API gives the samples of the last minutes.
type Samples = BTreeMap<String, BTreeMap<i64, String>>;

async fn samples(url: &str, metric: &str) -> Samples {
    let found = query(url, &format!("{metric}[10m]")).await;
    let point = |v: &Value| -> (i64, String) {
        let t = (v[0].as_f64().unwrap_or_default() * 1000.0).round() as i64;
        (t, v[1].as_str().unwrap_or_default().to_owned())
    };
    let series = found.iter().map(|s| {
        let values = s["values"].as_array().cloned().unwrap_or_default();
        (s["metric"].to_string(), values.iter().map(point).collect())
    });
    series.collect()
}

/// Times of evaluations.
async fn evaluations(url: &str) -> Vec<i64> {
    let all = samples(url, "eval_time").await;
    all.into_values().flat_map(BTreeMap::into_keys).collect()
}

/// A name for the group with which the ruler evaluates at the moments that `theirs` is one of, to within a few
/// milliseconds.
fn name_with_slot(file: &Path, theirs: i64) -> String {
    let fits = |name: &str| {
        let text = RULES.replace("NAME", name);
        let groups = parse(file, &text, FileDefaults::default()).expect("rules");
        let apart = (slot(&groups[0], theirs + STEP_MS / 2) - theirs).rem_euclid(STEP_MS);
        apart.min(STEP_MS - apart) <= 10
    };
    (0..100_000).map(|i| format!("g{i}")).find(|n| fits(n)).expect("a name")
}

/// The steps of one turn out of all samples of a metric: by series, the step's number and the value.
fn turn_of(all: &Samples, from_ms: i64) -> Vec<(String, i64, String)> {
    let end = from_ms + TURN * STEP_MS;
    let mut out = Vec::new();
    for (series, points) in all {
        for (t, v) in points.range(from_ms - 200..end - 200) {
            out.push((series.clone(), (t - from_ms + STEP_MS / 2).div_euclid(STEP_MS), v.clone()));
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_change_as_in_a_running_prometheus() {
    for flavour in flavours() {
        let dir = tempfile::tempdir().expect("a directory");
        compare(&flavour, dir.path()).await;
    }
}

async fn compare(flavour: &Flavour, dir: &Path) {
    let file = dir.join("rules.yml");
    std::fs::write(&file, RULES.replace("NAME", "theirs")).expect("rules");
    // One evaluates and has the fleet's series as its own; the other is a cluster of the fleet.
    let yaml = format!("rule_files: ['{}']\n", file.display());
    let theirs = Prometheus::start_with(flavour, "theirs", &yaml, &[], dir).await;
    let cluster = Prometheus::start(flavour, "cluster", &[("cluster", "a")], dir).await;
    until("Prometheus evaluates", || async { evaluations(&theirs.url).await.len() >= 3 }).await;
    let moment = evaluations(&theirs.url).await[0];

    let own_file = dir.join("own.yml");
    let (path, name) = match flavour.v3 {
        // Of the same version, file and name alone say when.
        true => (file.clone(), "theirs".to_owned()),
        false => (own_file.clone(), name_with_slot(&own_file, moment)),
    };
    std::fs::write(&path, RULES.replace("NAME", &name)).expect("rules");
    let place = super::super::place::Place::loopback();
    let sidecar = Sidecar::start("sidecar", &cluster.url, &[], &place, dir).await;
    let port = free_port();
    let endpoints = [sidecar.grpc.as_str(), &format!("127.0.0.1:{port}")];
    let fleet = Query::start("query", &endpoints, &["--probe-interval", "500ms"], dir).await;
    let rules = path.display().to_string();
    let args = ["--query", fleet.url.as_str(), "--rules", &rules, "--partial-response", "warn"];
    let ruler = Ruler::start("ruler", port, &args, dir);
    until("the ruler evaluates", || async { evaluations(&fleet.url).await.len() >= 2 }).await;

    let from = moment + (now_ms() + 6_000 - moment).div_euclid(STEP_MS) * STEP_MS;
    theirs.store(&story(from, &[("cluster", "a")])).await;
    cluster.store(&story(from, &[])).await;
    let mut compared = 0;
    for turn in 0..TURNS {
        let begin = from + turn * TURN * STEP_MS;
        let end = begin + TURN * STEP_MS;
        until_ms(end + STEP_MS).await;
        let whole = |times: &[i64]| {
            let all = (0..TURN).map(|i| begin + i * STEP_MS);
            all.into_iter().all(|t| times.iter().any(|x| (x - t).abs() <= 200))
        };
        let (a, b) = (evaluations(&theirs.url).await, evaluations(&fleet.url).await);
        if !whole(&a) || !whole(&b) {
            eprintln!("{}: turn {turn}: somebody missed an evaluation", flavour.name);
            continue;
        }
        if flavour.v3 {
            let own: Vec<&i64> = b.iter().filter(|t| (begin..end).contains(t)).collect();
            assert!(own.iter().all(|t| a.contains(t)), "not the same moments: {a:?} {b:?}");
        }
        for metric in ["ALERTS", "ALERTS_FOR_STATE", "job:m:sum"] {
            let expected = turn_of(&samples(&theirs.url, metric).await, begin);
            let mut got = turn_of(&samples(&fleet.url, metric).await, begin);
            if !flavour.v3 && metric == "ALERTS_FOR_STATE" {
                // Seconds of times that are some milliseconds apart.
                nearly(&mut got, &expected);
            }
            assert!(!expected.is_empty(), "{metric}: nothing happened");
            let missing: Vec<_> = expected.iter().filter(|e| !got.contains(e)).collect();
            let more: Vec<_> = got.iter().filter(|g| !expected.contains(g)).collect();
            assert!(
                missing.is_empty() && more.is_empty(),
                "{}: {metric}, turn {turn}: missing {missing:#?}, too many {more:#?}\n{}",
                flavour.name,
                ruler.process.last_words()
            );
            compared += expected.len();
        }
        eprintln!("{}: {compared} samples of alerts are the same", flavour.name);
        return;
    }
    panic!("{}: no turn in which both evaluated every step", flavour.name);
}

/// Takes seconds of `expected` over where they are one off.
fn nearly(got: &mut [(String, i64, String)], expected: &[(String, i64, String)]) {
    let number = |v: &str| v.parse::<i64>().unwrap_or_default();
    for g in got {
        let same = expected.iter().find(|e| e.0 == g.0 && e.1 == g.1);
        if let Some(e) = same.filter(|e| (number(&e.2) - number(&g.2)).abs() <= 1) {
            g.2.clone_from(&e.2);
        }
    }
}

async fn until_ms(t: i64) {
    let left = u64::try_from(t - now_ms()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(left)).await;
}
