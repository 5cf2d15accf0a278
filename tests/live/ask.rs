//! Questions over the HTTP API, and the comparison of two answers value by value.

use std::collections::BTreeMap;

use serde_json::Value;

/// An HTTP client; its TLS needs a provider even where none is used.
pub(crate) fn client() -> reqwest::Client {
    let _already_set = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// What is asked: one time, or a range with a step, all in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Instant(i64),
    Range { from: i64, to: i64, step: i64 },
}

/// An answer as the API gives it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        self.body["status"] == "success"
    }

    pub(crate) fn result(&self) -> &Value {
        &self.body["data"]["result"]
    }

    /// The series of a vector or matrix; one for a scalar.
    pub(crate) fn rows(&self) -> usize {
        self.result().as_array().map_or(0, Vec::len)
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let all = self.body["warnings"].as_array();
        all.into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect()
    }
}

/// Asks `expr` at `url`, with more parameters.
pub(crate) async fn ask_with(
    client: &reqwest::Client,
    url: &str,
    expr: &str,
    when: When,
    more: &[(&str, &str)],
) -> Result<Answer, String> {
    let mut form: Vec<(&str, String)> = vec![("query", expr.to_owned())];
    form.extend(more.iter().map(|(n, v)| (*n, (*v).to_owned())));
    let path = match when {
        When::Instant(t) => {
            form.push(("time", seconds(t)));
            "query"
        }
        When::Range { from, to, step } => {
            form.push(("start", seconds(from)));
            form.push(("end", seconds(to)));
            form.push(("step", seconds(step)));
            "query_range"
        }
    };
    let post = client.post(format!("{url}/api/v1/{path}")).form(&form);
    let answer = post.send().await.map_err(|e| format!("no answer: {e:?}"))?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.map_err(|e| format!("a broken answer: {e:?}"))?;
    let body = serde_json::from_str(&text).map_err(|e| format!("{status}: {e}: {text:.300}"))?;
    Ok(Answer { status, headers, body })
}

/// Asks `expr` at `url`.
pub(crate) async fn ask(
    client: &reqwest::Client,
    url: &str,
    expr: &str,
    when: When,
) -> Result<Answer, String> {
    ask_with(client, url, expr, when, &[]).await
}

/// Milliseconds as the API takes them.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Labels as text, to find a series by.
type Key = String;

/// The values of each series by time.
fn series(result: &Value) -> Result<BTreeMap<Key, Vec<(f64, String)>>, String> {
    let mut all = BTreeMap::new();
    for one in result.as_array().ok_or("the result is no array")? {
        // serde_json's map is ordered by key, so equal labels print equally.
        let key = one["metric"].to_string();
        let pairs = match (&one["values"], &one["value"]) {
            (Value::Array(values), _) => values.clone(),
            (_, value @ Value::Array(_)) => vec![value.clone()],
            _ => return Err(format!("a series without values: {one}")),
        };
        let point = |p: &Value| -> Option<(f64, String)> {
            Some((p[0].as_f64()?, p[1].as_str()?.to_owned()))
        };
        let points: Option<Vec<_>> = pairs.iter().map(point).collect();
        if all.insert(key.clone(), points.ok_or("a point that is none")?).is_some() {
            return Err(format!("the series {key} comes twice"));
        }
    }
    Ok(all)
}

/// Where two answers differ, if they do. Times and labels must be equal, values equal to within
/// `tolerance`, relative to the larger.
pub(crate) fn difference(expected: &Answer, got: &Answer, tolerance: f64) -> Option<String> {
    match (expected.is_success(), got.is_success()) {
        (true, true) => {}
        (false, false) => {
            let kind = |a: &Answer| (a.status, a.body["errorType"].clone());
            return (kind(expected) != kind(got))
                .then(|| format!("errors differ: expected {}, got {}", expected.body, got.body));
        }
        (true, false) => return Some(format!("an error was not expected: {}", got.body)),
        (false, true) => return Some(format!("expected an error: {}", expected.body)),
    }
    let kinds = (&expected.body["data"]["resultType"], &got.body["data"]["resultType"]);
    if kinds.0 != kinds.1 {
        return Some(format!("the kinds differ: expected {}, got {}", kinds.0, kinds.1));
    }
    if kinds.0 == "scalar" || kinds.0 == "string" {
        let text = |a: &Answer| a.result()[1].as_str().unwrap_or_default().to_owned();
        return (!same(&text(expected), &text(got), tolerance))
            .then(|| format!("expected {}, got {}", expected.result(), got.result()));
    }
    let (want, have) = match (series(expected.result()), series(got.result())) {
        (Ok(w), Ok(h)) => (w, h),
        (Err(e), _) => return Some(format!("expected: {e}")),
        (_, Err(e)) => return Some(format!("got: {e}")),
    };
    if let Some(key) = want.keys().find(|k| !have.contains_key(*k)) {
        return Some(format!("missing ({} expected, {} got): {key}", want.len(), have.len()));
    }
    if let Some(key) = have.keys().find(|k| !want.contains_key(*k)) {
        return Some(format!("not expected ({} expected, {} got): {key}", want.len(), have.len()));
    }
    for (key, points) in &want {
        let others = &have[key];
        let times = |p: &[(f64, String)]| p.iter().map(|x| x.0).collect::<Vec<f64>>();
        if times(points) != times(others) {
            let (w, h) = (times(points), times(others));
            let first = w.iter().zip(&h).find(|(a, b)| a != b);
            return Some(format!(
                "{key}: {} points expected, {} got, first differing: {first:?}",
                w.len(),
                h.len()
            ));
        }
        for ((t, w), (_, h)) in points.iter().zip(others) {
            if !same(w, h, tolerance) {
                return Some(format!("{key} at {t}: expected {w}, got {h}"));
            }
        }
    }
    None
}

fn same(a: &str, b: &str, tolerance: f64) -> bool {
    if a == b {
        return true;
    }
    let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else { return false };
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    // Around zero what remains of a cancellation is noise of the size of what cancelled.
    (a - b).abs() <= tolerance * a.abs().max(b.abs()) || (a - b).abs() < 1e-10
}
