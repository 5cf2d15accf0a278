//! The event watcher within a sidecar's process.

use std::time::Duration;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_events::watch::service::{self, WatchArgs};

/// How often it is looked whether Prometheus has said which cluster this is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Starts the watcher once the cluster's name is known: from the flag, else by `label` from Prometheus's external
/// labels, which gives `None` until they are known.
pub(crate) async fn watch(
    args: WatchArgs,
    label: impl Fn() -> Option<String> + Send + Sync + 'static,
    admin: Admin,
    drain: Drain,
) {
    let end = drain.token();
    let cluster = loop {
        if let Some(cluster) = args.events_cluster.clone().or_else(&label) {
            break cluster;
        }
        if end.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    };
    if let Err(error) = service::start(&args, &cluster, &admin, &drain).await {
        tracing::error!(%error, cluster, "the event watcher can't start; the sidecar goes on without it");
        admin.set_unready("events", Some(error.to_string()));
    }
}
