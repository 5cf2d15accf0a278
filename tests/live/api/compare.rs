//! The table, line by line, against the Prometheus whose data it is.

use serde_json::{Map, Value};

use super::setup::{Shop, query};
use super::table::{Like, Since, TABLE};
use crate::ask::client;
use crate::prometheus::flavours;

/// What changes from one question to the next.
const VOLATILE: &[&str] =
    &["lastEvaluation", "evaluationTime", "lastScrape", "lastScrapeDuration", "chunkCount"];

/// What 2.42 does not tell yet.
const NEWER: &[&str] = &["keepFiringFor", "droppedTargetCounts", "scrapePool", "keepFiringSince"];

/// JSON in one order, without what changes.
fn normal(v: &Value, newer: bool) -> Value {
    match v {
        Value::Object(all) => {
            let kept = all.iter().filter(|(n, _)| {
                !VOLATILE.contains(&n.as_str()) && (newer || !NEWER.contains(&n.as_str()))
            });
            kept.map(|(n, v)| (n.clone(), normal(v, newer))).collect::<Map<_, _>>().into()
        }
        Value::Array(all) => {
            let mut all: Vec<Value> = all.iter().map(|v| normal(v, newer)).collect();
            // Prometheus keeps many lists in the order of its hash tables.
            if all.iter().all(|v| v.is_object()) {
                all.sort_by_key(Value::to_string);
            }
            all.into()
        }
        Value::Number(n) => n.as_f64().map_or(Value::Null, Value::from),
        other => other.clone(),
    }
}

/// What is here and not there: who answers.
const OWN: &[&str] = &["application"];

/// Names of fields, through and through; of lists the first entry's.
fn shape(v: &Value) -> Value {
    match v {
        Value::Object(all) => {
            let all = all.iter().filter(|(n, _)| !OWN.contains(&n.as_str()));
            all.map(|(n, v)| (n.clone(), shape(v))).collect::<Map<_, _>>().into()
        }
        Value::Array(all) => all.first().map(shape).into_iter().collect::<Vec<_>>().into(),
        _ => Value::Null,
    }
}

/// Lines without values and times, in order.
fn lines(text: &str) -> Value {
    let mut all: Vec<&str> = text
        .lines()
        .map(|l| if l.starts_with('#') { l } else { l.rsplitn(3, ' ').last().unwrap_or(l) })
        .collect();
    all.sort_unstable();
    Value::from(all)
}

struct Said {
    status: u16,
    text: String,
}

async fn ask(url: &str, line: &str) -> Said {
    let (method, rest) = line.split_once(' ').expect("a method");
    let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/api/v1/{path}") };
    // Percent signs in the table are there already; all else is encoded here.
    let pairs: Vec<(String, String)> = parameters
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| {
            let (n, v) = p.split_once('=').unwrap_or((p, ""));
            (n.to_owned(), v.replace("%2B", "+"))
        })
        .collect();
    let request = match method {
        "POST" => client().post(format!("{url}{path}")).form(&pairs),
        _ => client().get(format!("{url}{path}")).query(&pairs),
    };
    let answer = request.send().await.unwrap_or_else(|e| panic!("{line}: {e:?}"));
    let status = answer.status().as_u16();
    Said { status, text: answer.text().await.expect("a body") }
}

/// Where two answers differ, if they do.
fn difference(like: Like, v3: bool, expected: &Said, got: &Said) -> Option<String> {
    if expected.status != got.status {
        return Some(format!("status {} expected, got {}", expected.status, got.status));
    }
    if like == Like::Text {
        let (want, have) = match expected.status {
            200 => (lines(&expected.text), lines(&got.text)),
            _ if v3 => (expected.text.as_str().into(), got.text.as_str().into()),
            _ => return None,
        };
        return (want != have).then(|| format!("\n  expected {want}\n  got      {have}"));
    }
    let json = |s: &Said| serde_json::from_str::<Value>(&s.text).unwrap_or_default();
    let (want, have) = (json(expected), json(got));
    let (want, have) = match like {
        Like::Shape => (shape(&want), shape(&have)),
        _ if want["status"] == "error" && !v3 => {
            (want["errorType"].clone(), have["errorType"].clone())
        }
        _ => (normal(&want, v3), normal(&have, v3)),
    };
    (want != have).then(|| format!("\n  expected {want}\n  got      {have}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_and_parameter_answers_as_prometheus_does() {
    for flavour in flavours() {
        let dir = tempfile::tempdir().expect("a directory");
        // Without external labels the fleet's series are those of the Prometheus itself.
        let shop = Shop::start(&flavour, "shop", &[], dir.path()).await;
        let query = query(&[&shop], &[], dir.path()).await;
        let (mut compared, mut different) = (0, Vec::new());
        for (since, like, line) in TABLE {
            if *since == Since::V3 && !flavour.v3 {
                continue;
            }
            let line = line
                .replace("{T}", &shop.settled.to_string())
                .replace("{S}", &(shop.settled - 4).to_string())
                .replace("{F}", &(shop.settled - 600).to_string());
            let (expected, got) =
                tokio::join!(ask(&shop.prometheus.url, &line), ask(&query.url, &line));
            compared += 1;
            if let Some(why) = difference(*like, flavour.v3, &expected, &got) {
                different.push(format!("{line}: {why}"));
            }
        }
        eprintln!("{}: {compared} lines compared", flavour.name);
        let n = different.len();
        assert!(n == 0, "{}: {n} of {compared} differ:\n{}", flavour.name, different.join("\n"));
    }
}
