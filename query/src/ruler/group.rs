//! A group at work: its rules evaluated at a time, what they gave before, and how it went.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use periplus_model::{Labels, METRIC_NAME, stale_nan};
use tokio::sync::Semaphore;

use super::alert::{Alerts, CLUSTER_MISSING, Candidate, Turn};
use super::depend::{batches, looks_at_rulers_only};
use super::evaluate::{Answer, Evaluator, Notify, Point, Refused, SampleValue, Sink};
use super::expand::{Expansion, expand};
use super::rule::{Group, Rule, Strategy};

/// What all groups are evaluated with.
#[derive(Clone)]
pub struct Env {
    /// Who answers.
    pub evaluator: Arc<dyn Evaluator>,
    /// Who stores.
    pub sink: Arc<dyn Sink>,
    /// Who is told.
    pub notify: Arc<dyn Notify>,
    /// External labels, for templates.
    pub external_labels: Labels,
    /// Where people find this process, without a slash at the end.
    pub external_url: Arc<str>,
    /// How long an alert that goes on is not sent again, in milliseconds.
    pub resend_delay_ms: i64,
    /// How far behind the clock groups look that do not say it, in milliseconds.
    pub query_offset_ms: i64,
    /// What partial answers mean to groups that do not say it.
    pub strategy: Strategy,
    /// Rules evaluated at once, over all groups.
    pub places: Arc<Semaphore>,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}

/// How a rule is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It was not evaluated yet.
    #[default]
    Unknown,
    /// Its last evaluation was good.
    Ok,
    /// Its last evaluation failed.
    Err,
}

impl Health {
    /// As the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// What is kept of a rule between evaluations.
#[derive(Clone, Debug, Default)]
pub struct RuleState {
    /// Its alerts, where it is an alerting one.
    pub alerts: Alerts,
    /// Whether alerts' old state was taken over: before that, their series are not written.
    pub restored: bool,
    /// The series it gave last.
    pub previous: BTreeSet<Labels>,
    /// How it is.
    pub health: Health,
    /// Why its last evaluation failed.
    pub last_error: Option<String>,
    /// How long the last evaluation took.
    pub took: Duration,
    /// When it was last evaluated, Unix milliseconds.
    pub evaluated_ms: Option<i64>,
    /// The streams the last answer lacked.
    pub missing: Vec<Labels>,
}

/// What is kept of a group between evaluations.
#[derive(Clone, Debug, Default)]
pub struct GroupState {
    /// Its rules in order.
    pub rules: Vec<RuleState>,
    /// Series of rules that are gone, to be ended at the next evaluation.
    pub stale: Vec<Labels>,
    /// How long the last evaluation took.
    pub took: Duration,
    /// When the last evaluation began, Unix milliseconds.
    pub evaluated_ms: Option<i64>,
    /// The time the last evaluation was for.
    pub last_ts: Option<i64>,
    /// Samples the last evaluation gave.
    pub samples: usize,
    /// The series of streams that the last evaluation's answers lacked.
    pub missing: BTreeSet<Labels>,
}

/// A group at work. Evaluations of one group never overlap.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub group: Group,
    /// What is kept; locked for moments only, never while a query runs.
    pub state: Mutex<GroupState>,
    batches: Vec<Vec<usize>>,
}

/// What one evaluation of a group amounted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rules evaluated.
    pub evaluated: usize,
    /// Rules that failed.
    pub failed: usize,
    /// Rules whose answer was partial.
    pub partial: usize,
    /// Samples given.
    pub samples: usize,
}

/// What a rule gives before it meets what it gave before.
enum Given {
    Recorded(Vec<Point>),
    Candidates(Vec<Candidate>),
}

impl Running {
    /// A group that was not evaluated yet; with `restored`, alerts' series are written from the start.
    #[must_use]
    pub fn new(group: Group, restored: bool) -> Self {
        let fresh = || RuleState { restored, ..RuleState::default() };
        let rules = group.rules.iter().map(|_| fresh()).collect();
        let state = Mutex::new(GroupState { rules, ..GroupState::default() });
        let batches = batches(&group.rules);
        Self { group, state, batches }
    }

