//! `periplus bucket`: what is in a bucket of blocks, whether it is right, and the care it needs.

mod args;
mod catalog;
mod contents;
mod delete_series;
pub(crate) mod output;
mod set_aside;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, stream};
use periplus_bucket::blocks::marks::{self, MarkKind};
use periplus_bucket::blocks::scan::{self, Found};
use periplus_bucket::blocks::verify::Problem;
use periplus_bucket::blocks::{cleanup, copy, verify};
use periplus_bucket::{Bucket, Location, OpenOptions, objstore};
use periplus_compactor::plan::Subject;
use periplus_compactor::quarantine;
use serde_json::json;
use ulid::Ulid;

use args::{Action, Filter, MarkName, Source};
use output::{Bar, Format, Table, bytes, time};
use set_aside::SetAside;

/// Look into a bucket of blocks, verify it, and take care of it.
///
/// The bucket is --bucket URL or --objstore-config-file FILE (Thanos's YAML); credentials come from
/// the environment, files or instance metadata. --format json prints one document for scripts.
///
/// Example: periplus bucket ls --bucket s3://metrics/fleet?endpoint=http://127.0.0.1:9000
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Ls { source, filter, format } => ls(&source, &filter, format).await,
        Action::Inspect { source, filter, format } => inspect(&source, &filter, format).await,
        Action::Verify { source, filter, hashes, chunks, format } => {
            verify_blocks(&source, &filter, (hashes, chunks), format).await
        }
        Action::Mark { source, kind, blocks, details, remove } => {
            mark(&source, kind, &blocks, &details, remove).await
        }
        Action::Cleanup { source, delete_delay, partial_delay, dry_run, format } => {
            let options = cleanup::CleanupOptions {
                delete_delay,
                partial_delay: (!partial_delay.is_zero()).then_some(partial_delay),
                dry_run,
            };
            clean(&source, &options, format).await
        }
        Action::Cp { source, to, filter, format } => cp(&source, &to, &filter, format).await,
        Action::RebuildCatalog { source, dry_run, format } => {
            catalog::rebuild(open(&source)?, dry_run, format).await
        }
        Action::DeleteSeries(args) => {
            let bucket = open(&args.source)?;
            delete_series::run(&bucket, args).await
        }
    }
}

fn open(source: &Source) -> anyhow::Result<Bucket> {
    let at = match (&source.bucket, &source.objstore_config_file) {
        (Some(url), _) => Location::parse(url)?,
        (None, Some(file)) => {
            let yaml = std::fs::read_to_string(file)
                .with_context(|| format!("reading {}", file.display()))?;
            objstore::parse(&yaml)?
        }
        (None, None) => bail!("which bucket? Give --bucket URL or --objstore-config-file FILE"),
    };
    Ok(Bucket::open(&at, &OpenOptions::default())?)
}

async fn find(bucket: &Bucket, filter: &Filter) -> anyhow::Result<Vec<Found>> {
    let mut bar = Bar::new("reading blocks");
    let mut found = scan::blocks_with(bucket, &mut bar).await?;
    found.retain(|f| filter.takes(f));
    Ok(found)
}

/// A block as JSON.
fn described(found: &Found) -> serde_json::Value {
    let marks: BTreeMap<_, _> = found.marks.iter().map(|(k, mark)| (k.file(), mark)).collect();
    let objects: Vec<_> =
        found.objects.iter().map(|o| json!({"key": o.key.as_str(), "bytes": o.size})).collect();
    match &found.meta {
        Ok(meta) => json!({
            "block": found.id, "minTime": meta.min_time, "maxTime": meta.max_time,
            "labels": meta.thanos.labels, "resolution": meta.thanos.downsample.resolution,
            "level": meta.compaction.level, "sources": meta.compaction.sources,
            "source": meta.thanos.source, "headSnapshot": meta.is_head_snapshot(),
            "series": meta.stats.num_series, "samples": meta.stats.num_samples,
            "chunks": meta.stats.num_chunks, "bytes": found.bytes(), "marks": marks,
            "objects": objects,
        }),
        Err(problem) => json!({
            "block": found.id, "problem": format!("{problem:?}"), "bytes": found.bytes(),
            "marks": marks, "objects": objects,
        }),
    }
}

