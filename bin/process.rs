//! The life of a service process, the same for every role: telemetry, admin listener, the role's own
//! parts, then waiting to be asked to end, and ending in order.

use std::time::Duration;

use anyhow::Context as _;
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::{self, Drain};
use periplus_daemon::http;
use periplus_daemon::listen::Listener;
use periplus_daemon::telemetry::{self, TelemetryArgs};

/// The revision this binary was built from, where the build said it.
const REVISION: &str = match option_env!("PERIPLUS_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Connections to the admin listener at once.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Settings every role has.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ProcessArgs {
    /// Address for /metrics, /-/healthy and /-/ready
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10910")]
    admin: String,
    /// How long running requests may take once the process is asked to end
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    drain_timeout: Duration,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

/// Runs a role: `build` binds its addresses, registers its metrics and spawns its tasks, and gives back
/// what must live as long as the process.
pub(crate) async fn run<T>(
    component: &'static str,
    args: ProcessArgs,
    build: impl AsyncFnOnce(&Admin, &Drain) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&args.telemetry, component)?;
    raise_open_files();
    let (admin, drain) = (Admin::new(component, env!("CARGO_PKG_VERSION"), REVISION), Drain::new());
    let listener = Listener::bind(&args.admin, "--admin", ADMIN_CONNECTIONS_MAX).await?;
    tracing::info!(address = %listener.address(), "admin listener");
    admin.set_unready("process", Some("starting".into()));
    // It ends last, so that one can watch the rest end.
    let end = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(http::serve(admin.router(), listener, None, end.clone()));
    let built = build(&admin, &drain).await.with_context(|| format!("starting {component}"));
    let outcome = match built {
        Err(error) => Err(error),
        Ok(parts) => {
            admin.set_unready("process", None);
            let token = drain.token();
            let asked = tokio::select! {
                () = drain::asked_to_end() => true,
                () = token.cancelled() => false,
            };
            admin.set_unready("process", Some("ending".into()));
            tracing::info!(asked, "ending");
            let late = drain.wait(args.drain_timeout).await;
            drop(parts);
            match (asked, late.is_empty()) {
                (true, _) => Ok(()),
                (false, true) => {
                    Err(anyhow::anyhow!("{component}: a part it cannot do without ended"))
                }
                (false, false) => Err(anyhow::anyhow!(
                    "{component}: a part it cannot do without ended, and these did not: {}",
                    late.join(", ")
                )),
            }
        }
    };
    end.cancel();
    let _joined = serving.await;
    telemetry.shutdown();
    outcome
}

/// Takes as many open files as the system lets this process have. How many connections there are is bounded by
/// settings; the soft limit, often 1024, is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
