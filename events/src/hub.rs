//! The hub: every cluster's events, one row each, in one place.
//!
//! In the order a batch takes: [`access`] decides whose it is; [`ingest`] decodes it within limits, cleans it, and has it
//! logged; [`state`] is what the log then applies it to; [`leader`] says which of several hubs does all this. The
//! HTTP side is in [`crate::api`] and [`crate::loki`], the rows in [`crate::store`], questions in [`crate::search`].
//!
//! Several hubs behind one address follow a leader: the one that holds a lease in the bucket writes the log there and
//! answers; the others are not ready, and say so to whoever asks, until they take over. Nothing acknowledged is lost
//! then, for the log is in the bucket, and two leaders can't both acknowledge, for each object of the log can be put once.

pub mod access;
mod config;
pub mod ingest;
pub mod leader;
pub mod metrics;
pub mod state;

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use periplus_bucket::{Bucket, BucketError, Location, OpenOptions};
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_daemon::listen::{ListenError, Listener};
use periplus_daemon::tls::TlsError;

use crate::log::LogError;
use crate::store::files::FilesError;

pub use access::{Access, AccessError, Identity};
pub use config::Config;
pub use state::Active;

/// Why the hub can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Who may do what can't be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The files in the bucket.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Settings that do not go together.
    #[error("{0}")]
    Config(String),
    /// The system gives no thread.
    #[error("starting the log's thread: {0}")]
    Thread(std::io::Error),
}

/// A hub. Clones are the same hub.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) access: Access,
    pub(crate) bucket: Bucket,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) active: RwLock<Standing>,
    pub(crate) bodies: Arc<tokio::sync::Semaphore>,
    pub(crate) tails: Arc<tokio::sync::Semaphore>,
}

/// Whether this hub answers.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It does not, and why.
    Waiting(String),
    /// It does.
    Active(Arc<Active>),
}

/// A hub with a bound address, not serving yet.
#[derive(Debug)]
pub struct Bound {
    /// The hub.
    pub hub: Hub,
    listener: Option<Listener>,
    grpc: Option<crate::promql::Bound>,
}

impl Bound {
    /// Where it will listen; `None` where another server serves its routes.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(Listener::address)
    }
}

impl Bound {
    /// Where the gRPC service will listen, where there is one.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(crate::promql::Bound::address)
    }
}

impl Hub {
    /// What answers, where this hub does.
    ///
    /// # Errors
    /// Why it does not.
    pub fn active(&self) -> Result<Arc<Active>, String> {
        match &*self.shared.active.read() {
            Standing::Active(active) => Ok(Arc::clone(active)),
            Standing::Waiting(why) => Err(why.clone()),
        }
    }

    /// All routes, to be served alone or beside others.
    pub fn router(&self) -> axum::Router {
        crate::api::router(self.clone()).merge(crate::loki::router(self.clone()))
    }

    pub(crate) fn stand(&self, standing: Standing, admin: &Admin) {
        let reason = match &standing {
            Standing::Waiting(why) => Some(why.clone()),
            Standing::Active(_) => None,
        };
        self.shared.metrics.leads(reason.is_none());
        *self.shared.active.write() = standing;
        admin.set_unready("events hub", reason);
    }
}

/// Binds the address, where there is one, and begins to open the store, on tasks of `drain`.
///
/// # Errors
/// What keeps the hub from starting, with the flag to change.
pub async fn build(config: Config, admin: &Admin, drain: &Drain) -> Result<Bound, HubError> {
    config.tls.rustls()?;
    let access = match &config.access {
        Some(file) => Access::read(file)?,
        None => Access::open(&config.region)?,
    };
    let listener = match &config.listen {
        None => None,
        Some(address) => {
            let listener = Listener::bind(address, "listen", config.max_connections).await?;
            if access.is_open() && !listener.address().ip().is_loopback() {
                return Err(HubError::Config(format!(
                    "--listen {address}: without --access anyone could write as any cluster; name a file of \
                     senders, or listen on a loopback address"
                )));
            }
            Some(listener)
        }
    };
    std::fs::create_dir_all(&config.data)
        .map_err(|e| HubError::Config(format!("--data {}: {e}", config.data.display())))?;
    let bucket = match &config.bucket {
        Some(url) => Bucket::open(&Location::parse(url)?, &OpenOptions::default())?,
        None if config.shared => {
            return Err(HubError::Config("--shared needs a --bucket that all hubs reach".into()));
        }
        None => {
            let directory = std::path::absolute(config.data.join("bucket"))
                .map_err(|e| HubError::Config(format!("--data: {e}")))?;
            let url = url::Url::from_directory_path(&directory)
                .map_err(|()| HubError::Config("--data: no path of a directory".into()))?;
            Bucket::open(
                &Location::parse(url.as_str().trim_end_matches('/'))?,
                &OpenOptions::default(),
            )?
        }
    };
    let metrics = metrics::Metrics::new(admin);
    let bodies = Arc::new(tokio::sync::Semaphore::new(config.max_bodies_bytes >> 10));
    let tails = Arc::new(tokio::sync::Semaphore::new(config.max_tails));
    let active = RwLock::new(Standing::Waiting("the hub is starting".to_owned()));
    let shared = Shared { config, access, bucket, metrics, active, bodies, tails };
    let hub = Hub { shared: Arc::new(shared) };
    admin.set_unready("events hub", Some("starting".into()));
    if hub.shared.config.shared {
        drain.spawn("events hub: lease", leader::follow(hub.clone(), admin.clone(), drain.clone()));
    } else {
        let active = state::open(&hub, state::Log::Disk, drain).await?;
        hub.stand(Standing::Active(active), admin);
    }
    let grpc = match &hub.shared.config.grpc {
        Some(address) => Some(crate::promql::Bound::bind(hub.clone(), address).await?),
        None => None,
    };
    Ok(Bound { hub, listener, grpc })
}

/// Serves until the process is asked to end.
///
/// # Errors
/// The certificates can't be used.
pub async fn run(bound: Bound, drain: &Drain) -> Result<(), HubError> {
    let Bound { hub, listener, grpc } = bound;
    let end = drain.token();
    if let Some(grpc) = grpc {
        let own = drain.clone();
        drain.spawn("events hub: gRPC", async move {
            if let Err(error) = grpc.run(&own).await {
                tracing::error!(%error, "the events hub serves no gRPC");
            }
        });
    }
    match listener {
        Some(listener) => {
            let tls = hub.shared.config.tls.rustls()?;
            tracing::info!(address = %listener.address(), "events hub serves");
            periplus_daemon::http::serve(hub.router(), listener, tls, end).await;
        }
        None => end.cancelled().await,
    }
    // What is acknowledged is in the log; the rest is tidiness.
    *hub.shared.active.write() = Standing::Waiting("the hub is ending".to_owned());
    Ok(())
}

#[cfg(test)]
mod tests;
