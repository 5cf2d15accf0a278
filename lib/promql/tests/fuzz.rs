//! The fuzz targets' checks on a stable compiler, for a bounded time: generated queries, the golden
//! queries and test scripts, each with a few bytes changed as a fuzzer would change them.
//!
//! `FUZZ_SECONDS=600 FUZZ_SEED=7 cargo test -p periplus-promql --test fuzz` looks for longer.

#![expect(clippy::print_stderr, reason = "a test says what it finds")]

#[path = "../fuzz/checks.rs"]
mod checks;

use std::path::Path;
use std::time::{Duration, Instant};

use periplus_promql::parse::arbitrary::{Generator, Vocabulary};
use periplus_promql::parse::ast::ValueType;

/// What gets into queries and scripts when bytes are changed.
const TOKENS: &[&str] = &[
    "(",
    ")",
    "[5m]",
    "[1m:]",
    "{",
    "}",
    "\"",
    "'",
    "\\",
    "@ end()",
    " offset -1h",
    "by (le)",
    " or ",
    " / ",
    "^",
    "-",
    "1e308",
    "NaN",
    "Inf",
    "0x",
    "5m",
    "1w",
    ",",
    "sum(",
    "rate(",
    "#",
    "\n",
    "é",
    "\0",
    "=~\"(a*)*\"",
    "bool",
    "on()",
    "group_left",
    "smoothed",
    "fill(0)",
    "step()",
    "{{schema:0}}",
    "x1000",
    "load 5m",
    "eval instant at 1m",
    "expect ordered",
    "_",
    "stale",
];

/// Chooses by a seed, with the generator's own numbers.
struct Mutator<'v>(Generator<'v>);

impl Mutator<'_> {
    /// Changes a text in a few places.
    fn change(&mut self, text: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..1 + self.0.below(4) {
            let at = self.0.below(text.len() + 1);
            let end = (at + self.0.below(12)).min(text.len());
            match self.0.below(6) {
                0 => text.drain(at..end).for_each(drop),
                1 => {
                    if let Some(b) = text.get_mut(at) {
                        *b ^= 1 << self.0.below(8);
                    }
                }
                2 | 3 => {
                    let token = TOKENS[self.0.below(TOKENS.len())];
                    text.splice(at..at, token.bytes());
                }
                4 => {
                    let again = text[at..end].to_vec();
                    text.splice(at..at, again);
                }
                _ => {
                    let from = self.0.below(other.len() + 1);
                    let to = (from + self.0.below(40)).min(other.len());
                    text.splice(at..end, other[from..to].iter().copied());
                }
            }
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

/// The most memory this process ever had, in bytes; 0 where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// Checks texts of the corpus and generated ones, as they are and changed, until the time is over; at
/// least `least` of them however slow the machine.
fn run(corpus: &[Vec<u8>], least: usize, generate: bool, check: fn(&[u8])) {
    let seconds = number("FUZZ_SECONDS", 4);
    let words = Vocabulary::default();
    let mut numbers = Mutator(Generator::new(&words, number("FUZZ_SEED", 1)));
    let mut queries = Generator::new(&words, number("FUZZ_SEED", 1) + 1);
    let (began, before, mut done) = (Instant::now(), peak_memory(), 0);
    while done < least || began.elapsed() < Duration::from_secs(seconds) {
        let mut text = match corpus.len() {
            n if n > 0 && !(generate && numbers.0.below(2) == 0) => {
                corpus[numbers.0.below(n)].clone()
            }
            _ => {
                let kinds = [ValueType::Vector, ValueType::Scalar, ValueType::Matrix];
                let (kind, size) = (kinds[numbers.0.below(3)], 1 + numbers.0.below(20));
                queries.query(kind, size).into_bytes()
            }
        };
        let other = corpus.get(numbers.0.below(corpus.len().max(1))).cloned().unwrap_or_default();
        // A third stays as it was, so that the engine sees many that are accepted.
        if numbers.0.below(3) > 0 {
            numbers.change(&mut text, &other);
        }
        check(&text);
        done += 1;
    }
    let grown = peak_memory().saturating_sub(before) >> 20;
    eprintln!("{done} texts, memory grew by {grown} MiB");
    assert!(grown < 400, "memory grew by {grown} MiB");
}

/// The golden queries, where the shared data is there; generated ones are always there.
fn golden() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/promql-parse/golden.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let query = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["query"].as_str().filter(|q| q.len() < 500).map(|q| q.as_bytes().to_vec())
    };
    text.lines().filter_map(query).collect()
}

#[test]
fn texts_do_no_harm_to_the_parser() {
    run(&golden(), 3_000, true, checks::text);
}

#[test]
fn queries_do_no_harm_to_the_engine() {
    run(&golden(), 500, true, checks::query);
}

#[test]
fn scripts_do_no_harm_to_their_parser() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let scripts = std::fs::read_dir(dir).expect("own scripts").flatten();
    let mut corpus = Vec::new();
    for script in scripts {
        let text = std::fs::read(script.path()).expect("a script");
        // In pieces, so that each is quick and changes hit something.
        corpus.extend(text.chunks(800).map(<[u8]>::to_vec));
    }
    assert!(!corpus.is_empty());
    run(&corpus, 500, false, checks::script);
}
