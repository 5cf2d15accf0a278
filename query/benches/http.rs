//! What HTTP adds to an answer, and many dashboards at once: ten endpoints that answer a sum after two
//! milliseconds, a query layer over them with its real listener, and clients over loopback. First the same
//! question with and without HTTP, one at a time; then 500 clients that refresh the same dashboard. Before it,
//! writing a million points as JSON (`-- write`: that alone).

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_model::Labels;
use periplus_promql::parse;
use periplus_promql::value::{Bitmap, StepGrid, StepMatrix, StepSeries, Value};
use periplus_query::Config;
use periplus_query::answer::{Answerer, When};
use periplus_query::api::json::{Cursor, Writer};
use periplus_query::api::params::Params;

#[path = "http/endpoints.rs"]
mod endpoints;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: usize = 500;
const REFRESHES: usize = 2;
/// Between refreshes.
const INTERVAL: Duration = Duration::from_secs(10);
/// The panels of a dashboard: one row each.
const PANELS: usize = 12;

fn main() -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    periplus_daemon::tls::install_provider();
    writing()?;
    match std::env::args().any(|a| a == "write") {
        true => Ok(()),
        false => runtime.block_on(run()),
    }
}

/// Writes 1,000 series of 1,000 steps in pieces, as they are sent.
fn writing() -> Result<(), Failure> {
    const PIECE: usize = 256 << 10;
    let grid = StepGrid { start_ms: 1_700_000_000_000, end_ms: 1_700_009_990_000, step_ms: 10_000 };
    let steps = grid.steps();
    let series = |i: usize| StepSeries {
        labels: Labels::from_pairs([("cluster", "paris"), ("pod", format!("pod-{i}").as_str())]),
        values: (0..steps).map(|s| (i * steps + s) as f64 * 0.37).collect(),
        present: Bitmap::new(steps, true),
        histograms: Vec::new(),
    };
    let value =
        Value::Vector(StepMatrix { grid, series: (0..1_000_000 / steps).map(series).collect() });
    let (mut best, mut bytes) = (f64::MAX, 0);
    for _ in 0..20 {
        let begun = Instant::now();
        let (mut cursor, mut last) = (Cursor::default(), false);
        bytes = 0;
        while !last {
            let mut w = Writer::with_room(PIECE);
            last = cursor.write(&mut w, &value, None, PIECE);
            bytes += std::hint::black_box(w.finish()).len();
        }
        best = best.min(begun.elapsed().as_secs_f64());
    }
    let rate = bytes as f64 / 1e6 / best;
    say(&format!("writing 1 M points as JSON: {:.0} ms, {rate:.0} MB/s", best * 1e3))
}

fn say(line: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn panel(i: usize) -> String {
    format!("sum(panel_{i})")
}

async fn run() -> Result<(), Failure> {
    let addresses = endpoints::start().await?;
    let config = Config {
        endpoint: addresses.iter().map(SocketAddr::to_string).collect(),
        listen: "127.0.0.1:0".into(),
        grpc: "127.0.0.1:0".into(),
        ..Config::defaults()
    };
    let drain = Drain::new();
    let admin = Admin::new("query", "bench", "bench");
    let query = periplus_query::build(config, &admin, &drain).await?;
    query.answerer.registry.settled(Duration::from_secs(30)).await;
    let (answerer, url) = (query.answerer.clone(), format!("http://{}", query.http_address()));
    let defaults = query.defaults.clone();
    tokio::spawn({
        let drain = drain.clone();
        async move { periplus_query::run(query, &drain).await }
    });
    let direct = median(100, || direct(&answerer, &defaults)).await?;
    let client = reqwest::Client::new();
    let mut time = 1_700_000_000u64;
    let http = median(100, || {
        time += 1;
        one(&client, &url, 0, time)
    })
    .await?;
    let overhead = http.saturating_sub(direct);
    say(&format!("one row: engine {direct:.2?}, by HTTP {http:.2?}: HTTP adds {overhead:.2?}"))?;
    dashboards(&url, http).await
}

async fn direct(
    answerer: &Answerer,
    defaults: &periplus_query::api::Defaults,
) -> Result<(), Failure> {
    let text = panel(0);
    let options = Params::default().options(defaults).map_err(|e| e.text)?;
    let expr = parse::parse(&text).map_err(|e| e.to_string())?;
    let when = When::instant(1_700_000_000_000);
    answerer.answer(&expr, text.as_str().into(), when, &options).await.map_err(|e| e.message)?;
    Ok(())
}

async fn one(client: &reqwest::Client, url: &str, i: usize, time: u64) -> Result<(), Failure> {
    let form = [("query", panel(i)), ("time", time.to_string())];
    let answer = client.post(format!("{url}/api/v1/query")).form(&form).send().await?;
    let text = answer.text().await?;
    match text.contains(r#""10"]"#) {
        true => Ok(()),
        false => Err(format!("not the sum of ten: {text}").into()),
    }
}

async fn median<F>(rounds: usize, mut work: impl FnMut() -> F) -> Result<Duration, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut took = Vec::new();
    for round in 0..rounds + 10 {
        let begun = Instant::now();
        work().await?;
        if round >= 10 {
            took.push(begun.elapsed());
        }
    }
    took.sort_unstable();
    Ok(took.get(took.len() / 2).copied().unwrap_or_default())
}

/// Every client refreshes its dashboard again and again, not all at the same moment; they ask for the same times,
/// as Grafana does when it aligns them to the step.
async fn dashboards(url: &str, single: Duration) -> Result<(), Failure> {
    let url: Arc<str> = url.into();
    let mut tasks = tokio::task::JoinSet::new();
    let begin = tokio::time::Instant::now() + Duration::from_secs(1);
    for c in 0..CLIENTS {
        let url = Arc::clone(&url);
        tasks.spawn(async move {
            let client = reqwest::Client::new();
            let mut took = Vec::new();
            for r in 0..REFRESHES {
                let spread = INTERVAL.mul_f64(c as f64 / CLIENTS as f64);
                tokio::time::sleep_until(begin + INTERVAL * r as u32 + spread).await;
                for i in 0..PANELS {
                    let begun = Instant::now();
                    one(&client, &url, i, 1_800_000_000 + r as u64).await?;
                    took.push(begun.elapsed());
                }
            }
            Ok::<_, Failure>(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.append(&mut done??);
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    let (p50, p99) = (at(50), at(99));
    let ratio = p99.as_secs_f64() / single.as_secs_f64();
    say(&format!(
        "{CLIENTS} clients, {PANELS} panels each: median {p50:.2?}, 99th percentile {p99:.2?}, {ratio:.1} × \
         one client alone"
    ))
}
