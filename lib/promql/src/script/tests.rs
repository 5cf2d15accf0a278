//! The language of scripts.

use periplus_model::Labels;

use super::eval::{Eval, Expectation, Expected, TextMatch};
use super::items::Item;
use super::syntax::Command;
use super::*;
use crate::value::StepGrid;

fn commands(text: &str) -> Vec<(usize, Command)> {
    parse(text).unwrap().commands
}

fn eval(text: &str) -> Eval {
    match commands(text).into_iter().next() {
        Some((_, Command::Eval(eval))) => *eval,
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocks_end_at_empty_lines() {
    let text = "# a comment\nCLEAR\nload 1m\n  a 1 2\n# ends the block\nload 5s\n  b{x=\"1\"} _x2 3\n\n\
                eval instant at 1m a\n  a 2\n  b 3\n\nclear";
    let got = commands(text);
    let lines: Vec<usize> = got.iter().map(|(l, _)| *l).collect();
    assert_eq!(lines, [2, 3, 6, 9, 13]);
    let Command::Load(load) = &got[2].1 else { panic!("{got:?}") };
    let samples = &load.series[&Labels::from_pairs([("__name__", "b"), ("x", "1")])];
    assert_eq!(samples.len(), 1);
    assert_eq!((samples[0].t, samples[0].value), (10_000, 3.0));
    assert_eq!(parse(text).unwrap().evals(), 1);
}

#[test]
fn start_timestamps_belong_to_the_next_line() {
    let got = commands("load 1m\n  a{x=\"1\"}@st _ -10s 1ms\n  a{x=\"1\"} 1 2 3\n");
    let Command::Load(load) = &got[0].1 else { panic!("{got:?}") };
    let starts: Vec<i64> = load.series.values().flatten().map(|s| s.start).collect();
    assert_eq!(starts, [0, 50_000, 120_001]);
    for bad in ["a@st 1s\n  b 1", "a@st 1s", "a@st 1s\n  a@st 1s", "a@st 1s 1s\n a 1"] {
        assert!(parse(&format!("load 1m\n  {bad}\n")).is_err(), "{bad}");
    }
}

#[test]
fn classic_histograms_become_native_ones() {
    let got = commands(
        "load_with_nhcb 1m\n  h_bucket{le=\"1\",a=\"b\"} 1 2\n  h_bucket{le=\"+Inf\",a=\"b\"} 3 4\n  \
         h_sum{a=\"b\"} 5 6\n  h_count{a=\"b\"} 3 4\n",
    );
    let Command::Load(load) = &got[0].1 else { panic!("{got:?}") };
    assert_eq!(load.series.len(), 5);
    let native = &load.series[&Labels::from_pairs([("__name__", "h"), ("a", "b")])];
    let texts: Vec<String> = native
        .iter()
        .filter_map(|s| s.histogram.as_ref())
        .map(|h| h.to_test_expression())
        .collect();
    assert_eq!(
        texts,
        [
            "{{schema:-53 count:3 sum:5 custom_values:[1] buckets:[1 2]}}",
            "{{schema:-53 count:4 sum:6 custom_values:[1] buckets:[2 2]}}",
        ]
    );
}

#[test]
fn evals() {
    let e = eval("eval range from 1m to 5m30s step 10s sum by (a) (x)\n  {a=\"b\"} 1 _ 2\n");
    assert_eq!(e.query, "sum by (a) (x)");
    assert_eq!(e.grid, StepGrid { start_ms: 60_000, end_ms: 330_000, step_ms: 10_000 });
    assert!(!e.instant);
    let Expected::Series(list) = &e.expected else { panic!("{e:?}") };
    assert_eq!(list[0].items, [Item::Float(1.0), Item::Missing, Item::Float(2.0)]);

    let e = eval("eval instant at 5m x\n  expect ordered\n  b 1\n  a 2\n  b 3\n");
    let Expected::Series(list) = &e.expected else { panic!("{e:?}") };
    let places: Vec<usize> = list.iter().map(|s| s.position).collect();
    assert!(e.ordered);
    assert_eq!(places, [2, 3]);

    let scalar = |text: &str| match eval(&format!("eval instant at 0 x\n  {text}\n")).expected {
        Expected::Scalar(v) => v,
        other => panic!("{other:?}"),
    };
    assert_eq!(scalar("0x1F"), 31.0);
    assert_eq!(scalar("-Inf"), f64::NEG_INFINITY);
    assert_eq!(scalar("1e3"), 1000.0);
    let two = "eval instant at 0 1\n  1\neval instant at 0 2\n  2\n";
    assert_eq!(parse(two).unwrap().evals(), 2, "a scalar ends the block");
}

#[test]
fn expectations() {
    let e = eval("eval instant at 0 x\n  expect fail msg: it: breaks\n");
    assert!(matches!(e.fail, Some(TextMatch::Exactly(m)) if m == "it: breaks"));
    let e = eval("eval_fail instant at 0 x\n  expected_fail_regexp a.c\n");
    assert!(matches!(&e.fail, Some(m) if m.matches("xabcx") && !m.matches("ac")));
    let e = eval("eval instant at 0 x\n  expect warn\n  expect warn regex: b$\n  expect no_info\n");
    assert!(matches!(&e.warnings, Expectation::These(list) if list.len() == 2));
    assert!(matches!(e.infos, Expectation::Nothing));
    let e = eval("eval_warn instant at 0 x\n");
    assert!(matches!(e.warnings, Expectation::Something));
    let e = eval("eval instant at 0 x\n  expect range vector from 1m to 3m step 1m\n  a 1 2 3\n");
    let grid = StepGrid { start_ms: 60_000, end_ms: 180_000, step_ms: 60_000 };
    assert_eq!(e.range_vector, Some(grid));
}

#[test]
fn what_can_t_be_read_is_told_with_its_line() {
    let cases = [
        ("\nfoo", 2),
        ("load", 1),
        ("load 1m\n  a 1\n  b x\n", 3),
        ("load_more 1m\n", 1),
        ("eval instant x\n", 1),
        ("eval instant at 5m\n", 1),
        ("eval at 5m x\n", 1),
        ("eval_foo instant at 5m x\n", 1),
        ("eval range from 5m to 1m step 1m x\n", 1),
        ("eval instant at 5m x\n  expect something\n", 2),
        ("eval instant at 5m x\n  expect warn\n  expect no_warn\n", 3),
        ("eval instant at 5m x\n  expect fail regex: (\n", 2),
        ("eval instant at 5m x\n  a 1 2\n", 2),
        ("eval instant at 5m x\n  expect string x\n", 2),
    ];
    for (text, line) in cases {
        match parse(text) {
            Err(e) => assert_eq!(e.line, line, "{text}: {e}"),
            Ok(_) => panic!("{text}"),
        }
    }
}

mod properties {
    use proptest::prelude::*;

    proptest! {
        /// Whatever is written, reading it ends with a script or an error.
        #[test]
        fn any_text_is_read(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("load 1m".to_owned()),
                    Just("load_with_nhcb 10s".to_owned()),
                    Just(String::new()),
                    "eval (instant at|range from) [0-9msx ]{0,9}(to|step)?.{0,20}",
                    "  [a-z]{1,3}(\\{[a-z=\"0-9,]{0,9}\\})?(@st)? [-+_x0-9a-z.{}: ]{0,24}",
                    "  expect [a-z_]{0,8}( msg:| regex:)?.{0,12}",
                    ".{0,30}",
                ],
                0..12,
            ),
        ) {
            let _ = super::super::parse(&lines.join("\n"));
        }
    }
}
