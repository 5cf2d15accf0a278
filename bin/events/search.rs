//! `periplus events search`, and `periplus events` itself: events in a terminal.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use serde_json::Value;

/// How long a single answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Pause before a broken stream is asked for again.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest line of a stream that is taken.
const LINE_BYTES_MAX: usize = 8 << 20;

/// Show events, the newest at the end.
#[derive(clap::Args, Debug)]
pub(crate) struct SearchArgs {
    /// Events that last happened within this time, such as 30m, 1h or 7d
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    since: String,
    /// Only this cluster; may be repeated
    #[arg(long, value_name = "NAME")]
    cluster: Vec<String>,
    /// Only clusters of this region; may be repeated
    #[arg(long, value_name = "NAME")]
    region: Vec<String>,
    /// Only this namespace; may be repeated
    #[arg(long, short, value_name = "NAME")]
    namespace: Vec<String>,
    /// Only objects of this kind; may be repeated
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Only the object of this name; may be repeated
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Only this reason; may be repeated
    #[arg(long, value_name = "REASON")]
    reason: Vec<String>,
    /// Only this type, Warning or Normal
    #[arg(long = "type", value_name = "TYPE")]
    type_: Vec<String>,
    /// Only messages that hold this text, upper and lower case alike; all of them where repeated
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// Go on with new events until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Print counts by these fields instead, such as cluster,reason
    #[arg(long, value_name = "FIELDS", conflicts_with = "follow")]
    count_by: Option<String>,
    /// How to print: table, or one JSON object a line
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    /// Where to ask: the hub, or a process that has it
    #[arg(long, env = "PERIPLUS_EVENTS_URL", default_value = "http://127.0.0.1:9095")]
    url: url::Url,
    /// File with the bearer token to show
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Table,
    Json,
}

struct Asker {
    client: reqwest::Client,
    url: url::Url,
    token: Option<String>,
}

impl Asker {
    fn new(args: &SearchArgs) -> anyhow::Result<Self> {
        let token = match &args.token_file {
            None => None,
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("--token-file {}", file.display()))?;
                Some(text.trim().to_owned())
            }
        };
        // Where the token goes is decided here, not by whoever answers.
        let client =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, url: args.url.clone(), token })
    }

    async fn ask(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<reqwest::Response> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        let mut request = self.client.get(url).query(query);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let asked = request.send().await;
        let response = asked
            .with_context(|| format!("asking {}; does a hub listen there? (--url)", self.url))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = tokio::time::timeout(TIMEOUT, response.text()).await??;
        let why = serde_json::from_str::<Value>(&text).ok();
        let why = why.and_then(|v| v["error"].as_str().map(str::to_owned)).unwrap_or(text);
        bail!(
            "{} answers {status}: {}",
            self.url,
            plain(&why.chars().take(500).collect::<String>())
        )
    }

    async fn json(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        let response = tokio::time::timeout(TIMEOUT, self.ask(path, query)).await??;
        let mut answer: Value = tokio::time::timeout(TIMEOUT, response.json()).await??;
        let mut err = std::io::stderr();
        for warning in answer["warnings"].as_array().into_iter().flatten() {
            writeln!(err, "warning: {}", plain(warning.as_str().unwrap_or_default()))?;
        }
        Ok(answer["data"].take())
    }
}

/// Text that is safe on a terminal and on one line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn selection(args: &SearchArgs) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for (name, values) in [
        ("cluster", &args.cluster),
        ("region", &args.region),
        ("namespace", &args.namespace),
        ("kind", &args.kind),
        ("name", &args.name),
        ("reason", &args.reason),
        ("type", &args.type_),
        ("text", &args.text),
    ] {
        out.extend(values.iter().map(|v| (name, v.clone())));
    }
    out
}

pub(crate) async fn run(args: SearchArgs) -> anyhow::Result<()> {
    let asker = Asker::new(&args)?;
    if let Some(by) = &args.count_by {
        return count(&args, &asker, by).await;
    }
    // What comes while the list is on its way must not be missed, so the stream begins first.
    let stream = match args.follow {
        true => Some(asker.ask("api/v1/events/tail", &selection(&args)).await?),
        false => None,
    };
    let mut query = selection(&args);
    query.push(("since", args.since.clone()));
    query.push(("limit", args.limit.clamp(1, 5000).to_string()));
    let data = asker.json("api/v1/events", &query).await?;
    let mut events: Vec<&Value> = data["events"].as_array().into_iter().flatten().collect();
    events.reverse();
    let mut out = std::io::stdout().lock();
    if args.output == Output::Table {
        writeln!(
            out,
            "{}",
            line(["LAST", "CLUSTER", "NAMESPACE", "REASON", "OBJECT", "COUNT", "MESSAGE"])
        )?;
    }
    let mut newest = 0;
    for event in events {
        newest = newest.max(number(&event["id"]));
        show(&mut out, event, args.output)?;
    }
    drop(out);
    match stream {
        Some(stream) => follow(&args, &asker, stream, newest).await,
        None => gaps(&args, &asker).await,
    }
}

