//! Alerts of one rule: what becomes of them at each evaluation, exactly as Prometheus has it.
//!
//! Nothing here knows of time but what it is told, and nothing does I/O: the whole is a function of
//! the alerts before, the answer, and the time of evaluation.
//!
//! Beyond Prometheus: an answer may lack streams ([`Answer::missing`](super::Answer)). Then
//! - an alert of the series of a missing stream (its labels say so: at least one of the stream's
//!   labels is equal and none is different) neither starts nor goes on towards firing; the time does
//!   not count;
//! - an alert that could be concerned (none of the stream's labels is different) is not resolved.

use std::collections::{BTreeMap, BTreeSet};

use periplus_model::{Labels, METRIC_NAME};

use super::rule::{Alerting, Rule};
use super::{Sample, SampleValue};

/// How long a resolved alert is kept and sent again, in milliseconds.
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60 * 1000;

/// The metric whose series are the active alerts.
pub const ALERTS: &str = "ALERTS";
/// The metric whose values are the times alerts became active.
pub const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
/// The metric whose series are the streams that answers lacked, with their labels; 1 while they do.
pub const CLUSTER_MISSING: &str = "periplus_cluster_missing";
/// The annotation that names the streams an answer lacked.
pub const MISSING_ANNOTATION: &str = "missing_clusters";

/// What an alert is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It no longer holds, and is kept to be told as resolved.
    Inactive,
    /// It holds, but not for long enough.
    Pending,
    /// It fires.
    Firing,
}

impl State {
    /// As `ALERTS` and the API write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert. All times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Alert {
    /// What it is.
    pub state: State,
    /// What tells it from others, `alertname` included.
    #[serde(with = "super::state::labels")]
    pub labels: Labels,
    /// What it says, in order of name.
    pub annotations: Vec<(String, String)>,
    /// The value at the last evaluation at which its condition held.
    #[serde(with = "super::state::float")]
    pub value: f64,
    /// Since when its condition holds.
    pub active_at: i64,
    /// Since when it fires.
    pub fired_at: Option<i64>,
    /// Since when it no longer holds.
    pub resolved_at: Option<i64>,
    /// When it was last given to the notifier.
    pub last_sent_at: Option<i64>,
    /// How long what was sent last holds.
    pub valid_until: Option<i64>,
    /// Since when it fires only because of `keep_firing_for`.
    pub keep_firing_since: Option<i64>,
    /// Whether it was last left as it was because streams were missing.
    #[serde(default)]
    pub held: bool,
}

impl Alert {
    fn needs_sending(&self, ts: i64, resend_delay_ms: i64) -> bool {
        if self.state == State::Pending {
            return false;
        }
        if self.resolved_at.is_some_and(|r| self.last_sent_at.is_none_or(|s| r > s)) {
            return true;
        }
        self.last_sent_at.is_none_or(|s| s + resend_delay_ms < ts)
    }
}

/// Something that would be an alert: what the answer says after templates were expanded.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its labels, `alertname` included.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

/// Why an evaluation of an alerting rule counts as failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    /// Two results have the same labels.
    #[error("vector contains metrics with the same labelset after applying alert labels")]
    Duplicate,
    /// More alerts than the group's limit; all of them are forgotten, as Prometheus does.
    #[error("exceeded limit of {limit} with {alerts} alerts")]
    Limit {
        /// The limit.
        limit: usize,
        /// How many there would be.
        alerts: usize,
    },
}

/// When and how an evaluation takes place.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// The time of evaluation.
    pub ts: i64,
    /// How far behind the query looks.
    pub query_offset_ms: i64,
    /// The most alerts; 0: any number.
    pub limit: usize,
    /// Whether `ALERTS` and `ALERTS_FOR_STATE` are written: after a restart only once old state was
    /// taken over.
    pub restored: bool,
    /// The labels of the streams that the answer lacks, replica labels left out.
    pub missing: &'a [Labels],
    /// The same for people.
    pub missing_text: &'a str,
}

