//! Alerts over evaluations: what Prometheus does is held against promtool elsewhere; here is what it
//! has no words for: missing streams, restarts, clocks, pairs.

mod clock;
mod outage;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use periplus_model::Labels;
use periplus_promql::parse::ast::Expr;
use tokio::sync::Semaphore;

use super::alert::{Alert, State};
use super::evaluate::{
    Answer, Answering, Evaluator, Notify, Point, Refused, Sample, SampleValue, Sink,
};
use super::file::{FileDefaults, parse};
use super::group::{Env, Running};
use super::rule::Strategy;
use super::state::{Restore, Saved};

/// Gives what it is told to give, keeps what it is given.
struct Stage {
    answer: Mutex<Result<Answer, String>>,
    stored: Mutex<Vec<Point>>,
    told: Mutex<Vec<Alert>>,
    /// The times of evaluations.
    asked: Mutex<Vec<i64>>,
}

impl Default for Stage {
    fn default() -> Self {
        let answer = Mutex::new(Ok(Answer::default()));
        let (stored, told, asked) = Default::default();
        Self { answer, stored, told, asked }
    }
}

impl Evaluator for Stage {
    fn instant<'a>(&'a self, _: &'a Arc<str>, _: &'a Expr, t: i64, s: Strategy) -> Answering<'a> {
        self.asked.lock().push(t);
        let answer = self.answer.lock().clone();
        let answer = match answer {
            Ok(a) if s == Strategy::Abort && !a.missing.is_empty() => Err("missing".to_owned()),
            other => other,
        };
        Box::pin(async move { answer })
    }
}

impl Sink for Stage {
    fn append(&self, points: &[Point]) -> Vec<Result<(), Refused>> {
        self.stored.lock().extend_from_slice(points);
        vec![Ok(()); points.len()]
    }
}

impl Notify for Stage {
    fn notify(&self, _: &str, alerts: Vec<Alert>) {
        self.told.lock().extend(alerts);
    }
}

const RULES: &str = "
groups:
- name: g
  interval: 30s
  rules:
  - alert: Down
    expr: up == 0
    for: 2m
    keep_firing_for: 1m
    annotations: {value: '{{ $value }}'}
";

fn running(text: &str) -> Running {
    let groups = parse(Path::new("r.yml"), text, FileDefaults::default()).expect("rules");
    Running::new(groups.into_iter().next().expect("a group"), true)
}

fn env(stage: &Arc<Stage>, strategy: Strategy) -> Env {
    Env {
        evaluator: Arc::<Stage>::clone(stage),
        sink: Arc::<Stage>::clone(stage),
        notify: Arc::<Stage>::clone(stage),
        external_labels: Labels::empty(),
        external_url: "".into(),
        resend_delay_ms: 60_000,
        query_offset_ms: 0,
        strategy,
        places: Arc::new(Semaphore::new(4)),
    }
}

fn cluster(name: &str) -> Labels {
    Labels::from_pairs([("cluster", name)])
}

fn answer(down: &[&str], missing: &[&str]) -> Result<Answer, String> {
    let sample = |c: &&str| Sample {
        labels: Labels::from_pairs([("__name__", "up"), ("cluster", c), ("job", "x")]),
        value: SampleValue::Float(0.0),
    };
    Ok(Answer {
        samples: down.iter().map(sample).collect(),
        missing: missing.iter().map(|c| cluster(c)).collect(),
        warnings: Vec::new(),
    })
}

fn states(g: &Running) -> Vec<(String, State)> {
    let state = g.state.lock();
    let alerts = state.rules[0].alerts.active.values();
    alerts.map(|a| (a.labels.value("cluster").to_owned(), a.state)).collect()
}

async fn step(g: &Running, stage: &Arc<Stage>, env: &Env, n: i64, a: Result<Answer, String>) {
    *stage.answer.lock() = a;
    g.evaluate(n * 30_000, env).await;
}

fn is(name: &str, state: State) -> Vec<(String, State)> {
    vec![(name.to_owned(), state)]
}

