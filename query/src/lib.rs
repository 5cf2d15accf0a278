//! The query layer: answers PromQL over all clusters, as one Prometheus that holds all of their series
//! with their external labels would, and says which clusters an answer lacks.
//!
//! In the order a question takes: [`api`] (Prometheus's HTTP API) or [`grpc`] (a tier above) takes it in;
//! [`answer`] leads it through the rest; [`plan`] decides, without any I/O, which subtrees the endpoints
//! evaluate and who answers which steps; [`endpoints`] knows who there is and how they are; [`fanout`] asks
//! them and puts answers and partial aggregates together; [`series`] fetches what can't be evaluated
//! elsewhere, with [`periplus_model::replicas`] making one series of replicas' samples; `lib/promql`
//! evaluates what is left.
//!
//! With a bucket, [`history`] is one more endpoint, read in this process; [`sql`] asks it in SQL.
//!
//! It stores nothing but the names of the clusters it has seen (and copies of the bucket's bytes), and it
//! never reads a Prometheus itself: endpoints are sidecars, other query layers, or anything that speaks
//! Thanos's Store API.
//!
//! The one decision worth knowing: the question goes to the data, and only where a rule says that the
//! answer stays exact. Everything else about a fleet is a matter of honesty: who could not be asked is part
//! of the answer, on every way out of here.

pub mod about;
pub mod answer;
pub mod api;
mod config;
pub mod endpoints;
pub mod fanout;
pub mod grpc;
pub mod history;
mod metrics;
pub mod plan;
pub mod ruler;
pub mod series;
#[cfg(feature = "sql")]
pub mod sql;
pub mod times;

pub use config::Config;
pub use metrics::{Metrics, Running};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_daemon::listen::{ListenError, Listener};
use periplus_daemon::tls::TlsError;
use periplus_promql::engine::{Engine, EngineConfig, QueryError};
use periplus_promql::limits::{Limits, ProcessLimits};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use answer::Answerer;
use api::{Api, Defaults};
use endpoints::{Registry, RegistryConfig, now_ms};
use fanout::FanoutConfig;
use grpc::Services;
use history::{History, HistoryError};

/// Why the service can't begin.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The engine can't start.
    #[error("starting the engine: {0}")]
    Engine(#[from] QueryError),
    /// The bucket can't be used.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Nobody to ask.
    #[error("nothing to answer from: give at least one --endpoint, --endpoint-file or --bucket")]
    NoEndpoints,
}

/// A service that is bound and ready to run.
#[derive(Debug)]
pub struct Query {
    /// Answers questions in this process.
    pub answerer: Answerer,
    /// What holds when a request does not say.
    pub defaults: Defaults,
    /// The rules of this process, to be set by whoever evaluates them.
    pub own: about::Own,
    http: Listener,
    grpc: Listener,
    server: tonic::transport::Server,
    http_tls: Option<Arc<rustls::ServerConfig>>,
    config: Config,
    metrics: Metrics,
}

impl Query {
    /// Where the HTTP API is, with the port that was taken.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Where the gRPC services are.
    #[must_use]
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.address()
    }
}

/// Binds the listeners and begins to look for endpoints, on tasks of `drain`.
///
/// # Errors
/// What keeps the service from starting, with the flag to change.
pub async fn build(config: Config, admin: &Admin, drain: &Drain) -> Result<Query, BuildError> {
    let bucket = config.history.bucket.is_some() || config.history.objstore_config_file.is_some();
    if config.endpoint.is_empty() && config.endpoint_file.is_empty() && !bucket {
        return Err(BuildError::NoEndpoints);
    }
    let server = periplus_daemon::grpc::server(&config.server_tls)?;
    let http_tls = config.server_tls.rustls()?;
    let http = Listener::bind(&config.listen, "listen", config.max_connections).await?;
    let grpc = Listener::bind(&config.grpc, "grpc", config.max_connections).await?;
    let metrics = Metrics::new();
    admin.register(|r| metrics.register(r));
    let answerer = start(&config, drain)?;
    let history = answerer.history.clone();
    let watcher = (answerer.registry.watch(), metrics.clone(), admin.clone(), history);
    drain.spawn("query: watch the fleet", watch_fleet(watcher, drain.token()));
    let defaults = Defaults {
        timeout: config.query_timeout,
        lookback_ms: i64::try_from(config.lookback_delta.as_millis()).unwrap_or(i64::MAX),
        replica_labels: config.replica_label.clone(),
        strict: config.strict,
        delayed_name_removal: false,
        resolution: config.history.max_source_resolution,
    };
    Ok(Query {
        answerer,
        defaults,
        own: about::Own::default(),
        http,
        grpc,
        server,
        http_tls,
        config,
        metrics,
    })
}

