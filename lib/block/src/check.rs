//! Is a block whole? Reads all of it and says everything that is wrong, not only the first thing.

mod contents;
mod tables;

use std::fmt;
use std::path::Path;

use crate::block::{read_meta, read_tombstones};
use crate::error::{BlockFile, FileError};
use crate::index::Index;
use crate::meta::{Meta, Stats};
use crate::segment::Segments;
use crate::source::{BlockDir, BlockFiles};

use contents::Seen;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The block can be read, but something about it is not as it should be.
    Warning,
    /// Data is lost, or a reader may answer wrongly.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Where, and what.
    pub what: String,
    /// What follows from it or can be done about it.
    pub advice: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{word}: {} ({})", self.what, self.advice)
    }
}

/// The result of checking a block.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The block's name.
    pub block: String,
    /// What is wrong, in the order it was found; at most [`Report::FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub omitted: u64,
    /// What was counted on the way.
    pub stats: Stats,
}

impl Report {
    /// More findings than this are counted but not kept.
    pub const FINDINGS_MAX: usize = 1000;

    /// Whether the block can be relied on: warnings are allowed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.omitted == 0 && self.findings.iter().all(|f| f.severity == Severity::Warning)
    }

    fn add(&mut self, severity: Severity, what: impl Into<String>, advice: &'static str) {
        if self.findings.len() < Self::FINDINGS_MAX {
            self.findings.push(Finding { severity, what: what.into(), advice });
        } else {
            self.omitted += 1;
        }
    }

    fn error(&mut self, what: impl Into<String>, advice: &'static str) {
        self.add(Severity::Error, what, advice);
    }

    fn warn(&mut self, what: impl Into<String>, advice: &'static str) {
        self.add(Severity::Warning, what, advice);
    }

    /// An error of one of the readers.
    fn bad(&mut self, e: &FileError) {
        let advice = match e {
            FileError::Io { .. } => "the block is incomplete: fetch it again from where it came",
            FileError::Version { .. } => "written by a newer Prometheus: update periplus",
            FileError::Checksum { .. } => "the bytes changed after they were written: restore them",
            _ => "the bytes were cut or never right: restore them",
        };
        self.error(e.to_string(), advice);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.omitted > 0 {
            writeln!(f, "… and {} more", self.omitted)?;
        }
        let s = &self.stats;
        write!(
            f,
            "block {}: {}, {} series, {} chunks, {} samples ({} float, {} histogram), {} deletions",
            self.block,
            if self.is_ok() { "ok" } else { "bad" },
            s.num_series,
            s.num_chunks,
            s.num_samples,
            s.num_float_samples,
            s.num_histogram_samples,
            s.num_tombstones
        )
    }
}

/// Checks the block in a directory.
#[must_use]
pub fn check(dir: impl AsRef<Path>) -> Report {
    let dir = BlockDir::new(dir.as_ref());
    let mut report = check_files(&dir);
    if let Some(meta) = read_meta(&dir).ok().filter(|m| m.ulid.to_string() != report.block) {
        report.warn(
            format!("the directory is named {:?} but meta.json says {}", report.block, meta.ulid),
            "Prometheus ignores directories that are not named by a ULID",
        );
    }
    report
}

/// Checks the block in these files: every checksum, every order, every reference, every sample.
#[must_use]
pub fn check_files(files: &dyn BlockFiles) -> Report {
    let mut report = Report { block: files.name(), ..Report::default() };
    let meta = read_meta(files).map_err(|e| report.bad(&e)).ok();
    let tombstones = read_tombstones(files).map_err(|e| report.bad(&e)).unwrap_or_default();
    report.stats.num_tombstones = tombstones.len() as u64;
    let segments = Segments::open(files).map_err(|e| report.bad(&e)).ok();
    for e in segments.iter().flat_map(Segments::errors) {
        report.bad(e);
    }
    let index = match files.open(BlockFile::Index) {
        Ok(Some(bytes)) => Index::open(bytes),
        Ok(None) => Err(FileError::io(BlockFile::Index, std::io::ErrorKind::NotFound.into())),
        Err(e) => Err(FileError::io(BlockFile::Index, e)),
    };
    match index {
        Err(e) => report.bad(&e),
        Ok(index) => {
            let mut seen = Seen::default();
            tables::check_symbols(&index, &mut report);
            let range = meta.as_ref().map(Meta::range);
            contents::check(&index, segments.as_ref(), range, &mut seen, &mut report);
            tables::check_postings(&index, &seen, &mut report);
            for (series, _) in tombstones.iter().filter(|(s, _)| !seen.has(*s)) {
                report.warn(
                    format!("tombstones: a deletion is for series {series}, which is not there"),
                    "it deletes nothing",
                );
            }
        }
    }
    if let Some(meta) = &meta {
        check_meta(meta, files, &mut report);
    }
    report
}

fn check_meta(meta: &Meta, files: &dyn BlockFiles, report: &mut Report) {
    let counted = report.stats.clone();
    let pairs = [
        ("series", meta.stats.num_series, counted.num_series),
        ("chunks", meta.stats.num_chunks, counted.num_chunks),
        ("samples", meta.stats.num_samples, counted.num_samples),
    ];
    for (what, says, has) in pairs.into_iter().filter(|(_, says, has)| says != has) {
        report.warn(
            format!("meta.json: it says {says} {what}, the block has {has}"),
            "statistics only; samples are what was found",
        );
    }
    for file in meta.thanos.iter().flat_map(|t| &t.files).filter(|f| f.size_bytes > 0) {
        let which = match file.rel_path.as_str() {
            "index" => BlockFile::Index,
            "tombstones" => BlockFile::Tombstones,
            path => match path.strip_prefix("chunks/").and_then(|n| n.parse::<u32>().ok()) {
                Some(n) if n > 0 => BlockFile::Segment(n - 1),
                _ => continue,
            },
        };
        let len = files.open(which).ok().flatten().map(|f| f.len());
        if len != Some(file.size_bytes) {
            report.error(
                format!(
                    "{which}: meta.json says {} bytes, {}",
                    file.size_bytes,
                    len.map_or("the file is missing".into(), |n| format!("the file has {n}"))
                ),
                "the block was uploaded or downloaded only in part: fetch it again",
            );
        }
    }
}
