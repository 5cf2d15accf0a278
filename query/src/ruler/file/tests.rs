use std::path::Path;

use super::{FileDefaults, parse};
use crate::ruler::rule::Strategy;

const GOOD: &str = r#"
groups:
- name: a
  interval: 30s
  query_offset: 1m
  limit: 5
  partial_response_strategy: warn
  labels: {team: infra, n: 1.10, yes: true}
  rules:
  - record: job:up:sum
    expr: sum by (job) (up)
  - alert: Down
    expr: |
      up == 0
    for: 5m
    keep_firing_for: 1h
    labels:
      severity: page
      team: "{{ $labels.job }}"
    annotations:
      summary: "{{ $labels.instance }} is down"
- name: b
  rules: []
"#;

fn errors(text: &str) -> Vec<String> {
    let all = parse(Path::new("r.yml"), text, FileDefaults::default());
    all.expect_err("a bad file").iter().map(ToString::to_string).collect()
}

#[test]
fn every_field_is_read() {
    let groups = parse(Path::new("r.yml"), GOOD, FileDefaults::default()).expect("a good file");
    let [a, b] = groups.as_slice() else { panic!("{groups:?}") };
    assert_eq!((a.interval_ms, a.query_offset_ms, a.limit), (30_000, Some(60_000), 5));
    assert_eq!((a.strategy, b.interval_ms), (Some(Strategy::Warn), 60_000));
    let [up, down] = a.rules.as_slice() else { panic!() };
    assert_eq!((&*up.query, up.labels.value("n")), ("sum by (job) (up)", "1.10"));
    assert_eq!((down.labels.value("team"), up.labels.value("yes")), ("{{ $labels.job }}", "true"));
    let alerting = down.alerting.as_ref().expect("an alert");
    assert_eq!((alerting.for_ms, alerting.keep_firing_for_ms), (300_000, 3_600_000));
}

#[test]
fn nothing_is_a_file_too() {
    for text in ["", "# only a comment\n", "groups:\n", "groups: []\n"] {
        let groups = parse(Path::new("r.yml"), text, FileDefaults::default()).expect(text);
        assert!(groups.is_empty());
    }
    let two = "groups:\n- name: a\n  rules: []\n---\ngroups: nonsense\n";
    assert_eq!(parse(Path::new("r.yml"), two, FileDefaults::default()).map(|g| g.len()), Ok(1));
}

#[test]
fn everything_wrong_is_told_with_its_place() {
    let text = "groups:\n- name: a\n  interval: 5\n  rules:\n  - record: x{}\n    expr: sum(\n    for: 1m\n  - alert: A\n    expr: up\n    labels: {__name__: x}\n    annotations: {s: '{{ $x }}'}\n  - expr: up\n- name: a\n";
    let all = errors(text);
    let has = |what: &str| assert!(all.iter().any(|e| e.contains(what)), "{what}: {all:#?}");
    has("r.yml:3");
    has("field interval");
    has("could not parse expression");
    has("braces present");
    has("invalid field \"for\"");
    has("invalid label name: \"__name__\"");
    has("undefined variable \"$x\"");
    has("neither record nor alert");
    has("is used twice");
    assert!(errors("groups:\n- name: a\n  foo: 1\n")[0].contains("r.yml:3"));
    assert!(errors("groups: [\n")[0].contains("r.yml"));
    assert!(
        errors(
            "groups:\n- name: a\n  rules:\n  - alert: A\n    expr: up\n    for: 1m\n    for: 2m\n"
        )[0]
        .contains("r.yml:7")
    );
}
