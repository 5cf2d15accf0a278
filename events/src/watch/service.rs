//! From settings to running tasks: watcher, lease, spool, forwarder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use url::Url;

use super::api::Api;
use super::cursor::CursorFile;
use super::enrich::Enricher;
use super::lease::{Candidate, LeaseConfig};
use super::{InitialList, Start, WatchConfig, WatchMetrics, Watcher};
use crate::event::{MESSAGE_BYTES, MESSAGE_BYTES_MAX};
use crate::filter::{Filter, FilterArgs, FilterError};
use crate::forward::{ForwardConfig, ForwardMetrics, Forwarder};
use crate::spool::{SPOOL_BYTES_LEAST, Spool, SpoolConfig, SpoolMetrics};

/// Settings of the watcher. They have the same names in `periplus events watch` and in `periplus sidecar`.
#[derive(clap::Args, Clone, Debug)]
pub struct WatchArgs {
    /// Events hub to send events to (https://HOST:PORT); more than one are tried in turn
    #[arg(long = "events-hub", visible_alias = "hub", value_name = "URL", help_heading = "Events")]
    pub events_hub: Vec<Url>,
    /// Name of the cluster in every event; a sidecar takes the external label "cluster" if not given
    #[arg(
        long = "events-cluster",
        visible_alias = "cluster",
        value_name = "NAME",
        help_heading = "Events"
    )]
    pub events_cluster: Option<String>,
    /// File with the bearer token for the hub, read anew for every batch
    #[arg(long, value_name = "FILE", help_heading = "Events")]
    pub hub_token_file: Option<PathBuf>,
    /// PEM file with the authorities that sign the hub's certificate, in place of the system's
    #[arg(long, value_name = "FILE", help_heading = "Events")]
    pub hub_ca: Option<PathBuf>,
    /// PEM file with certificate chain and private key to show to the hub
    #[arg(long, value_name = "FILE", help_heading = "Events")]
    pub hub_identity: Option<PathBuf>,
    /// Directory for events that the hub has not acknowledged, and for the position of the watch
    #[arg(long, value_name = "DIR", default_value = "events-spool", help_heading = "Events")]
    pub spool: PathBuf,
    /// Most bytes on disk; when it is full the oldest events go, and a gap is recorded
    #[arg(long, value_name = "MIB", default_value_t = 256, help_heading = "Events")]
    pub spool_mib: u64,
    /// How long events wait for the hub at most, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 24, help_heading = "Events")]
    pub spool_hours: u64,
    /// Kubeconfig to find the API server by; default: $KUBECONFIG or ~/.kube/config, else that of the pod
    #[arg(long, value_name = "FILE", help_heading = "Events")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", help_heading = "Events")]
    pub kube_context: Option<String>,
    /// URL of the API server, without credentials (kubectl proxy)
    #[arg(long, value_name = "URL", help_heading = "Events", conflicts_with_all = ["kubeconfig", "kube_context"])]
    pub api_server: Option<String>,
    /// Watch one namespace only
    #[arg(long, value_name = "NAMESPACE", help_heading = "Events")]
    pub watch_namespace: Option<String>,
    /// How all events are read at the beginning
    #[arg(long, value_enum, default_value_t, help_heading = "Events")]
    pub initial_list: InitialList,
    /// Longest message kept, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = MESSAGE_BYTES, help_heading = "Events")]
    pub message_bytes: usize,
    /// Lease that elects one watcher of several replicas, NAMESPACE/NAME; without it this one always watches
    #[arg(long, value_name = "NAMESPACE/NAME", help_heading = "Events")]
    pub events_lease: Option<String>,
    /// Name of this replica in the lease, unlike all others; default: the host's name
    #[arg(long, value_name = "NAME", help_heading = "Events")]
    pub events_identity: Option<String>,
    /// Look up the owners of the objects that events are about
    #[arg(long, help_heading = "Events")]
    pub enrich: bool,
    /// Keep this label of the objects that events are about; implies --enrich
    #[arg(long, value_name = "LABEL", value_delimiter = ',', help_heading = "Events")]
    pub enrich_label: Vec<String>,
    /// Which events to pass on
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// A watcher that can't begin.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Settings that do not go together.
    #[error("{0}")]
    Settings(String),
    /// See there.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// No API server can be found.
    #[error("finding the API server: {0}; give --kubeconfig or --api-server, or run in a pod")]
    Kube(String),
    /// The spool can't be used.
    #[error("--spool {path}: {source}", path = path.display())]
    Spool {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// TLS to the hub.
    #[error("--{flag} {path}: {reason}", path = path.display())]
    Hub {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl WatchArgs {
    /// What holds when nothing is set, for a process that composes services.
    ///
    /// # Panics
    /// Never: a test holds that the defaults parse.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the defaults are constants, and tested")]
    pub fn defaults() -> Self {
        use clap::{Args as _, FromArgMatches as _};
        let command = Self::augment_args(clap::Command::new("watch"));
        let matches = command.try_get_matches_from(["watch"]).expect("defaults are valid");
        Self::from_arg_matches(&matches).expect("defaults are valid")
    }

    /// Looks at the settings without doing anything.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), WatchError> {
        Filter::new(&self.filter)?;
        self.lease()?;
        let settings = |text: &str| Err(WatchError::Settings(text.to_owned()));
        if self.events_hub.is_empty() {
            return settings("--events-hub URL is needed: where to send events");
        }
        if let Some(bad) = self.events_hub.iter().find(|u| !matches!(u.scheme(), "http" | "https"))
        {
            return settings(&format!("--events-hub {bad}: give http:// or https://"));
        }
        if self.spool_mib << 20 < SPOOL_BYTES_LEAST || self.spool_mib > 1 << 24 {
            return settings("--spool-mib: at least 1");
        }
        if self.spool_hours == 0 {
            return settings("--spool-hours: at least 1");
        }
        if self.message_bytes > MESSAGE_BYTES_MAX {
            return settings(&format!("--message-bytes: at most {MESSAGE_BYTES_MAX}"));
        }
        Ok(())
    }

    /// A client for the API server.
    async fn client(&self) -> Result<(kube::Client, String), WatchError> {
        periplus_daemon::tls::install_provider();
        let kube_error = |e: &dyn std::fmt::Display| WatchError::Kube(e.to_string());
        let options = kube::config::KubeConfigOptions {
            context: self.kube_context.clone(),
            ..kube::config::KubeConfigOptions::default()
        };
        let mut config = if let Some(url) = &self.api_server {
            let url: http::Uri = url.parse().map_err(|e| kube_error(&e))?;
            if url.scheme().is_none() {
                return Err(kube_error(&"--api-server needs http:// or https://"));
            }
            kube::Config::new(url)
        } else if let Some(path) = &self.kubeconfig {
            let file = kube::config::Kubeconfig::read_from(path).map_err(|e| kube_error(&e))?;
            kube::Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|e| kube_error(&e))?
        } else if self.kube_context.is_some() {
            kube::Config::from_kubeconfig(&options).await.map_err(|e| kube_error(&e))?
        } else {
            kube::Config::infer().await.map_err(|e| kube_error(&e))?
        };
        // Retrying is the machine's part, which knows what to do meanwhile; and a watch may be silent for long.
        config.default_retry = false;
        config.read_timeout = None;
        let server = config.cluster_url.to_string();
        let client = kube::Client::try_from(config).map_err(|e| kube_error(&e))?;
        Ok((client, server))
    }

    fn http(&self) -> Result<reqwest::Client, WatchError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("periplus/", env!("CARGO_PKG_VERSION")));
        let file = |flag: &'static str, path: &PathBuf, reason: String| WatchError::Hub {
            flag,
            path: path.clone(),
            reason,
        };
        if let Some(path) = &self.hub_ca {
            let pem = std::fs::read(path).map_err(|e| file("hub-ca", path, e.to_string()))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|e| file("hub-ca", path, e.to_string()))?;
            builder = builder.tls_built_in_root_certs(false);
            for authority in authorities {
                builder = builder.add_root_certificate(authority);
            }
        }
        if let Some(path) = &self.hub_identity {
            let pem = std::fs::read(path).map_err(|e| file("hub-identity", path, e.to_string()))?;
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|e| file("hub-identity", path, e.to_string()))?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|e| WatchError::Settings(format!("a client for the hub: {e}")))
    }

    fn lease(&self) -> Result<Option<LeaseConfig>, WatchError> {
        let Some(lease) = &self.events_lease else { return Ok(None) };
        let Some((namespace, name)) =
            lease.split_once('/').filter(|(a, b)| !a.is_empty() && !b.is_empty())
        else {
            return Err(WatchError::Settings(format!(
                "--events-lease {lease}: give NAMESPACE/NAME"
            )));
        };
        Ok(Some(LeaseConfig {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: self.identity(),
            duration: Duration::from_secs(15),
            every: Duration::from_secs(4),
        }))
    }

    fn identity(&self) -> String {
        let host = || std::fs::read_to_string("/etc/hostname").ok();
        let name =
            self.events_identity.clone().or_else(|| std::env::var("HOSTNAME").ok()).or_else(host);
        let name = name.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty());
        name.unwrap_or_else(|| format!("periplus-{}", std::process::id()))
    }
}

