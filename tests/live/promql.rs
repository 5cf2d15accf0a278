//! The engine and a Prometheus over the same block: random expressions from the whole grammar, asked of
//! both at instants and over ranges, every value compared.
//!
//! [`data`] makes the block: floats with gaps, stale markers, resets, NaN and infinities, classic and
//! native histograms of every kind. The parser's own generator writes the expressions. What differs is
//! shrunk to the smallest subexpression that still does, and printed with both answers. What may differ
//! is listed in lib/promql/DIFFERENCES.md; of that list only ties (`topk`, `bottomk`, `limitk`) could be
//! met here, so these three are asked of series whose values are all different.
//!
//! `PROMQL_EXPRESSIONS=20000 PROMQL_SEED=7 cargo test --test live promql` looks further than CI does.

mod compare;
mod data;
mod engine;

use std::time::{Duration, Instant};

use periplus_promql::parse::arbitrary::{Generator, Vocabulary};
use periplus_promql::parse::ast::{Expr, ValueType};
use periplus_promql::parse::functions::FUNCTIONS;
use periplus_promql::parse::parse;
use serde_json::Value;

use super::ask::{When, ask, client};
use super::process::{Process, free_port};
use super::prometheus::{Flavour, flavours};
use compare::difference;
use data::{FROM_MS, UNTIL_MS};
use engine::Reference;

/// How many expressions are asked of each version where the environment does not say.
const EXPRESSIONS: usize = 1000;

/// Asking ends after this long, however many that were; slow machines compare less.
const TIME_MAX: Duration = Duration::from_secs(30);

/// What of the language 3.x guards with flags.
const FEATURES: &str = "promql-experimental-functions,promql-duration-expr,\
                        promql-extended-range-selectors,promql-binop-fill-modifiers";

/// The functions that mean the same in 2.42. There `rate` and `increase` look for a counter's zero at
/// another place, classic quantiles are not smoothed, and labels have fewer letters.
const OLD_FUNCTIONS: &[&str] = &[
    "abs",
    "absent",
    "absent_over_time",
    "avg_over_time",
    "ceil",
    "changes",
    "clamp",
    "clamp_max",
    "clamp_min",
    "count_over_time",
    "day_of_month",
    "day_of_week",
    "delta",
    "deriv",
    "exp",
    "floor",
    "hour",
    "idelta",
    "irate",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "minute",
    "month",
    "present_over_time",
    "resets",
    "round",
    "scalar",
    "sgn",
    "sqrt",
    "sum_over_time",
    "time",
    "timestamp",
    "vector",
    "year",
];

/// Where an expression is asked: never at a whole second, as neither samples nor steps of subqueries
/// may fall on the edge of a window, which counts as inside in 2.42 and as outside since.
const MOMENTS: [When; 3] = [
    When::Instant(FROM_MS + 47 * 60_000 + 500),
    When::Instant(FROM_MS + 101 * 60_000 + 500),
    When::Range { from: FROM_MS + 9 * 60_000 + 500, to: UNTIL_MS - 500, step: 197_000 },
];

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

/// The words expressions are made of.
fn words(v3: bool) -> Vocabulary {
    let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let labels = [
        ("job", &["api", "db", "a.*"][..]),
        ("pod", &["a-0", "a-1", "a-[12]"]),
        ("zone", &["x", "y", ""]),
        ("le", &["0.5", "+Inf"]),
        ("other", &["", "none"]),
    ];
    let middle = (FROM_MS / 1000 + 3607) / 10 * 10 + 7;
    Vocabulary {
        metrics: words(if v3 { data::METRICS } else { data::FLOAT_METRICS }),
        labels: labels.iter().map(|(n, v)| ((*n).to_owned(), words(v))).collect(),
        durations: words(&["30s", "2m", "5m", "10m", "70s", "20m"]),
        steps: words(if v3 { &["30s", "1m", "17s"] } else { &["30s", "1m"] }),
        timestamps: vec![middle, middle + 600, middle - 1800],
        functions: match v3 {
            true => FUNCTIONS.iter().map(|f| f.name.to_owned()).collect(),
            false => words(OLD_FUNCTIONS),
        },
        experimental: v3,
        disguise: false,
    }
}

