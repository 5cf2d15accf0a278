//! Every line of the shared golden file holds: what Prometheus's own parser said of 2,367 queries.

use std::collections::BTreeMap;

use periplus_promql::parse::golden;
use serde_json::Value;

const GOLDEN: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/promql-parse/golden.jsonl");

#[test]
fn every_golden_line_holds() {
    let Ok(text) = std::fs::read_to_string(GOLDEN) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{GOLDEN} is missing");
        eprintln!("skipped: {GOLDEN} is not there");
        return;
    };
    let (mut differing, mut lines) = (Vec::new(), 0);
    for line in text.lines() {
        lines += 1;
        let want: BTreeMap<String, Value> = serde_json::from_str(line).unwrap();
        let query = want["query"].as_str().unwrap();
        let json = golden::answer(query).to_json();
        let got: BTreeMap<String, Value> = serde_json::from_str(&json).unwrap();
        let keys = ["query", "ok", "str", "pretty", "sexp", "pos", "err"];
        for key in keys.into_iter().filter(|key| want.get(*key) != got.get(*key)) {
            let show = |m: &BTreeMap<String, Value>| m.get(key).map(Value::to_string);
            differing.push(format!("{query:?} {key}\n  {:?}\n  {:?}", show(&want), show(&got)));
        }
    }
    assert!(lines > 2000, "{GOLDEN} holds only {lines} lines");
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
}
