//! `periplus sidecar`: one sidecar, serving.

mod events;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_events::watch::service::WatchArgs;
use periplus_sidecar::ship::{self, ShipArgs};

use crate::process::{self, ProcessArgs};

/// Stand beside a Prometheus and answer questions about it over gRPC.
///
/// Reads the external labels, health and gaps of its Prometheus, serves Thanos's Store, Query and Info
/// services and periplus's own, and evaluates the parts of queries that are sent to it. With --bucket
/// and --tsdb it also ships Prometheus's blocks, bit for bit, in Thanos's layout.
///
/// With --events-hub it also watches the cluster's Kubernetes events and sends the errors among them there.
///
/// Example: periplus sidecar --prometheus http://127.0.0.1:9090 --listen 0.0.0.0:10901
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    sidecar: periplus_sidecar::Config,
    #[command(flatten)]
    ship: ShipArgs,
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    process::run("sidecar", args.process, async move |admin, drain| {
        // Until its first look at Prometheus says otherwise.
        admin.set_unready("prometheus", Some("not reached yet".into()));
        let given = args.sidecar.clone();
        let bound = periplus_sidecar::build(args.sidecar, admin, drain).await?;
        ship(&bound, &given, &args.ship, admin, drain)?;
        if !args.watch.events_hub.is_empty() {
            args.watch.check()?;
            let known = bound.sidecar.clone();
            let cluster = move || {
                let now = known.snapshot();
                let label = now.external.get("cluster").unwrap_or_default().to_owned();
                now.known.then_some(label)
            };
            drain.spawn("events", events::watch(args.watch, cluster, admin.clone(), drain.clone()));
        }
        let (admin, own) = (admin.clone(), drain.clone());
        drain.spawn_essential("sidecar", async move {
            if let Err(error) = periplus_sidecar::run(bound, &admin, &own).await {
                tracing::error!(%error, "the sidecar ended");
            }
        });
        Ok(())
    })
    .await
}

/// Ships the blocks of a sidecar's Prometheus, where a bucket is given, until the process ends.
pub(crate) fn ship(
    bound: &periplus_sidecar::Bound,
    given: &periplus_sidecar::Config,
    args: &ShipArgs,
    admin: &Admin,
    drain: &Drain,
) -> anyhow::Result<()> {
    let watched = bound.sidecar.clone();
    let labels = Box::new(move || {
        let now = watched.snapshot();
        let pairs = now.external.iter().map(|(name, value)| (name.into(), value.into()));
        now.known.then(|| pairs.collect())
    });
    let (url, tsdb) = (given.prometheus.clone(), given.tsdb.clone());
    if let Some(shipper) = ship::build(args, tsdb, url, &given.access, labels, admin)? {
        drain.spawn("shipping", shipper.run(drain.token()));
    }
    Ok(())
}
