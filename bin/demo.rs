//! `periplus demo`: a simulated fleet and the whole product over it.
//!
//! In order: an exporter that serves every cluster's targets; for each cluster a real Prometheus
//! (for the first a pair), given a past and then made to scrape; an API server that serves the events of its
//! pods, with its watcher, and the events hub; the product over them, as a small user runs it; the top tens; a list of commands to try; and at the end, everything taken down.

mod events;
mod exporter;
mod process;
mod prometheus;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use periplus_daemon::drain::Drain;
use periplus_simfleet::{Fleet, FleetConfig};
use tokio::process::Command;

use crate::top::{By, Client, Question, What, table};
use process::Process;

/// Start a simulated fleet of clusters, each with a real Prometheus, and periplus over all of them.
///
/// Prints the top tens and commands to try, and runs until Ctrl-C or --duration; then every process
/// it started is ended and its directory removed. Needs a `prometheus` binary; says how to get one.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Clusters. The first has a highly available pair of Prometheus servers.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=200))]
    clusters: u32,
    /// Nodes of each cluster.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    nodes: u32,
    /// Pods of each cluster (90 give about 5,000 series).
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pods: u32,
    /// Which fleet: the same seed gives the same clusters, pods and crashes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each Prometheus scrapes.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    scrape_interval: Duration,
    /// How much simulated past each Prometheus is given before it starts to scrape; at most 1h.
    #[arg(long, default_value = "55m", value_parser = humantime::parse_duration)]
    history: Duration,
    /// How long to run; until Ctrl-C if not given.
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Where the product listens for queries.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// The Prometheus to run [default: what PROMETHEUS3 names, else `prometheus` on the PATH].
    #[arg(long, env = "PROMETHEUS_BIN")]
    prometheus_bin: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if args.history > Duration::from_secs(3600) {
        bail!("--history: a Prometheus takes at most one hour of past; give 1h or less");
    }
    if args.scrape_interval < Duration::from_millis(100) {
        bail!("--scrape-interval: give 100ms or more");
    }
    // Looked for first: without it nothing is worth starting.
    let binary = prometheus::find(args.prometheus_bin.as_deref())?;
    let deadline = args.duration.map(|d| Instant::now() + d);
    let dir = tempfile::Builder::new().prefix("periplus-demo-").tempdir()?;
    let mut running = Vec::new();
    let drain = Drain::new();
    let outcome = tokio::select! {
        outcome = show(&args, &binary, dir.path(), &mut running, &drain) => outcome,
        () = stop_signal() => Ok(()),
        () = until(deadline) => Ok(()),
    };
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(e) => {
            // A child that died explains most failures better than the failure does.
            running.iter_mut().filter_map(Process::died).try_for_each(|words| say(&words))?;
            Err(e)
        }
    };
    say("\nStopping the demo and removing its data.")?;
    let _late = drain.wait(Duration::from_secs(5)).await;
    futures::future::join_all(running.drain(..).rev().map(Process::stop)).await;
    dir.close().context("removing the demo's directory")?;
    outcome
}

/// Starts everything, shows the tables, and watches over the children until interrupted.
async fn show(
    args: &Args,
    binary: &std::path::Path,
    dir: &std::path::Path,
    running: &mut Vec<Process>,
    drain: &Drain,
) -> anyhow::Result<()> {
    let fleet = Fleet::new(FleetConfig {
        seed: args.seed,
        clusters: args.clusters,
        nodes: args.nodes,
        pods: args.pods,
    });
    let began = Instant::now();
    say(&format!(
        "Simulating {} clusters of {} nodes and {} pods (seed {}); Prometheus: {}",
        args.clusters,
        args.nodes,
        args.pods,
        args.seed,
        binary.display()
    ))?;
    let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
    let setup = prometheus::Setup {
        binary,
        fleet: &fleet,
        exporter: exporter::start(fleet.clone()).await?,
        admin: SocketAddr::from(([127, 0, 0, 1], prometheus::free_port()?)),
        interval: args.scrape_interval,
        dir,
        http: &http,
    };
    let (mut urls, mut dirs) = (Vec::new(), Vec::new());
    for cluster in 0..fleet.clusters().len() {
        let replicas = if cluster == 0 { 2 } else { 1 };
        for replica in 0..replicas {
            let server = setup.start(cluster, replica).await?;
            let began = setup.begin(&server, args.history).await;
            let (name, url) = (server.process.name.clone(), server.url.clone());
            dirs.push(server.data_dir());
            running.push(server.process);
            began.with_context(|| format!("preparing {name}"))?;
            say(&format!("  {name:<34} {url}"))?;
            urls.push(url);
        }
    }
    let hub = events::hub()?;
    events::start(&fleet, &hub, dir, drain).await.context("starting the event watchers")?;
    running.push(product(args, &setup, &urls, &dirs, &hub)?);
    let url = format!("http://{}", args.listen);
    let client = Client::new(&url)?;
    enough_data(&client, args.clusters, running).await?;
    say(&format!("periplus answers at {url} ({:.0?} since the start)\n", began.elapsed()))?;
    tables(&client).await?;
    hints(args, &url, &hub)?;
    watch_over(running).await
}

