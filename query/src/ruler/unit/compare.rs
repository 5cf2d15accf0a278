//! What differs from what is expected, in promtool's words.

use std::collections::BTreeMap;

use periplus_model::Labels;
use periplus_model::duration::format_duration;
use periplus_model::float::{Quoted, format_e};
use periplus_promql::parse::parse_metric;
use periplus_promql::script::parse_series;

use super::form::{AlertTest, Expected, ExprTest, Test};
use crate::ruler::evaluate::{Sample, SampleValue};

/// What differs in the alerts of a name at a time.
pub(super) fn alerts(test: &Test, t: &AlertTest, mut got: Vec<Expected>) -> Option<String> {
    let mut expected = t.expected.clone();
    expected.sort();
    got.sort();
    if expected == got {
        return None;
    }
    let name = match test.name.is_empty() {
        true => String::new(),
        false => format!("    name: {},\n", test.name),
    };
    Some(format!(
        "{name}    alertname: {}, time: {}, \n        exp:{}, \n        got:{}",
        t.name,
        format_duration(t.at_ms),
        list(&expected),
        list(&got)
    ))
}

fn list(all: &[Expected]) -> String {
    if all.is_empty() {
        return "[]".to_owned();
    }
    let each: Vec<String> = all
        .iter()
        .enumerate()
        .map(|(i, (labels, annotations))| {
            format!(
                "            {i}:\n              Labels:{}\n              Annotations:{}",
                set(labels),
                set(annotations)
            )
        })
        .collect();
    format!("[\n{}\n            ]", each.join(",\n"))
}

fn set(pairs: &BTreeMap<String, String>) -> String {
    let all: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={}", Quoted(v))).collect();
    format!("{{{}}}", all.join(", "))
}

fn labels(l: &Labels) -> String {
    let all: Vec<String> = l.iter().map(|(n, v)| format!("{n}={}", Quoted(v))).collect();
    format!("{{{}}}", all.join(", "))
}

/// A sample as it is compared: labels, value, histogram as text.
#[derive(Clone, Debug)]
struct Row {
    labels: Labels,
    value: f64,
    histogram: String,
}

impl Row {
    fn text(&self) -> String {
        match self.histogram.is_empty() {
            true => format!("{} {}", labels(&self.labels), format_e(self.value).replace('e', "E")),
            false => format!("{} {}", labels(&self.labels), self.histogram),
        }
    }

    fn is(&self, other: &Self, fuzzy: bool) -> bool {
        let (a, b) = (self.value, other.value);
        let near = fuzzy && (a.next_down() == b || a.next_up() == b);
        self.labels == other.labels && self.histogram == other.histogram && (a == b || near)
    }
}

/// What differs in the result of an expression.
pub(super) fn samples(
    t: &ExprTest,
    got: Result<Vec<Sample>, String>,
    fuzzy: bool,
) -> Option<String> {
    let head = format!("    expr: {}, time: {},", Quoted(&t.expr), format_duration(t.at_ms));
    let got = match got {
        Ok(got) => got,
        Err(e) => return Some(format!("{head} err: {e}")),
    };
    let mut got: Vec<Row> = got
        .into_iter()
        .map(|s| match s.value {
            SampleValue::Float(value) => Row { labels: s.labels, value, histogram: String::new() },
            SampleValue::Histogram(h) => {
                Row { labels: s.labels, value: 0.0, histogram: h.to_test_expression() }
            }
        })
        .collect();
    let mut expected = Vec::new();
    for s in &t.expected {
        match row(&s.labels, s.value, &s.histogram) {
            Ok(row) => expected.push(row),
            Err(e) => return Some(format!("{head} err: labels {}: {e}", Quoted(&s.labels))),
        }
    }
    got.sort_by(|a, b| a.labels.cmp(&b.labels));
    expected.sort_by(|a, b| a.labels.cmp(&b.labels));
    let same = got.len() == expected.len()
        && expected.iter().zip(&got).all(|(want, got)| want.is(got, fuzzy));
    let text = |rows: &[Row]| match rows.is_empty() {
        true => "nil".to_owned(),
        false => rows.iter().map(Row::text).collect::<Vec<_>>().join(", "),
    };
    (!same)
        .then(|| format!("{head}\n        exp: {}\n        got: {}", text(&expected), text(&got)))
}

fn row(labels: &str, value: f64, histogram: &str) -> Result<Row, String> {
    let labels = match labels.trim() {
        "" => Labels::empty(),
        text => parse_metric(text).map_err(|e| e.to_string())?,
    };
    if histogram.is_empty() {
        return Ok(Row { labels, value, histogram: String::new() });
    }
    let (_, values) = parse_series(&format!("{{}} {histogram}"))?;
    match values.as_slice() {
        [Some((_, Some(h)))] => Ok(Row { labels, value: 0.0, histogram: h.to_test_expression() }),
        [_] => Err("expected histogram".to_owned()),
        all => Err(format!("expected 1 value, got {}", all.len())),
    }
}

/// A time since 1970 as Go prints durations.
pub(super) fn go_duration(ms: i64) -> String {
    crate::ruler::template::go_duration(ms.saturating_mul(1_000_000))
}
