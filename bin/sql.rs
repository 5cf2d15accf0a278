//! `periplus sql`: a statement over history from a terminal.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Ask history in SQL. Reads only: SELECT and EXPLAIN.
///
/// Asks a periplus query process that was started with --bucket. Tables: series and samples (as
/// scraped), series_5m, samples_5m, series_1h, samples_1h (downsampled); the views metrics,
/// metrics_5m and metrics_1h join the two. Where a series ended, v is a NaN (the staleness marker): add
/// WHERE NOT isnan(v) to what takes a maximum. A dash reads the statement from standard input.
///
/// Examples:
///   periplus sql "SELECT __name__, count(*) FROM series GROUP BY 1 ORDER BY 2 DESC LIMIT 10"
///   periplus sql --format csv "SELECT ts, v FROM metrics WHERE __name__ = 'up' AND ts > now() - INTERVAL '1 day'"
///   periplus sql --format arrow - < question.sql > answer.arrows
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The statement; - for standard input.
    statement: String,
    /// Where to ask.
    #[arg(long, env = "PERIPLUS_URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    /// How to print the answer.
    #[arg(long, short, value_enum, default_value = "csv")]
    format: Format,
    /// At most so many rows; more are an error.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// The longest it may take.
    #[arg(long, default_value = "2m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Comma-separated values with a line of names.
    Csv,
    /// One JSON object.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Arrow => "arrow",
        }
    }
}

/// The longest answer that is taken in.
const ANSWER_BYTES_MAX: usize = 1 << 30;

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut statement = args.statement;
    if statement == "-" {
        statement.clear();
        std::io::stdin().lock().read_to_string(&mut statement).context("standard input")?;
    }
    let mut url = url::Url::parse(&args.url).with_context(|| format!("--url {}", args.url))?;
    match url.path_segments_mut() {
        Ok(mut path) => _ = path.pop_if_empty().extend(["api", "v1", "sql"]),
        Err(()) => bail!("--url {}: give an http or https address", args.url),
    }
    let mut form = vec![
        ("query", statement),
        ("format", args.format.name().to_owned()),
        ("timeout", format!("{}", args.timeout.as_secs_f64())),
    ];
    if let Some(limit) = args.limit {
        form.push(("limit", limit.to_string()));
    }
    let client =
        reqwest::Client::builder().timeout(args.timeout + Duration::from_secs(5)).build()?;
    let mut answer = client.post(url.clone()).form(&form).send().await?;
    let status = answer.status();
    let mut out = std::io::stdout().lock();
    let (mut refused, mut length) = (Vec::new(), 0usize);
    while let Some(piece) = answer.chunk().await.context("reading the answer")? {
        length += piece.len();
        if length > ANSWER_BYTES_MAX {
            bail!("the answer is longer than {ANSWER_BYTES_MAX} bytes; aggregate or --limit");
        }
        if !status.is_success() {
            refused.extend_from_slice(&piece);
        } else if let Err(e) = out.write_all(&piece) {
            // A reader that went away (`| head`) is no error.
            if e.kind() == std::io::ErrorKind::BrokenPipe {
                return Ok(());
            }
            return Err(e).context("writing to standard output");
        }
    }
    if !status.is_success() {
        let said: Option<serde_json::Value> = serde_json::from_slice(&refused).ok();
        let why = said.as_ref().and_then(|v| v.get("error")?.as_str()).map(str::to_owned);
        bail!("{url}: {}", why.unwrap_or_else(|| status.to_string()));
    }
    if args.format == Format::Json {
        let _ = out.write_all(b"\n");
    }
    out.flush().context("writing to standard output")
}