/// Builds a watcher for `cluster` and starts its tasks, which end with `drain`.
///
/// # Errors
/// See [`WatchError`]. An API server or a hub that can't be reached now is none: both are tried again.
pub async fn start(
    args: &WatchArgs,
    cluster: &str,
    admin: &Admin,
    drain: &Drain,
) -> Result<(), WatchError> {
    args.check()?;
    if cluster.is_empty() {
        return Err(WatchError::Settings("--events-cluster NAME is needed".to_owned()));
    }
    let filter = Filter::new(&args.filter)?;
    let lease = args.lease()?;
    let http = args.http()?;
    let (client, server) = args.client().await?;
    let (watch_metrics, spool_metrics) = (WatchMetrics::default(), SpoolMetrics::default());
    let forward_metrics = ForwardMetrics::default();
    admin.register(|r| {
        watch_metrics.register(r);
        spool_metrics.register(r);
        forward_metrics.register(r);
    });
    let spool = open_spool(args, cluster, spool_metrics).await?;
    let config = WatchConfig {
        cluster: cluster.to_owned(),
        scope: format!("{server} {cluster} {}", args.watch_namespace.as_deref().unwrap_or("*")),
        message_bytes: args.message_bytes,
        initial: args.initial_list,
        ..WatchConfig::default()
    };
    let api = Api::new(client.clone(), args.watch_namespace.clone());
    let shared = Arc::default();
    let make = {
        let (api, spool, shared) = (api.clone(), Arc::clone(&spool), Arc::clone(&shared));
        let metrics = watch_metrics.clone();
        move || {
            let file = CursorFile::new(spool.directory());
            let sink = Arc::clone(&spool) as Arc<dyn super::Sink>;
            Watcher::new(api.clone(), config.clone(), filter.clone(), sink, file, metrics.clone())
                .sharing(Arc::clone(&shared))
        }
    };
    let enricher = (args.enrich || !args.enrich_label.is_empty()).then(|| {
        let (enricher, lookups) = Enricher::new(api.clone(), args.enrich_label.clone());
        drain.spawn("event owners", lookups.run(drain.token()));
        enricher
    });
    match lease {
        None => {
            watch_metrics.leading.set(1);
            drain.spawn("event watch", make().run(Start::Resume, drain.token()));
        }
        Some(lease) => {
            let candidate = Candidate::new(api, lease, watch_metrics, make);
            drain.spawn("event watch", candidate.run(drain.token()));
        }
    }
    let config = ForwardConfig {
        hubs: args.events_hub.clone(),
        sender: args.identity(),
        token_file: args.hub_token_file.clone(),
        ..ForwardConfig::default()
    };
    let forwarder = Forwarder::new(config, http, spool, forward_metrics, Some(shared));
    let forwarder = forwarder.enriched_by(enricher);
    drain.spawn("event forwarder", forwarder.run(drain.token()));
    Ok(())
}

