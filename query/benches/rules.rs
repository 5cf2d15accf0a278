//! Rules at work: a thousand of them every 30 seconds over ten clusters, by a ruler over HTTP, as `periplus ruler`
//! asks. Ten endpoints of this process answer; what they cost is counted in. Prints the share of two cores and
//! the evaluations missed.
//!
//! `RULES_SECONDS=90` for how long it looks, after the first round.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_query::Config;
use periplus_query::ruler::http::HttpEvaluator;
use periplus_query::ruler::service::{self, RulesConfig};

#[path = "http/endpoints.rs"]
mod endpoints;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const RULES: usize = 1_000;
const PER_GROUP: usize = 10;

/// Groups as people write them: recorded sums, alerts over them, and alerts over the fleet's own series.
fn groups() -> String {
    let mut text = String::from("groups:\n");
    for g in 0..RULES / PER_GROUP {
        // Writing into a string does not fail.
        _ = writeln!(text, "- name: g{g}\n  interval: 30s\n  rules:");
        for r in 0..PER_GROUP {
            _ = match r % 3 {
                0 => writeln!(text, "  - {{record: 'r:{g}:{r}', expr: 'sum(panel_{g}_{r})'}}"),
                1 => writeln!(
                    text,
                    "  - {{alert: A{r}, expr: 'sum(panel_{g}_{r}) > 5', for: 5m, labels: {{severity: page}}, \
                     annotations: {{summary: '{{{{ $value }}}} of {g}'}}}}"
                ),
                _ => writeln!(text, "  - {{alert: B{r}, expr: 'sum(panel_{g}_{r}) < 5'}}"),
            };
        }
    }
    text
}

/// User and system time of this process so far.
fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |i: usize| after.split_whitespace().nth(i).and_then(|t| t.parse::<u64>().ok());
    let ticks = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
    // A hundred ticks a second on every Linux.
    Ok(Duration::from_millis(ticks * 10))
}

fn main() -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    periplus_daemon::tls::install_provider();
    runtime.block_on(run())
}

async fn run() -> Result<(), Failure> {
    let addresses = endpoints::start().await?;
    let config = Config {
        endpoint: addresses.iter().map(ToString::to_string).collect(),
        listen: "127.0.0.1:0".into(),
        grpc: "127.0.0.1:0".into(),
        ..Config::defaults()
    };
    let drain = Drain::new();
    let admin = Admin::new("query", "bench", "bench");
    let query = periplus_query::build(config, &admin, &drain).await?;
    query.answerer.registry.settled(Duration::from_secs(30)).await;
    let url = format!("http://{}", query.http_address());
    tokio::spawn({
        let drain = drain.clone();
        async move { periplus_query::run(query, &drain).await }
    });

    let dir = tempfile::tempdir()?;
    let file = dir.path().join("rules.yml");
    std::fs::write(&file, groups())?;
    let rules = RulesConfig { rules: vec![file], ..RulesConfig::defaults() };
    let evaluator = HttpEvaluator::new(vec![url], Duration::from_secs(30), Vec::new())?;
    let evaluator = std::sync::Arc::new(evaluator);
    let ruler = service::start(&rules, evaluator, None, true, (&admin, &drain)).await?;
    tokio::time::sleep(Duration::from_secs(32)).await;

    let seconds = std::env::var("RULES_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(90);
    let (begun, before) = (Instant::now(), cpu()?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (wall, spent) = (begun.elapsed(), cpu()?.saturating_sub(before));
    let (mut evaluated, mut failed) = (0, 0);
    for g in ruler.manager.groups() {
        let state = g.state.lock();
        evaluated += state.rules.iter().filter(|r| r.evaluated_ms.is_some()).count();
        failed += state.rules.iter().filter(|r| r.last_error.is_some()).count();
    }
    let text = admin.metrics_text();
    let sum = |name: &str| -> f64 {
        let lines = text.lines().filter(|l| l.starts_with(name));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let (rounds, missed) = (
        sum("periplus_rule_group_iterations_total"),
        sum("periplus_rule_group_iterations_missed_total"),
    );
    let share = spent.as_secs_f64() / wall.as_secs_f64() / 2.0;
    writeln!(
        std::io::stdout(),
        "{evaluated} rules of {} groups every 30 s over 10 clusters, {failed} failed: {:.1} % of two cores \
         (endpoints included), {missed} of {rounds} evaluations of groups missed",
        RULES / PER_GROUP,
        share * 100.0
    )?;
    Ok(())
}
