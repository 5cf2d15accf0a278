//! `periplus version`: what this binary is.

use std::io::Write as _;

/// Version and target, in one line.
pub(crate) const LINE: &str = concat!(env!("CARGO_PKG_VERSION"), " (Apache-2.0)");

/// Print the version.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    /// One line.
    Text,
    /// One JSON object.
    Json,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Text => writeln!(out, "periplus {LINE}")?,
        Output::Json => writeln!(
            out,
            "{}",
            serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "os": std::env::consts::OS,
                "arch": std::env::consts::ARCH,
            })
        )?,
    }
    Ok(())
}
