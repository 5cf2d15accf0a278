//! Built parts: a sidecar that serves over a socket, or within its process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_daemon::grpc;
use periplus_daemon::listen::{ListenError, Listener};
use periplus_daemon::tls::TlsError;
use periplus_promql::engine::{Engine, EngineConfig, QueryError};
use periplus_promql::limits::ProcessLimits;
use periplus_proto::fleet::about_server::AboutServer;
use periplus_proto::fleet::fleet_server::FleetServer;
use periplus_proto::thanos::exemplars_server::ExemplarsServer;
use periplus_proto::thanos::info::info_server::InfoServer;
use periplus_proto::thanos::metadata_server::MetadataServer;
use periplus_proto::thanos::query_server::QueryServer;
use periplus_proto::thanos::rules_server::RulesServer;
use periplus_proto::thanos::status_server::StatusServer;
use periplus_proto::thanos::store_server::StoreServer;
use periplus_proto::thanos::targets_server::TargetsServer;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};

use crate::config::Config;
use crate::hot::{HotConfig, Keeper};
use crate::live::{FleetService, InfoService, QueryService, Shared, StoreService, TellService};
use crate::metrics::Metrics;
use crate::prometheus::{Client, Snapshot, Watch};

/// A sidecar that can't be built.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The settings for reaching Prometheus are no use.
    #[error("{0}")]
    Prometheus(String),
    /// The engine's workers can't be started.
    #[error(transparent)]
    Engine(#[from] QueryError),
    /// The address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The gRPC server ended.
    #[error("gRPC server: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// A sidecar at work: it watches its Prometheus and can be asked. Clones are the same sidecar.
#[derive(Clone, Debug)]
pub struct Sidecar {
    shared: Arc<Shared>,
}

/// A sidecar with a bound address, not serving yet.
#[derive(Debug)]
pub struct Bound {
    /// The sidecar.
    pub sidecar: Sidecar,
    listener: Listener,
}

impl Sidecar {
    /// Begins to watch the Prometheus of `config`, without listening anywhere. `engine` may be shared by all
    /// parts of a process; without one, one is started. To be called within the async runtime.
    ///
    /// # Errors
    /// Settings that can't be used.
    pub fn new(
        config: Config,
        engine: Option<Arc<Engine>>,
        admin: &Admin,
        drain: &Drain,
    ) -> Result<Self, SidecarError> {
        let client = Client::new(config.prometheus.clone(), &config.access)
            .map_err(|e| SidecarError::Prometheus(e.to_string()))?;
        let engine = match engine {
            Some(engine) => engine,
            None => Arc::new(Engine::new(&EngineConfig {
                workers: 0,
                process: ProcessLimits {
                    memory_bytes: config.limits.memory_max.saturating_mul(2),
                    queries: u64::MAX,
                },
            })?),
        };
        let metrics = Metrics::new(admin, &client.address());
        let watch = Arc::new(Watch::new(client, metrics.clone(), config.gap_window));
        let interval = config.prometheus_poll_interval;
        let name = format!("watch of {}", watch.client().address());
        drain.spawn(name, Arc::clone(&watch).run(interval, drain.token()));
        let hot = hot_config(&config).map(|c| Arc::new(Keeper::new(c)));
        if let Some(keeper) = &hot {
            let (keeper, watch, metrics) =
                (Arc::clone(keeper), Arc::clone(&watch), metrics.clone());
            drain.spawn("hot window", keeper.run(watch, metrics, drain.token()));
        }
        let places = Arc::new(Semaphore::new(config.limits.concurrent_max.max(1)));
        Ok(Self { shared: Arc::new(Shared { config, watch, metrics, engine, hot, places }) })
    }

    /// What is known of the Prometheus now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.watch.current()
    }

    /// Waits until the Prometheus has been reached once, at most `timeout`; `None` when it was not.
    pub async fn known(&self, timeout: Duration) -> Option<Arc<Snapshot>> {
        self.shared.watch.known(timeout).await
    }

    /// The fleet service, to be called without any transport.
    #[must_use]
    pub fn fleet(&self) -> FleetService {
        FleetService::new(Arc::clone(&self.shared))
    }

    /// Thanos's store service, to be called without any transport.
    #[must_use]
    pub fn store(&self) -> StoreService {
        StoreService::new(Arc::clone(&self.shared))
    }

    /// Thanos's query service, to be called without any transport.
    #[must_use]
    pub fn query(&self) -> QueryService {
        QueryService::new(Arc::clone(&self.shared))
    }

    /// Thanos's info service, to be called without any transport.
    #[must_use]
    pub fn info(&self) -> InfoService {
        InfoService::new(Arc::clone(&self.shared))
    }

    /// What Prometheus tells of itself, to be called without any transport.
    #[must_use]
    pub fn tell(&self) -> TellService {
        TellService::new(Arc::clone(&self.shared))
    }

    /// All services, for a gRPC server.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let max = grpc::REQUEST_BYTES_MAX;
        Routes::new(FleetServer::new(self.fleet()).max_decoding_message_size(max))
            .add_service(StoreServer::new(self.store()).max_decoding_message_size(max))
            .add_service(QueryServer::new(self.query()).max_decoding_message_size(max))
            .add_service(InfoServer::new(self.info()).max_decoding_message_size(max))
            .add_service(RulesServer::new(self.tell()).max_decoding_message_size(max))
            .add_service(TargetsServer::new(self.tell()).max_decoding_message_size(max))
            .add_service(MetadataServer::new(self.tell()).max_decoding_message_size(max))
            .add_service(ExemplarsServer::new(self.tell()).max_decoding_message_size(max))
            .add_service(StatusServer::new(self.tell()).max_decoding_message_size(max))
            .add_service(AboutServer::new(self.tell()).max_decoding_message_size(max))
    }

    /// A channel to this sidecar within the process: no socket, the same services over memory.
    ///
    /// # Errors
    /// None in practice; the address of the channel is a constant.
    pub fn connect(&self) -> Result<Channel, SidecarError> {
        let routes = self.routes();
        let connector = tower::service_fn(move |_: http::Uri| {
            let routes = routes.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(256 << 10);
                let incoming = tokio_stream::once(Ok::<_, std::io::Error>(theirs));
                let server = tonic::transport::Server::builder()
                    .initial_stream_window_size(Some(1 << 20))
                    .initial_connection_window_size(Some(4 << 20))
                    .add_routes(routes);
                tokio::spawn(server.serve_with_incoming(incoming));
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
            }
        });
        let endpoint = Endpoint::from_static("http://in-process");
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}

