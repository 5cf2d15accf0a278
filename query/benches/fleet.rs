//! The fleet's top ten over many endpoints that answer their own top ten, by real gRPC over loopback: 10,
//! 100 and 1,000 directly, and 1,000 behind ten query layers. Endpoints live in a process of their own, so
//! that memory is the query layer's. Beside it: planning alone, and writing a million points as JSON.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_model::{Labels, TimeRange};
use periplus_promql::parse;
use periplus_promql::partial::{PartialGroup, PartialKind, PartialMatrix};
use periplus_promql::value::{Bitmap, StepGrid, Value};
use periplus_proto::convert::label_set_to_fleet;
use periplus_proto::fleet::execute_response::Frame;
use periplus_proto::fleet::fleet_server::{Fleet, FleetServer};
use periplus_proto::fleet::{self, ExecuteRequest, ExecuteResponse, Trailer};
use periplus_query::answer::{Answerer, Options, When};
use periplus_query::fanout::wire::encode_partial;
use periplus_query::plan::{self, Held};
use periplus_query::{Config, start};
use tonic::{Request, Response, Status};

type Failure = Box<dyn std::error::Error>;

const QUERY: &str =
    "topk(10, sum by (cluster, namespace, pod) (rate(container_cpu_usage_seconds_total[5m])))";
/// Says to this program that it is to serve that many endpoints.
const ENDPOINTS: &str = "PERIPLUS_BENCH_ENDPOINTS";

fn main() -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Ok(n) = std::env::var(ENDPOINTS) {
        return runtime.block_on(serve(n.parse()?));
    }
    say("fleet top ten, instant (median of 15, 2 cores shared with the endpoints)")?;
    for n in [10, 100, 1000] {
        let (mut endpoints, addresses) = spawn(n)?;
        let line = runtime.block_on(direct(&addresses))?;
        say(&format!("{n:>6} endpoints             {line}"))?;
        endpoints.kill()?;
        endpoints.wait()?;
    }
    let (mut endpoints, addresses) = spawn(1000)?;
    let line = runtime.block_on(tiers(&addresses))?;
    say(&format!("  1000 behind 10 query layers {line}"))?;
    endpoints.kill()?;
    endpoints.wait()?;
    planning()
}

fn say(line: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn spawn(n: usize) -> Result<(Child, Vec<SocketAddr>), Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(ENDPOINTS, n.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let addresses = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    Ok((child, addresses))
}

#[derive(Clone)]
struct TopTen {
    external: Labels,
    frames: Vec<ExecuteResponse>,
}

async fn serve(n: usize) -> Result<(), Failure> {
    let mut addresses = Vec::new();
    for i in 0..n {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        let service = FleetServer::new(TopTen::new(i));
        // As the sidecar's listener does; without it every answer waits 40 ms for an acknowledgement.
        let incoming = futures::StreamExt::map(
            tokio_stream::wrappers::TcpListenerStream::new(listener),
            |stream| stream.inspect(|s| drop(s.set_nodelay(true))),
        );
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
    }
    say(&addresses.join(" "))?;
    std::future::pending::<()>().await;
    Ok(())
}

impl TopTen {
    fn new(i: usize) -> Self {
        let cluster = format!("cluster-{i:04}");
        let group = |k: usize| PartialGroup {
            group: Labels::empty(),
            labels: Labels::from_pairs([
                ("cluster", cluster.as_str()),
                ("namespace", "production"),
                ("pod", format!("checkout-7c9f5b6d4-{k:05}").as_str()),
            ]),
            drop_name: false,
            columns: vec![vec![((i * 7919 + k * 104_729) % 100_003) as f64 / 1000.0]],
            present: Bitmap::new(1, true),
            flags: Vec::new(),
            histograms: Vec::new(),
        };
        let partial = PartialMatrix {
            kind: PartialKind::Topk { k: 10 },
            grid: StepGrid::instant(0),
            groups: (0..10).map(group).collect(),
        };
        let mut frames: Vec<ExecuteResponse> = encode_partial(&partial)
            .into_iter()
            .map(|b| ExecuteResponse { frame: Some(Frame::Batch(b)) })
            .collect();
        frames.push(ExecuteResponse { frame: Some(Frame::Trailer(Trailer::default())) });
        Self { external: Labels::from_pairs([("cluster", cluster)]), frames }
    }
}

#[tonic::async_trait]
impl Fleet for TopTen {
    type ExecuteStream = tokio_stream::Iter<std::vec::IntoIter<Result<ExecuteResponse, Status>>>;

    async fn describe(
        &self,
        _: Request<fleet::DescribeRequest>,
    ) -> Result<Response<fleet::DescribeResponse>, Status> {
        let stream = fleet::Stream {
            external_labels: Some(label_set_to_fleet(&self.external)),
            time_range: Some(fleet::TimeRange { min_ms: 0, max_ms: i64::MAX }),
            ..fleet::Stream::default()
        };
        let mut answer = fleet::DescribeResponse { streams: vec![stream], ..Default::default() };
        answer.set_component(fleet::Component::Sidecar);
        Ok(Response::new(answer))
    }

    async fn execute(
        &self,
        _: Request<ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let frames: Vec<_> = self.frames.iter().cloned().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(frames)))
    }
}