#[tokio::test]
async fn a_missing_cluster_neither_resolves_nor_starts_its_alerts() {
    let stage = Arc::new(Stage::default());
    let (g, env) = (running(RULES), env(&stage, Strategy::Warn));
    for n in 0..5 {
        step(&g, &stage, &env, n, answer(&["a"], &[])).await;
    }
    assert_eq!(states(&g), is("a", State::Firing));
    // The cluster is gone for an hour: it goes on firing, whatever keep_firing_for says.
    for n in 5..125 {
        step(&g, &stage, &env, n, answer(&[], &["a"])).await;
    }
    assert_eq!(states(&g), is("a", State::Firing));
    {
        let state = g.state.lock();
        let a = state.rules[0].alerts.active.values().next().expect("an alert");
        assert!(a.held);
        let says =
            a.annotations.iter().find(|(n, _)| n == "missing_clusters").expect("it says who");
        assert_eq!(says.1, "cluster=\"a\"");
    }
    // It is back and well: resolved after keep_firing_for, and told so.
    for n in 125..129 {
        step(&g, &stage, &env, n, answer(&[], &[])).await;
    }
    assert_eq!(states(&g), is("a", State::Inactive));
    let told = stage.told.lock().last().cloned().expect("told");
    assert!(told.resolved_at.is_some());
}

#[tokio::test]
async fn what_is_about_a_missing_cluster_does_not_start() {
    let stage = Arc::new(Stage::default());
    let (g, env) = (running(RULES), env(&stage, Strategy::Warn));
    // absent() and its like answer for a cluster because it is missing.
    for n in 0..10 {
        step(&g, &stage, &env, n, answer(&["a", "b"], &["a"])).await;
    }
    assert_eq!(states(&g), is("b", State::Firing));
    // One that was pending when the cluster left waits, and the time does not count.
    step(&g, &stage, &env, 10, answer(&["a", "b"], &[])).await;
    step(&g, &stage, &env, 11, answer(&["a", "b"], &[])).await;
    for n in 12..40 {
        step(&g, &stage, &env, n, answer(&["b"], &["a"])).await;
    }
    step(&g, &stage, &env, 40, answer(&["a", "b"], &[])).await;
    let pending = states(&g).into_iter().find(|(c, _)| c == "a").expect("an alert");
    assert_eq!(pending.1, State::Pending);
    for n in 41..44 {
        step(&g, &stage, &env, n, answer(&["a", "b"], &[])).await;
    }
    assert!(states(&g).iter().all(|(_, s)| *s == State::Firing), "{:?}", states(&g));
}

#[tokio::test]
async fn strict_rules_stay_as_they_were() {
    let stage = Arc::new(Stage::default());
    let (g, env) = (running(RULES), env(&stage, Strategy::Abort));
    for n in 0..6 {
        step(&g, &stage, &env, n, answer(&["a"], &[])).await;
    }
    step(&g, &stage, &env, 6, answer(&[], &["b"])).await;
    assert_eq!(states(&g), is("a", State::Firing));
    assert_eq!(g.state.lock().rules[0].last_error.as_deref(), Some("missing"));
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let stage = Arc::new(Stage::default());
    let (g, env) = (running(RULES), env(&stage, Strategy::Abort));
    let long = RULES.replace("2m", "30m");
    let slow = running(&long);
    for n in 0..10 {
        step(&g, &stage, &env, n, answer(&["a"], &[])).await;
        step(&slow, &stage, &env, n, answer(&["a"], &[])).await;
    }
    let dir = tempfile::tempdir().expect("a directory");
    Saved::of([&g]).write(dir.path()).expect("written");
    let how = Restore { outage_tolerance_ms: 3_600_000, for_grace_period_ms: 600_000 };
    let saved = Saved::read(dir.path()).expect("read");
    let again = running(RULES);
    assert_eq!(saved.restore(&again, 12 * 30_000, how), 1);
    assert_eq!(states(&again), is("a", State::Firing));
    // Over while nobody looked: it is told as resolved.
    stage.told.lock().clear();
    for n in 12..16 {
        step(&again, &stage, &env, n, answer(&[], &[])).await;
    }
    assert!(stage.told.lock().iter().any(|a| a.resolved_at.is_some()));
    // Pending: what it had waited counts, the outage does not; never sooner than the grace period.
    let saved = Saved::of([&slow]);
    let again = running(&long);
    assert_eq!(saved.restore(&again, 20 * 30_000, how), 1);
    let active_at = |g: &Running| {
        let state = g.state.lock();
        state.rules[0].alerts.active.values().next().map(|a| a.active_at)
    };
    assert_eq!(active_at(&again), Some(11 * 30_000));
    let tight = Restore { for_grace_period_ms: 28 * 60_000, ..how };
    let again = running(&long);
    assert_eq!(saved.restore(&again, 20 * 30_000, tight), 1);
    assert_eq!(active_at(&again), Some(20 * 30_000 + 28 * 60_000 - 30 * 60_000));
    // Too long ago.
    assert_eq!(saved.restore(&running(&long), 4_000_000 + 9 * 30_000, how), 0);
    assert!(Saved::read(&dir.path().join("none")).is_ok());
}

