//! Asking a query URL, and what came back.

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::questions::Question;

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// The values of the question's row labels, in their order.
    pub(crate) names: Vec<String>,
    pub(crate) value: f64,
}

/// Rows in order, and what the answer lacks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    /// One line for each cluster that is missing, and any other warning, as the query layer words
    /// them.
    pub(crate) warnings: Vec<String>,
}

/// Where questions go: a periplus query process, or any Prometheus.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            .timeout(std::time::Duration::from_secs(120))
            .build()
            .context("setting up the HTTP client")?;
        Ok(Self { http, base })
    }

    /// Evaluates `promql` at a time, now where none is given; the parsed body of the answer.
    pub(crate) async fn query(&self, promql: &str, at: Option<f64>) -> anyhow::Result<Value> {
        let mut form = vec![("query", promql.to_owned())];
        if let Some(at) = at {
            form.push(("time", at.to_string()));
        }
        let url = format!("{}/api/v1/query", self.base);
        let response = self.http.post(&url).form(&form).send().await.with_context(|| {
            format!("asking {url}: is a periplus query (or standalone, or demo) running there?")
        })?;
        let status = response.status();
        let body = response.text().await.with_context(|| format!("reading the answer of {url}"))?;
        let Ok(json) = serde_json::from_str::<Value>(&body) else {
            let start: String = body.chars().take(200).collect();
            bail!("{url} answered {status}, not the Prometheus API's JSON: {start}");
        };
        if json["status"] != "success" {
            let text = |key: &str| json[key].as_str().unwrap_or("unnamed").to_owned();
            bail!("{url} answered {status}: {}: {}", text("errorType"), text("error"));
        }
        Ok(json)
    }

    /// The answer to a question.
    pub(crate) async fn ask(&self, question: &Question, at: Option<f64>) -> anyhow::Result<Answer> {
        let json = self.query(&question.promql(), at).await?;
        read(&json, &question.row_labels())
    }
}

/// Reads the body of a successful instant query that gives a vector.
fn read(json: &Value, row_labels: &[&str]) -> anyhow::Result<Answer> {
    let result = json["data"]["result"].as_array().context("the answer has no data.result")?;
    let mut rows = Vec::with_capacity(result.len());
    for one in result {
        let names = row_labels
            .iter()
            .map(|l| one["metric"][l].as_str().unwrap_or("-").to_owned())
            .collect();
        let value = one["value"][1]
            .as_str()
            .and_then(|v| v.parse().ok())
            .with_context(|| format!("the answer has a row without a value: {one}"))?;
        rows.push(Row { names, value });
    }
    rows.sort_by(|a, b| b.value.total_cmp(&a.value));
    let texts = |key: &str| -> Vec<String> {
        let all = json[key].as_array();
        all.into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect()
    };
    Ok(Answer { rows, warnings: texts("warnings") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rows_in_order_and_warnings() {
        let json = serde_json::json!({"status": "success", "warnings": ["b is missing"],
            "data": {"resultType": "vector", "result": [
                {"metric": {"cluster": "a"}, "value": [1.5, "2"]},
                {"metric": {"cluster": "c"}, "value": [1.5, "+Inf"]}]}});
        let answer = read(&json, &["cluster", "node"]).expect("readable");
        assert_eq!(
            answer.rows[0],
            Row { names: vec!["c".into(), "-".into()], value: f64::INFINITY }
        );
        assert_eq!(answer.warnings, ["b is missing"]);
        assert!(read(&serde_json::json!({"data": {"result": [{}]}}), &["x"]).is_err());
    }
}
