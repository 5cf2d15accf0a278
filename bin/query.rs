//! `periplus query`: the query layer, serving.

use crate::process::{self, ProcessArgs};

/// Answer PromQL over all clusters, by the Prometheus HTTP API.
///
/// Asks sidecars, other periplus query processes, or anything that speaks Thanos's Store API. What
/// cannot be reached is named in the answer's warnings.
///
/// Example: periplus query --endpoint a:10901 --endpoint b:10901 --replica-label replica
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    query: periplus_query::Config,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    process::run("query", args.process, async move |admin, drain| {
        let query = periplus_query::build(args.query, admin, drain).await?;
        serve(query, drain);
        Ok(())
    })
    .await
}

/// Serves on a task without which the process is of no use.
pub(crate) fn serve(query: periplus_query::Query, drain: &periplus_daemon::drain::Drain) {
    let own = drain.clone();
    drain.spawn_essential("query", async move {
        if let Err(error) = periplus_query::run(query, &own).await {
            tracing::error!(%error, "the query layer ended");
        }
    });
}
