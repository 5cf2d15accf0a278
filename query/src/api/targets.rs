//! `targets`, `targets/metadata`, `scrape_pools`, `metadata`, `alertmanagers`.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::Response;
use periplus_proto::thanos::targets_request::State as Wanted;
use periplus_proto::thanos::{ActiveTarget, DroppedTarget, TargetHealth};

use super::Api;
use super::about::{ask, counted, loose_limit, send};
use super::error::ApiError;
use super::json::Writer;
use super::params::{Params, selector};
use crate::about::alertmanagers::{Alertmanagers, alertmanagers as gather_alertmanagers};
use crate::about::metadata::metadata as gather_metadata;
use crate::about::targets::{
    TargetMetadataQuery, metadata as gather_target_metadata, targets as gather_targets,
};

pub(super) async fn targets(State(api): State<Api>, RawQuery(address): RawQuery) -> Response<Body> {
    let run = async {
        let p = Params::new(b"", address.as_deref().unwrap_or_default())?;
        // A state that is none shows nothing.
        let (active, dropped) = match p.get("state").to_lowercase().as_str() {
            "" | "any" => (true, true),
            "active" => (true, false),
            "dropped" => (false, true),
            _ => (false, false),
        };
        let wanted = match (active, dropped) {
            (true, false) => Wanted::Active,
            (false, true) => Wanted::Dropped,
            _ => Wanted::Any,
        };
        let asked = ask(&api, &p)?;
        let found = gather_targets(&asked.question, wanted, p.get("scrapePool")).await;
        let mut all = counted(&api, &asked, found)?;
        if !active {
            all.active_targets.clear();
        }
        if !dropped {
            all.dropped_targets.clear();
        }
        let mut w = Writer::new();
        w.raw(b"{");
        w.field("activeTargets");
        w.list(&all.active_targets, active_target);
        w.field("droppedTargets");
        w.list(&all.dropped_targets, dropped_target);
        w.field("droppedTargetCounts");
        match dropped {
            false => w.raw(b"null"),
            true => {
                let counts: BTreeMap<_, _> = all.dropped_target_counts.iter().collect();
                w.raw(b"{");
                for (pool, n) in counts {
                    w.field(pool);
                    w.integer(*n);
                }
                w.raw(b"}");
            }
        }
        w.raw(b"}");
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

fn active_target(w: &mut Writer, t: &ActiveTarget) {
    w.raw(b"{");
    w.field("discoveredLabels");
    w.label_set(t.discovered_labels.as_ref());
    w.field("labels");
    w.label_set(t.labels.as_ref());
    w.text_field("scrapePool", &t.scrape_pool);
    w.text_field("scrapeUrl", &t.scrape_url);
    w.text_field("globalUrl", &t.global_url);
    w.text_field("lastError", &t.last_error);
    w.time_field("lastScrape", t.last_scrape);
    w.number_field("lastScrapeDuration", t.last_scrape_duration);
    let health = match t.health() {
        TargetHealth::Up => "up",
        TargetHealth::Down => "down",
        TargetHealth::Unknown => "unknown",
    };
    w.text_field("health", health);
    w.text_field("scrapeInterval", &t.scrape_interval);
    w.text_field("scrapeTimeout", &t.scrape_timeout);
    w.raw(b"}");
}

fn dropped_target(w: &mut Writer, t: &DroppedTarget) {
    w.raw(b"{");
    w.field("discoveredLabels");
    w.label_set(t.discovered_labels.as_ref());
    w.text_field("scrapePool", &t.scrape_pool);
    w.raw(b"}");
}

pub(super) async fn scrape_pools(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
) -> Response<Body> {
    let run = async {
        let p = Params::new(b"", address.as_deref().unwrap_or_default())?;
        let asked = ask(&api, &p)?;
        let found = gather_targets(&asked.question, Wanted::Any, "").await;
        let all = counted(&api, &asked, found)?;
        let active = all.active_targets.iter().map(|t| t.scrape_pool.as_str());
        let dropped = all.dropped_targets.iter().map(|t| t.scrape_pool.as_str());
        let counted = all.dropped_target_counts.keys().map(String::as_str);
        let pools: BTreeSet<&str> = active.chain(dropped).chain(counted).collect();
        let mut w = Writer::new();
        w.raw(b"{");
        w.field("scrapePools");
        w.list(pools.into_iter().filter(|p| !p.is_empty()), |w, p| w.string(p));
        w.raw(b"}");
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) async fn target_metadata(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
) -> Response<Body> {
    let run = async {
        let p = Params::new(b"", address.as_deref().unwrap_or_default())?;
        let limit = loose_limit(&p, "limit")?;
        let text = p.get("match_target");
        let matchers = match text {
            "" => Vec::new(),
            _ => selector(text).map_err(|e| ApiError::parameter("match_target", e))?,
        };
        let query = TargetMetadataQuery {
            matchers,
            selector: text.to_owned(),
            metric: p.get("metric").to_owned(),
            limit,
        };
        let asked = ask(&api, &p)?;
        let found = gather_target_metadata(&asked.question, &query).await;
        let all = counted(&api, &asked, found)?;
        let mut w = Writer::new();
        w.list(&all, |w, (target, entry)| {
            w.raw(b"{");
            w.field("target");
            w.labels(target);
            if !entry.metric.is_empty() {
                w.text_field("metric", &entry.metric);
            }
            w.text_field("type", &entry.r#type);
            w.text_field("help", &entry.help);
            w.text_field("unit", &entry.unit);
            w.raw(b"}");
        });
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) async fn metadata(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let limit = loose_limit(&p, "limit")?;
        let each = loose_limit(&p, "limit_per_metric")?.filter(|l| *l > 0);
        let asked = ask(&api, &p)?;
        let found = gather_metadata(&asked.question, p.get("metric"), limit).await;
        let all = counted(&api, &asked, found)?;
        let mut w = Writer::new();
        w.raw(b"{");
        for (name, metas) in &all {
            w.field(name);
            w.list(metas.iter().take(each.unwrap_or(usize::MAX)), |w, m| {
                w.raw(b"{");
                w.text_field("type", &m.r#type);
                w.text_field("unit", &m.unit);
                w.text_field("help", &m.help);
                w.raw(b"}");
            });
        }
        w.raw(b"}");
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}

pub(super) async fn alertmanagers(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
) -> Response<Body> {
    let run = async {
        let p = Params::new(b"", address.as_deref().unwrap_or_default())?;
        let asked = ask(&api, &p)?;
        let found = gather_alertmanagers(&asked.question, &api.own).await;
        let all = counted(&api, &asked, found)?;
        let mut w = Writer::new();
        w.raw(b"{");
        for (name, some) in
            [("activeAlertmanagers", &all.active), ("droppedAlertmanagers", &all.dropped)]
        {
            w.field(name);
            w.list(Alertmanagers::urls(some), |w, url| {
                w.raw(b"{");
                w.text_field("url", url);
                w.raw(b"}");
            });
        }
        w.raw(b"}");
        Ok(send(&asked, w))
    };
    run.await.unwrap_or_else(|e: ApiError| e.respond())
}