#[tokio::test]
async fn a_clock_that_is_set_moves_alerts_along() {
    let stage = Arc::new(Stage::default());
    let (g, env) = (running(RULES), env(&stage, Strategy::Abort));
    for n in 0..3 {
        step(&g, &stage, &env, n, answer(&["a"], &[])).await;
    }
    // An hour ahead: two minutes are still two minutes.
    g.state.lock().shift(3_600_000);
    step(&g, &stage, &env, 123, answer(&["a"], &[])).await;
    assert_eq!(states(&g), is("a", State::Pending));
    step(&g, &stage, &env, 124, answer(&["a"], &[])).await;
    assert_eq!(states(&g), is("a", State::Firing));
    // And back.
    g.state.lock().shift(-3_600_000);
    step(&g, &stage, &env, 5, answer(&["a"], &[])).await;
    assert_eq!(states(&g), is("a", State::Firing));
}

#[tokio::test]
async fn loaded_anew_rules_keep_what_they_know() {
    let stage = Arc::new(Stage::default());
    let (g, env) = (running(RULES), env(&stage, Strategy::Abort));
    for n in 0..6 {
        step(&g, &stage, &env, n, answer(&["a"], &[])).await;
    }
    let changed = running(&RULES.replace("up == 0", "up < 1"));
    assert!(!changed.group.same_as(&g.group) && running(RULES).group.same_as(&g.group));
    changed.take_over(&g);
    assert_eq!(states(&changed), is("a", State::Firing));
    stage.stored.lock().clear();
    let renamed = running(&RULES.replace("Down", "Gone"));
    renamed.take_over(&changed);
    step(&renamed, &stage, &env, 7, answer(&[], &[])).await;
    // The series of the rule that is gone end: ALERTS and ALERTS_FOR_STATE.
    let ended = stage
        .stored
        .lock()
        .iter()
        .filter(|(_, _, v)| matches!(v, SampleValue::Float(v) if periplus_model::is_stale(*v)))
        .count();
    assert_eq!(ended, 2);
}

#[tokio::test]
async fn two_of_a_pair_say_the_same() {
    let (one, two) = (Arc::new(Stage::default()), Arc::new(Stage::default()));
    let (a, b) = (running(RULES), running(RULES));
    for n in 0..20 {
        let down: &[&str] = if (3..14).contains(&n) { &["a", "b"] } else { &["b"] };
        step(&a, &one, &env(&one, Strategy::Abort), n, answer(down, &[])).await;
        step(&b, &two, &env(&two, Strategy::Abort), n, answer(down, &[])).await;
    }
    assert_eq!(*one.told.lock(), *two.told.lock());
    assert!(!one.told.lock().is_empty());
}

#[tokio::test]
async fn limits_and_doubles_fail_the_rule() {
    let stage = Arc::new(Stage::default());
    let limited = running(&RULES.replace("interval: 30s", "interval: 30s\n  limit: 1"));
    let env = env(&stage, Strategy::Abort);
    step(&limited, &stage, &env, 0, answer(&["a", "b"], &[])).await;
    let error = limited.state.lock().rules[0].last_error.clone();
    assert_eq!(error.as_deref(), Some("exceeded limit of 1 with 2 alerts"));
    let double = running(&RULES.replace("for: 2m", "labels: {cluster: same}"));
    step(&double, &stage, &env, 0, answer(&["a", "b"], &[])).await;
    let error = double.state.lock().rules[0].last_error.clone().expect("an error");
    assert!(error.contains("same labelset after applying alert labels"), "{error}");
}
