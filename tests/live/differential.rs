//! The same answer as one Prometheus that holds everything: generated data behind sidecars and in
//! one server, generated expressions asked of both, every value compared.

use super::ask::{Answer, When, ask, ask_with, client, difference};
use super::data::Dataset;
use super::expressions::Expressions;
use super::fleet::{Fleet, now_s};
use super::product::Query;
use super::prometheus::{Flavour, Prometheus, flavours};

/// How many expressions, each asked at two instants and over a range, with and without pushdown.
const EXPRESSIONS: usize = 300;

/// The order in which numbers are added differs between the two, and with it the last digits.
const TOLERANCE: f64 = 1e-9;

/// The moments at which an expression is asked: half seconds, which neither a sample nor the step of a
/// subquery falls on, since the edge of a window is the one place where the versions differ.
fn moments(data: &Dataset) -> [When; 3] {
    let (from, until) = (data.from_ms + 500, data.until_ms + 500);
    [
        When::Instant(until - 30_000),
        When::Instant(from + 47 * 60_000),
        When::Range { from: from + 12 * 60_000, to: until - 60_000, step: 97_000 },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn same_answers_as_one_prometheus() {
    for flavour in flavours() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = Dataset::new(7, now_s() / 60 * 60 - 60);
        let one = Prometheus::start(&flavour, "everything", &[], dir.path()).await;
        one.store(&data.everything()).await;
        for follows_log in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let fleet = Fleet::start(&flavour, &data, follows_log, dir.path()).await;
            let query = Query::start("query", &fleet.endpoints(), &[], dir.path()).await;
            fleet.whole(&query.url, &data).await;
            eprintln!("{}, sidecars follow the write-ahead logs: {follows_log}", flavour.name);
            compare(&flavour, &data, &one.url, &query.url).await;
        }
    }
}

async fn compare(flavour: &Flavour, data: &Dataset, one: &str, query: &str) {
    let client = client();
    let middle_s = (data.from_ms + data.until_ms) / 2000;
    let mut expressions = Expressions::new(11, middle_s, flavour.v3);
    let (mut wrong, mut asked, mut full, mut refused) = (Vec::new(), 0, 0, 0);
    for _ in 0..EXPRESSIONS {
        let expr = expressions.next();
        for pushdown in ["true", "false"] {
            for when in moments(data) {
                let expected = ask(&client, one, &expr, when).await.expect("the reference answers");
                refused += usize::from(!expected.is_success());
                full += usize::from(expected.rows() > 0);
                asked += 1;
                let got = ask_with(&client, query, &expr, when, &[("pushdown", pushdown)]).await;
                let why = match &got {
                    Ok(got) => difference(&expected, got, TOLERANCE).or_else(|| spurious(got)),
                    Err(e) => Some(e.clone()),
                };
                if let Some(why) = why {
                    wrong.push(format!("{expr}\n  {when:?} pushdown={pushdown}\n  {why}"));
                }
            }
        }
    }
    eprintln!(
        "{}: {asked} answers compared, {full} with rows, {refused} refused by both, {} differ",
        flavour.name,
        wrong.len()
    );
    // A comparison of nothing with nothing proves nothing.
    assert!(full * 10 > asked * 6, "too few expressions find data: {full} of {asked}");
    let shown: Vec<&str> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{}:\n{}", flavour.name, shown.join("\n"));
}

/// A warning that a whole fleet is not.
fn spurious(got: &Answer) -> Option<String> {
    let warnings = got.warnings();
    let missing = warnings.iter().any(|w| w.contains("missing"));
    missing.then(|| format!("nothing is missing, yet: {warnings:?}"))
}

/// Two references against one another: what is asked finds data, and means the same in both.
#[tokio::test(flavor = "multi_thread")]
async fn expressions_find_data_and_mean_the_same_in_both_versions() {
    let flavours = flavours();
    let dir = tempfile::tempdir().expect("a directory");
    let data = Dataset::new(7, now_s() / 60 * 60 - 60);
    let mut servers = Vec::new();
    for flavour in &flavours {
        let p = Prometheus::start(flavour, flavour.name, &[], dir.path()).await;
        p.store(&data.everything()).await;
        servers.push(p);
    }
    let client = client();
    let mut expressions = Expressions::new(11, (data.from_ms + data.until_ms) / 2000, false);
    let (mut asked, mut full) = (0, 0);
    let mut wrong = Vec::new();
    for _ in 0..EXPRESSIONS {
        let expr = expressions.next();
        for when in moments(&data) {
            let first = ask(&client, &servers[0].url, &expr, when).await.expect("an answer");
            asked += 1;
            full += usize::from(first.rows() > 0);
            for other in &servers[1..] {
                let second = ask(&client, &other.url, &expr, when).await.expect("an answer");
                if let Some(why) = difference(&first, &second, TOLERANCE) {
                    wrong.push(format!("{expr}\n  {when:?}\n  {why}"));
                }
            }
        }
    }
    eprintln!("{full} of {asked} answers have rows; {} differ between versions", wrong.len());
    assert!(full * 10 > asked * 6, "too few expressions find data: {full} of {asked}");
    let shown: Vec<&str> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{}", shown.join("\n"));
}
