//! `periplus ruler`: alerts and recorded series out of questions about the whole fleet.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_daemon::listen::Listener;
use periplus_daemon::tls::ServerTls;
use periplus_query::ruler::http::HttpEvaluator;
use periplus_query::ruler::service::{self, Ruler, RulesConfig};
use periplus_query::ruler::{Evaluator, page, serve};

use crate::process::{self, ProcessArgs};

/// Connections to each listener at once.
const CONNECTIONS_MAX: usize = 1024;

/// Evaluate Prometheus's rule files over the whole fleet and tell Alertmanagers.
///
/// Asks a periplus query process. Series of recording rules and alerts are served over gRPC as any
/// endpoint's: give this process's --grpc address to the query process as --endpoint. Run two with
/// the same files for safety; --alert-drop-label takes away what tells them apart, so that
/// Alertmanager sees one alert.
///
/// Example: periplus ruler --query http://query:9090 --rules 'rules/*.yml' --alertmanager http://am:9093 --data DIR
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// URL of a query process; of several the first that answers is asked
    #[arg(long, value_name = "URL", required = true)]
    query: Vec<String>,
    /// External label that only tells replicas of one Prometheus apart; may be repeated
    #[arg(long, value_name = "LABEL")]
    replica_label: Vec<String>,
    /// Directory where alerts are remembered across restarts
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the HTTP API: rules, alerts, reload
    #[arg(long, default_value = "127.0.0.1:9096", value_name = "ADDR")]
    listen: String,
    /// Address of the gRPC services through which query processes read what rules give
    #[arg(long, default_value = "127.0.0.1:10903", value_name = "ADDR")]
    grpc: String,
    #[command(flatten)]
    rules: RulesConfig,
    #[command(flatten)]
    tls: ServerTls,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    process::run("ruler", args.process, async move |admin, drain| {
        let timeout = args.rules.rule_timeout;
        let evaluator = HttpEvaluator::new(args.query, timeout, args.replica_label)
            .map_err(|e| anyhow::anyhow!("--query: {e}"))?;
        let http = Listener::bind(&args.listen, "listen", CONNECTIONS_MAX).await?;
        let grpc = Listener::bind(&args.grpc, "grpc", CONNECTIONS_MAX).await?;
        tracing::info!(http = %http.address(), grpc = %grpc.address(), "ruler is up");
        let evaluator: Arc<dyn Evaluator> = Arc::new(evaluator);
        let ruler = service::start(&args.rules, evaluator, args.data, true, (admin, drain)).await?;
        let tls = args.tls.rustls()?;
        let pages = page::router(ruler.clone());
        let end = drain.token();
        drain.spawn_essential("ruler: http", async move {
            periplus_daemon::http::serve(pages, http, tls, end).await;
        });
        serve_grpc(&ruler, grpc, &args.tls, drain)?;
        reload_on_signal(&ruler, drain);
        Ok(())
    })
    .await
}

/// Serves what rules give on a task without which the process is of no use.
pub(crate) fn serve_grpc(
    ruler: &Ruler,
    listener: Listener,
    tls: &ServerTls,
    drain: &Drain,
) -> anyhow::Result<()> {
    let mut server = periplus_daemon::grpc::server(tls)?;
    let routes = serve::routes(ruler.services.clone());
    let end = drain.token();
    drain.spawn_essential("ruler: grpc", async move {
        let router = server.add_routes(routes);
        if let Err(error) = periplus_daemon::grpc::serve(router, listener, end).await {
            tracing::error!(%error, "serving what rules give");
        }
    });
    Ok(())
}

/// SIGHUP loads the rule files anew, as with Prometheus.
fn reload_on_signal(ruler: &Ruler, drain: &Drain) {
    use tokio::signal::unix::{SignalKind, signal};
    let (manager, end) = (ruler.manager.clone(), drain.token());
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    drain.spawn("ruler: reload", async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                () = end.cancelled() => return,
            }
            match manager.load().await {
                Ok(groups) => tracing::info!(groups, "rules are loaded anew"),
                Err(errors) => {
                    for error in errors {
                        tracing::error!(%error, "the rules from before go on");
                    }
                }
            }
        }
    });
}

/// Rules inside a query process: evaluated by its own planner, served back to it as an endpoint.
pub(crate) async fn inside(
    query: &periplus_query::Query,
    config: &RulesConfig,
    data: Option<PathBuf>,
    listener: Listener,
    (admin, drain): (&Admin, &Drain),
) -> anyhow::Result<Ruler> {
    let evaluator = periplus_query::ruler::local::LocalEvaluator {
        answerer: query.answerer.clone(),
        defaults: query.defaults.clone(),
        timeout: config.rule_timeout,
    };
    let ruler = service::start(config, Arc::new(evaluator), data, true, (admin, drain))
        .await
        .context("--rules")?;
    serve_grpc(&ruler, listener, &ServerTls::default(), drain)?;
    reload_on_signal(&ruler, drain);
    Ok(ruler)
}
