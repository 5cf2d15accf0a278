//! `periplus compactor`: blocks become Parquet, as a service or once.

use std::io::Write as _;

use anyhow::bail;
use periplus_compactor::config::CompactorArgs;
use periplus_compactor::metrics::Metrics;
use periplus_compactor::service::Compactor;
use periplus_daemon::{drain, telemetry};
use tokio_util::sync::CancellationToken;

use crate::bucket::output::{Bar, bytes};
use crate::process::{self, ProcessArgs};

/// Turn the blocks in a bucket into Parquet, merge them into days, downsample them and keep them as
/// long as asked.
///
/// Works on Thanos's bucket as it is and beside Thanos: it writes below history/ and periplus/ alone.
/// Several may run; they share the streams. What is bad is set aside (see periplus bucket inspect) and
/// the rest goes on.
///
/// Example: periplus compactor --bucket s3://metrics --replica-label replica --retention raw=30d,5m=180d
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    compactor: CompactorArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if args.compactor.once {
        return once(args).await;
    }
    process::run("compactor", args.process, async move |admin, drain| {
        let (bucket, metrics) = (args.compactor.open()?, Metrics::default());
        admin.register(|registry| {
            metrics.register(registry);
            bucket.register(registry);
        });
        let bar = Box::new(Bar::new("making parts"));
        let compactor = Compactor::new(bucket, args.compactor.config(), metrics, bar)?;
        drain.spawn_essential("compaction", compactor.run(drain.token()));
        Ok(())
    })
    .await
}

async fn once(args: Args) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&args.process.telemetry, "compactor")?;
    let (stop, asked) = (CancellationToken::new(), CancellationToken::new());
    let bucket = args.compactor.open()?;
    let bar = Box::new(Bar::new("making parts"));
    let mut compactor = Compactor::new(bucket, args.compactor.config(), Metrics::default(), bar)?;
    let watch = {
        let (stop, asked) = (stop.clone(), asked.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = drain::asked_to_end() => stop.cancel(),
                () = asked.cancelled() => {}
            }
        })
    };
    let done = compactor.once(&stop).await;
    let sent = compactor.bytes_sent();
    drop(compactor);
    asked.cancel();
    let _joined = watch.await;
    telemetry.shutdown();
    let report = done?;
    let mut out = std::io::stdout().lock();
    let kinds: Vec<String> =
        report.done.iter().map(|(kind, n)| format!("{n} {}", kind.as_str())).collect();
    let steps = if kinds.is_empty() { "nothing to do".to_owned() } else { kinds.join(", ") };
    writeln!(out, "{steps}; {} samples, {} written", report.samples, bytes(sent))?;
    let cleaned = &report.cleaned;
    writeln!(
        out,
        "{} parts too old, {} blocks marked, {} blocks, {} parts and {} orphans deleted",
        report.expired, cleaned.marked, cleaned.blocks, cleaned.parts, cleaned.orphans
    )?;
    for stream in &report.theirs {
        writeln!(out, "another compactor works on {stream}")?;
    }
    for (subject, reason) in &report.quarantined {
        writeln!(out, "quarantined: {subject}: {reason}")?;
    }
    if !report.quarantined.is_empty() {
        bail!("{} inputs are quarantined; the rest is done", report.quarantined.len());
    }
    Ok(())
}
