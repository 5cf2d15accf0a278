//! The fleet's Kubernetes events: for each cluster an API server of our own that serves what the simulated kubelets and
//! controllers write, and a real watcher that knows only that API and sends what it finds to the hub.

use std::path::Path;

use anyhow::Context as _;
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_events::apiserver::simulated;
use periplus_events::watch::service::{self, WatchArgs};
use periplus_simfleet::Fleet;
use url::Url;

/// A free port of this machine for the hub that runs in the product's process.
pub(crate) fn hub() -> anyhow::Result<Url> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    Ok(Url::parse(&format!("http://{}", free.local_addr()?))?)
}

/// Starts an API server and a watcher for every cluster; they end with `drain`.
pub(crate) async fn start(
    fleet: &Fleet,
    hub: &Url,
    dir: &Path,
    drain: &Drain,
) -> anyhow::Result<()> {
    for (n, cluster) in fleet.clusters().iter().enumerate() {
        let server =
            simulated::start(cluster, drain).await.context("starting a simulated API server")?;
        let mut args = WatchArgs::defaults();
        args.events_hub = vec![hub.clone()];
        args.api_server = Some(server.url());
        args.spool = dir.join(format!("events-{n}"));
        // Their metrics would be of one name in one process: each has its own, which nobody scrapes.
        let unseen = Admin::new("events-watch", env!("CARGO_PKG_VERSION"), "");
        service::start(&args, cluster.name(), &unseen, drain).await?;
    }
    Ok(())
}