/// The product as a small user runs it.
fn product(
    args: &Args,
    setup: &prometheus::Setup<'_>,
    urls: &[String],
    tsdb: &[PathBuf],
    hub: &url::Url,
) -> anyhow::Result<Process> {
    let dir = setup.dir;
    let own = std::env::current_exe().context("finding this binary")?;
    let mut command = Command::new(own);
    command.arg("standalone").arg("--listen").arg(args.listen.to_string());
    command.arg("--data").arg(dir.join("data"));
    command.arg("--admin").arg(setup.admin.to_string()).args(["--grpc", "127.0.0.1:0"]);
    command.arg("--events-listen").arg(hub.authority());
    for url in urls {
        command.arg("--prometheus").arg(url);
    }
    for dir in tsdb {
        command.arg("--tsdb").arg(dir);
    }
    Process::start("periplus", command, dir)
}

/// Waits until every cluster has a rate to show.
async fn enough_data(
    client: &Client,
    clusters: u32,
    running: &mut [Process],
) -> anyhow::Result<()> {
    let ask = "count(count by (cluster) (rate(container_cpu_usage_seconds_total[5m])))";
    let mut last = String::new();
    for _ in 0..600 {
        if let Some(dead) = running.iter_mut().find_map(|p| p.died().map(|_| p.name.clone())) {
            bail!("{dead} ended before the fleet could answer");
        }
        match client.query(ask, None).await {
            Ok(json) => {
                let value = json["data"]["result"][0]["value"][1].as_str().unwrap_or("0");
                if value.parse() == Ok(clusters) {
                    return Ok(());
                }
                last = format!("{value} of {clusters} clusters have data");
            }
            Err(e) => last = format!("{e:#}"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    bail!("the fleet did not answer within 150 seconds: {last}")
}

async fn tables(client: &Client) -> anyhow::Result<()> {
    for what in What::value_variants() {
        for by in By::value_variants() {
            let question = Question {
                what: *what,
                by: *by,
                k: 10,
                window: what.default_window().to_owned(),
                cluster_label: "cluster".into(),
                node_label: "node".into(),
            };
            let answer = client.ask(&question, None).await?;
            say(&table(&question, &answer))?;
        }
    }
    Ok(())
}

fn hints(args: &Args, url: &str, hub: &url::Url) -> anyhow::Result<()> {
    let flag = if args.listen.port() == 9090 { String::new() } else { format!(" --url {url}") };
    say(&format!(
        "Try, in another terminal:\n  \
         periplus top cpu --by pod --watch{flag}\n  \
         periplus top restarts --by node -k 5{flag}\n  \
         curl -s '{url}/api/v1/query' --data-urlencode 'query=sum by (cluster) (up)'\n  \
         curl -s '{url}/api/v1/endpoints'\n  \
         periplus events --since 1h --url {hub}\n  \
         periplus events --follow --reason BackOff --url {hub}\n  \
         Grafana: load dashboards/provisioning with the addresses {url} and {hub}"
    ))?;
    match args.duration {
        Some(d) => {
            say(&format!("Running for {} in all; Ctrl-C ends it.", humantime::format_duration(d)))
        }
        None => say("Running until Ctrl-C."),
    }
}

/// Names every child that dies; the demo goes on with what is left, as a fleet does.
async fn watch_over(running: &mut Vec<Process>) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut i = 0;
        while i < running.len() {
            if let Some(words) = running[i].died() {
                say(&words)?;
                running.remove(i);
            } else {
                i += 1;
            }
        }
        if running.is_empty() {
            bail!("every process of the demo has ended");
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns when the process is asked to end.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut term) => tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => {
            let _asked = tokio::signal::ctrl_c().await;
        }
    }
}

/// A line to whoever watches; one that went away does not stop the clean-up.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}
