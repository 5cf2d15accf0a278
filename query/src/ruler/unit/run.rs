//! One test: samples arrive, rules are evaluated, alerts are looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use periplus_model::{FloatHistogram, Labels};
use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse;
use periplus_promql::parse::ast::Expr;
use periplus_promql::script::{Store, StoreError, parse_series};
use tokio::sync::Semaphore;

use super::compare;
use super::form::{AlertTest, Expected, File, Test};
use crate::ruler::alert::State;
use crate::ruler::evaluate::{
    Answer, Answering, Evaluator, Point, Refused, Sample, SampleValue, Silent, Sink, samples_of,
};
use crate::ruler::file::{FileDefaults, read_all};
use crate::ruler::group::{Env, Running};
use crate::ruler::rule::Strategy;

/// The most evaluations of one test.
const EVALUATIONS_MAX: i64 = 5_000_000;

/// Samples in memory and an engine over them.
pub(super) struct Bench {
    engine: Engine,
    store: Mutex<Store>,
    subquery_step_ms: i64,
}

impl Bench {
    pub(super) fn ask(&self, query: &str, expr: Expr, t_ms: i64) -> Result<Vec<Sample>, String> {
        let mut spec = QuerySpec::instant(expr, query, t_ms);
        spec.default_subquery_step_ms = self.subquery_step_ms;
        let store = self.store.lock();
        let done = self.engine.execute(&spec, &*store, &Leaves::new(), &Cancel::new());
        samples_of(done.map_err(|e| e.to_string())?.value)
    }
}

impl Evaluator for Bench {
    fn instant<'a>(
        &'a self,
        query: &'a Arc<str>,
        expr: &'a Expr,
        t_ms: i64,
        _: Strategy,
    ) -> Answering<'a> {
        let done = self.ask(query, expr.clone(), t_ms);
        Box::pin(async move { done.map(|samples| Answer { samples, ..Answer::default() }) })
    }
}

impl Sink for Bench {
    fn append(&self, points: &[Point]) -> Vec<Result<(), Refused>> {
        let mut store = self.store.lock();
        let append = |(labels, t, value): &Point| {
            let done = match value {
                SampleValue::Float(v) => store.push(labels, *t, *v),
                SampleValue::Histogram(h) => store.push_histogram(labels, *t, Arc::clone(h)),
            };
            done.map_err(|e| match e {
                StoreError::OutOfOrder { last_ms, t_ms, .. } if last_ms == t_ms => {
                    Refused::Duplicate
                }
                StoreError::OutOfOrder { .. } => Refused::OutOfOrder,
            })
        };
        points.iter().map(append).collect()
    }
}

/// An input series and how much of it has arrived.
struct Input {
    labels: Labels,
    values: Vec<Option<(f64, Option<Arc<FloatHistogram>>)>>,
    next: usize,
}

/// Runs a test; gives what differs. `look` judges the alerts that fire where the test asks for them.
///
/// # Errors
/// The test can't be carried out.
pub(super) async fn run(
    file: &File,
    test: &Test,
    mut look: impl FnMut(&AlertTest, Vec<Expected>) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut inputs = inputs(test)?;
    let bench = Arc::new(Bench {
        engine: Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() })
            .map_err(|e| e.to_string())?,
        store: Mutex::default(),
        subquery_step_ms: file.interval_ms,
    });
    let env = Env {
        evaluator: Arc::<Bench>::clone(&bench),
        sink: Arc::<Bench>::clone(&bench),
        notify: Arc::new(Silent),
        external_labels: Labels::from_pairs(&test.external_labels),
        external_url: test.external_url.as_str().into(),
        resend_delay_ms: 60_000,
        query_offset_ms: 0,
        strategy: Strategy::Abort,
        places: Arc::new(Semaphore::new(1)),
    };
    let groups = groups(file, test.step_ms)?;
    let longest = test.alerts.iter().map(|a| a.at_ms).chain(test.exprs.iter().map(|e| e.at_ms));
    let end = longest.max().unwrap_or(0);
    if end / file.interval_ms > EVALUATIONS_MAX {
        return Err(format!("more than {EVALUATIONS_MAX} evaluations; take a longer interval"));
    }
    let mut failures = Vec::new();
    let mut at = 0;
    while at <= end {
        let ts = test.start_ms + at;
        arrive(&mut inputs, &bench, test, ts)?;
        let mut errors = Vec::new();
        for g in &groups {
            g.evaluate(ts, &env).await;
            let state = g.state.lock();
            for (rule, state) in g.group.rules.iter().zip(&state.rules) {
                if let Some(e) = &state.last_error {
                    let time = compare::go_duration(ts);
                    errors.push(format!("    rule: {}, time: {time}, err: {e}", rule.name));
                }
            }
        }
        if !errors.is_empty() {
            failures.extend(errors);
            return Ok(failures);
        }
        let due = test.alerts.iter().filter(|a| at <= a.at_ms && a.at_ms < at + file.interval_ms);
        for expected in due {
            failures.extend(look(expected, firing(&groups, &expected.name)));
        }
        at += file.interval_ms;
    }
    for e in &test.exprs {
        let asked = parse::parse(&e.expr).map_err(|e| e.to_string());
        let got = asked.and_then(|x| bench.ask(&e.expr, x, test.start_ms + e.at_ms));
        failures.extend(compare::samples(e, got, file.fuzzy));
    }
    Ok(failures)
}

fn groups(file: &File, step_ms: i64) -> Result<Vec<Running>, String> {
    let defaults = FileDefaults { interval_ms: step_ms };
    let mut groups = read_all(&file.rule_files, defaults).map_err(|all| {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        all.join("\n")
    })?;
    groups.sort_by_key(|g| file.order.get(&g.name).copied().unwrap_or(0));
    Ok(groups.into_iter().map(|g| Running::new(g, true)).collect())
}

fn inputs(test: &Test) -> Result<Vec<Input>, String> {
    // Of a series written twice the last counts.
    let mut all: BTreeMap<Labels, Input> = BTreeMap::new();
    for s in &test.series {
        let line = format!("{} {}", s.series, s.values);
        let (labels, values) = parse_series(&line).map_err(|e| format!("input_series: {e}"))?;
        all.insert(labels.clone(), Input { labels, values, next: 0 });
    }
    Ok(all.into_values().collect())
}

/// The samples up to `ts` are there now.
fn arrive(inputs: &mut [Input], bench: &Bench, test: &Test, ts: i64) -> Result<(), String> {
    let mut store = bench.store.lock();
    for input in inputs {
        loop {
            let t = test.start_ms + test.step_ms * input.next as i64;
            let Some(value) = input.values.get(input.next).filter(|_| t <= ts) else { break };
            input.next += 1;
            let done = match value {
                None => Ok(()),
                Some((_, Some(h))) => store.push_histogram(&input.labels, t, Arc::clone(h)),
                Some((v, None)) => store.push(&input.labels, t, *v),
            };
            done.map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

fn firing(groups: &[Running], name: &str) -> Vec<Expected> {
    let mut out = Vec::new();
    for g in groups {
        let state = g.state.lock();
        let named = g.group.rules.iter().zip(&state.rules);
        for (_, r) in named.filter(|(rule, _)| rule.alerting.is_some() && rule.name == name) {
            let firing = r.alerts.current().filter(|a| a.state == State::Firing);
            out.extend(firing.map(|a| {
                let labels = a.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
                (labels.collect(), a.annotations.iter().cloned().collect())
            }));
        }
    }
    out
}