fn number(id: &Value) -> i64 {
    id.as_str().and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// Says below a list where it may be incomplete.
async fn gaps(args: &SearchArgs, asker: &Asker) -> anyhow::Result<()> {
    let mut query = vec![("since", args.since.clone())];
    query.extend(args.cluster.iter().map(|c| ("cluster", c.clone())));
    let data = asker.json("api/v1/events/gaps", &query).await?;
    let mut err = std::io::stderr();
    for gap in data.as_array().into_iter().flatten() {
        let text = |name: &str| plain(gap[name].as_str().unwrap_or_default());
        let cluster = text("cluster");
        let whose =
            if cluster.is_empty() { "the hub".to_owned() } else { format!("cluster {cluster}") };
        let at = |name: &str| {
            let time = jiff::Timestamp::from_microsecond(gap[name].as_i64().unwrap_or(0));
            time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
        };
        let lost = match gap["events"].as_u64().unwrap_or(0) {
            0 => "events may be missing".to_owned(),
            n => format!("{n} states are lost"),
        };
        writeln!(
            err,
            "gap: {whose}, {} to {}: {lost} ({}) {}",
            at("from_us"),
            at("to_us"),
            text("reason"),
            text("detail")
        )?;
    }
    Ok(())
}

fn line(fields: [&str; 7]) -> String {
    let [last, cluster, namespace, reason, object, count, message] = fields;
    format!(
        "{last:<20} {cluster:<14} {namespace:<16} {reason:<18} {object:<38} {count:>6}  {message}"
    )
}

fn show(out: &mut impl std::io::Write, event: &Value, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        writeln!(out, "{event}")?;
        return Ok(());
    }
    let text = |name: &str| plain(event[name].as_str().unwrap_or_default());
    let last = text("last");
    let last = last.get(..19).map_or(last.clone(), |seconds| format!("{seconds}Z"));
    let object = format!("{}/{}", text("kind"), text("name"));
    let count = event["count"].to_string();
    let fields = [
        &last,
        &text("cluster"),
        &text("namespace"),
        &text("reason"),
        &object,
        &count,
        &text("message"),
    ];
    writeln!(out, "{}", line(fields.map(|f| f.as_str())).trim_end())?;
    out.flush()?;
    Ok(())
}

/// Prints what the stream brings; asks again after where it was when it breaks.
async fn follow(
    args: &SearchArgs,
    asker: &Asker,
    first: reqwest::Response,
    newest: i64,
) -> anyhow::Result<()> {
    let (mut seen, mut next) = (newest, Some(first));
    loop {
        let stream = match next.take() {
            Some(stream) => stream,
            None => {
                let mut query = selection(args);
                query.push(("after", seen.to_string()));
                match asker.ask("api/v1/events/tail", &query).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        writeln!(std::io::stderr(), "waiting for the hub: {error:#}")?;
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                }
            }
        };
        let (mut bytes, mut chunks) = (Vec::new(), stream.bytes_stream());
        while let Some(Ok(chunk)) = chunks.next().await {
            bytes.extend_from_slice(&chunk);
            while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
                let taken: Vec<u8> = bytes.drain(..=end).collect();
                let text = String::from_utf8_lossy(&taken);
                let Some(data) = text.trim_end().strip_prefix("data:") else { continue };
                let Ok(event) = serde_json::from_str::<Value>(data.trim_start()) else { continue };
                let id = number(&event["id"]);
                if id > seen {
                    seen = id;
                    show(&mut std::io::stdout().lock(), &event, args.output)?;
                } else if let Some(detail) = event["detail"].as_str() {
                    writeln!(std::io::stderr(), "gap: {}", plain(detail))?;
                }
            }
            if bytes.len() > LINE_BYTES_MAX {
                bail!("the hub sends a line of more than 8 MiB");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn count(args: &SearchArgs, asker: &Asker, by: &str) -> anyhow::Result<()> {
    let mut query = selection(args);
    query.push(("since", args.since.clone()));
    query.push(("by", by.to_owned()));
    let data = asker.json("api/v1/events/count", &query).await?;
    let names: Vec<&str> = by.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
    let point = |series: &Value, at: usize| series["points"][0][at].as_u64().unwrap_or(0);
    let mut all: Vec<&Value> = data.as_array().into_iter().flatten().collect();
    all.sort_by_key(|s| std::cmp::Reverse(point(s, 2)));
    let mut out = std::io::stdout().lock();
    if args.output == Output::Table {
        let head: Vec<String> = names.iter().map(|n| format!("{:<20}", n.to_uppercase())).collect();
        writeln!(out, "{:>9} {:>9}  {}", "TIMES", "EVENTS", head.join(" ").trim_end())?;
    }
    for series in all.into_iter().take(args.limit) {
        if args.output == Output::Json {
            writeln!(out, "{series}")?;
            continue;
        }
        let value =
            |n: &&str| format!("{:<20}", plain(series["labels"][*n].as_str().unwrap_or_default()));
        let values: Vec<String> = names.iter().map(value).collect();
        let (events, times) = (point(series, 1), point(series, 2));
        writeln!(out, "{times:>9} {events:>9}  {}", values.join(" ").trim_end())?;
    }
    Ok(())
}