fn config(endpoints: &[SocketAddr]) -> Config {
    Config {
        endpoint: endpoints.iter().map(SocketAddr::to_string).collect(),
        listen: "127.0.0.1:0".into(),
        grpc: "127.0.0.1:0".into(),
        probe_timeout: Duration::from_secs(60),
        endpoint_timeout: Duration::from_secs(60),
        ..Config::defaults()
    }
}

async fn direct(endpoints: &[SocketAddr]) -> Result<String, Failure> {
    let drain = Drain::new();
    let answerer = start(&config(endpoints), &drain)?;
    answerer.registry.settled(Duration::from_secs(60)).await;
    let line = measure(&answerer).await?;
    drain.wait(Duration::from_secs(5)).await;
    Ok(line)
}

async fn tiers(endpoints: &[SocketAddr]) -> Result<String, Failure> {
    let drain = Drain::new();
    let mut regions = Vec::new();
    for some in endpoints.chunks(100) {
        let admin = Admin::new("query", "bench", "bench");
        let query = periplus_query::build(config(some), &admin, &drain).await?;
        query.answerer.registry.settled(Duration::from_secs(60)).await;
        regions.push(query.grpc_address());
        let drain = drain.clone();
        tokio::spawn(async move { periplus_query::run(query, &drain).await });
    }
    let answerer = start(&config(&regions), &drain)?;
    answerer.registry.settled(Duration::from_secs(60)).await;
    let line = measure(&answerer).await?;
    drain.wait(Duration::from_secs(5)).await;
    Ok(line)
}

async fn measure(answerer: &Answerer) -> Result<String, Failure> {
    let expr = parse::parse(QUERY)?;
    let mut took = Vec::new();
    let mut requests = 0;
    let mut cpu_before = 0;
    for round in 0..18 {
        if round == 3 {
            cpu_before = cpu_ms();
        }
        let options = Options {
            replica_labels: Vec::new(),
            stores: Vec::new(),
            strict: true,
            lookback_ms: 300_000,
            deadline: Instant::now() + Duration::from_secs(60),
            limits: None,
            delayed_name_removal: false,
            per_step_stats: false,
            pushdown: true,
            resolution: periplus_query::history::resolution::MaxResolution::default(),
        };
        let begun = Instant::now();
        let when = When::instant(1_700_000_000_000);
        let a = answerer.answer(&expr, QUERY.into(), when, &options).await?;
        if round >= 3 {
            took.push(begun.elapsed());
        }
        requests = a.requests;
        match &a.value {
            Value::Vector(m) if m.series.len() == 10 => {}
            other => return Err(format!("no top ten: {other:?}").into()),
        }
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    Ok(format!(
        "{:>8.2} ms, {:>7.2} ms of CPU here   {:>5} requests   {:>6.1} µs each   resident {} MiB",
        median.as_secs_f64() * 1e3,
        (cpu_ms() - cpu_before) as f64 / 15.0,
        requests,
        median.as_secs_f64() * 1e6 / (requests.max(1) as f64),
        resident_mib()
    ))
}

/// CPU time of this process so far, which other load on the machine does not change.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // User and system time are the 14th and 15th fields, in ticks of 10 ms.
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn planning() -> Result<(), Failure> {
    let held = |i: usize| Held {
        endpoint: i,
        external: Labels::from_pairs([
            ("cluster", format!("c{i}")),
            ("region", format!("r{}", i % 10)),
        ]),
        available: TimeRange::ALL,
        gaps: Vec::new(),
        usable: true,
        healthy: true,
        executes: true,
    };
    let fleet = plan::Fleet::new((0..1000).map(held), &[]);
    let expr = parse::parse(QUERY)?;
    let begun = Instant::now();
    for _ in 0..100 {
        std::hint::black_box(plan::plan(&expr, QUERY, &fleet));
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / 100.0;
    say(&format!("planning over 1000 streams: {each:.0} µs"))
}
