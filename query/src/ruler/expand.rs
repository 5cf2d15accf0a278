//! From samples to alerts: templates of labels and annotations expanded.

use std::sync::Arc;
use std::time::Instant;

use periplus_model::{Labels, METRIC_NAME};
use periplus_promql::parse;

use super::alert::{Candidate, MISSING_ANNOTATION, value_of};
use super::evaluate::Sample;
use super::group::Env;
use super::rule::{Alerting, Rule, Strategy, Text};
use super::template::{Data, OUTPUT_BYTES_MAX, TIME_MAX};

/// More alerts than this are expanded on a thread of their own.
const INLINE_MAX: usize = 256;

/// Samples of an alerting rule, to be made alerts of.
pub(super) struct Expansion {
    pub(super) rule: Arc<Rule>,
    pub(super) samples: Vec<Sample>,
    pub(super) ts: i64,
    pub(super) strategy: Strategy,
    /// Which streams the answer lacks, for people; empty: none.
    pub(super) missing: String,
    pub(super) env: Env,
}

/// Expands them; a template that can't be carried out becomes a text that says so.
pub(super) async fn expand(work: Expansion) -> Vec<Candidate> {
    let asks =
        |texts: &[(String, Text)]| texts.iter().any(|t| t.1.as_ref().is_ok_and(|t| t.asks()));
    let Some(alerting) = &work.rule.alerting else { return Vec::new() };
    let blocks = !work.samples.is_empty()
        && (asks(&alerting.annotation_texts) || asks(&alerting.label_texts));
    if !blocks && work.samples.len() <= INLINE_MAX {
        let none = |_: &str| Err("queries are not possible here".to_owned());
        return candidates(&work, alerting, &none);
    }
    let handle = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || {
        let Some(alerting) = &work.rule.alerting else { return Vec::new() };
        let ask = |text: &str| -> Result<Vec<Sample>, String> {
            let expr = parse::parse(text).map_err(|e| e.to_string())?;
            let query: Arc<str> = text.into();
            let answer = work.env.evaluator.instant(&query, &expr, work.ts, work.strategy);
            handle.block_on(answer).map(|a| a.samples)
        };
        candidates(&work, alerting, &ask)
    });
    done.await.unwrap_or_default()
}

fn candidates(
    work: &Expansion,
    alerting: &Alerting,
    ask: &dyn Fn(&str) -> Result<Vec<Sample>, String>,
) -> Vec<Candidate> {
    let deadline = Instant::now() + TIME_MAX;
    work.samples.iter().map(|s| candidate(work, alerting, s, ask, deadline)).collect()
}

fn candidate(
    work: &Expansion,
    alerting: &Alerting,
    sample: &Sample,
    ask: &dyn Fn(&str) -> Result<Vec<Sample>, String>,
    deadline: Instant,
) -> Candidate {
    let data = Data {
        labels: &sample.labels,
        external_labels: &work.env.external_labels,
        external_url: &work.env.external_url,
        value: sample.value.clone(),
        now_ms: work.ts,
        query: ask,
        deadline,
        output_bytes_max: OUTPUT_BYTES_MAX,
    };
    let text = |t: &Text| {
        let done = match t {
            Ok(template) => template.expand(&data),
            Err(e) => Err(e.clone()),
        };
        done.unwrap_or_else(|e| format!("<error expanding template: {e}>"))
    };
    let mut labels = sample.labels.to_builder();
    labels.del(METRIC_NAME);
    for (name, t) in &alerting.label_texts {
        labels.set(name, text(t));
    }
    labels.set("alertname", work.rule.name.as_str());
    let mut annotations: Vec<(String, String)> =
        alerting.annotation_texts.iter().map(|(n, t)| (n.clone(), text(t))).collect();
    if !work.missing.is_empty() && !annotations.iter().any(|(n, _)| n == MISSING_ANNOTATION) {
        annotations.push((MISSING_ANNOTATION.to_owned(), work.missing.clone()));
        annotations.sort();
    }
    let labels: Labels = labels.build();
    Candidate { labels, annotations, value: value_of(sample) }
}
