//! What holds for whole families of queries: printing and parsing undo each other, and where the
//! crate promql-parser accepts a query too, it sees the same tree.

#[path = "parse_second_opinion/trees.rs"]
mod parse_second_opinion;

use std::sync::LazyLock;

use periplus_promql::parse::arbitrary::{Generator, Vocabulary};
use periplus_promql::parse::ast::{Expr, ValueType};
use periplus_promql::parse::{parse, pretty};
use proptest::prelude::*;
use regex::{Captures, Regex};

/// The tree without positions, matchers in a settled order: what printing must preserve.
fn shape(expr: &Expr) -> String {
    static SPAN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"Span \{ start: \d+, end: \d+ \}").expect("valid"));
    static MATCHERS: LazyLock<Regex> = LazyLock::new(|| {
        let one = r"LabelMatcher \{[^{}]*\}";
        Regex::new(&format!(r"matchers: \[({one}(?:, {one})*)\]")).expect("valid")
    });
    let debug = format!("{expr:?}");
    let debug = SPAN.replace_all(&debug, "_");
    let sorted = MATCHERS.replace_all(&debug, |found: &Captures<'_>| {
        let mut matchers: Vec<&str> = found[1].split("LabelMatcher ").collect();
        matchers.iter_mut().for_each(|m| *m = m.trim_end_matches(", "));
        matchers.sort_unstable();
        matchers.join(" ")
    });
    sorted.into_owned()
}

fn types() -> impl Strategy<Value = ValueType> {
    prop_oneof![Just(ValueType::Vector), Just(ValueType::Scalar), Just(ValueType::Matrix)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_queries_are_accepted_and_survive_printing(
        seed in any::<u64>(), want in types(), size in 1usize..40,
    ) {
        let words = Vocabulary::default();
        let query = Generator::new(&words, seed).query(want, size);
        let tree = match parse(&query) {
            Ok(tree) => tree,
            Err(e) => return Err(TestCaseError::fail(format!("{query}\n{e}"))),
        };
        prop_assert_eq!(tree.value_type(), want, "{}", query);
        let (start, end) = (tree.span().start as usize, tree.span().end as usize);
        prop_assert!(start < end && end <= query.len());
        for printed in [tree.to_string(), pretty(&tree)] {
            let again = parse(&printed).unwrap_or_else(|e| panic!("{query}\n{printed}\n{e}"));
            prop_assert_eq!(shape(&again), shape(&tree), "{}\n{}", query, printed);
            prop_assert_eq!(again.to_string(), tree.to_string());
            prop_assert_eq!(pretty(&again), pretty(&tree));
        }
    }

    #[test]
    fn the_second_opinion_agrees(seed in any::<u64>(), want in types(), size in 1usize..30) {
        let words = Vocabulary { disguise: seed % 2 == 0, ..Vocabulary::default() };
        let query = Generator::new(&words, seed).query(want, size);
        if let Err(difference) = parse_second_opinion::compare(&query) {
            return Err(TestCaseError::fail(difference));
        }
    }

    /// Text that only looks like PromQL: no panic, and what is accepted prints and parses.
    #[test]
    fn scrambled_queries_do_no_harm(
        seed in any::<u64>(), size in 1usize..20, cut in any::<prop::sample::Index>(),
        insert in r#"[-+*/^%(){}\[\],:@"'`\\#=!<>~ \n0-9a-z_.é]{0,4}"#,
    ) {
        let words = Vocabulary::default();
        let mut query = Generator::new(&words, seed).query(ValueType::Vector, size);
        let bounds: Vec<usize> = query.char_indices().map(|(i, _)| i).collect();
        let at = bounds[cut.index(bounds.len())];
        query.insert_str(at, &insert);
        match parse(&query) {
            Ok(tree) => {
                let printed = tree.to_string();
                prop_assert!(parse(&printed).is_ok(), "{}\n{}", query, printed);
            }
            Err(e) => prop_assert!(e.to_string().contains("parse error: ")),
        }
    }
}

#[test]
fn the_second_opinion_agrees_on_the_golden_queries() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/promql-parse/golden.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{path} is missing");
        eprintln!("skipped: {path} is not there");
        return;
    };
    let mut compared = 0;
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let query = line["query"].as_str().unwrap();
        // It takes time quadratic in the length of a chain.
        if query.len() < 2000 && line["ok"] == true {
            compared += usize::from(parse_second_opinion::compare(query).unwrap());
        }
    }
    assert!(compared > 1500, "only {compared} queries were accepted by both");
}
