//! `periplus bucket delete-series`: what is to be gone, said first and then done by the compactor.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use periplus_bucket::Bucket;
use periplus_compactor::erase::Deletion;
use periplus_compactor::service::delete;
use periplus_model::TimeRange;
use serde_json::json;

use super::args::Source;
use super::output::{self, Format, Table};

/// What is to be gone.
#[derive(clap::Args, Debug)]
pub(super) struct DeleteSeries {
    #[command(flatten)]
    pub(super) source: Source,
    /// Which series, as in PromQL, external labels included: '{cluster="dev",__name__=~"debug_.*"}'
    #[arg(value_name = "SELECTOR")]
    selector: String,
    /// From when on, as RFC 3339; from the beginning without
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<i64>,
    /// Until when, as RFC 3339; to the end without
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
    /// Only say what would be gone
    #[arg(long)]
    dry_run: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn time(text: &str) -> Result<i64, String> {
    let parsed = text.parse::<jiff::Timestamp>();
    parsed
        .map(jiff::Timestamp::as_millisecond)
        .map_err(|e| format!("write it as 2026-11-21T14:00:00Z: {e}"))
}

pub(super) async fn run(bucket: &Bucket, args: DeleteSeries) -> anyhow::Result<()> {
    let range = TimeRange::new(args.from.unwrap_or(i64::MIN), args.until.unwrap_or(i64::MAX));
    if range.is_empty() {
        bail!("--from is after --until: nothing lies between");
    }
    let deletion = Deletion::new(&args.selector, range);
    let erasure = deletion.erasure()?;
    if erasure.matchers.iter().all(periplus_model::Matcher::matches_empty) {
        bail!("{} matches every series; name at least one label's value", args.selector);
    }
    let hits = delete::hits(bucket, &erasure).await.context("looking for the series")?;
    if !args.dry_run {
        deletion.store(bucket).await?;
    }
    if args.format == Format::Json {
        let hits: Vec<_> = hits
            .iter()
            .map(|h| {
                json!({
                    "stream": h.stream, "resolution": h.resolution.as_str(), "parts": h.parts,
                    "series": h.series, "samples": h.samples, "blocks": h.blocks,
                })
            })
            .collect();
        let id = (!args.dry_run).then(|| deletion.id.to_string());
        return output::json(&json!({ "dryRun": args.dry_run, "deletion": id, "hits": hits }));
    }
    let mut table = Table::new(&["STREAM", "RES", "PARTS", "SERIES", "SAMPLES", "BLOCKS"]);
    for h in &hits {
        table.row([
            h.stream.clone(),
            h.resolution.as_str().to_owned(),
            h.parts.to_string(),
            h.series.to_string(),
            h.samples.to_string(),
            h.blocks.to_string(),
        ]);
    }
    if !hits.is_empty() {
        table.print()?;
    }
    let mut out = std::io::stdout();
    if args.dry_run {
        writeln!(out, "nothing is deleted: this was a dry run")?;
    } else {
        writeln!(out, "deletion {} is stored; the compactor carries it out", deletion.id)?;
    }
    let blocks: usize = hits.iter().map(|h| h.blocks).sum();
    if blocks > 0 {
        writeln!(
            out,
            "{blocks} TSDB blocks may still hold such series until their retention is over: nothing of ours \
             shows them, Thanos does; periplus bucket mark deletion is rid of a block"
        )?;
    }
    Ok(())
}