/// The part without listeners: endpoints are looked for and questions can be asked.
///
/// # Errors
/// The engine can't start, or TLS settings can't be used.
pub fn start(config: &Config, drain: &Drain) -> Result<Answerer, BuildError> {
    config.client_tls.tonic()?;
    let engine = Engine::new(&EngineConfig {
        workers: config.workers,
        process: ProcessLimits { memory_bytes: config.max_total_bytes, ..ProcessLimits::default() },
    })?;
    let registry_config = RegistryConfig {
        addresses: config.endpoint.clone(),
        files: config.endpoint_file.clone(),
        refresh: config.refresh_interval,
        probe_interval: config.probe_interval,
        probe_timeout: config.probe_timeout,
        replica_labels: config.replica_label.clone(),
        data: config.data.clone(),
        forget_after: config.forget_after,
        tls: config.client_tls.clone(),
    };
    let tasks = TaskTracker::new();
    let registry = Registry::start(registry_config, &tasks, &drain.token());
    drain.spawn("query: endpoints", async move {
        tasks.close();
        tasks.wait().await;
    });
    let history = config.history.open()?;
    if let Some(history) = &history {
        let follow = history.clone().follow(config.history.catalog_refresh, drain.token());
        drain.spawn("query: the catalog of history", follow);
    }
    let limits = Limits {
        samples: config.max_samples,
        series: config.max_series,
        memory_bytes: config.max_query_bytes,
        wall_time: Some(config.query_timeout),
        ..Limits::default()
    };
    Ok(Answerer {
        registry,
        engine: Arc::new(engine),
        fanout: FanoutConfig {
            endpoint_timeout: config.endpoint_timeout,
            concurrent_requests: config.max_concurrent_requests,
            attempts: 2,
            hedge_after: config.hedge_after,
        },
        limits,
        running: Arc::new(Semaphore::new(config.max_concurrent_queries)),
        history,
    })
}

type Watched =
    (tokio::sync::watch::Receiver<Arc<endpoints::Snapshot>>, Metrics, Admin, Option<History>);

/// Keeps metrics and readiness current.
async fn watch_fleet(
    (mut fleet, metrics, admin, history): Watched,
    end: tokio_util::sync::CancellationToken,
) {
    loop {
        {
            let snapshot = fleet.borrow_and_update();
            metrics.fleet(&snapshot);
            let asked = snapshot.endpoints.iter().any(|e| e.status.checked_ms > 0);
            let reason = match (asked, snapshot.endpoints.is_empty(), &history) {
                (true, _, _) => None,
                (false, true, Some(h)) if h.is_read() => None,
                (false, true, Some(_)) => Some("the catalog of history is not read yet".to_owned()),
                _ => Some("no endpoint has been asked yet".to_owned()),
            };
            admin.set_unready("query", reason);
        }
        tokio::select! {
            changed = fleet.changed() => if changed.is_err() { return },
            // The catalog tells nobody when it has been read.
            () = tokio::time::sleep(Duration::from_millis(500)), if history.is_some() => {}
            () = end.cancelled() => return,
        }
    }
}

/// Serves until the process is asked to end; returns once both servers have ended.
///
/// # Errors
/// What ends a server otherwise.
pub async fn run(query: Query, drain: &Drain) -> Result<(), tonic::transport::Error> {
    let Query { answerer, defaults, own, http, grpc, mut server, http_tls, config, metrics } =
        query;
    let services =
        Services { answerer: answerer.clone(), defaults: defaults.clone(), own: own.clone() };
    let api = Api {
        answerer,
        defaults,
        flags: Arc::new(config.shown()),
        started_ms: now_ms(),
        places: Arc::new(Semaphore::new(config.max_http_requests)),
        readers: Arc::new(Semaphore::new(api::READERS)),
        room: api::Room::new(config.max_total_bytes),
        metrics,
        own,
        queries: api::active::Queries::default(),
        together: api::coalesce::Coalesce::default(),
        kept: api::kept::Kept::new(config.answer_ttl),
    };
    tracing::info!(http = %http.address(), grpc = %grpc.address(), "query layer is up");
    let end = drain.token();
    let web = periplus_daemon::http::serve(api.router(), http, http_tls, end.clone());
    let rpc = periplus_daemon::grpc::serve(server.add_routes(services.routes()), grpc, end.clone());
    let (_, rpc) = tokio::join!(web, rpc);
    rpc
}
