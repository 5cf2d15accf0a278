//! The catalog of the history: looked into, held against the bucket, made anew.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use periplus_bucket::Bucket;
use periplus_bucket::catalog::{self, Catalog, Describe, DescribeError, Described, Part, Problem};
use periplus_columnar::{ColumnarError, Footer};
use serde_json::json;

use super::output::{self, Bar, Format, Table, bytes, time};

/// Reads what the files of parts say of themselves.
struct Parquet;

impl Describe for Parquet {
    fn describe(
        &self,
        name: &str,
        file_len: u64,
        tail: &Bytes,
    ) -> Result<Described, DescribeError> {
        let bad = |e: &dyn std::fmt::Display| DescribeError::Bad(e.to_string());
        let footer = match Footer::parse(name, file_len, tail) {
            Ok(footer) => footer,
            Err(ColumnarError::TailTooShort { needed, .. }) => {
                return Err(DescribeError::More(needed));
            }
            Err(error) => return Err(bad(&error)),
        };
        let description = serde_json::to_value(footer.summary()).map_err(|e| bad(&e))?;
        Ok(Described { description, rows: footer.rows(), tail_len: footer.tail_len() })
    }

    fn crc32(&self, bytes: &[u8]) -> u32 {
        periplus_columnar::crc32(bytes)
    }
}

/// Makes the catalog anew from what lies in the bucket.
pub(super) async fn rebuild(bucket: Bucket, dry_run: bool, format: Format) -> anyhow::Result<()> {
    let catalog = Catalog::new(bucket.clone());
    let mut bar = Bar::new("reading parts");
    let rebuilt = catalog::rebuild(&catalog, &Parquet, dry_run, &mut bar).await?;
    drop(bar);
    if format == Format::Json {
        return output::json(&json!({
            "dryRun": dry_run, "parts": rebuilt.parts.len(),
            "superseded": rebuilt.superseded.iter().map(|p| p.part).collect::<Vec<_>>(),
            "problems": rebuilt.problems,
        }));
    }
    print_problems(&rebuilt.problems)?;
    let done = if dry_run { "would be in the catalog" } else { "in the catalog" };
    writeln!(
        std::io::stdout(),
        "{} parts {done}, {} that others replace, {} problems",
        rebuilt.parts.len(),
        rebuilt.superseded.len(),
        rebuilt.problems.len()
    )?;
    Ok(())
}

/// Holds the catalog against the bucket; with `contents` reads the end of every file. `None`: there
/// is no history here.
pub(super) async fn verify(
    bucket: &Bucket,
    contents: bool,
) -> anyhow::Result<Option<(usize, Vec<Problem>)>> {
    let catalog = Catalog::new(bucket.clone());
    let snapshot = catalog.snapshot(Duration::ZERO).await?;
    if snapshot.is_empty() {
        return Ok(None);
    }
    let describe: Option<&dyn Describe> = if contents { Some(&Parquet) } else { None };
    let mut bar = Bar::new("verifying parts");
    let problems = catalog::verify(&catalog, describe, &mut bar).await?;
    Ok(Some((snapshot.all_parts().await?.len(), problems)))
}

pub(super) fn print_problems(problems: &[Problem]) -> anyhow::Result<()> {
    let mut table = Table::new(&["PART OR OBJECT", "PROBLEM", "DETAILS"]);
    for problem in problems {
        let Problem { subject, kind, details } = problem.clone();
        table.row([subject, kind.to_owned(), details]);
    }
    if !problems.is_empty() {
        table.print()?;
    }
    Ok(())
}

/// A stream's parts of one resolution, summed up.
#[derive(Default)]
struct Sum {
    parts: usize,
    days: std::collections::BTreeSet<i32>,
    range: Option<(i64, i64)>,
    samples: u64,
    histograms: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, part: &Part) {
        self.parts += 1;
        self.days.insert(part.day);
        self.samples += part.samples;
        self.histograms += part.histograms;
        self.bytes += part.bytes();
        if let Some((min, max)) = part.range {
            self.range = Some(self.range.map_or((min, max), |(a, b)| (a.min(min), b.max(max))));
        }
    }

    fn days_missing(&self) -> i64 {
        let span = self.days.first().zip(self.days.last());
        span.map_or(0, |(a, b)| i64::from(*b) - i64::from(*a) + 1 - self.days.len() as i64)
    }
}

/// The history by stream and resolution, as rows of a table and as JSON.
pub(super) async fn inspect(
    bucket: &Bucket,
    takes: impl Fn(&BTreeMap<String, String>) -> bool,
) -> anyhow::Result<(Table<9>, Vec<serde_json::Value>)> {
    let snapshot = Catalog::new(bucket.clone()).snapshot(Duration::ZERO).await?;
    let parts: Vec<Arc<Part>> = snapshot.all_parts().await?;
    let mut sums: BTreeMap<(String, &str), Sum> = BTreeMap::new();
    for part in parts.iter().filter(|p| takes(&p.external)) {
        let stream = periplus_bucket::blocks::meta::stream_name(&part.external);
        sums.entry((stream, &part.resolution)).or_default().add(part);
    }
    let mut table = Table::new(&[
        "HISTORY", "RES", "PARTS", "DAYS", "MISSING", "FROM", "UNTIL", "SAMPLES", "SIZE",
    ]);
    let mut documents = Vec::new();
    for ((stream, resolution), sum) in &sums {
        let (from, until) = sum.range.unwrap_or_default();
        table.row([
            stream.clone(),
            (*resolution).to_owned(),
            sum.parts.to_string(),
            sum.days.len().to_string(),
            sum.days_missing().to_string(),
            time(from),
            time(until),
            (sum.samples + sum.histograms).to_string(),
            bytes(sum.bytes),
        ]);
        documents.push(json!({
            "stream": stream, "resolution": resolution, "parts": sum.parts,
            "days": sum.days.len(), "daysMissing": sum.days_missing(), "minTime": from,
            "maxTime": until, "samples": sum.samples, "histograms": sum.histograms,
            "bytes": sum.bytes,
        }));
    }
    Ok((table, documents))
}

/// Fails where there are problems.
pub(super) fn fail_on(problems: usize, bucket: &Bucket) -> anyhow::Result<()> {
    if problems > 0 {
        bail!("{problems} problems in {bucket}");
    }
    Ok(())
}
