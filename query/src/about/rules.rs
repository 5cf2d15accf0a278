//! Rules and their alerts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use periplus_model::Matcher;
use periplus_promql::engine::QueryError;
use periplus_proto::Timestamp;
use periplus_proto::thanos::rules_client::RulesClient;
use periplus_proto::thanos::rules_request::Type;
use periplus_proto::thanos::rules_response::Result as Frame;
use periplus_proto::thanos::{Alert, Rule, RuleGroup, RulesRequest, rule};
use prost::Message;

use super::ask::{drain, everyone};
use super::{Own, key, matches, remove, strategy};
use crate::fanout::Question;

/// Which rules are asked for.
#[derive(Clone, Debug, Default)]
pub struct RuleQuery {
    /// Alerting rules, recording rules, or both.
    pub kind: Type,
    /// Sets of matchers on labels of rules, of which a rule must satisfy one; none: any rule.
    pub sets: Vec<Vec<Matcher>>,
    /// The same as text, for endpoints.
    pub selectors: Vec<String>,
    /// Names of rules; none: any.
    pub names: Vec<String>,
    /// Names of groups; none: any.
    pub groups: Vec<String>,
    /// Files; none: any.
    pub files: Vec<String>,
    /// Rules without their alerts.
    pub exclude_alerts: bool,
}

/// The fleet's rules and this process's own: a group for each file and name, with the rules of all clusters
/// that have it. Groups are in order of file and name, this process's own first. Who is missing is noted in
/// the question.
///
/// # Errors
/// With a strict question somebody is missing.
pub async fn rules(
    q: &Arc<Question>,
    query: &RuleQuery,
    own: &Own,
) -> Result<Vec<RuleGroup>, QueryError> {
    let request = RulesRequest {
        r#type: query.kind.into(),
        partial_response_strategy: strategy(q),
        matcher_string: query.selectors.clone(),
        rule_name: query.names.clone(),
        rule_group: query.groups.clone(),
        file: query.files.clone(),
        exclude_alerts: query.exclude_alerts,
    };
    let found = everyone(q, None, |_, channel| {
        let (request, q) = (request.clone(), Arc::clone(q));
        async move {
            let mut client = RulesClient::new(channel)
                .max_decoding_message_size(periplus_daemon::grpc::RESPONSE_BYTES_MAX);
            let stream = client.rules(request).await?.into_inner();
            let mut groups = Vec::new();
            drain(stream, Message::encoded_len, |m| match m.result {
                Some(Frame::Group(g)) => groups.push(g),
                Some(Frame::Warning(w)) => q.notes.warn(w),
                None => {}
            })
            .await?;
            Ok(groups)
        }
    })
    .await?;
    let own = own.get().map(|o| o.groups()).unwrap_or_default();
    let clusters = found.into_iter().flat_map(|(_, groups)| groups);
    let mut out: Vec<RuleGroup> = merge(own, &[]);
    out.extend(merge(clusters, &q.fleet.replica_labels));
    out.retain_mut(|g| keep(g, query));
    Ok(out)
}

/// Leaves of a group what is asked for; whether that is anything. Endpoints may have passed over parts of
/// the request that they do not know.
fn keep(g: &mut RuleGroup, query: &RuleQuery) -> bool {
    let wanted = |all: &[String], one: &str| all.is_empty() || all.iter().any(|a| a == one);
    if !wanted(&query.groups, &g.name) || !wanted(&query.files, &g.file) {
        return false;
    }
    g.rules.retain_mut(|r| {
        let (name, labels) = match &mut r.result {
            Some(rule::Result::Alert(a)) if query.kind != Type::Record => {
                if query.exclude_alerts {
                    a.alerts.clear();
                }
                (&a.name, &a.labels)
            }
            Some(rule::Result::Recording(r)) if query.kind != Type::Alert => (&r.name, &r.labels),
            _ => return false,
        };
        let labels = labels.as_ref();
        wanted(&query.names, name)
            && (query.sets.is_empty() || query.sets.iter().any(|set| matches(labels, set)))
    });
    !g.rules.is_empty()
}

/// Puts groups of the same file and name together; of rules that differ only in replica labels one stays.
fn merge(all: impl IntoIterator<Item = RuleGroup>, replica_labels: &[String]) -> Vec<RuleGroup> {
    let mut groups: BTreeMap<(String, String), RuleGroup> = BTreeMap::new();
    for mut g in all {
        g.rules.iter_mut().for_each(|r| without_replicas(r, replica_labels));
        match groups.get_mut(&(g.file.clone(), g.name.clone())) {
            None => _ = groups.insert((g.file.clone(), g.name.clone()), g),
            Some(there) => {
                there.evaluation_duration_seconds =
                    there.evaluation_duration_seconds.max(g.evaluation_duration_seconds);
                if newer(g.last_evaluation, there.last_evaluation) {
                    there.last_evaluation = g.last_evaluation;
                }
                there.rules.append(&mut g.rules);
            }
        }
    }
    let mut out: Vec<RuleGroup> = groups.into_values().collect();
    if !replica_labels.is_empty() {
        out.iter_mut().for_each(|g| g.rules = unique(std::mem::take(&mut g.rules)));
    }
    out
}

fn without_replicas(r: &mut Rule, names: &[String]) {
    if names.is_empty() {
        return;
    }
    match &mut r.result {
        Some(rule::Result::Alert(a)) => {
            remove(&mut a.labels, names);
            a.alerts.iter_mut().for_each(|i| remove(&mut i.labels, names));
        }
        Some(rule::Result::Recording(r)) => remove(&mut r.labels, names),
        None => {}
    }
}

