//! Groups, rules and alerts in the messages other processes and the HTTP API know.

use std::sync::Arc;

use periplus_model::Labels;
use periplus_model::float::format_e;
use periplus_proto::Timestamp;
use periplus_proto::convert::labels_to_thanos;
use periplus_proto::thanos::{
    self, AlertInstance, AlertState, PartialResponseStrategy, RuleGroup, ZLabelSet, rule,
};

use super::alert::{Alert, State};
use super::group::{Health, RuleState, Running};
use super::rule::{Rule, Strategy};

/// All groups with their present state. `strategy` is that of groups that do not name one.
#[must_use]
pub fn rule_groups(groups: &[Arc<Running>], strategy: Strategy) -> Vec<RuleGroup> {
    groups.iter().map(|g| rule_group(g, strategy)).collect()
}

fn rule_group(g: &Running, otherwise: Strategy) -> RuleGroup {
    let state = g.state.lock();
    let strategy = match g.group.strategy.unwrap_or(otherwise) {
        Strategy::Warn => PartialResponseStrategy::Warn,
        Strategy::Abort => PartialResponseStrategy::Abort,
    };
    let rules = g.group.rules.iter().zip(&state.rules);
    RuleGroup {
        name: g.group.name.clone(),
        file: g.group.file.display().to_string(),
        rules: rules.map(|(r, s)| rule_message(r, s, strategy)).collect(),
        interval: g.group.interval_ms as f64 / 1000.0,
        evaluation_duration_seconds: state.took.as_secs_f64(),
        last_evaluation: state.evaluated_ms.map(timestamp),
        partial_response_strategy: strategy.into(),
        limit: i64::try_from(g.group.limit).unwrap_or(i64::MAX),
    }
}

fn timestamp(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: ms.div_euclid(1000), nanos }
}

fn set(labels: &Labels) -> Option<ZLabelSet> {
    Some(ZLabelSet { labels: labels_to_thanos(labels) })
}

fn rule_message(r: &Rule, s: &RuleState, strategy: PartialResponseStrategy) -> thanos::Rule {
    let last_error = s.last_error.clone().unwrap_or_default();
    let last_evaluation = s.evaluated_ms.map(timestamp);
    let evaluation_duration_seconds = s.took.as_secs_f64();
    let (name, query) = (r.name.clone(), r.query.to_string());
    let result = match &r.alerting {
        None => rule::Result::Recording(thanos::RecordingRule {
            name,
            query,
            labels: set(&r.labels),
            health: s.health.as_str().to_owned(),
            last_error,
            evaluation_duration_seconds,
            last_evaluation,
        }),
        Some(a) => rule::Result::Alert(thanos::Alert {
            state: match s.health {
                Health::Unknown => AlertState::Unknown,
                _ => state(s.alerts.state()),
            }
            .into(),
            name,
            query,
            duration_seconds: a.for_ms as f64 / 1000.0,
            keep_firing_for_seconds: a.keep_firing_for_ms as f64 / 1000.0,
            labels: set(&r.labels),
            annotations: set(&Labels::from_pairs(a.annotations.iter().map(|(n, v)| (n, v)))),
            alerts: s.alerts.current().map(|a| instance(a, strategy)).collect(),
            health: s.health.as_str().to_owned(),
            last_error,
            evaluation_duration_seconds,
            last_evaluation,
        }),
    };
    thanos::Rule { result: Some(result) }
}

const fn state(s: State) -> AlertState {
    match s {
        State::Inactive => AlertState::Inactive,
        State::Pending => AlertState::Pending,
        State::Firing => AlertState::Firing,
    }
}

fn instance(a: &Alert, strategy: PartialResponseStrategy) -> AlertInstance {
    AlertInstance {
        labels: set(&a.labels),
        annotations: set(&Labels::from_pairs(a.annotations.iter().map(|(n, v)| (n, v)))),
        state: state(a.state).into(),
        active_at: Some(timestamp(a.active_at)),
        value: format_e(a.value),
        partial_response_strategy: strategy.into(),
        keep_firing_since: a.keep_firing_since.map(timestamp),
    }
}