async fn ls(source: &Source, filter: &Filter, format: Format) -> anyhow::Result<()> {
    let bucket = open(source)?;
    let found = find(&bucket, filter).await?;
    if format == Format::Json {
        return output::json(&json!(found.iter().map(described).collect::<Vec<_>>()));
    }
    let mut table = Table::new(&[
        "BLOCK", "FROM", "UNTIL", "RES", "LVL", "SERIES", "SAMPLES", "SIZE", "MARKS", "STREAM",
    ]);
    for block in &found {
        let marks: Vec<_> =
            block.marks.keys().map(|k| k.file().trim_end_matches("-mark.json")).collect();
        let size = bytes(block.bytes());
        match &block.meta {
            Ok(meta) => table.row([
                block.id.to_string(),
                time(meta.min_time),
                time(meta.max_time),
                resolution(meta.thanos.downsample.resolution),
                meta.compaction.level.to_string(),
                meta.stats.num_series.to_string(),
                meta.stats.num_samples.to_string(),
                size,
                marks.join(","),
                meta.stream() + if meta.is_head_snapshot() { " (head)" } else { "" },
            ]),
            Err(problem) => {
                let mut row = [const { String::new() }; 10];
                row[0] = block.id.to_string();
                row[7] = size;
                row[8] = marks.join(",");
                row[9] = format!("({problem:?})");
                table.row(row);
            }
        }
    }
    table.print()?;
    let total = found.iter().map(Found::bytes).sum();
    writeln!(std::io::stdout(), "{} blocks, {}", found.len(), bytes(total))?;
    Ok(())
}

fn resolution(ms: i64) -> String {
    match ms {
        0 => "raw".to_owned(),
        _ if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        _ if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        _ => format!("{ms}ms"),
    }
}

/// A line for each stream and resolution: of its blocks, and of its history.
async fn inspect(source: &Source, filter: &Filter, format: Format) -> anyhow::Result<()> {
    let bucket = open(source)?;
    let found = find(&bucket, filter).await?;
    let mut streams: BTreeMap<(String, i64), Vec<&Found>> = BTreeMap::new();
    let mut partial = 0;
    for block in &found {
        match &block.meta {
            Ok(meta) => {
                let name = (meta.stream(), meta.thanos.downsample.resolution);
                streams.entry(name).or_default().push(block);
            }
            Err(_) => partial += 1,
        }
    }
    let mut table = Table::new(&[
        "STREAM", "RES", "BLOCKS", "FROM", "UNTIL", "GAPS", "SAMPLES", "SIZE", "MARKED", "LEVELS",
    ]);
    let mut documents = Vec::new();
    for ((stream, res), blocks) in &streams {
        let metas: Vec<_> = blocks.iter().filter_map(|b| b.meta.as_ref().ok()).collect();
        let mut ranges: Vec<_> = metas.iter().map(|m| (m.min_time, m.max_time)).collect();
        ranges.sort_unstable();
        let (from, mut until, mut gaps) = (ranges.first().map_or(0, |r| r.0), i64::MIN, Vec::new());
        for (min, max) in ranges {
            if until != i64::MIN && min > until {
                gaps.push((until, min));
            }
            until = until.max(max);
        }
        let samples: u64 = metas.iter().map(|m| m.stats.num_samples).sum();
        let size: u64 = blocks.iter().map(|b| b.bytes()).sum();
        let marked = blocks.iter().filter(|b| b.marks.contains_key(&MarkKind::Deletion)).count();
        let levels: BTreeSet<_> = metas.iter().map(|m| m.compaction.level).collect();
        let shown: Vec<_> = levels.iter().map(ToString::to_string).collect();
        table.row([
            stream.clone(),
            resolution(*res),
            blocks.len().to_string(),
            time(from),
            time(until),
            gaps.len().to_string(),
            samples.to_string(),
            bytes(size),
            marked.to_string(),
            shown.join(","),
        ]);
        documents.push(json!({
            "stream": stream, "resolution": res, "blocks": blocks.len(), "minTime": from,
            "maxTime": until, "gaps": gaps, "samples": samples, "bytes": size,
            "marked": marked, "levels": levels,
        }));
    }
    let (history, parts) = catalog::inspect(&bucket, |labels| filter.takes_labels(labels)).await?;
    let set_aside = SetAside::read(&bucket, filter.blocks()).await?;
    if format == Format::Json {
        let (quarantined, deletions) = set_aside.documents();
        return output::json(&json!({
            "streams": documents, "notWhole": partial, "history": parts,
            "quarantined": quarantined, "deletions": deletions,
        }));
    }
    table.print()?;
    if !parts.is_empty() {
        history.print()?;
    }
    set_aside.print()?;
    if set_aside.quarantined() > 0 {
        let text = "set aside; delete its object and the compactor tries again";
        writeln!(std::io::stdout(), "{} {text}", set_aside.quarantined())?;
    }
    if partial > 0 {
        writeln!(std::io::stdout(), "{partial} blocks are not whole; see periplus bucket verify")?;
    }
    Ok(())
}

