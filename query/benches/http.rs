//! What HTTP adds to an answer, and many dashboards at once: ten endpoints that answer a sum after two
//! milliseconds, a query layer over them with its real listener, and clients over loopback. First the same
//! question with and without HTTP, one at a time; then 500 clients that refresh the same dashboard.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_model::Labels;
use periplus_promql::parse;
use periplus_promql::partial::{PartialGroup, PartialKind, PartialMatrix};
use periplus_promql::value::{Bitmap, StepGrid};
use periplus_proto::convert::label_set_to_fleet;
use periplus_proto::fleet::execute_response::Frame;
use periplus_proto::fleet::fleet_server::{Fleet, FleetServer};
use periplus_proto::fleet::{self, ExecuteRequest, ExecuteResponse, Trailer};
use periplus_query::Config;
use periplus_query::answer::{Answerer, When};
use periplus_query::api::params::Params;
use periplus_query::fanout::wire::encode_partial;
use tonic::{Request, Response, Status};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ENDPOINTS: usize = 10;
const CLIENTS: usize = 500;
const REFRESHES: usize = 2;
/// Between refreshes.
const INTERVAL: Duration = Duration::from_secs(10);
/// The panels of a dashboard: one row each.
const PANELS: usize = 12;

fn main() -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run())
}

fn say(line: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

#[derive(Clone)]
struct Sum {
    external: Labels,
}

#[tonic::async_trait]
impl Fleet for Sum {
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
        tokio::time::sleep(Duration::from_millis(2)).await;
        let partial = PartialMatrix {
            kind: PartialKind::Sum,
            grid: StepGrid::instant(0),
            groups: vec![PartialGroup {
                group: Labels::empty(),
                labels: Labels::empty(),
                drop_name: true,
                columns: vec![vec![1.0], vec![0.0]],
                present: Bitmap::new(1, true),
                flags: Vec::new(),
                histograms: Vec::new(),
            }],
        };
        let batches = encode_partial(&partial).into_iter();
        let mut frames: Vec<_> =
            batches.map(|b| Ok(ExecuteResponse { frame: Some(Frame::Batch(b)) })).collect();
        frames.push(Ok(ExecuteResponse { frame: Some(Frame::Trailer(Trailer::default())) }));
        Ok(Response::new(tokio_stream::iter(frames)))
    }
}

async fn endpoints() -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = Vec::new();
    for i in 0..ENDPOINTS {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        let external = Labels::from_pairs([("cluster", format!("cluster-{i}"))]);
        let service = FleetServer::new(Sum { external });
        let incoming = futures::StreamExt::map(
            tokio_stream::wrappers::TcpListenerStream::new(listener),
            |stream| stream.inspect(|s| drop(s.set_nodelay(true))),
        );
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
    }
    Ok(addresses)
}

fn panel(i: usize) -> String {
    format!("sum(panel_{i})")
}

async fn run() -> Result<(), Failure> {
    let addresses = endpoints().await?;
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
