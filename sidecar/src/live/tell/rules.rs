//! `thanos.Rules`.

use std::collections::BTreeMap;

use periplus_model::Matcher;
use periplus_proto::thanos::rules_request::Type;
use periplus_proto::thanos::{
    Alert, AlertInstance, AlertState, RecordingRule, Rule, RuleGroup, RulesRequest, RulesResponse,
    ZLabelSet, rule, rules_response,
};
use serde::Deserialize;
use tonic::Status;

use super::{Asking, plain, selector, times};

#[derive(Deserialize)]
struct Discovery {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Group {
    name: String,
    file: String,
    rules: Vec<Told>,
    interval: f64,
    limit: i64,
    evaluation_time: f64,
    last_evaluation: String,
}

/// A rule of either kind.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    r#type: String,
    state: String,
    name: String,
    query: String,
    duration: f64,
    keep_firing_for: f64,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    alerts: Option<Vec<Instance>>,
    health: String,
    last_error: String,
    evaluation_time: f64,
    last_evaluation: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Instance {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    state: String,
    active_at: String,
    keep_firing_since: String,
    value: String,
}

/// The rules that are asked for, a message a group; groups without such a rule are left out.
pub(super) async fn answer(
    asking: &Asking<'_>,
    r: &RulesRequest,
) -> Result<Vec<RulesResponse>, Status> {
    let sets = r.matcher_string.iter().map(|t| selector(t)).collect::<Result<Vec<_>, _>>()?;
    let mut parameters = Vec::new();
    match r.r#type() {
        Type::All => {}
        Type::Alert => parameters.push(("type", "alert".to_owned())),
        Type::Record => parameters.push(("type", "record".to_owned())),
    }
    // Older versions pass over it and send the alerts, which are dropped here.
    if r.exclude_alerts {
        parameters.push(("exclude_alerts", "true".to_owned()));
    }
    let found: Discovery = asking.get("rules", "api/v1/rules", &parameters).await?;
    let wanted = |all: &[String], one: &str| all.is_empty() || all.iter().any(|a| a == one);
    let mut out = Vec::new();
    for g in found.groups {
        if !wanted(&r.rule_group, &g.name) || !wanted(&r.file, &g.file) {
            continue;
        }
        let rules: Vec<Rule> = (g.rules.into_iter())
            .filter(|told| wanted(&r.rule_name, &told.name))
            .filter_map(|told| convert(asking, told, r.exclude_alerts))
            .filter(|rule| satisfies(rule, &sets))
            .collect();
        if rules.is_empty() {
            continue;
        }
        let group = RuleGroup {
            name: g.name,
            file: g.file,
            rules,
            interval: g.interval,
            evaluation_duration_seconds: g.evaluation_time,
            last_evaluation: times::parse_or_zero(&g.last_evaluation),
            limit: g.limit,
            ..RuleGroup::default()
        };
        out.push(RulesResponse { result: Some(rules_response::Result::Group(group)) });
    }
    Ok(out)
}

fn satisfies(rule: &Rule, sets: &[Vec<Matcher>]) -> bool {
    let labels: Option<&ZLabelSet> = match &rule.result {
        Some(rule::Result::Alert(a)) => a.labels.as_ref(),
        Some(rule::Result::Recording(r)) => r.labels.as_ref(),
        None => None,
    };
    let value = |name: &str| {
        let all = labels.map(|l| l.labels.as_slice()).unwrap_or_default();
        all.iter().find(|l| l.name == name).map_or("", |l| l.value.as_str())
    };
    sets.is_empty() || sets.iter().any(|set| set.iter().all(|m| m.matches(value(&m.name))))
}

/// `None` for a kind of rule that nobody knows yet.
fn convert(asking: &Asking<'_>, t: Told, exclude_alerts: bool) -> Option<Rule> {
    let labels = Some(asking.shown(&t.labels));
    let last_evaluation = times::parse_or_zero(&t.last_evaluation);
    let result = match t.r#type.as_str() {
        "recording" => rule::Result::Recording(RecordingRule {
            name: t.name,
            query: t.query,
            labels,
            health: t.health,
            last_error: t.last_error,
            evaluation_duration_seconds: t.evaluation_time,
            last_evaluation,
        }),
        "alerting" => {
            let alerts = t.alerts.filter(|_| !exclude_alerts).unwrap_or_default();
            rule::Result::Alert(Alert {
                state: state(&t.state).into(),
                name: t.name,
                query: t.query,
                duration_seconds: t.duration,
                labels,
                annotations: Some(plain(&t.annotations)),
                alerts: alerts.into_iter().map(|a| instance(asking, a)).collect(),
                health: t.health,
                last_error: t.last_error,
                evaluation_duration_seconds: t.evaluation_time,
                last_evaluation,
                keep_firing_for_seconds: t.keep_firing_for,
            })
        }
        _ => return None,
    };
    Some(Rule { result: Some(result) })
}

fn instance(asking: &Asking<'_>, a: Instance) -> AlertInstance {
    AlertInstance {
        labels: Some(asking.shown(&a.labels)),
        annotations: Some(plain(&a.annotations)),
        state: state(&a.state).into(),
        active_at: times::parse(&a.active_at),
        value: a.value,
        keep_firing_since: times::parse(&a.keep_firing_since),
        ..AlertInstance::default()
    }
}

fn state(text: &str) -> AlertState {
    match text {
        "inactive" => AlertState::Inactive,
        "pending" => AlertState::Pending,
        "firing" => AlertState::Firing,
        _ => AlertState::Unknown,
    }
}
