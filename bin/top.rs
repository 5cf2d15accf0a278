//! `periplus top`: the main questions from a terminal.

mod answer;
mod questions;
mod table;
mod units;

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;

pub(crate) use answer::Client;
pub(crate) use questions::{By, Question, What};
pub(crate) use table::table;

/// Show what uses the most CPU, memory or network, or restarts most, across the whole fleet.
///
/// Asks a periplus query process (or standalone, or demo, or any Prometheus). Clusters that could
/// not be reached are named under the table.
///
/// Examples:
///   periplus top cpu --by pod
///   periplus top memory --by node -k 5 --at 2026-11-21T08:00:00Z
///   periplus top restarts --by pod --window 6h --watch
///   periplus top network --by cluster --output json | jq .rows
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// What to rank.
    #[arg(value_enum)]
    what: What,
    /// What the rows are.
    #[arg(long, value_enum, default_value = "pod")]
    by: By,
    /// How many rows.
    #[arg(short = 'k', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    k: u32,
    /// Where to ask.
    #[arg(long, env = "PERIPLUS_URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    /// When: an RFC 3339 time or seconds since the epoch; now if not given.
    #[arg(long, value_parser = parse_time)]
    at: Option<f64>,
    /// Over how long rates and restarts are taken, such as 5m or 1h30m [default: 5m, restarts 1h].
    #[arg(long, value_parser = parse_window)]
    window: Option<String>,
    /// Ask again every --interval until interrupted.
    #[arg(long)]
    watch: bool,
    /// How often --watch asks.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, requires = "watch")]
    interval: Duration,
    /// How to print the answer.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    /// The label that names a cluster.
    #[arg(long, default_value = "cluster", value_parser = parse_label)]
    cluster_label: String,
    /// The label that names a node.
    #[arg(long, default_value = "node", value_parser = parse_label)]
    node_label: String,
    /// Print the PromQL instead of asking it.
    #[arg(long)]
    show_query: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table for people.
    Table,
    /// One JSON object in a line.
    Json,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let question = Question {
        what: args.what,
        by: args.by,
        k: args.k,
        window: args.window.unwrap_or_else(|| args.what.default_window().to_owned()),
        cluster_label: args.cluster_label,
        node_label: args.node_label,
    };
    if args.show_query {
        return print(&format!("{}\n", question.promql()));
    }
    let client = Client::new(&args.url)?;
    loop {
        let answer = client.ask(&question, args.at).await;
        let text = match (&answer, args.output) {
            (Ok(a), Output::Table) => table(&question, a),
            (Ok(a), Output::Json) => table::json(&question, a),
            // Whoever watches wants to see the fleet come back.
            (Err(e), _) if args.watch => format!("{e:#}\n"),
            (Err(_), _) => String::new(),
        };
        if !args.watch {
            print(&text)?;
            return answer.map(drop);
        }
        let clear = if args.output == Output::Table { "\x1b[H\x1b[2J" } else { "" };
        print(&format!("{clear}{text}"))?;
        tokio::select! {
            () = tokio::time::sleep(args.interval) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// Seconds since the epoch from an RFC 3339 time or a number.
fn parse_time(s: &str) -> Result<f64, String> {
    if let Ok(v) = s.parse::<f64>()
        && v.is_finite()
    {
        return Ok(v);
    }
    s.parse::<jiff::Timestamp>()
        .map(|t| t.as_millisecond() as f64 / 1e3)
        .map_err(|_| "give a time such as 2026-11-21T08:00:00Z or seconds since the epoch".into())
}

/// A PromQL duration: digits and units only, so that it cannot become another expression.
fn parse_window(s: &str) -> Result<String, String> {
    let fine = !s.is_empty()
        && s.starts_with(|c: char| c.is_ascii_digit())
        && s.ends_with(|c: char| c.is_ascii_alphabetic())
        && s.chars().all(|c| c.is_ascii_digit() || "smhdwy".contains(c));
    if fine { Ok(s.to_owned()) } else { Err("give a duration such as 5m, 1h30m or 2d".into()) }
}

/// A label's name.
fn parse_label(s: &str) -> Result<String, String> {
    let fine = s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fine { Ok(s.to_owned()) } else { Err("a label's name has letters, digits and _".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked() {
        assert_eq!(parse_time("2026-11-21T08:00:00Z"), Ok(1_795_248_000.0));
        assert_eq!(parse_time("12.5"), Ok(12.5));
        assert!(parse_time("yesterday").is_err() && parse_time("inf").is_err());
        assert!(parse_window("1h30m").is_ok());
        assert!(["", "5", "m5", "5m])", "5m:1m"].iter().all(|w| parse_window(w).is_err()));
        assert!(parse_label("k8s_cluster").is_ok() && parse_label("a)").is_err());
    }
}