async fn open_spool(
    args: &WatchArgs,
    cluster: &str,
    metrics: SpoolMetrics,
) -> Result<Arc<Spool>, WatchError> {
    let config = SpoolConfig {
        directory: args.spool.clone(),
        bytes_max: args.spool_mib << 20,
        age_max: Duration::from_secs(args.spool_hours.saturating_mul(3600)),
        cluster: cluster.to_owned(),
    };
    let opened = tokio::task::spawn_blocking(move || Spool::open(config, metrics)).await;
    match opened.map_err(std::io::Error::other) {
        Ok(Ok(spool)) => Ok(Arc::new(spool)),
        Ok(Err(source)) | Err(source) => {
            Err(WatchError::Spool { path: args.spool.clone(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_looked_at_before_anything_begins() {
        let check = |change: fn(&mut WatchArgs), expect: &str| {
            let mut args = WatchArgs::defaults();
            args.events_hub = vec!["http://127.0.0.1:1".parse().expect("a URL")];
            change(&mut args);
            let outcome = args.check().map_err(|e| e.to_string());
            match outcome {
                Ok(()) => assert_eq!(expect, ""),
                Err(text) => assert!(!expect.is_empty() && text.contains(expect), "{text}"),
            }
        };
        check(|_| (), "");
        check(|a| a.events_hub.clear(), "--events-hub");
        check(|a| a.events_hub = vec!["ftp://x".parse().expect("a URL")], "http://");
        check(|a| a.spool_mib = 0, "--spool-mib");
        check(|a| a.message_bytes = usize::MAX, "--message-bytes");
        check(|a| a.events_lease = Some("x".into()), "NAMESPACE/NAME");
        check(|a| a.filter.exclude_message = Some("(".into()), "--exclude-message");
    }
}