async fn verify_blocks(
    source: &Source,
    filter: &Filter,
    (hashes, chunks): (bool, bool),
    format: Format,
) -> anyhow::Result<()> {
    let bucket = open(source)?;
    let found = find(&bucket, filter).await?;
    let mut bar = Bar::new("verifying blocks");
    periplus_bucket::blocks::Progress::more(&mut bar, found.len() as u64);
    let mut problems: Vec<Problem> = Vec::new();
    let checks = found.iter().map(|block| async {
        let mut problems = verify::block(&bucket, block, hashes).await?;
        if chunks {
            problems.extend(contents::check(&bucket, block).await?);
        }
        anyhow::Ok((block.id, problems))
    });
    let mut checks = stream::iter(checks).buffered(4);
    while let Some(checked) = checks.next().await {
        let (id, of_block) = checked?;
        problems.extend(of_block);
        periplus_bucket::blocks::Progress::step(&mut bar, &id.to_string());
    }
    drop(bar);
    problems.extend(verify::between(&found));
    problems.extend(quarantined(&bucket, &found).await?);
    problems.sort_by_key(|p| (p.block, p.kind));
    let history = catalog::verify(&bucket, hashes).await?;
    if format == Format::Json {
        let (parts, of_history) = history.clone().unwrap_or_default();
        let history = json!({ "parts": parts, "problems": of_history });
        output::json(&json!({ "blocks": found.len(), "problems": problems, "history": history }))?;
    } else {
        let mut table = Table::new(&["BLOCK", "PROBLEM", "DETAILS"]);
        for problem in &problems {
            let Problem { block, kind, details } = problem.clone();
            table.row([block.to_string(), kind.to_owned(), details]);
        }
        if !problems.is_empty() {
            table.print()?;
        }
        writeln!(std::io::stdout(), "{} blocks, {} problems", found.len(), problems.len())?;
        if let Some((parts, of_history)) = &history {
            catalog::print_problems(of_history)?;
            let line = format!("{parts} parts of history, {} problems", of_history.len());
            writeln!(std::io::stdout(), "{line}")?;
        }
    }
    let of_history = history.map_or(0, |(_, problems)| problems.len());
    catalog::fail_on(problems.len() + of_history, &bucket)
}

/// What the compactor set aside of these blocks.
async fn quarantined(bucket: &Bucket, found: &[Found]) -> anyhow::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (subject, why) in quarantine::list(bucket).await? {
        let (Subject::Block(block) | Subject::BlockDay(block, _)) = subject else { continue };
        if found.iter().any(|f| f.id == block) {
            let details = format!("no history of {subject} since {}: {}", why.since, why.reason);
            problems.push(Problem { block, kind: "quarantined", details });
        }
    }
    Ok(problems)
}

async fn mark(
    source: &Source,
    kind: MarkName,
    blocks: &[Ulid],
    details: &str,
    remove: bool,
) -> anyhow::Result<()> {
    let bucket = open(source)?;
    let kind = kind.kind();
    for id in blocks {
        // A typing error must not make a directory of a mark alone.
        if !remove && scan::block(&bucket, *id).await?.objects.is_empty() {
            bail!("there is no block {id} in {bucket}");
        }
        if remove {
            marks::unmark(&bucket, *id, kind).await?;
        } else {
            marks::mark(&bucket, *id, kind, details).await?;
        }
        let done = if remove { "removed" } else { "there" };
        writeln!(std::io::stdout(), "{id}: {} {done}", kind.file())?;
    }
    Ok(())
}

async fn clean(
    source: &Source,
    options: &cleanup::CleanupOptions,
    format: Format,
) -> anyhow::Result<()> {
    let bucket = open(source)?;
    let found = find(&bucket, &Filter::default()).await?;
    let removals = cleanup::plan(&found, options, SystemTime::now());
    if !options.dry_run {
        cleanup::run(&bucket, &removals, &mut Bar::new("deleting blocks")).await?;
    }
    if format == Format::Json {
        return output::json(&json!({ "dryRun": options.dry_run, "removed": removals }));
    }
    let mut table = Table::new(&["BLOCK", "WHY", "OBJECTS", "SIZE"]);
    for r in &removals {
        table.row([r.block.to_string(), r.why.to_owned(), r.objects.to_string(), bytes(r.bytes)]);
    }
    if !removals.is_empty() {
        table.print()?;
    }
    let total = removals.iter().map(|r| r.bytes).sum();
    let done = if options.dry_run { "would be deleted" } else { "deleted" };
    writeln!(std::io::stdout(), "{} blocks {done}, {}", removals.len(), bytes(total))?;
    Ok(())
}

async fn cp(source: &Source, to: &str, filter: &Filter, format: Format) -> anyhow::Result<()> {
    let from = open(source)?;
    let to = Bucket::open(&Location::parse(to)?, &OpenOptions::default())?;
    let mut found = find(&from, filter).await?;
    found.retain(|block| block.meta.is_ok());
    let mut bar = Bar::new("copying blocks");
    periplus_bucket::blocks::Progress::more(&mut bar, found.len() as u64);
    let copies = found.iter().map(|block| copy::block(&from, &to, block));
    let mut copies = stream::iter(copies).buffered(2);
    let mut all = Vec::new();
    while let Some(copied) = copies.next().await {
        let copied = copied?;
        periplus_bucket::blocks::Progress::step(&mut bar, &copied.block.to_string());
        all.push(copied);
    }
    drop(bar);
    if format == Format::Json {
        return output::json(&json!(all));
    }
    let sent = all.iter().filter(|c| !c.was_there).count();
    let total = all.iter().map(|c| c.bytes).sum();
    let there = all.len() - sent;
    let line = format!("{sent} blocks copied to {to}, {}; {there} were there", bytes(total));
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
