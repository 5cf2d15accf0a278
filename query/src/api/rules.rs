//! `rules` and `alerts`.

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::Response;
use periplus_proto::thanos::rules_request::Type;
use periplus_proto::thanos::{Alert, AlertInstance, AlertState, RecordingRule, RuleGroup, rule};
use ring::digest::{SHA256, digest};

use super::Api;
use super::about::{ask, counted, send};
use super::error::ApiError;
use super::json::Writer;
use super::params::Params;
use crate::about::rules::{RuleQuery, alerts as active, rules as gather};

/// The part of the rules that is asked for, by groups.
struct Page {
    /// At most so many groups; `None`: all.
    limit: Option<usize>,
    /// Where the page begins; empty: at the beginning.
    token: String,
}

fn query(p: &Params) -> Result<RuleQuery, ApiError> {
    let strings = |name| p.all(name).map(str::to_owned).collect();
    let kind = match p.get("type").to_lowercase().as_str() {
        "" => Type::All,
        "alert" => Type::Alert,
        "record" => Type::Record,
        other => {
            return Err(ApiError::parameter("type", format!("not supported value {other:?}")));
        }
    };
    let exclude_alerts = match p.get("exclude_alerts").to_lowercase().as_str() {
        "" | "0" | "f" | "false" => false,
        "1" | "t" | "true" => true,
        other => {
            let text = format!(
                "error converting exclude_alerts: strconv.ParseBool: parsing {other:?}: invalid syntax"
            );
            return Err(ApiError::parameter("exclude_alerts", text));
        }
    };
    Ok(RuleQuery {
        kind,
        sets: p.matches()?,
        selectors: strings("match[]"),
        names: strings("rule_name[]"),
        groups: strings("rule_group[]"),
        files: strings("file[]"),
        exclude_alerts,
    })
}

fn page(p: &Params) -> Result<Page, ApiError> {
    let (limit, token) = (p.get("group_limit"), p.get("group_next_token"));
    if limit.is_empty() {
        if !token.is_empty() {
            let text = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::parameter("group_next_token", text));
        }
        return Ok(Page { limit: None, token: String::new() });
    }
    let n: i32 = limit.parse().map_err(|e: std::num::ParseIntError| {
        let what = match e.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                "value out of range"
            }
            _ => "invalid syntax",
        };
        let text = format!(
            "group_limit needs to be a valid number: strconv.ParseInt: parsing {limit:?}: {what}"
        );
        ApiError::parameter("group_limit", text)
    })?;
    match usize::try_from(n) {
        Ok(n @ 1..) => Ok(Page { limit: Some(n), token: token.to_owned() }),
        _ => Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0")),
    }
}

