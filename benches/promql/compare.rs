//! Whether two answers of the HTTP API are the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// What two values may differ by, relative to the larger: sums are added in different orders.
const TOLERANCE: f64 = 1e-9;

/// Where they differ, if they do: the same series with the same times, and values that are close.
pub(crate) fn difference(expected: &[u8], got: &[u8]) -> Option<String> {
    let parsed = |bytes: &[u8], whose: &str| -> Result<BTreeMap<String, Value>, String> {
        let answer: Value = serde_json::from_slice(bytes)
            .map_err(|e| format!("{whose}: {e}: {:.300}", String::from_utf8_lossy(bytes)))?;
        let result = answer["data"]["result"].as_array();
        let result = result.ok_or_else(|| format!("{whose}: {answer:.500}"))?;
        // serde_json's map is ordered by key, so equal labels print equally.
        let all: BTreeMap<String, Value> =
            result.iter().map(|s| (s["metric"].to_string(), s.clone())).collect();
        match (all.len(), result.len()) {
            (0, _) => Err(format!("{whose}: no series, which proves nothing")),
            (a, b) if a < b => Err(format!("{whose}: a series comes twice")),
            _ => Ok(all),
        }
    };
    let (want, have) = match (parsed(expected, "Prometheus"), parsed(got, "the engine")) {
        (Ok(want), Ok(have)) => (want, have),
        (Err(e), Ok(_)) | (Ok(_), Err(e)) => return Some(e),
        (Err(a), Err(b)) => return Some(format!("{a}\n{b}")),
    };
    let count = format!("{} series expected, {} got", want.len(), have.len());
    if let Some(key) = have.keys().find(|k| !want.contains_key(*k)) {
        return Some(format!("{count}; not expected: {key}"));
    }
    want.iter().find_map(|(key, w)| match have.get(key) {
        None => Some(format!("{count}; missing: {key}")),
        Some(h) => unlike(w, h).map(|at| format!("{key}: {at}")),
    })
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
            w.iter().zip(h).find_map(|((k, a), (_, b))| unlike(a, b).map(|d| format!("{k} {d}")))
        }
        (Value::Array(w), Value::Array(h)) => {
            Some(format!("{} values expected, {} got", w.len(), h.len()))
        }
        (Value::String(w), Value::String(h)) if close(w, h) => None,
        (Value::Number(w), Value::Number(h)) if w.as_f64() == h.as_f64() => None,
        _ => Some(format!("expected {want:.200}, got {have:.200}")),
    }
}

fn close(want: &str, have: &str) -> bool {
    if want == have {
        return true;
    }
    let (Ok(w), Ok(h)) = (want.parse::<f64>(), have.parse::<f64>()) else { return false };
    (w.is_nan() && h.is_nan()) || (w - h).abs() <= TOLERANCE * w.abs().max(h.abs())
}
