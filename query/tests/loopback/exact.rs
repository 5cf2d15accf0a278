//! The answer is that of one source that holds all series with their external labels: whatever is pushed,
//! fetched, merged or passed through tiers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use periplus_daemon::drain::Drain;
use periplus_model::{Labels, almost_equal};
use periplus_promql::engine::{Engine, Leaves, QueryError, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse;
use periplus_promql::value::{StepGrid, StepMatrix, Value};
use periplus_query::answer::{Answerer, When};

use super::data::{BEGIN_MS, Cluster, END_MS, clusters, without};
use super::expressions::Expressions;
use super::fleet::{ask, patient, slow, tier};
use super::sidecar::{FakeSidecar, Memory, engine, labelled};

const MINUTE: i64 = 60_000;

pub(crate) fn truth(clusters: &[Cluster]) -> Memory {
    let mut all: Vec<_> = clusters.iter().flat_map(|c| labelled(&c.series, &c.external)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Memory(all)
}

fn with_replica(external: &Labels, replica: &str) -> Labels {
    let mut b = external.to_builder();
    b.set("replica", replica);
    b.build()
}

fn reference(
    engine: &Arc<Engine>,
    truth: &Memory,
    query: &str,
    when: When,
) -> Result<Value, QueryError> {
    let expr = parse::parse(query).expect("a query");
    let mut spec = QuerySpec::range(expr, query, when.grid);
    spec.instant = when.instant;
    engine.execute(&spec, truth, &Leaves::new(), &Cancel::new()).map(|r| r.value)
}

fn rows(m: &StepMatrix) -> Vec<(Labels, Vec<(usize, f64)>)> {
    let mut rows: Vec<_> = m
        .series
        .iter()
        .map(|s| (s.labels.clone(), s.present.ones().map(|i| (i, s.values[i])).collect()))
        .filter(|(_, v): &(_, Vec<_>)| !v.is_empty())
        .collect();
    rows.sort_by(|a: &(Labels, _), b| a.0.cmp(&b.0));
    rows
}

/// What differs between two answers, if anything.
fn difference(
    expect: &Result<Value, QueryError>,
    got: &Result<Value, QueryError>,
) -> Option<String> {
    let close = |a: &[(usize, f64)], b: &[(usize, f64)]| {
        a.len() == b.len()
            && a.iter().zip(b).all(|((i, x), (j, y))| i == j && almost_equal(*x, *y, 1e-9))
    };
    match (expect, got) {
        (Err(_), Err(_)) => None,
        (Ok(Value::Vector(a)), Ok(Value::Vector(b))) => {
            let (a, b) = (rows(a), rows(b));
            let same = a.len() == b.len()
                && a.iter().zip(&b).all(|((l, v), (m, w))| l == m && close(v, w));
            (!same).then(|| format!("expected {a:?}\n     got {b:?}"))
        }
        (Ok(Value::Scalar { values: a, .. }), Ok(Value::Scalar { values: b, .. })) => {
            let same =
                a.len() == b.len() && a.iter().zip(b).all(|(x, y)| almost_equal(*x, *y, 1e-9));
            (!same).then(|| format!("expected {a:?}\n     got {b:?}"))
        }
        (a, b) => Some(format!("expected {a:?}\n     got {b:?}")),
    }
}

/// When queries are asked: at two instants and over a range, never where a sample lies on the edge.
fn whens() -> [When; 3] {
    let grid = StepGrid {
        start_ms: BEGIN_MS + 20 * MINUTE,
        end_ms: BEGIN_MS + 45 * MINUTE,
        step_ms: 97_000,
    };
    [When::instant(BEGIN_MS + 30 * MINUTE), When::instant(END_MS + 2 * MINUTE), When::range(grid)]
}

pub(crate) async fn compare(
    name: &str,
    answerer: &Answerer,
    truth: &Memory,
    seed: u64,
    count: usize,
) {
    let engine = engine();
    let mut expressions = Expressions::new(seed, (BEGIN_MS + 30 * MINUTE) / 1000, true);
    let (mut wrong, mut asked, mut full) = (Vec::new(), 0, 0);
    for _ in 0..count {
        let query = expressions.next();
        for when in whens() {
            let expect = reference(&engine, truth, &query, when);
            let got = ask(answerer, &query, when).await;
            if let Ok(a) = &got {
                assert!(a.missing.is_empty(), "{query}: {:?}", a.missing);
            }
            asked += 1;
            full += usize::from(matches!(&expect, Ok(Value::Vector(m)) if !m.series.is_empty()));
            let got = got.map(|a| a.value);
            if let Some(d) = difference(&expect, &got) {
                wrong.push(format!("{query} ({when:?})\n{d}"));
            }
        }
    }
    assert!(full * 2 > asked, "{name}: only {full} of {asked} answers have rows");
    let shown = wrong.iter().take(5).map(|w| w.chars().take(3000).collect::<String>());
    let shown: Vec<String> = shown.collect();
    assert!(wrong.is_empty(), "{name}: {} of {asked} differ:\n{}", wrong.len(), shown.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_to_sidecars() {
    let (drain, clusters) = (Drain::new(), clusters(1));
    let mut addresses = Vec::new();
    for c in &clusters {
        addresses.push(FakeSidecar::new(c.external.clone(), c.series.clone()).serve().await);
    }
    let answerer = patient(&addresses, &drain).await;
    compare("sidecars", &answerer, &truth(&clusters), 11, 150).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetched_from_thanos() {
    let (drain, clusters) = (Drain::new(), clusters(2));
    let mut addresses = Vec::new();
    for c in &clusters {
        let mut s = FakeSidecar::new(c.external.clone(), c.series.clone());
        s.thanos = true;
        addresses.push(s.serve().await);
    }
    let answerer = patient(&addresses, &drain).await;
    compare("thanos", &answerer, &truth(&clusters), 12, 80).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_gaps() {
    let (drain, clusters) = (Drain::new(), clusters(3));
    let mut addresses = Vec::new();
    let mut counted = Vec::new();
    for c in &clusters {
        // Far enough apart that no window of the queries meets both.
        let gaps =
            [(22, 24), (41, 43)].map(|(a, b)| (BEGIN_MS + a * MINUTE, BEGIN_MS + b * MINUTE));
        for (replica, gap) in ["a", "b"].iter().zip(gaps) {
            let series = without(&c.series, &[gap]);
            let mut s = FakeSidecar::new(with_replica(&c.external, replica), series);
            s.gaps = vec![gap];
            counted.push((Arc::clone(&s.executed), Arc::clone(&s.fetched)));
            addresses.push(s.serve().await);
        }
    }
    let answerer = patient(&addresses, &drain).await;
    compare("replicas", &answerer, &truth(&clusters), 13, 80).await;
    let executed: Vec<usize> = counted.iter().map(|(e, _)| e.load(Ordering::Relaxed)).collect();
    assert!(executed.iter().all(|n| *n > 0), "both replicas are asked: {executed:?}");
    let fetched: usize = counted.iter().map(|(_, f)| f.load(Ordering::Relaxed)).sum();
    let pushed: usize = executed.iter().sum();
    assert!(fetched < pushed, "series are the exception: {fetched} fetches, {pushed} evaluations");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_two_tiers() {
    let (drain, clusters) = (Drain::new(), clusters(4));
    let mut addresses = Vec::new();
    for c in &clusters {
        addresses.push(FakeSidecar::new(c.external.clone(), c.series.clone()).serve().await);
    }
    // Paris and Madrid behind one tier, Tokyo behind another, Mumbai asked directly.
    let (europe, _) = tier(slow(&addresses[..2]), &drain).await;
    let (asia, _) = tier(slow(&addresses[2..3]), &drain).await;
    let answerer = patient(&[europe, asia, addresses[3]], &drain).await;
    compare("tiers", &answerer, &truth(&clusters), 14, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_come_first() {
    let (drain, clusters) = (Drain::new(), clusters(5));
    let mut addresses = Vec::new();
    for c in &clusters {
        addresses.push(FakeSidecar::new(c.external.clone(), c.series.clone()).serve().await);
    }
    let answerer = patient(&addresses, &drain).await;
    let (truth, engine) = (truth(&clusters), engine());
    let when = When::instant(BEGIN_MS + 30 * MINUTE);
    for query in [
        "topk(5, temperature)",
        "bottomk by (cluster) (2, temperature)",
        "topk by (job) (3, rate(requests_total[5m]))",
        "sort_desc(sum by (cluster) (temperature))",
        "sort(rate(requests_total{code=\"200\"}[5m]))",
    ] {
        let order = |v: Value| match v {
            Value::Vector(m) => m.series.into_iter().map(|s| s.labels).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let expect = order(reference(&engine, &truth, query, when).expect("an answer"));
        let got = order(ask(&answerer, query, when).await.expect("an answer").value);
        assert_eq!(got, expect, "{query}");
    }
}
