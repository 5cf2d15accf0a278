//! `periplus events hub`: takes in, keeps and answers for every cluster's events.

use periplus_daemon::drain::Drain;
use periplus_events::hub::{self, Bound, Config};

use crate::process::{self, ProcessArgs};

/// Take in every cluster's events, keep them, and answer questions about them.
///
/// Watchers send to it (periplus events watch). It writes a log before it acknowledges, keeps recent events in memory and
/// older ones as Parquet in the bucket. Answers at /api/v1/events, at /loki/api/v1 for Grafana, and as metrics.
///
/// Example: periplus events hub --listen 0.0.0.0:9095 --access access.yaml --bucket s3://fleet --data /var/lib/periplus
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    hub: Config,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    process::run("events-hub", args.process, async move |admin, drain| {
        let bound = hub::build(args.hub, admin, drain).await?;
        serve(bound, drain);
        Ok(())
    })
    .await
}

/// Serves on a task without which the process is of no use.
pub(crate) fn serve(bound: Bound, drain: &Drain) {
    let own = drain.clone();
    drain.spawn_essential("events hub", async move {
        if let Err(error) = hub::run(bound, &own).await {
            tracing::error!(%error, "the events hub ended");
        }
    });
}
