use std::time::{Duration, Instant};

use periplus_model::Labels;

use super::super::{Sample, SampleValue};
use super::{Data, OUTPUT_BYTES_MAX, Template};

fn expand(text: &str) -> Result<String, String> {
    let labels = Labels::from_pairs([("instance", "db-1.example.org:9100"), ("job", "node")]);
    let external = Labels::from_pairs([("cluster", "eu")]);
    let query = |q: &str| -> Result<Vec<Sample>, String> {
        let sample = |v: f64, host: &str| Sample {
            labels: Labels::from_pairs([("__name__", "up"), ("host", host)]),
            value: SampleValue::Float(v),
        };
        match q {
            "up" => Ok(vec![sample(1.0, "b"), sample(2.0, "a")]),
            "none" => Ok(Vec::new()),
            _ => Err("no such query".to_owned()),
        }
    };
    let data = Data {
        labels: &labels,
        external_labels: &external,
        external_url: "http://alerts.example.org/rules",
        value: SampleValue::Float(1234.5678),
        now_ms: 1_424_687_400_123,
        query: &query,
        deadline: Instant::now() + Duration::from_secs(60),
        output_bytes_max: OUTPUT_BYTES_MAX,
    };
    Template::parse("A", text)?.expand(&data)
}

#[track_caller]
fn check(text: &str, want: &str) {
    assert_eq!(expand(text).as_deref(), Ok(want), "{text}");
}

#[test]
fn what_users_write() {
    check("plain", "plain");
    check(
        "{{ $labels.instance }} {{ $value }} {{ .Value }}",
        "db-1.example.org:9100 1234.5678 1234.5678",
    );
    check(
        "{{ $labels.nothing }}|{{ $externalLabels.cluster }}|{{ .ExternalURL }}",
        "|eu|http://alerts.example.org/rules",
    );
    check("{{ humanize $value }} {{ $value | humanize1024 }}", "1.235k 1.206ki");
    check(
        "{{ $value | printf \"%.2f\" }} {{ printf \"%5d|%-5s|%q\" 42 \"a\" \"b\" }}",
        "1234.57    42|a    |\"b\"",
    );
    check(
        "{{ humanizeDuration 93784 }} {{ humanizeDuration 0.0123 }} {{ humanizePercentage 0.1234567 }}",
        "1d 2h 3m 4s 12.3ms 12.35%",
    );
    check("{{ humanizeTimestamp 1424687400.5 }}", "2015-02-23 10:30:00.5 +0000 UTC");
    check(
        "{{ (toTime 1424687400).Format \"Jan 2, 2006 at 3:04pm (MST)\" }} {{ (toTime 0).Year }}",
        "Feb 23, 2015 at 10:30am (UTC) 1970",
    );
    check(
        "{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}",
        "db-1.example.org db-1:9100",
    );
    check("{{ if gt $value 1000.0 }}big{{ else }}small{{ end }}", "big");
    check(
        "{{- range $i, $s := query \"up\" }}{{ if $i }}, {{ end }}{{ $s.Labels.host }}={{ $s.Value }}{{ end -}}  ",
        "b=1, a=2",
    );
    check("{{ range query \"up\" | sortByLabel \"host\" }}{{ .Labels.host }}{{ end }}", "ab");
    check("{{ query \"up\" | first | value }}{{ query \"up\" | first | label \"host\" }}", "1b");
    check("{{ with query \"none\" }}x{{ else }}y{{ end }}", "y");
    check(
        "{{ define \"t\" }}<{{ .arg0 }}{{ .arg1 }}>{{ end }}{{ template \"t\" (args 1 \"b\") }}",
        "<1b>",
    );
    check(
        "{{ reReplaceAll \"(\\\\w+)-(\\\\d)\" \"$2-${1}\" $labels.instance }}",
        "1-db.example.org:9100",
    );
    check(
        "{{ match \"^db\" $labels.instance }} {{ title \"foo bar\" }} {{ toUpper \"a\" }}",
        "true Foo Bar A",
    );
    check(
        "{{ parseDuration \"1h30m\" }} {{ now }} {{ pathPrefix }}",
        "5400 1.424687400123e+09 /rules",
    );
    check("{{ tableLink \"up == 0\" }}", "/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
    check(
        "{{ $x := 1 }}{{ range $s := query \"up\" }}{{ $x = $s.Value }}{{ break }}{{ end }}{{ $x }}",
        "1",
    );
    check(
        "{{/* nothing */}}{{ eq 1 1 2 }} {{ and 1 0 }} {{ or 0 \"\" \"x\" }} {{ not true }} {{ len \"abc\" }}",
        "true 0 x false 3",
    );
}

#[test]
fn errors_are_those_of_go() {
    let cases = [
        (
            "{{ query \"none\" | first }}",
            "error calling first: first() called on vector with no elements",
        ),
        ("{{ .Nothing }}", "can't evaluate field Nothing in type"),
        ("{{ toUpper 1 }}", "expected string; found 1"),
        ("{{ $value | toUpper }}", "wrong type for value; expected string; got float64"),
        ("{{ humanize \"x\" }}", "strconv.ParseFloat: parsing \"x\": invalid syntax"),
        ("{{ lt 1 1.0 }}", "incompatible types for comparison: int and float64"),
        ("{{ nope }}", "function \"nope\" not defined"),
        ("{{ if }}x{{ end }}", "missing value for if"),
        ("{{ $x }}", "undefined variable \"$x\""),
        ("{{", "unclosed action"),
        ("{{ (1 }}", "unclosed left paren"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ if 1 }}", "unexpected EOF"),
        ("{{ template \"x\" }}", "template \"x\" not defined"),
    ];
    for (text, says) in cases {
        let error = expand(text).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn bounds_hold() {
    let endless = "{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}";
    assert!(expand(endless).unwrap_err().contains("depth"));
    let long = "{{ range 100000 }}0123456789{{ end }}";
    assert!(expand(long).unwrap_err().contains("longer than"));
    let slow = "{{ range 10000000 }}{{ end }}";
    assert!(expand(slow).unwrap_err().contains("steps"));
    assert!(expand(&"{{ if 1 }}".repeat(10_000)).is_err());
    assert!(expand(&format!("{{{{ {} }}}}", "(".repeat(10_000))).is_err());
    assert!(Template::parse("A", &"x".repeat(100_000)).is_err());
    assert!(expand("{{ printf \"%999999999d\" 1 }}").is_err());
    for n in 0..60 {
        let text = "{{ $a := (query \"up\" | first).Labels.x }}{{- `raw` -}}{{ 'c' }}{{/* c */}}";
        let _ = expand(&text[..n.min(text.len())]);
    }
}
