//! `periplus standalone`: every role in one process, for one machine.
//!
//! A sidecar for each Prometheus, each on a loopback port of its own, and a query layer over them that
//! reaches them as it would anywhere: what works here works when the roles move apart. With --ship the
//! sidecars ship blocks to a bucket, a compactor makes history of them, and the query layer answers from it.

mod ship;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_sidecar::ship::ShipArgs;

use crate::process::{self, ProcessArgs};

/// Run every role in one process over the given Prometheus servers.
///
/// Each Prometheus needs external labels that name its cluster; servers that scrape the same thing need
/// a `replica` label besides.
///
/// Example: periplus standalone --prometheus http://a:9090 --prometheus http://b:9090 --data ./data
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// URL of a Prometheus; may be repeated
    #[arg(long, value_name = "URL", required = true)]
    prometheus: Vec<url::Url>,
    /// Data directory of a Prometheus, as many and in the same order as the URLs; with them recent
    /// questions are answered from the write-ahead logs, at no cost to Prometheus
    #[arg(long, value_name = "DIR")]
    tsdb: Vec<PathBuf>,
    /// Ship each Prometheus's blocks to --bucket (the directory `bucket` in --data without one), make history
    /// of them there and answer from it; needs --tsdb
    #[arg(long, requires = "tsdb")]
    ship: bool,
    /// Address of the events hub, where watchers send the clusters' events and questions about them are answered
    /// [default: 127.0.0.1:9095, or a free port where that is taken]
    #[arg(long, value_name = "ADDR")]
    events_listen: Option<String>,
    /// File of who may send events and read them; needed unless --events-listen is a loopback address
    #[arg(long, value_name = "FILE")]
    events_access: Option<PathBuf>,
    #[command(flatten)]
    query: periplus_query::Config,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    process::run("standalone", args.process, async move |admin, drain| {
        let mut config = args.query;
        let Some(data) = config.data.clone() else {
            bail!("--data: name a directory where this process may keep what it must not forget");
        };
        std::fs::create_dir_all(&data).with_context(|| format!("--data {}", data.display()))?;
        let hub = periplus_events::hub::Config {
            listen: Some(args.events_listen.unwrap_or_else(free_events_address)),
            access: args.events_access,
            grpc: Some("127.0.0.1:0".into()),
            data: data.join("events"),
            ..periplus_events::hub::Config::defaults()
        };
        let hub = periplus_events::hub::build(hub, admin, drain).await.context("--events-listen")?;
        // Events as metrics are one more endpoint.
        config.endpoint.extend(hub.grpc_address().map(|a| a.to_string()));
        if config.replica_label.is_empty() {
            config.replica_label.push("replica".into());
        }
        let (urls, dirs) = (args.prometheus, args.tsdb);
        if !dirs.is_empty() && dirs.len() != urls.len() {
            bail!(
                "--tsdb: {} directories for {} servers; give one for each --prometheus, in the same order",
                dirs.len(),
                urls.len()
            );
        }
        let ship = match args.ship {
            true => Some(ship::destination(&data, &mut config.history)?),
            false => None,
        };
        for (n, url) in urls.into_iter().enumerate() {
            let shown = url.to_string();
            let address = sidecar(url, dirs.get(n).cloned(), ship.as_ref(), admin, drain)
                .await
                .with_context(|| format!("--prometheus {shown}"))?;
            config.endpoint.push(address);
        }
        if let Some(to) = &ship {
            ship::compact(to, &data, &config.replica_label, admin, drain)?;
        }
        let query = periplus_query::build(config, admin, drain).await?;
        tracing::info!(url = %format!("http://{}", query.http_address()), "ask here");
        if let Some(address) = hub.address() {
            tracing::info!(url = %format!("http://{address}"), "events");
        }
        crate::events::hub::serve(hub, drain);
        crate::query::serve(query, drain);
        Ok(())
    })
    .await
}

/// Starts the sidecar of one Prometheus; gives its address.
async fn sidecar(
    url: url::Url,
    tsdb: Option<PathBuf>,
    ship: Option<&ShipArgs>,
    admin: &Admin,
    drain: &Drain,
) -> anyhow::Result<String> {
    let mut config = periplus_sidecar::Config::new(url);
    config.tsdb = tsdb;
    let given = config.clone();
    let bound = periplus_sidecar::build(config, admin, drain).await?;
    let address = bound.address().to_string();
    if let Some(to) = ship {
        crate::sidecar::ship(&bound, &given, to, admin, drain)?;
    }
    // One Prometheus that is away does not make this process unready: the query layer names it.
    let unseen = Admin::new("sidecar", env!("CARGO_PKG_VERSION"), "");
    let own = drain.clone();
    drain.spawn_essential("sidecar", async move {
        if let Err(error) = periplus_sidecar::run(bound, &unseen, &own).await {
            tracing::error!(%error, "a sidecar ended");
        }
    });
    Ok(address)
}

/// The usual address of the events hub, or any where another process has that: several may run on one machine.
fn free_events_address() -> String {
    const USUAL: &str = "127.0.0.1:9095";
    match std::net::TcpListener::bind(USUAL) {
        Ok(_free) => USUAL.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}
