//! `periplus`: one binary, a subcommand for each role and each tool.

mod bucket;
mod check;
mod compactor;
mod demo;
mod events;
mod process;
mod query;
mod ruler;
mod sidecar;
mod sql;
mod standalone;
mod test;
mod top;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use periplus_daemon::config::{self, ConfigError};

/// Queries make and drop many small things on all workers, which takes the system's allocator about as
/// long as the rest of their work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One place to look out over every Kubernetes cluster you run.
///
/// A sidecar stands beside each cluster's Prometheus; a query process answers PromQL over all of
/// them, exactly as one Prometheus holding everything would, and names the clusters it could not
/// reach. To see it with a simulated fleet: `periplus demo`. To run it over your own Prometheus
/// servers on one machine: `periplus standalone --prometheus http://HOST:9090 --data DIR`.
///
/// Every flag is also an environment variable (--log-level, PERIPLUS_LOG_LEVEL) and, for commands
/// that have --config, a field of the YAML file (log-level).
#[derive(Parser, Debug)]
#[command(name = "periplus", version = version::LINE, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Standalone(Box<standalone::Args>),
    Sidecar(Box<sidecar::Args>),
    Query(Box<query::Args>),
    Compactor(Box<compactor::Args>),
    Ruler(Box<ruler::Args>),
    Demo(demo::Args),
    Top(top::Args),
    Bucket(bucket::Args),
    Sql(sql::Args),
    Events(Box<events::Args>),
    Check(check::Args),
    Test(test::Args),
    Version(version::Args),
}

/// The commands that run a service and so may be given a configuration file.
/// With the address of their admin listener, so that all can run on one machine.
const SERVICES: &[(&str, &str)] = &[
    ("standalone", "127.0.0.1:10910"),
    ("sidecar", "127.0.0.1:10911"),
    ("query", "127.0.0.1:10912"),
    ("compactor", "127.0.0.1:10913"),
    ("ruler", "127.0.0.1:10915"),
];

/// The whole command line, with environment variables and configuration files.
fn command() -> clap::Command {
    let mut command = Cli::command();
    for (name, admin) in SERVICES {
        command = command.mut_subcommand(name, |c| {
            c.arg(config::config_argument()).mut_arg("admin", |a| a.default_value(*admin))
        });
    }
    command = command.mut_subcommand("events", |events| {
        events::SERVICES.iter().fold(events, |events, (name, admin)| {
            events.mut_subcommand(name, |c| {
                c.arg(config::config_argument()).mut_arg("admin", |a| a.default_value(*admin))
            })
        })
    });
    config::with_environment(command)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _closed = writeln!(std::io::stderr(), "periplus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let command = command();
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let matches = match config::matches(&command, &args) {
        Ok(matches) => matches,
        Err(ConfigError::Arguments(e)) => e.exit(),
        Err(e) => return Err(e.into()),
    };
    let cli = Cli::from_arg_matches(&matches)?;
    // One TLS implementation for the whole process; set once, before anything connects.
    let _already_set = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Standalone(args) => block_on(standalone::run(*args)),
        Command::Sidecar(args) => block_on(sidecar::run(*args)),
        Command::Query(args) => block_on(query::run(*args)),
        Command::Compactor(args) => block_on(compactor::run(*args)),
        Command::Ruler(args) => block_on(ruler::run(*args)),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Top(args) => block_on(top::run(args)),
        Command::Sql(args) => block_on(sql::run(args)),
        Command::Bucket(args) => block_on(bucket::run(args)),
        Command::Events(args) => block_on(events::run(*args)),
        Command::Check(args) => {
            let services: Vec<clap::Command> =
                SERVICES.iter().filter_map(|s| command.find_subcommand(s.0)).cloned().collect();
            check::run(args, &services)
        }
        Command::Test(args) => test::run(&args),
        Command::Version(args) => version::run(&args),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