/// The alerts of one rule, by their labels.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    /// All of them, resolved ones too.
    pub active: BTreeMap<Labels, Alert>,
    last_ts: Option<i64>,
}

impl Alerts {
    /// Takes in an answer; gives the series to store.
    ///
    /// # Errors
    /// [`AlertError`]; with a duplicate everything stays as it was.
    pub fn evaluate(
        &mut self,
        rule: &Rule,
        alerting: &Alerting,
        candidates: Vec<Candidate>,
        turn: &Turn<'_>,
    ) -> Result<Vec<(Labels, i64, SampleValue)>, AlertError> {
        let mut found = BTreeSet::new();
        for c in &candidates {
            if !found.insert(c.labels.clone()) {
                return Err(AlertError::Duplicate);
            }
        }
        let elapsed = turn.ts - self.last_ts.unwrap_or(turn.ts);
        self.last_ts = Some(turn.ts);
        self.take_in(candidates, turn);
        let mut alerts = 0usize;
        let mut series = Vec::new();
        let mut gone = Vec::new();
        for (key, a) in &mut self.active {
            a.held = false;
            let present = found.contains(key);
            let counts = if is_held(a, present, turn.missing) {
                a.hold(elapsed, present, turn.missing_text);
                true
            } else {
                a.step(present, alerting, turn.ts, &mut gone)
            };
            if !counts {
                continue;
            }
            alerts += 1;
            if turn.restored {
                let t = turn.ts - turn.query_offset_ms;
                series.push((alerts_labels(rule, a), t, SampleValue::Float(1.0)));
                let since = SampleValue::Float(a.active_at.div_euclid(1000) as f64);
                series.push((for_state_labels(rule, &a.labels), t, since));
            }
        }
        for key in gone {
            self.active.remove(&key);
        }
        if turn.limit > 0 && alerts > turn.limit {
            self.active.clear();
            return Err(AlertError::Limit { limit: turn.limit, alerts });
        }
        Ok(series)
    }

    fn take_in(&mut self, candidates: Vec<Candidate>, turn: &Turn<'_>) {
        for c in candidates {
            if let Some(a) = self.active.get_mut(&c.labels)
                && a.state != State::Inactive
            {
                a.value = c.value;
                a.annotations = c.annotations;
                continue;
            }
            if turn.missing.iter().any(|m| is_own(&c.labels, m)) {
                continue;
            }
            let alert = Alert {
                state: State::Pending,
                labels: c.labels.clone(),
                annotations: c.annotations,
                value: c.value,
                active_at: turn.ts,
                fired_at: None,
                resolved_at: None,
                last_sent_at: None,
                valid_until: None,
                keep_firing_since: None,
                held: false,
            };
            self.active.insert(c.labels, alert);
        }
    }

    /// The alerts that are to be sent now; each is taken for sent.
    pub fn to_send(&mut self, ts: i64, resend_delay_ms: i64, interval_ms: i64) -> Vec<Alert> {
        let mut out = Vec::new();
        for a in self.active.values_mut().filter(|a| a.needs_sending(ts, resend_delay_ms)) {
            a.last_sent_at = Some(ts);
            // Two evaluations or deliveries may fail before it counts as resolved.
            a.valid_until = Some(ts + 4 * interval_ms.max(resend_delay_ms));
            out.push(a.clone());
        }
        out
    }

    /// Moves all times: the clock was set by so many milliseconds.
    pub fn shift(&mut self, by_ms: i64) {
        self.last_ts = self.last_ts.map(|t| t + by_ms);
        for a in self.active.values_mut() {
            a.active_at += by_ms;
            let times = [
                &mut a.fired_at,
                &mut a.resolved_at,
                &mut a.last_sent_at,
                &mut a.valid_until,
                &mut a.keep_firing_since,
            ];
            for t in times.into_iter().flatten() {
                *t += by_ms;
            }
        }
    }

    /// Alerts that are pending or firing.
    pub fn current(&self) -> impl Iterator<Item = &Alert> {
        self.active.values().filter(|a| a.resolved_at.is_none())
    }

