//! `periplus`: one binary, a subcommand for each role and each tool.

mod demo;
mod top;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One place to look out over every Kubernetes cluster you run.
///
/// A sidecar stands beside each cluster's Prometheus; a query process answers PromQL over all of
/// them, exactly as one Prometheus holding everything would, and names the clusters it could not
/// reach. To see it with a simulated fleet: `periplus demo`. To run it over your own Prometheus
/// servers on one machine: `periplus standalone --prometheus http://HOST:9090 --data DIR`.
#[derive(Parser, Debug)]
#[command(name = "periplus", version = version::LINE, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(demo::Args),
    Top(top::Args),
    Version(version::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS implementation for the whole process; set once, before anything connects.
    let _already_set = rustls::crypto::ring::default_provider().install_default();
    let result = match cli.command {
        Command::Demo(args) => runtime(demo::run(args)),
        Command::Top(args) => runtime(top::run(args)),
        Command::Version(args) => version::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "periplus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