/// The hot window's settings, where it is wanted and the log can be read.
fn hot_config(config: &Config) -> Option<HotConfig> {
    let tsdb = config.tsdb.as_ref().filter(|_| !config.hot_window.is_zero())?;
    Some(HotConfig {
        wal_dir: tsdb.join("wal"),
        length: config.hot_window,
        bytes_max: usize::try_from(config.hot_window_memory).unwrap_or(usize::MAX),
    })
}

impl Bound {
    /// Where it will listen, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }
}

/// Binds the address and begins to watch Prometheus.
///
/// # Errors
/// Settings or an address that can't be used.
pub async fn build(config: Config, admin: &Admin, drain: &Drain) -> Result<Bound, SidecarError> {
    config.tls.tonic()?;
    let listener = Listener::bind(&config.listen, "listen", config.connections_max).await?;
    let sidecar = Sidecar::new(config, None, admin, drain)?;
    Ok(Bound { sidecar, listener })
}

/// Serves until the process is asked to end. Readiness follows the health of Prometheus.
///
/// # Errors
/// What ends the server otherwise.
pub async fn run(bound: Bound, admin: &Admin, drain: &Drain) -> Result<(), SidecarError> {
    let Bound { sidecar, listener } = bound;
    let address = listener.address();
    let router = grpc::server(&sidecar.shared.config.tls)?.add_routes(sidecar.routes());
    let (shared, admin, end) = (Arc::clone(&sidecar.shared), admin.clone(), drain.token());
    drain.spawn("sidecar readiness", async move {
        loop {
            let snapshot = shared.watch.current();
            admin.set_unready("prometheus", snapshot.problem.clone());
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
                () = end.cancelled() => return,
            }
        }
    });
    tracing::info!(%address, prometheus = %sidecar.shared.watch.client().address(), "sidecar serves");
    let served =
        drain.spawn_essential("sidecar gRPC", grpc::serve(router, listener, drain.token()));
    match served.await {
        Ok(done) => Ok(done?),
        Err(_) => Ok(()),
    }
}