    /// Takes over what an older form of this group kept. Rules are matched by name and labels, of
    /// several like it the first with the first; series of rules that are gone will be ended.
    pub fn take_over(&self, old: &Self) {
        let mut from = std::mem::take(&mut *old.state.lock());
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, r) in old.group.rules.iter().enumerate().rev() {
            places.entry(r.identity()).or_default().push(i);
        }
        let mut to = self.state.lock();
        (to.took, to.evaluated_ms, to.last_ts) = (from.took, from.evaluated_ms, from.last_ts);
        for (rule, state) in self.group.rules.iter().zip(&mut to.rules) {
            let Some(i) = places.get_mut(&rule.identity()).and_then(Vec::pop) else { continue };
            let Some(before) = from.rules.get_mut(i).map(std::mem::take) else { continue };
            state.previous = before.previous;
            state.restored |= before.restored;
            if rule.alerting.is_some() {
                state.alerts = before.alerts;
            }
        }
        to.stale = from.stale;
        for state in from.rules {
            to.stale.extend(state.previous);
        }
    }

    fn query_offset_ms(&self, env: &Env) -> i64 {
        self.group.query_offset_ms.unwrap_or(env.query_offset_ms)
    }

    /// Evaluates all rules at `ts`. Rules that do not depend on each other are evaluated at once,
    /// as far as there are places.
    pub async fn evaluate(&self, ts: i64, env: &Env) -> Outcome {
        let begun = Instant::now();
        let mut outcome = Outcome::default();
        for batch in &self.batches {
            let one = |i: &usize| {
                let i = *i;
                async move {
                    let _place = env.places.acquire().await;
                    let begun = Instant::now();
                    let given = self.ask(i, ts, env).await;
                    (i, given, begun.elapsed())
                }
            };
            let all = futures::future::join_all(batch.iter().map(one)).await;
            for (i, given, took) in all {
                outcome.evaluated += 1;
                match self.settle(i, ts, given, env) {
                    Ok((samples, partial)) => {
                        outcome.samples += samples;
                        outcome.partial += usize::from(partial);
                    }
                    Err(error) => {
                        outcome.failed += 1;
                        self.failed(i, error);
                    }
                }
                let mut state = self.state.lock();
                if let Some(r) = state.rules.get_mut(i) {
                    (r.took, r.evaluated_ms) = (took, Some(super::now_ms()));
                }
            }
        }
        self.end_stale(ts, env);
        self.note_missing(ts, env);
        let mut state = self.state.lock();
        state.took = begun.elapsed();
        state.last_ts = Some(ts);
        state.evaluated_ms = Some(super::now_ms());
        state.samples = outcome.samples;
        outcome
    }

    fn failed(&self, i: usize, error: String) {
        let name = self.group.rules.get(i).map_or("", |r| &r.name);
        tracing::warn!(group = self.group.name, rule = name, error, "evaluating a rule");
        if let Some(r) = self.state.lock().rules.get_mut(i) {
            (r.health, r.last_error) = (Health::Err, Some(error));
        }
    }

    /// Asks what a rule wants to know and makes of the answer what it gives.
    async fn ask(&self, i: usize, ts: i64, env: &Env) -> Result<(Given, Answer), String> {
        let Some(rule) = self.group.rules.get(i) else { return Err("no such rule".to_owned()) };
        let of_rulers = looks_at_rulers_only(&rule.expr);
        let strategy = match of_rulers {
            true => Strategy::Warn,
            false => self.group.strategy.unwrap_or(env.strategy),
        };
        let at = ts - self.query_offset_ms(env);
        let mut answer = env.evaluator.instant(&rule.source, &rule.expr, at, strategy).await?;
        if of_rulers {
            answer.missing.clear();
        }
        // Another ruler that is away holds no alert of a cluster back.
        let of_ruler = |m: &Labels| m.iter().all(|(n, _)| env.external_labels.get(n).is_some());
        answer.missing.retain(|m| m.is_empty() || !of_ruler(m));
        let samples = std::mem::take(&mut answer.samples);
        if rule.alerting.is_none() {
            let histogram = |s: &super::Sample| matches!(s.value, SampleValue::Histogram(_));
            if !env.evaluator.keeps_histograms() && samples.iter().any(histogram) {
                return Err(NO_HISTOGRAMS.to_owned());
            }
            return recorded(rule, samples, at, self.group.limit)
                .map(|p| (Given::Recorded(p), answer));
        }
        let work = Expansion {
            rule: Arc::clone(rule),
            samples,
            ts,
            strategy,
            missing: missing_text(&answer.missing),
            env: env.clone(),
        };
        Ok((Given::Candidates(expand(work).await), answer))
    }

    /// Puts what a rule gave beside what it gave before: alerts change, series are stored, those
    /// that are no longer given are ended, and whoever wants to know is told.
    fn settle(
        &self,
        i: usize,
        ts: i64,
        given: Result<(Given, Answer), String>,
        env: &Env,
    ) -> Result<(usize, bool), String> {
        let (given, answer) = given?;
        let rule: &Rule = self.group.rules.get(i).ok_or("no such rule")?;
        let query_offset_ms = self.query_offset_ms(env);
        let mut state = self.state.lock();
        let state = state.rules.get_mut(i).ok_or("no such rule")?;
        state.missing.clone_from(&answer.missing);
        let mut alerts = Vec::new();
        let points = match (given, &rule.alerting) {
            (Given::Candidates(candidates), Some(alerting)) => {
                let missing_text = missing_text(&answer.missing);
                let turn = Turn {
                    ts,
                    query_offset_ms,
                    limit: self.group.limit,
                    restored: state.restored,
                    missing: &answer.missing,
                    missing_text: &missing_text,
                };
                let done = state.alerts.evaluate(rule, alerting, candidates, &turn);
                let points = done.map_err(|e| e.to_string())?;
                alerts = state.alerts.to_send(ts, env.resend_delay_ms, self.group.interval_ms);
                points
            }
            (Given::Recorded(points), _) => points,
            (Given::Candidates(_), None) => Vec::new(),
        };
        (state.health, state.last_error) = (Health::Ok, None);
        if !alerts.is_empty() {
            env.notify.notify(&rule.query, alerts);
        }
        let samples = points.len();
        store(state, &points, ts - query_offset_ms, &answer.missing, env);
        Ok((samples, !answer.missing.is_empty()))
    }

    /// Stores which streams answers lacked, so that rules can be about it.
    fn note_missing(&self, ts: i64, env: &Env) {
        let mut state = self.state.lock();
        let all = state.rules.iter().flat_map(|r| &r.missing).filter(|l| !l.is_empty());
        let now: BTreeSet<Labels> =
            all.map(|l| l.to_builder().set(METRIC_NAME, CLUSTER_MISSING).build()).collect();
        let t = ts - self.query_offset_ms(env);
        let mut points: Vec<Point> =
            now.iter().map(|l| (l.clone(), t, SampleValue::Float(1.0))).collect();
        points.extend(state.missing.difference(&now).map(|l| ended(l.clone(), t)));
        state.missing = now;
        drop(state);
        if !points.is_empty() {
            // Groups that find the same missing at the same time agree; of others the first counts.
            env.sink.append(&points);
        }
    }

    /// Ends the series of rules that are gone.
    pub fn end_stale(&self, ts: i64, env: &Env) {
        let stale = std::mem::take(&mut self.state.lock().stale);
        let t = ts - self.query_offset_ms(env);
        let points: Vec<Point> = stale.into_iter().map(|l| ended(l, t)).collect();
        if !points.is_empty() {
            env.sink.append(&points);
        }
    }
}