/// Over the gauge, whose values at one time are all different.
const RANKED: &[&str] = &[
    "topk(3, h_gauge)",
    "bottomk by (job) (2, h_gauge)",
    "topk without (pod) (1, h_gauge)",
    "sum by (zone) (topk by (job) (4, h_gauge))",
    "topk(scalar(count(h_gauge)) / 2, h_gauge)",
    "max_over_time(topk(2, h_gauge)[10m:1m])",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_answers_as_prometheus() {
    let mut wrong = String::new();
    for flavour in flavours() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = data::block(&dir.path().join("data"), flavour.v3);
        let (_process, url) = serve(&flavour, dir.path()).await;
        let engine = Reference::new(store);
        let bench = Bench { http: client(), url, engine, v3: flavour.v3 };
        wrong.push_str(&bench.compare(&flavour).await);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What cannot be compared: ties; and with 2.42 also the name behind an `atan2`, which it keeps,
/// deviations of infinities, the sign of a zero as a label, subqueries in subqueries, whose windows end
/// at whole seconds, and pinned ones, which it may evaluate at a time that they do not cover.
fn passed_over(expr: &str, v3: bool) -> bool {
    let any = |words: &[&str]| words.iter().any(|w| expr.contains(w));
    any(&["topk", "bottomk", "limitk"])
        || (!v3
            && (any(&["atan2", "stddev", "stdvar", "count_values"])
                || expr.matches(':').count() > 1
                || (expr.contains(':') && expr.contains('@'))))
}

/// A Prometheus over the block, with nothing to scrape.
async fn serve(flavour: &Flavour, dir: &std::path::Path) -> (Process, String) {
    let (config, port) = (dir.join("prometheus.yml"), free_port());
    std::fs::write(&config, "global: {}\n").expect("a configuration");
    let mut command = std::process::Command::new(&flavour.binary);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .args(["--storage.tsdb.retention.time=100y", "--query.timeout=30s"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    if flavour.v3 {
        command.arg(format!("--enable-feature={FEATURES}"));
    }
    let mut process = Process::start("promql", command, dir);
    let url = format!("http://127.0.0.1:{port}");
    let http = client();
    for _ in 0..1200 {
        assert!(process.is_alive(), "{} ended:\n{}", flavour.name, process.last_words());
        let answer = http.get(format!("{url}/-/ready")).send().await;
        if answer.is_ok_and(|a| a.status().is_success()) {
            return (process, url);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} does not become ready:\n{}", flavour.name, process.last_words());
}

/// Both sides.
struct Bench {
    http: reqwest::Client,
    url: String,
    engine: Reference,
    v3: bool,
}

#[derive(Default)]
struct Tally {
    asked: usize,
    full: usize,
    refused: usize,
    wrong: Vec<String>,
}

impl Bench {
    /// What differs, as text.
    async fn compare(&self, flavour: &Flavour) -> String {
        let (count, seed) = (number("PROMQL_EXPRESSIONS", EXPRESSIONS), number("PROMQL_SEED", 1));
        let words = words(flavour.v3);
        let mut generator = Generator::new(&words, seed as u64);
        let (began, mut tally, mut done) = (Instant::now(), Tally::default(), 0);
        for expr in RANKED {
            self.one(expr, &mut tally).await;
        }
        while done < count && (count != EXPRESSIONS || began.elapsed() < TIME_MAX) {
            let size = 1 + generator.below(14);
            let kind = match generator.below(12) {
                0 => ValueType::Scalar,
                1 => ValueType::Matrix,
                _ => ValueType::Vector,
            };
            let expr = generator.query(kind, size);
            if passed_over(&expr, flavour.v3) {
                continue;
            }
            done += 1;
            self.one(&expr, &mut tally).await;
        }
        let Tally { asked, full, refused, wrong } = tally;
        eprintln!(
            "{}: {done} expressions from seed {seed}, {asked} answers compared, {full} with values, \
             {refused} refused by both, {} differ",
            flavour.name,
            wrong.len()
        );
        // A comparison of nothing with nothing proves nothing.
        assert!(done >= 100 && full * 3 > asked, "only {full} of {asked} answers have values");
        let shown = wrong.iter().take(30).map(|w| format!("{}: {w}\n", flavour.name));
        shown.collect()
    }

    async fn one(&self, expr: &str, tally: &mut Tally) {
        for when in MOMENTS {
            let (expected, got) = self.both(expr, when).await;
            tally.asked += 1;
            tally.refused += usize::from(expected["status"] != "success");
            tally.full += usize::from(compare::has_values(&expected));
            if !self.is_known(&expected, &got)
                && let Some(first) = difference(&expected, &got)
            {
                let (small, why) = self.shrink(expr, when, first).await;
                tally.wrong.push(format!("{expr}\n  {when:?}\n  in {small}\n  {why}"));
                return;
            }
        }
    }

    /// Whether one side refuses what the other does not for a reason that is known: 3.14 panics on
    /// some windows (see DIFFERENCES.md), 2.42 looks for doubles in other places than later versions.
    fn is_known(&self, expected: &Value, got: &Value) -> bool {
        let says = |answer: &Value, what: &str| {
            answer["error"].as_str().is_some_and(|error| error.contains(what))
        };
        says(expected, "runtime error")
            || (!self.v3
                && ["matching", "same labelset", "unique matches"]
                    .into_iter()
                    .any(|w| says(expected, w) || says(got, w)))
    }

    async fn both(&self, expr: &str, when: When) -> (Value, Value) {
        let answer = ask(&self.http, &self.url, expr, when).await.expect("Prometheus answers");
        let got = tokio::task::block_in_place(|| self.engine.ask(expr, when));
        (answer.body, got)
    }

    /// The smallest part of an expression that still differs.
    async fn shrink(&self, expr: &str, when: When, why: String) -> (String, String) {
        let (mut small, mut why) = (expr.to_owned(), why);
        'smaller: loop {
            for part in parts(&small) {
                let (expected, got) = self.both(&part, when).await;
                if !self.is_known(&expected, &got)
                    && let Some(other) = difference(&expected, &got)
                {
                    (small, why) = (part, other);
                    continue 'smaller;
                }
            }
            return (small, why);
        }
    }
}

/// The expressions an expression is made of, as texts.
fn parts(text: &str) -> Vec<String> {
    let Ok(expr) = parse(text) else { return Vec::new() };
    let inner: Vec<&Expr> = match &expr {
        Expr::Paren(e) => vec![&e.expr],
        Expr::Unary(e) => vec![&e.expr],
        Expr::Binary(e) => vec![&e.lhs, &e.rhs],
        Expr::Aggregate(e) => vec![&e.expr],
        Expr::Call(e) => e.args.iter().collect(),
        Expr::Subquery(e) => vec![&e.expr],
        _ => Vec::new(),
    };
    inner.into_iter().map(ToString::to_string).filter(|part| part != text).collect()
}
