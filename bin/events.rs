//! `periplus events`: every cluster's events from a terminal, and the roles that bring them there.

pub(crate) mod hub;
mod search;
mod watch;

use std::future::Future;

/// Show every cluster's events, or run the roles that collect them.
///
/// Without a subcommand it asks a hub (periplus events hub, standalone or demo) and prints the newest events.
///
/// Examples:
///   periplus events --since 1h --reason BackOff
///   periplus events --cluster eu-1 --namespace shop --text "OOM" --follow
///   periplus events --since 1d --count-by cluster,reason
///   periplus events hub --data /var/lib/periplus/events --bucket s3://fleet
///   periplus events watch --hub http://hub:9095 --cluster eu-1
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    search: search::SearchArgs,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Hub(Box<hub::Args>),
    Watch(Box<watch::Args>),
    Search(Box<search::SearchArgs>),
}

/// Subcommands that run a service, with the address of their admin listener.
pub(crate) const SERVICES: &[(&str, &str)] =
    &[("hub", "127.0.0.1:10916"), ("watch", "127.0.0.1:10917")];

pub(crate) fn run(args: Args) -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>>>> {
    match args.command {
        Some(Command::Hub(args)) => Box::pin(hub::run(*args)),
        Some(Command::Watch(args)) => Box::pin(watch::run(*args)),
        Some(Command::Search(args)) => Box::pin(search::run(*args)),
        None => Box::pin(search::run(args.search)),
    }
}
