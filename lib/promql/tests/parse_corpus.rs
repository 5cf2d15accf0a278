//! Queries of our own, one for every production of the grammar and every error: a clone without
//! the shared data proves itself on them.
//!
//! `parse_corpus/corpus.jsonl` holds lines as `parse::golden` writes them; text, pretty text,
//! positions and errors were compared with Prometheus 3.14.

use periplus_promql::parse::golden;
use periplus_promql::parse::{parse, parse_metric, parse_metric_selector};

const CORPUS: &str = include_str!("parse_corpus/corpus.jsonl");

#[test]
fn every_line_holds() {
    let mut differing = Vec::new();
    for line in CORPUS.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let got = golden::answer(value["query"].as_str().unwrap()).to_json();
        if got != line {
            differing.push(format!("{line}\n{got}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
}

/// What is printed is a query of the same tree, and printing it again changes nothing.
#[test]
fn printing_and_parsing_undo_each_other() {
    for line in CORPUS.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let Ok(accepted) = golden::answer(value["query"].as_str().unwrap()).outcome else {
            continue;
        };
        // As Prometheus prints these, the exponent belongs to another base when they are read again.
        if accepted.str.contains("+Inf ^") || accepted.str == "a offset -5m ^ 2" {
            continue;
        }
        for printed in [&accepted.str, &accepted.pretty] {
            let again = golden::answer(printed).outcome.unwrap();
            assert_eq!((&again.str, &again.pretty), (&accepted.str, &accepted.pretty));
            assert_eq!(again.sexp, accepted.sexp, "{printed}");
        }
    }
}

#[test]
fn errors_say_where() {
    let error = parse("sum(a)\n  + on (x) b(").unwrap_err();
    assert_eq!(error.line_column, Some((2, 14)));
    assert_eq!(error.span.start, 20);
    assert_eq!(error.to_string(), "2:14: parse error: unclosed left parenthesis");
    assert_eq!(parse("").unwrap_err().line_column, None);
}

#[test]
fn very_many_arguments() {
    let call =
        |args: String| parse(&format!("label_join(x, 'd', '-'{args})")).map(|e| e.to_string());
    let strings = ", 's'".repeat(100);
    assert_eq!(call(strings.clone()).unwrap().matches("\"s\"").count(), 100);
    let error = call(format!("{strings}, ('s'), 1{strings}, x")).unwrap_err();
    assert_eq!(
        error.message,
        "expected type string in call to function \"label_join\", got scalar"
    );
    let error = parse(&format!("abs(x{})", ", x".repeat(99))).unwrap_err();
    assert_eq!(error.message, "expected 1 argument(s) in call to \"abs\", got 100");
}

#[test]
fn series() {
    let labels = |text: &str| format!("{:?}", parse_metric(text).unwrap());
    assert_eq!(labels("up"), r#"{__name__="up"}"#);
    assert_eq!(labels(r#"up{b="2", a='1',}"#), r#"{__name__="up", a="1", b="2"}"#);
    assert_eq!(
        labels(r#"{"odd.name", "odd label"="x"}"#),
        r#"{__name__="odd.name", odd label="x"}"#
    );
    assert_eq!(labels("{}"), "{}");
    assert_eq!(labels(r#"sum{by=""}"#), r#"{__name__="sum"}"#);
    for (text, says) in [
        (
            r#"up{a="1" b="2"}"#,
            r#"1:10: parse error: unexpected identifier "b" in label set, expected "," or "}""#,
        ),
        (
            r#"up{a=b}"#,
            r#"1:6: parse error: unexpected identifier "b" in label set, expected string"#,
        ),
        (r#"up{a!="b"}"#, r#"1:5: parse error: unexpected <op:!=> in label set, expected "=""#),
        (
            r#"up{,}"#,
            r#"1:4: parse error: unexpected "," in label set, expected identifier or "}""#,
        ),
        (r#"up{} x"#, r#"1:6: parse error: unexpected identifier "x""#),
    ] {
        assert_eq!(parse_metric(text).unwrap_err().to_string(), says);
    }
}

#[test]
fn selectors() {
    let printed = |text: &str| {
        let matchers = parse_metric_selector(text).unwrap();
        matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(printed(r#"up{b!="2",a=~"1|2"}"#), r#"b!="2" a=~"1|2" __name__="up""#);
    // What matches everything is for the caller to refuse, as in Prometheus.
    assert_eq!(printed("{}"), "");
    assert_eq!(printed(r#"{x=~".*"}"#), r#"x=~".*""#);
    for (text, says) in [
        ("up[5m]", r#"1:3: parse error: unexpected "[""#),
        ("up offset 5m", "1:4: parse error: unexpected <offset>"),
        ("1", r#"1:1: parse error: unexpected number "1""#),
        ("", "unknown position: parse error: unexpected end of input"),
    ] {
        assert_eq!(parse_metric_selector(text).unwrap_err().to_string(), says);
    }
}
