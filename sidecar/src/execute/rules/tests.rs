use periplus_model::Labels;
use periplus_promql::parse::parse;

use super::*;

fn external() -> External {
    let all = Labels::from_pairs([("cluster", "a"), ("region", "eu"), ("replica", "0")]);
    External::dropping_external(&all, &["replica".to_owned()])
}

fn rewrite(query: &str) -> Result<(String, Vec<String>), Refusal> {
    let external = external();
    let rules = Rules { external: &external, own_grid: true, subquery_step_ms: 15_000 };
    let (expr, carried) = rules.rewrite(&parse(query).unwrap())?;
    Ok((expr.to_string(), carried.into_iter().collect()))
}

#[track_caller]
fn check(query: &str, expected: &str, carried: &[&str]) {
    let (text, labels) = rewrite(query).unwrap_or_else(|r| panic!("{query}: {r}"));
    assert_eq!(text, expected, "of {query}");
    assert_eq!(labels, carried, "of {query}");
}

#[track_caller]
fn refused(query: &str, reason: &str) {
    assert_eq!(rewrite(query).unwrap_err(), reason, "of {query}");
}

#[test]
fn functions_are_in_order() {
    assert!(FUNCTIONS.is_sorted());
    for f in FUNCTIONS {
        let known = periplus_promql::parse::functions::lookup(f);
        assert!(known.is_some_and(|k| !k.experimental), "{f}");
    }
}

#[test]
fn selectors() {
    let all = ["cluster", "region"];
    check(r#"up{cluster="a",job="x"}"#, r#"up{job="x"}"#, &all);
    check(r#"up{cluster=~"a|b",region!="us"}"#, "up", &all);
    check(r#"rate(up{cluster="a"}[5m] offset 1m)"#, "rate(up[5m] offset 1m)", &all);
    check(r#"up{replica="0"}"#, "up", &all);
    refused(r#"up{replica=""}"#, "nothing-matches");
    refused(r#"up{cluster="b"}"#, "nothing-matches");
    refused(r#"{cluster="a"}"#, "only-external-matchers");
    refused(r#"{cluster="a",job=~".*"}"#, "only-external-matchers");
}

#[test]
fn aggregations() {
    check("sum by (cluster, pod) (x)", "sum by (pod) (x)", &["cluster"]);
    check("sum by (cluster, replica) (x)", "sum(x)", &["cluster"]);
    check("sum(x)", "sum(x)", &[]);
    check("sum without (cluster) (x)", "sum without () (x)", &["region"]);
    check("sum without (cluster, pod) (x)", "sum without (pod) (x)", &["region"]);
    check("max by (cluster) (sum by (pod) (x))", "max(sum by (pod) (x))", &[]);
    check("quantile by (cluster) (0.9, x)", "quantile(0.9, x)", &["cluster"]);
    check(r#"count_values by (region) ("v", x)"#, r#"count_values("v", x)"#, &["region"]);
    refused(r#"count_values("cluster", x)"#, "count-values-label");
    refused("sum(topk(3, x))", "inner-topk");
    refused("limitk(3, x)", "limitk");
}

#[test]
fn functions() {
    let all = ["cluster", "region"];
    check("abs(x)", "abs(x)", &all);
    check(
        "histogram_quantile(0.9, sum by (le, cluster) (rate(x[5m])))",
        "histogram_quantile(0.9, sum by (le) (rate(x[5m])))",
        &["cluster"],
    );
    check("vector(scalar(x))", "vector(scalar(x))", &[]);
    check("time()", "time()", &[]);
    check("clamp(x, 0, scalar(y))", "clamp(x, 0, scalar(y))", &all);
    check("quantile_over_time(0.5, x[5m])", "quantile_over_time(0.5, x[5m])", &all);
    check("hour()", "hour()", &[]);
    check(
        r#"label_replace(x, "a", "$1", "b", "(.*)")"#,
        r#"label_replace(x, "a", "$1", "b", "(.*)")"#,
        &all,
    );
    refused(r#"label_replace(x, "cluster", "$1", "b", "(.*)")"#, "label-function-on-external");
    refused(r#"label_replace(x, "a", "$1", "cluster", "(.*)")"#, "label-function-on-external");
    refused(r#"label_replace(x, "a", "$1", "replica", "(.*)")"#, "label-function-on-external");
    refused(r#"label_join(x, "a", "-", "b", "region")"#, "label-function-on-external");
    for query in [
        "absent(x)",
        "absent_over_time(x[5m])",
        "sort(x)",
        "sort_desc(x)",
        "info(x)",
        r#"sort_by_label(x, "a")"#,
        "mad_over_time(x[5m])",
        "start_timestamp(x)",
    ] {
        refused(query, "function");
    }
}

#[test]
fn binary_operations() {
    let all = ["cluster", "region"];
    check("x + 1", "x + 1", &all);
    check("1 > bool 2", "1 > bool 2", &[]);
    check("x + y", "x + y", &all);
    check("x / on (cluster, pod) y", "x / on (pod) y", &["cluster"]);
    check("x / ignoring (cluster) y", "x / y", &["region"]);
    check("x / on (pod) group_left (cluster) y", "x / on (pod) group_left () y", &all);
    check(
        "sum by (pod) (x) * on (pod) group_left (region) y",
        "sum by (pod) (x) * on (pod) group_left () y",
        &["region"],
    );
    check("x and on (cluster) y", "x and on () y", &all);
    check("x or y", "x or y", &all);
    refused("x / sum by (cluster) (y)", "one-sided-match");
    refused("x / on (cluster) sum(y)", "one-sided-match");
    refused("sum(x) or y", "one-sided-match");
    refused("x or on (pod) sum by (pod) (y)", "one-sided-or");
}

#[test]
fn times() {
    let all = ["cluster", "region"];
    check("x @ start()", "x @ start()", &all);
    check("max_over_time(x[10m:1m])", "max_over_time(x[10m:1m])", &all);
    refused("max_over_time(x[10m:])", "subquery-step");
    refused("rate(x[5m] smoothed)", "extended-range-selector");
    refused("rate(x[5m + 1m])", "duration-expression");
    let external = external();
    let rules = Rules { external: &external, own_grid: false, subquery_step_ms: 60_000 };
    assert_eq!(rules.rewrite(&parse("x @ end()").unwrap()).unwrap_err(), "start-or-end");
    assert!(rules.rewrite(&parse("max_over_time(x[10m:])").unwrap()).is_ok());
}