/// Of rules that are the same, the gravest and then the newest; in the order in which each first came.
/// A group may hold the same rule twice: each time counts as a rule of its own.
fn unique(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::with_capacity(rules.len());
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    for r in rules {
        match places.get(&identity(&r)).and_then(|at| out.get_mut(*at)) {
            None => {
                places.insert(identity(&r), out.len());
                out.push(r);
            }
            Some(there) if rank(&r) > rank(there) => *there = r,
            Some(_) => {}
        }
    }
    out
}

/// What makes a rule the one it is, as bytes.
fn identity(r: &Rule) -> Vec<u8> {
    let only = |result| Rule { result: Some(result) }.encode_to_vec();
    match &r.result {
        Some(rule::Result::Alert(a)) => only(rule::Result::Alert(Alert {
            name: a.name.clone(),
            query: a.query.clone(),
            duration_seconds: a.duration_seconds,
            keep_firing_for_seconds: a.keep_firing_for_seconds,
            labels: a.labels.clone(),
            ..Alert::default()
        })),
        Some(rule::Result::Recording(r)) => {
            only(rule::Result::Recording(periplus_proto::thanos::RecordingRule {
                name: r.name.clone(),
                query: r.query.clone(),
                labels: r.labels.clone(),
                ..Default::default()
            }))
        }
        None => Vec::new(),
    }
}

fn rank(r: &Rule) -> (i32, (i64, i32)) {
    let at = |t: Option<Timestamp>| t.map_or((i64::MIN, 0), |t| (t.seconds, t.nanos));
    match &r.result {
        Some(rule::Result::Alert(a)) => (a.state, at(a.last_evaluation)),
        Some(rule::Result::Recording(r)) => (0, at(r.last_evaluation)),
        None => (-1, (0, 0)),
    }
}

fn newer(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    let at = |t: Option<Timestamp>| t.map_or((i64::MIN, 0), |t| (t.seconds, t.nanos));
    at(a) > at(b)
}

/// All alerts of the rules, as a flat list in the order of their rules and labels.
#[must_use]
pub fn alerts(groups: &[RuleGroup]) -> Vec<&periplus_proto::thanos::AlertInstance> {
    let mut out = Vec::new();
    for r in groups.iter().flat_map(|g| &g.rules) {
        if let Some(rule::Result::Alert(a)) = &r.result {
            let mut some: Vec<_> = a.alerts.iter().collect();
            some.sort_by(|a, b| key(a.labels.as_ref()).cmp(&key(b.labels.as_ref())));
            out.extend(some);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use periplus_proto::thanos::{AlertState, Label, ZLabelSet};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Option<ZLabelSet> {
        let one = |(n, v): &(&str, &str)| Label { name: (*n).into(), value: (*v).into() };
        Some(ZLabelSet { labels: pairs.iter().map(one).collect() })
    }

    fn alert(name: &str, cluster: &str, replica: &str, state: AlertState, at: i64) -> Rule {
        let alert = Alert {
            name: name.into(),
            state: state.into(),
            labels: labels(&[("cluster", cluster), ("replica", replica)]),
            last_evaluation: Some(Timestamp { seconds: at, nanos: 0 }),
            ..Alert::default()
        };
        Rule { result: Some(rule::Result::Alert(alert)) }
    }

    fn group(name: &str, rules: Vec<Rule>) -> RuleGroup {
        RuleGroup { name: name.into(), file: "f.yml".into(), rules, ..RuleGroup::default() }
    }

    fn shown(groups: &[RuleGroup]) -> Vec<String> {
        let rule = |r: &Rule| match &r.result {
            Some(rule::Result::Alert(a)) => {
                format!("{} {:?} {:?}", a.name, key(a.labels.as_ref()), a.state())
            }
            _ => String::new(),
        };
        groups.iter().flat_map(|g| g.rules.iter().map(rule)).collect()
    }

    #[test]
    fn replicas_are_one_and_clusters_are_not() {
        let all = [
            group("g", vec![alert("Up", "a", "0", AlertState::Pending, 9)]),
            group("g", vec![alert("Up", "a", "1", AlertState::Firing, 5)]),
            group("g", vec![alert("Up", "b", "0", AlertState::Inactive, 5)]),
        ];
        let merged = merge(all.clone(), &["replica".to_owned()]);
        assert_eq!(merged.len(), 1);
        let expect = [r#"Up [("cluster", "a")] Firing"#, r#"Up [("cluster", "b")] Inactive"#];
        assert_eq!(shown(&merged), expect);
        assert_eq!(shown(&merge(all, &[])).len(), 3);
    }

    #[test]
    fn filters_apply_whatever_endpoints_did() {
        let g = || {
            vec![group(
                "g",
                vec![
                    alert("Up", "a", "0", AlertState::Firing, 1),
                    alert("Down", "b", "0", AlertState::Firing, 1),
                ],
            )]
        };
        let run = |query: RuleQuery| {
            let mut all = g();
            all.retain_mut(|g| keep(g, &query));
            shown(&all).len()
        };
        assert_eq!(run(RuleQuery::default()), 2);
        assert_eq!(run(RuleQuery { names: vec!["Up".into()], ..Default::default() }), 1);
        assert_eq!(run(RuleQuery { groups: vec!["h".into()], ..Default::default() }), 0);
        assert_eq!(run(RuleQuery { kind: Type::Record, ..Default::default() }), 0);
        let cluster = Matcher::new("cluster", periplus_model::MatchOp::Equal, "b").unwrap();
        assert_eq!(run(RuleQuery { sets: vec![vec![cluster]], ..Default::default() }), 1);
    }
}
