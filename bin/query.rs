//! `periplus query`: the query layer, serving.

use periplus_daemon::listen::Listener;
use periplus_query::ruler::service::RulesConfig;

use crate::process::{self, ProcessArgs};
use crate::ruler;

/// Answer PromQL over all clusters, by the Prometheus HTTP API.
///
/// Asks sidecars, other periplus query processes, or anything that speaks Thanos's Store API. What
/// cannot be reached is named in the answer's warnings.
///
/// With --rules it also evaluates alerting and recording rules over the fleet.
///
/// Example: periplus query --endpoint a:10901 --endpoint b:10901 --replica-label replica
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    query: periplus_query::Config,
    #[command(flatten)]
    rules: RulesConfig,
    #[command(flatten)]
    process: ProcessArgs,
}

/// Connections of this process to its own rules.
const OWN_CONNECTIONS: usize = 64;

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    process::run("query", args.process, async move |admin, drain| {
        let (mut config, rules) = (args.query, args.rules);
        // What rules give is one more endpoint of this process, on loopback.
        let own = match rules.rules.is_empty() {
            true => None,
            false => Some(Listener::bind("127.0.0.1:0", "rules", OWN_CONNECTIONS).await?),
        };
        config.endpoint.extend(own.as_ref().map(|l| format!("http://{}", l.address())));
        let data = config.data.clone();
        let query = periplus_query::build(config, admin, drain).await?;
        if let Some(listener) = own {
            ruler::inside(&query, &rules, data, listener, (admin, drain)).await?;
        }
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