const NO_HISTOGRAMS: &str = "native histograms can't be recorded from an answer over HTTP, which shows \
                             their bounds alone; evaluate the rule inside a query process \
                             (periplus query --rules)";

fn ended(labels: Labels, t: i64) -> Point {
    (labels, t, SampleValue::Float(stale_nan()))
}

/// Stores what a rule gave and ends the series it no longer gives. Series of missing streams are
/// not ended: nobody knows whether they are gone.
fn store(state: &mut RuleState, points: &[Point], t: i64, missing: &[Labels], env: &Env) {
    let mut returned = BTreeSet::new();
    let mut refused: BTreeMap<&'static str, usize> = BTreeMap::new();
    for ((labels, ..), result) in points.iter().zip(env.sink.append(points)) {
        match result {
            Ok(()) => _ = returned.insert(labels.clone()),
            Err(e) => {
                (state.health, state.last_error) = (Health::Err, Some(e.to_string()));
                let reason = match e {
                    Refused::OutOfOrder => "out of order",
                    Refused::Duplicate => "another value at the same time",
                    Refused::Full => "too many series",
                };
                *refused.entry(reason).or_default() += 1;
            }
        }
    }
    for (reason, count) in refused {
        tracing::warn!(reason, count, "samples of a rule are not stored");
    }
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for labels in &state.previous {
        if returned.contains(labels) {
            continue;
        }
        match missing.iter().any(|m| super::alert::is_own(labels, m)) {
            true => kept.push(labels.clone()),
            false => gone.push(ended(labels.clone(), t)),
        }
    }
    if !gone.is_empty() {
        env.sink.append(&gone);
    }
    returned.extend(kept);
    state.previous = returned;
}

/// What a recording rule makes of an answer.
fn recorded(
    rule: &Rule,
    samples: Vec<super::Sample>,
    t: i64,
    limit: usize,
) -> Result<Vec<Point>, String> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::with_capacity(samples.len());
    for s in samples {
        let mut b = s.labels.to_builder();
        b.set(METRIC_NAME, rule.name.as_str());
        for (n, v) in &rule.labels {
            b.set(n, v);
        }
        let labels = b.build();
        if !seen.insert(labels.clone()) {
            let text = "vector contains metrics with the same labelset after applying rule labels";
            return Err(text.to_owned());
        }
        out.push((labels, t, s.value));
    }
    if limit > 0 && out.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", out.len()));
    }
    Ok(out)
}

/// Missing streams for people: `cluster="a"; cluster="b"`.
#[must_use]
pub fn missing_text(missing: &[Labels]) -> String {
    let mut all: Vec<String> = missing
        .iter()
        .map(|l| {
            let pairs: Vec<String> = l.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            if pairs.is_empty() { "an unknown endpoint".to_owned() } else { pairs.join(",") }
        })
        .collect();
    all.sort();
    all.dedup();
    all.join("; ")
}

impl GroupState {
    /// Moves all times by which alerts are judged: the clock was set.
    pub fn shift(&mut self, by_ms: i64) {
        for r in &mut self.rules {
            r.alerts.shift(by_ms);
        }
    }
}
