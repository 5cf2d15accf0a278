//! Evaluating by asking a query process, or any Prometheus, over HTTP.

use std::sync::Arc;
use std::time::Duration;

use periplus_model::Labels;
use periplus_model::float::parse_go_float;
use periplus_promql::parse::ast::Expr;
use periplus_promql::parse::parse_metric;
use serde::Deserialize;

use super::evaluate::{Answer, Answering, Evaluator, Sample, SampleValue};
use super::histogram;
use super::rule::Strategy;

/// The largest answer read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Asks over HTTP.
#[derive(Clone, Debug)]
pub struct HttpEvaluator {
    client: reqwest::Client,
    urls: Vec<String>,
    replica_labels: Vec<String>,
}

#[derive(Deserialize)]
struct Body {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Row {
    metric: std::collections::BTreeMap<String, String>,
    value: Option<(serde_json::Value, String)>,
    histogram: Option<(serde_json::Value, serde_json::Value)>,
}

impl HttpEvaluator {
    /// Asks the first of `urls` that answers.
    ///
    /// # Errors
    /// The client can't be set up.
    pub fn new(
        urls: Vec<String>,
        timeout: Duration,
        replica_labels: Vec<String>,
    ) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| e.to_string())?;
        let urls = urls.iter().map(|u| u.trim_end_matches('/').to_owned()).collect();
        Ok(Self { client, urls, replica_labels })
    }

    async fn ask(&self, query: &str, t_ms: i64, strategy: Strategy) -> Result<Answer, String> {
        let partial = matches!(strategy, Strategy::Warn);
        let form = [
            ("query", query.to_owned()),
            ("time", format!("{}.{:03}", t_ms.div_euclid(1000), t_ms.rem_euclid(1000))),
            ("partial_response", partial.to_string()),
        ];
        let mut last = "no --query to ask".to_owned();
        for url in &self.urls {
            match self.post(url, &form).await {
                Ok(answer) => return answer,
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// The inner error is the query's own; the outer one says that another process may do better.
    async fn post(
        &self,
        url: &str,
        form: &[(&str, String)],
    ) -> Result<Result<Answer, String>, String> {
        let address = format!("{url}/api/v1/query");
        // What another rule recorded a moment ago counts already.
        let request = self.client.post(&address).header("cache-control", "no-cache").form(form);
        let sent = request.send().await;
        let mut response = sent.map_err(|e| format!("asking {url}: {}", cause(&e)))?;
        let header = response.headers().get("x-periplus-missing");
        let named = header.and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(part) =
            response.chunk().await.map_err(|e| format!("asking {url}: {}", cause(&e)))?
        {
            if bytes.len() + part.len() > ANSWER_BYTES_MAX {
                return Ok(Err(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes")));
            }
            bytes.extend_from_slice(&part);
        }
        let Ok(body) = serde_json::from_slice::<Body>(&bytes) else {
            let head: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            return Err(format!("{url} answered {status}, which is no answer of its API: {head}"));
        };
        if body.status != "success" {
            return Ok(Err(body.error));
        }
        let missing = missing(&named, &self.replica_labels);
        Ok(samples(body.data).map(|samples| Answer { samples, missing, warnings: body.warnings }))
    }
}

fn cause(e: &reqwest::Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        text = format!("{text}: {c}");
        cause = c.source();
    }
    text
}

/// The label sets of the header that names who is missing, replica labels left out; a part that is
/// no label set is somebody of whom nothing is known.
fn missing(header: &str, replica_labels: &[String]) -> Vec<Labels> {
    let mut out = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let (part, after) = match end_of_set(rest) {
            Some(end) => rest.split_at(end),
            None => rest.split_once(", ").unwrap_or((rest, "")),
        };
        let labels = parse_metric(part).unwrap_or_else(|_| Labels::empty());
        out.push(labels.filter(|n| !replica_labels.iter().any(|r| r == n)));
        rest = after.trim_start_matches([',', ' ']);
    }
    out.sort();
    out.dedup();
    out
}

/// Where the `{…}` that `text` begins with ends; braces in quotes don't count.
fn end_of_set(text: &str) -> Option<usize> {
    if !text.starts_with('{') {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(i + 1),
            _ => {}
        }
    }
    None
}

fn samples(data: Option<Data>) -> Result<Vec<Sample>, String> {
    let strange = |e: &dyn std::fmt::Display| format!("the answer makes no sense: {e}");
    let Some(data) = data else { return Err(strange(&"it has no data")) };
    let float = |text: &str| parse_go_float(text).map_err(|e| strange(&e));
    match data.result_type.as_str() {
        "scalar" => {
            let (_, text): (serde_json::Value, String) =
                serde_json::from_value(data.result).map_err(|e| strange(&e))?;
            Ok(vec![Sample { labels: Labels::empty(), value: SampleValue::Float(float(&text)?) }])
        }
        "vector" => {
            let rows: Vec<Row> = serde_json::from_value(data.result).map_err(|e| strange(&e))?;
            let one = |r: Row| {
                let value = match (r.value, r.histogram) {
                    (Some((_, text)), _) => SampleValue::Float(float(&text)?),
                    (None, Some((_, h))) => SampleValue::Histogram(Arc::new(
                        histogram::read(&h).map_err(|e| strange(&e))?,
                    )),
                    (None, None) => return Err(strange(&"a row has no value")),
                };
                let labels = Labels::from_pairs(&r.metric);
                Ok(Sample { labels, value })
            };
            rows.into_iter().map(one).collect()
        }
        _ => Err("rule result is not a vector or scalar".to_owned()),
    }
}

impl Evaluator for HttpEvaluator {
    fn instant<'a>(
        &'a self,
        query: &'a Arc<str>,
        _: &'a Expr,
        t_ms: i64,
        strategy: Strategy,
    ) -> Answering<'a> {
        Box::pin(self.ask(query, t_ms, strategy))
    }

    fn keeps_histograms(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_missing_is_read() {
        let found = missing(
            r#"{cluster="a", replica="0"}, {cluster="b}\"", x="1"}, 10.0.0.1:1"#,
            &["replica".into()],
        );
        let want = [
            Labels::empty(),
            Labels::from_pairs([("cluster", "a")]),
            Labels::from_pairs([("cluster", "b}\""), ("x", "1")]),
        ];
        assert_eq!(found, want);
        assert!(missing("", &[]).is_empty());
    }

    #[test]
    fn answers_are_read() {
        let data = |t: &str, r: &str| {
            let result = serde_json::from_str(r).unwrap();
            samples(Some(Data { result_type: t.to_owned(), result }))
        };
        let got = data("vector", r#"[{"metric":{"a":"b"},"value":[1.5,"+Inf"]}]"#).unwrap();
        assert_eq!(got[0].value, SampleValue::Float(f64::INFINITY));
        assert_eq!(data("scalar", r#"[1,"3"]"#).unwrap()[0].labels, Labels::empty());
        assert!(data("matrix", "[]").is_err());
        assert!(data("vector", "[{}]").is_err());
    }
}
