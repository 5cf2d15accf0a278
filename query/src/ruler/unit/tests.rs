use super::test_file;

#[test]
fn holds_and_differs_as_promtool_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    write(
        "rules.yml",
        r#"
groups:
- name: g
  rules:
  - record: job:up:sum
    expr: sum by (job) (up)
  - alert: Down
    expr: up == 0
    for: 2m
    labels: {severity: page}
    annotations: {summary: "{{ $labels.instance }} is {{ $value }} {{ with query \"job:up:sum\" }}{{ . | first | value }}{{ end }}"}
"#,
    );
    let test = |annotation: &str| {
        format!(
            r#"
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - series: up{{job="a", instance="x:1"}}
    values: 1 0x5
  alert_rule_test:
  - eval_time: 2m
    alertname: Down
  - eval_time: 3m
    alertname: Down
    exp_alerts:
    - exp_labels: {{severity: page, job: a, instance: "x:1"}}
      exp_annotations: {{summary: "{annotation}"}}
  promql_expr_test:
  - expr: job:up:sum
    eval_time: 4m
    exp_samples: [{{labels: 'job:up:sum{{job="a"}}', value: 0}}]
  - expr: count(ALERTS) by (alertstate)
    eval_time: 4m
    exp_samples: [{{labels: '{{alertstate="firing"}}', value: 1}}]
"#
        )
    };
    let good = test_file(&write("good.yml", &test("x:1 is 0 0")), &[]).expect("a file");
    assert_eq!((good.tests, good.failures.as_slice()), (1, [].as_slice()));
    let bad = test_file(&write("bad.yml", &test("else")), &[]).expect("a file");
    assert_eq!(bad.failures.len(), 1);
    assert!(bad.failures[0].contains("alertname: Down, time: 3m"), "{}", bad.failures[0]);
}
