//! Whether two answers of the HTTP API say the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// What two numbers may differ by, relative to the larger: sums are added in different orders.
const TOLERANCE: f64 = 1e-9;

/// And what they may differ by around zero, where what a subtraction leaves is noise.
const NOISE: f64 = 1e-8;

/// Whether an answer has any value at all.
pub(crate) fn has_values(answer: &Value) -> bool {
    let result = &answer["data"]["result"];
    result.as_array().is_some_and(|all| !all.is_empty())
}

/// Where two answers differ, if they do. What is refused by both is the same, whatever the words.
pub(crate) fn difference(expected: &Value, got: &Value) -> Option<String> {
    let ok = |answer: &Value| answer["status"] == "success";
    match (ok(expected), ok(got)) {
        (false, false) => return None,
        (true, false) => return Some(format!("refused: {}", got["error"])),
        (false, true) => return Some(format!("not refused, expected: {}", expected["error"])),
        (true, true) => {}
    }
    let (want, have) = (&expected["data"], &got["data"]);
    let kind = &want["resultType"];
    if *kind != have["resultType"] {
        return Some(format!("expected a {kind}, got a {}", have["resultType"]));
    }
    if kind == "scalar" || kind == "string" {
        return unlike(&want["result"], &have["result"]);
    }
    let (want, have) = match (series(&want["result"]), series(&have["result"])) {
        (Ok(want), Ok(have)) => (want, have),
        (Err(e), _) => return Some(format!("expected: {e}")),
        (_, Err(e)) => return Some(format!("got: {e}")),
    };
    let count = format!("{} series expected, {} got", want.len(), have.len());
    if let Some((key, extra)) = have.iter().find(|(key, _)| !want.contains_key(*key)) {
        return Some(format!("{count}; not expected: {key} {extra:.300}"));
    }
    want.iter().find_map(|(key, w)| match have.get(key) {
        None => Some(format!("{count}; missing: {key} {w:.300}")),
        Some(h) => unlike(w, h).map(|at| format!("{key}: {at}")),
    })
}

/// The series of a result by their labels.
fn series(result: &Value) -> Result<BTreeMap<String, &Value>, String> {
    let all = result.as_array().ok_or_else(|| format!("no list of series: {result:.300}"))?;
    let by_labels: BTreeMap<String, &Value> =
        all.iter().map(|s| (labels(&s["metric"]), s)).collect();
    if by_labels.len() < all.len() { Err("a series comes twice".into()) } else { Ok(by_labels) }
}

/// A label set as text. `count_values` writes numbers into a label, whose last digits may differ where
/// they were computed (exponentials, roots of sums).
fn labels(metric: &Value) -> String {
    let mut metric = metric.clone();
    if let Some(number) = metric["v"].as_str().and_then(|v| v.parse::<f64>().ok()) {
        metric["v"] = format!("{number:.13e}").into();
    }
    // serde_json's map is ordered by key, so equal labels print equally.
    metric.to_string()
}

/// Where two trees differ; numbers in strings are compared as numbers.
fn unlike(want: &Value, have: &Value) -> Option<String> {
    match (want, have) {
        (Value::Array(w), Value::Array(h)) if w.len() == h.len() => {
            let at = |w: &Value| w.get(0).filter(|t| t.is_number()).map(|t| format!("at {t}: "));
            w.iter().zip(h).find_map(|(a, b)| {
                unlike(a, b).map(|what| format!("{}{what}", at(a).unwrap_or_default()))
            })
        }
        (Value::Object(w), Value::Object(h)) if w.keys().eq(h.keys()) => {
            // The labels are known to be the same.
            let mut parts = w.iter().zip(h).filter(|((key, _), _)| *key != "metric");
            parts.find_map(|((k, a), (_, b))| unlike(a, b).map(|d| format!("{k} {d}")))
        }
        (Value::String(w), Value::String(h)) if close(w, h) => None,
        (Value::Number(w), Value::Number(h)) if w.as_f64() == h.as_f64() => None,
        _ => Some(format!("expected {want:.600}, got {have:.600}")),
    }
}

fn close(want: &str, have: &str) -> bool {
    if want == have {
        return true;
    }
    let (Ok(w), Ok(h)) = (want.parse::<f64>(), have.parse::<f64>()) else { return false };
    let most = (TOLERANCE * w.abs().max(h.abs())).max(NOISE);
    (w.is_nan() && h.is_nan()) || (w - h).abs() <= most
}
