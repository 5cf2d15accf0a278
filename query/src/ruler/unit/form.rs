//! The file of tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use periplus_model::duration::parse_duration;
use serde::Deserialize;

use crate::ruler::file::{FILE_BYTES_MAX, glob};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFile {
    rule_files: Option<Vec<String>>,
    evaluation_interval: Option<String>,
    group_eval_order: Option<Vec<String>>,
    fuzzy_compare: bool,
    tests: Option<Vec<RawTest>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTest {
    name: Option<String>,
    interval: Option<String>,
    input_series: Option<Vec<Series>>,
    alert_rule_test: Option<Vec<RawAlertTest>>,
    promql_expr_test: Option<Vec<RawExprTest>>,
    external_labels: Option<BTreeMap<String, String>>,
    external_url: Option<String>,
    start_timestamp: Option<String>,
}

/// A series and its values, in the notation of test scripts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Series {
    pub(super) series: String,
    pub(super) values: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAlertTest {
    eval_time: Option<String>,
    alertname: Option<String>,
    exp_alerts: Option<Vec<RawAlert>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAlert {
    exp_labels: Option<BTreeMap<String, String>>,
    exp_annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawExprTest {
    expr: Option<String>,
    eval_time: Option<String>,
    exp_samples: Option<Vec<RawSample>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSample {
    labels: Option<String>,
    value: Option<String>,
    histogram: Option<String>,
}

/// A file of tests, read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) rule_files: Vec<PathBuf>,
    pub(super) interval_ms: i64,
    pub(super) order: BTreeMap<String, usize>,
    pub(super) fuzzy: bool,
    pub(super) tests: Vec<Test>,
}

/// One test.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) step_ms: i64,
    pub(super) series: Vec<Series>,
    pub(super) alerts: Vec<AlertTest>,
    pub(super) exprs: Vec<ExprTest>,
    pub(super) external_labels: BTreeMap<String, String>,
    pub(super) external_url: String,
    pub(super) start_ms: i64,
}

/// The alerts of a name that fire at a time.
#[derive(Debug)]
pub(super) struct AlertTest {
    pub(super) at_ms: i64,
    pub(super) name: String,
    pub(super) expected: Vec<Expected>,
}

/// Labels and annotations of an alert.
pub(super) type Expected = (BTreeMap<String, String>, BTreeMap<String, String>);

/// What an expression gives at a time.
#[derive(Debug)]
pub(super) struct ExprTest {
    pub(super) at_ms: i64,
    pub(super) expr: String,
    pub(super) expected: Vec<ExpectedSample>,
}

/// A sample: labels as written, value, histogram as written.
#[derive(Debug)]
pub(super) struct ExpectedSample {
    pub(super) labels: String,
    pub(super) value: f64,
    pub(super) histogram: String,
}

fn duration(what: &str, text: Option<&str>, otherwise: i64) -> Result<i64, String> {
    match text {
        None => Ok(otherwise),
        Some(t) => parse_duration(t).map_err(|e| format!("{what}: {e}; write it as 30s or 5m")),
    }
}

/// Reads a file of tests; its rule files are looked for beside it.
pub(super) fn read(path: &Path, warnings: &mut Vec<String>) -> Result<File, String> {
    let unreadable = |e: std::io::Error| e.to_string();
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes; divide it"));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let raw: RawFile = serde_saphyr::from_str(&text).map_err(|e| e.to_string())?;
    let interval = duration("evaluation_interval", raw.evaluation_interval.as_deref(), 0)?;
    let interval_ms = if interval == 0 { 60_000 } else { interval };
    let mut order = BTreeMap::new();
    for (i, name) in raw.group_eval_order.unwrap_or_default().into_iter().enumerate() {
        if order.insert(name.clone(), i).is_some() {
            return Err(format!("group name repeated in evaluation order: {name}"));
        }
    }
    let base = path.parent().unwrap_or(Path::new(""));
    let mut rule_files = Vec::new();
    for f in raw.rule_files.unwrap_or_default() {
        let found = glob(&base.join(&f)).map_err(|e| format!("rule_files {f:?}: {e}"))?;
        if !found.iter().any(|p| p.exists()) {
            warnings.push(format!("no file match pattern {}", base.join(&f).display()));
            continue;
        }
        rule_files.extend(found);
    }
    let tests = raw.tests.unwrap_or_default().into_iter().enumerate();
    let tests = tests.map(|(i, t)| test(i, t, interval_ms)).collect::<Result<_, _>>()?;
    Ok(File { rule_files, interval_ms, order, fuzzy: raw.fuzzy_compare, tests })
}

fn test(index: usize, raw: RawTest, interval_ms: i64) -> Result<Test, String> {
    let name = raw.name.unwrap_or_default();
    let place = if name.is_empty() { format!("test {}", index + 1) } else { name.clone() };
    let at = |text: Option<&str>| duration(&format!("{place}: eval_time"), text, 0);
    let step = duration(&format!("{place}: interval"), raw.interval.as_deref(), 0)?;
    let mut alerts = Vec::new();
    for a in raw.alert_rule_test.unwrap_or_default() {
        let at_ms = at(a.eval_time.as_deref())?;
        let Some(alert) = a.alertname.filter(|n| !n.is_empty()) else {
            return Err(format!(
                "{place}: an item under alert_rule_test misses required attribute alertname at \
                 eval_time {}",
                periplus_model::duration::format_duration(at_ms)
            ));
        };
        let expected = a.exp_alerts.unwrap_or_default().into_iter().map(|e| {
            let mut labels = e.exp_labels.unwrap_or_default();
            labels.insert("alertname".to_owned(), alert.clone());
            (labels, e.exp_annotations.unwrap_or_default())
        });
        alerts.push(AlertTest { at_ms, expected: expected.collect(), name: alert.clone() });
    }
    let mut exprs = Vec::new();
    for e in raw.promql_expr_test.unwrap_or_default() {
        let mut expected = Vec::new();
        for s in e.exp_samples.unwrap_or_default() {
            let text = s.value.unwrap_or_else(|| "0".to_owned());
            expected.push(ExpectedSample {
                labels: s.labels.unwrap_or_default(),
                value: number(&text).ok_or_else(|| format!("{place}: {text:?} is no number"))?,
                histogram: s.histogram.unwrap_or_default(),
            });
        }
        let at_ms = at(e.eval_time.as_deref())?;
        exprs.push(ExprTest { at_ms, expr: e.expr.unwrap_or_default(), expected });
    }
    Ok(Test {
        name,
        step_ms: if step == 0 { interval_ms } else { step },
        series: raw.input_series.unwrap_or_default(),
        alerts,
        exprs,
        external_labels: raw.external_labels.unwrap_or_default(),
        external_url: raw.external_url.unwrap_or_default(),
        start_ms: match raw.start_timestamp {
            None => 0,
            Some(t) => start(&t).ok_or_else(|| format!("{place}: start_timestamp {t:?}"))?,
        },
    })
}

/// A number as YAML or Go write it.
fn number(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        t => periplus_model::float::parse_go_float(t).ok(),
    }
}

/// Seconds since 1970, or RFC 3339.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn start(text: &str) -> Option<i64> {
    if let Some(v) = number(text) {
        return v.is_finite().then_some((v * 1000.0).round() as i64);
    }
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let numbers =
        |t: &str, by: char| -> Option<Vec<f64>> { t.split(by).map(|p| p.parse().ok()).collect() };
    let (date, clock) = (numbers(date, '-')?, numbers(clock, ':')?);
    let ([y, m, d], [h, min, s]) = (date.as_slice(), clock.as_slice()) else { return None };
    let offset = match zone {
        "Z" | "z" => 0.0,
        z => {
            let sign = if z.starts_with('-') { -1.0 } else { 1.0 };
            let hm = numbers(z.get(1..)?, ':')?;
            let [h, m] = hm.as_slice() else { return None };
            sign * (h * 3600.0 + m * 60.0)
        }
    };
    let days = crate::ruler::template::days_before(*y as i64, *m as i64, *d as i64);
    let seconds = days as f64 * 86_400.0 + h * 3600.0 + min * 60.0 + s - offset;
    Some((seconds * 1000.0).round() as i64)
}