/// Stands for a group in a page token.
fn token(g: &RuleGroup) -> String {
    let hash = digest(&SHA256, format!("{};{}", g.file, g.name).as_bytes());
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// The groups of a page and the token of the next one.
fn cut(mut all: Vec<RuleGroup>, page: &Page) -> Result<(Vec<RuleGroup>, String), ApiError> {
    let Some(limit) = page.limit else { return Ok((all, String::new())) };
    if !page.token.is_empty() {
        let Some(at) = all.iter().position(|g| token(g) == page.token) else {
            let text =
                format!("invalid group_next_token '{}'. were rule groups changed?", page.token);
            return Err(ApiError::parameter("group_next_token", text));
        };
        all.drain(..at);
    }
    let next = all.get(limit).map(token).unwrap_or_default();
    all.truncate(limit);
    Ok((all, next))
}

pub(super) async fn rules(State(api): State<Api>, RawQuery(address): RawQuery) -> Response<Body> {
    let run = async {
        let p = Params::new(b"", address.as_deref().unwrap_or_default())?;
        let (query, page) = (query(&p)?, page(&p)?);
        let asked = ask(&api, &p)?;
        let found = gather(&asked.question, &query, &api.own).await;
        let groups = counted(&api, &asked, found)?;
        let (groups, next) = cut(groups, &page)?;
        let mut w = Writer::new();
        w.raw(b"{");
        w.field("groups");
        w.list(&groups, |w, g| group(w, g, query.exclude_alerts));
        if !next.is_empty() {
            w.text_field("groupNextToken", &next);
        }
        w.raw(b"}");
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) async fn alerts(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let asked = ask(&api, &p)?;
        let query = RuleQuery { kind: Type::Alert, ..RuleQuery::default() };
        let found = gather(&asked.question, &query, &api.own).await;
        let groups = counted(&api, &asked, found)?;
        let mut w = Writer::new();
        w.raw(b"{");
        w.field("alerts");
        w.list(active(&groups), instance);
        w.raw(b"}");
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

fn group(w: &mut Writer, g: &RuleGroup, without_alerts: bool) {
    w.raw(b"{");
    w.text_field("name", &g.name);
    w.text_field("file", &g.file);
    w.field("rules");
    w.list(&g.rules, |w, r| match &r.result {
        Some(rule::Result::Alert(a)) => alerting(w, a, without_alerts),
        Some(rule::Result::Recording(r)) => recording(w, r),
        None => w.raw(b"null"),
    });
    w.number_field("interval", g.interval);
    w.field("limit");
    w.integer(g.limit);
    w.number_field("evaluationTime", g.evaluation_duration_seconds);
    w.time_field("lastEvaluation", g.last_evaluation);
    w.raw(b"}");
}

fn state(s: AlertState) -> &'static str {
    match s {
        AlertState::Unknown => "unknown",
        AlertState::Inactive => "inactive",
        AlertState::Pending => "pending",
        AlertState::Firing => "firing",
    }
}

fn alerting(w: &mut Writer, a: &Alert, without_alerts: bool) {
    w.raw(b"{");
    w.text_field("state", state(a.state()));
    w.text_field("name", &a.name);
    w.text_field("query", &a.query);
    w.number_field("duration", a.duration_seconds);
    w.number_field("keepFiringFor", a.keep_firing_for_seconds);
    w.field("labels");
    w.label_set(a.labels.as_ref());
    w.field("annotations");
    w.label_set(a.annotations.as_ref());
    w.field("alerts");
    match without_alerts {
        true => w.raw(b"null"),
        false => w.list(&a.alerts, instance),
    }
    w.text_field("health", &a.health);
    if !a.last_error.is_empty() {
        w.text_field("lastError", &a.last_error);
    }
    w.number_field("evaluationTime", a.evaluation_duration_seconds);
    w.time_field("lastEvaluation", a.last_evaluation);
    w.text_field("type", "alerting");
    w.raw(b"}");
}

fn recording(w: &mut Writer, r: &RecordingRule) {
    w.raw(b"{");
    w.text_field("name", &r.name);
    w.text_field("query", &r.query);
    w.field("labels");
    w.label_set(r.labels.as_ref());
    w.text_field("health", &r.health);
    if !r.last_error.is_empty() {
        w.text_field("lastError", &r.last_error);
    }
    w.number_field("evaluationTime", r.evaluation_duration_seconds);
    w.time_field("lastEvaluation", r.last_evaluation);
    w.text_field("type", "recording");
    w.raw(b"}");
}

fn instance(w: &mut Writer, a: &AlertInstance) {
    w.raw(b"{");
    w.field("labels");
    w.label_set(a.labels.as_ref());
    w.field("annotations");
    w.label_set(a.annotations.as_ref());
    w.text_field("state", state(a.state()));
    if a.active_at.is_some() {
        w.time_field("activeAt", a.active_at);
    }
    if a.keep_firing_since.is_some() {
        w.time_field("keepFiringSince", a.keep_firing_since);
    }
    w.text_field("value", &a.value);
    w.raw(b"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<RuleGroup> {
        let one = |n: &str| RuleGroup { name: n.into(), file: "f".into(), ..RuleGroup::default() };
        ["a", "b", "c"].iter().map(|n| one(n)).collect()
    }

    #[test]
    fn pages_follow_each_other() {
        let page = |limit, token: &str| Page { limit, token: token.to_owned() };
        let names = |g: &[RuleGroup]| g.iter().map(|g| g.name.clone()).collect::<String>();
        let (first, next) = cut(groups(), &page(Some(2), "")).unwrap();
        assert_eq!(names(&first), "ab");
        let (second, end) = cut(groups(), &page(Some(2), &next)).unwrap();
        assert_eq!((names(&second), end), ("c".to_owned(), String::new()));
        assert!(cut(groups(), &page(Some(2), "gone")).is_err());
        assert_eq!(names(&cut(groups(), &page(None, "")).unwrap().0), "abc");
    }

    #[test]
    fn what_makes_no_sense_is_said_as_prometheus_says_it() {
        let p = |t: &str| Params::new(b"", t).unwrap();
        let error = |t: &str| query(&p(t)).map(drop).and(page(&p(t)).map(drop)).unwrap_err().text;
        assert_eq!(error("type=x"), r#"invalid parameter "type": not supported value "x""#);
        assert_eq!(
            error("group_limit=0"),
            r#"invalid parameter "group_limit": group_limit needs to be greater than 0"#
        );
        assert!(error("group_next_token=x").contains("group_limit needs to be present"));
        assert!(error("exclude_alerts=x").contains("strconv.ParseBool"));
        assert!(query(&p("exclude_alerts=TRUE&type=Alert")).unwrap().exclude_alerts);
    }
}