    /// The most pressing state of any alert.
    #[must_use]
    pub fn state(&self) -> State {
        self.active.values().map(|a| a.state).max().unwrap_or(State::Inactive)
    }
}

impl Alert {
    /// One evaluation over a whole answer; whether the alert is pending or firing after it.
    fn step(
        &mut self,
        present: bool,
        alerting: &Alerting,
        ts: i64,
        gone: &mut Vec<Labels>,
    ) -> bool {
        if present {
            self.keep_firing_since = None;
        } else {
            let mut keeps_firing = false;
            if self.state == State::Firing && alerting.keep_firing_for_ms > 0 {
                let since = *self.keep_firing_since.get_or_insert(ts);
                keeps_firing = ts - since < alerting.keep_firing_for_ms;
            }
            let forgotten = self.resolved_at.is_some_and(|r| ts - r > RESOLVED_RETENTION_MS);
            if self.state == State::Pending || forgotten {
                gone.push(self.labels.clone());
            }
            if self.state != State::Inactive && !keeps_firing {
                self.state = State::Inactive;
                self.resolved_at = Some(ts);
            }
            if !keeps_firing {
                return false;
            }
        }
        if self.state == State::Pending && ts - self.active_at >= alerting.for_ms {
            self.state = State::Firing;
            self.fired_at = Some(ts);
        }
        // The rule may have got a longer `for` since.
        if self.state == State::Firing && ts - self.active_at < alerting.for_ms {
            self.state = State::Pending;
            self.fired_at = None;
            self.last_sent_at = None;
            self.keep_firing_since = None;
        }
        true
    }

    /// One evaluation that says nothing of this alert: the time does not count.
    fn hold(&mut self, elapsed: i64, present: bool, missing: &str) {
        self.held = true;
        if !present {
            self.annotations.retain(|(n, _)| n != MISSING_ANNOTATION);
            self.annotations.push((MISSING_ANNOTATION.to_owned(), missing.to_owned()));
            self.annotations.sort();
        }
        if self.state == State::Pending {
            self.active_at += elapsed;
        }
        if let Some(since) = &mut self.keep_firing_since {
            *since += elapsed;
        }
    }
}

/// Whether missing streams keep this alert as it is.
fn is_held(a: &Alert, present: bool, missing: &[Labels]) -> bool {
    if a.state == State::Inactive {
        return false;
    }
    match present {
        // A firing one goes on firing; one that would become firing waits.
        true => a.state == State::Pending && missing.iter().any(|m| is_own(&a.labels, m)),
        false => missing.iter().any(|m| may_concern(&a.labels, m)),
    }
}

/// Whether no label of the stream contradicts the alert's.
fn may_concern(alert: &Labels, stream: &Labels) -> bool {
    stream.iter().all(|(n, v)| alert.get(n).is_none_or(|own| own == v))
}

/// Whether the alert is about the stream's own series.
pub(super) fn is_own(alert: &Labels, stream: &Labels) -> bool {
    may_concern(alert, stream) && stream.iter().any(|(n, v)| alert.get(n) == Some(v))
}

fn alerts_labels(rule: &Rule, a: &Alert) -> Labels {
    let mut b = rule.labels.to_builder();
    for (n, v) in &a.labels {
        b.set(n, v);
    }
    b.set(METRIC_NAME, ALERTS).set("alertname", rule.name.as_str());
    b.set("alertstate", a.state.as_str());
    b.build()
}

/// The labels of the series that remembers since when an alert is active.
#[must_use]
pub fn for_state_labels(rule: &Rule, alert: &Labels) -> Labels {
    let mut b = rule.labels.to_builder();
    for (n, v) in alert {
        b.set(n, v);
    }
    b.set(METRIC_NAME, ALERTS_FOR_STATE).set("alertname", rule.name.as_str());
    b.build()
}

/// The value an alert is given of a sample: a histogram has none.
#[must_use]
pub fn value_of(sample: &Sample) -> f64 {
    match &sample.value {
        SampleValue::Float(v) => *v,
        SampleValue::Histogram(_) => 0.0,
    }
}
