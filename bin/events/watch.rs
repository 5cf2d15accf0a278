//! `periplus events watch`: one cluster's event watcher, alone.

use periplus_events::watch::service::{self, WatchArgs};

use crate::process::{self, ProcessArgs};

/// Watch a cluster's events and send the errors among them to the events hub.
///
/// Lists and watches through the API server that the kubeconfig names, or that of the pod it runs in. What the hub has
/// not acknowledged waits in --spool, on disk and bounded. Needs the rights to get, list and watch events (core and
/// events.k8s.io), with --events-lease to get, create and update leases in its namespace, with --enrich to get pods
/// and their owners.
///
/// Example: periplus events watch --hub https://events.example.com:9095 --cluster prod-1 --spool /var/lib/periplus/events
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    process::run("events-watch", args.process, async move |admin, drain| {
        let cluster = args.watch.events_cluster.clone().unwrap_or_default();
        service::start(&args.watch, &cluster, admin, drain).await?;
        Ok(())
    })
    .await
}
