//! Rule files: Prometheus's form, unchanged, and Thanos's `partial_response_strategy`.
//!
//! Everything that is wrong with a file is told at once, each thing with line, field and remedy; a
//! file with a fault is not used at all.

mod check;
mod glob;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::rule::Group;

pub use glob::glob;

/// The largest rule file read, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// The most rules accepted in one file.
pub const RULES_MAX: usize = 100_000;

/// Something wrong with a rule file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}; {remedy}", file.display(), place(*line, *column))]
pub struct RuleError {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0: the file as a whole.
    pub line: u64,
    /// Column, from 1; 0: unknown.
    pub column: u64,
    /// What is wrong, naming group, rule and field.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

fn place(line: u64, column: u64) -> String {
    match (line, column) {
        (0, _) => String::new(),
        (line, 0) => format!(":{line}"),
        (line, column) => format!(":{line}:{column}"),
    }
}

/// What holds where a file does not say.
#[derive(Clone, Copy, Debug)]
pub struct FileDefaults {
    /// Time between evaluations, in milliseconds.
    pub interval_ms: i64,
}

impl Default for FileDefaults {
    fn default() -> Self {
        Self { interval_ms: 60_000 }
    }
}

type Texts = Option<BTreeMap<String, Spanned<String>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFile {
    groups: Option<Vec<Spanned<RawGroup>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGroup {
    name: Option<Spanned<String>>,
    interval: Option<Spanned<String>>,
    query_offset: Option<Spanned<String>>,
    limit: Option<Spanned<i64>>,
    partial_response_strategy: Option<Spanned<String>>,
    labels: Texts,
    rules: Option<Vec<Spanned<RawRule>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRule {
    record: Option<Spanned<String>>,
    alert: Option<Spanned<String>>,
    expr: Option<Spanned<String>>,
    r#for: Option<Spanned<String>>,
    keep_firing_for: Option<Spanned<String>>,
    labels: Texts,
    annotations: Texts,
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path, defaults: FileDefaults) -> Result<Vec<Group>, Vec<RuleError>> {
    let whole = |problem: String, remedy: &str| {
        let remedy = remedy.to_owned();
        vec![RuleError { file: path.to_owned(), line: 0, column: 0, problem, remedy }]
    };
    let unreadable = |e: std::io::Error| whole(e.to_string(), "check its name and permissions");
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        let problem = format!("{size} bytes, over the limit of {FILE_BYTES_MAX}");
        return Err(whole(problem, "divide it into several files"));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(path, &text, defaults)
}

/// Reads the text of a file.
///
/// # Errors
/// As [`read`].
pub fn parse(
    path: &Path,
    text: &str,
    defaults: FileDefaults,
) -> Result<Vec<Group>, Vec<RuleError>> {
    let text = first_document(text);
    if text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let raw: RawFile = match serde_saphyr::from_str(text) {
        Ok(raw) => raw,
        Err(e) => {
            let (line, column) = e.location().map_or((0, 0), |l| (l.line(), l.column()));
            let problem = e.without_snippet().to_string();
            return Err(vec![RuleError {
                file: path.to_owned(),
                line,
                column,
                problem: problem.lines().next().unwrap_or_default().to_owned(),
                remedy: "write it as Prometheus's rule files are, without other fields".to_owned(),
            }]);
        }
    };
    let mut reader = check::Reader { path, defaults, errors: Vec::new(), rules: 0 };
    let groups = reader.file(raw);
    if reader.errors.is_empty() { Ok(groups) } else { Err(reader.errors) }
}

/// Prometheus reads the first document of a file alone.
fn first_document(text: &str) -> &str {
    let mut at = 0;
    let mut begun = false;
    for line in text.split_inclusive('\n') {
        let word = line.trim_end();
        if word == "---" && begun {
            return text.get(..at).unwrap_or(text);
        }
        begun |= !word.is_empty() && !word.starts_with('#');
        at += line.len();
    }
    text
}

/// Reads all files that patterns name.
///
/// # Errors
/// Everything that is wrong with any of them, or with a pattern.
pub fn read_all(
    patterns: &[PathBuf],
    defaults: FileDefaults,
) -> Result<Vec<Group>, Vec<RuleError>> {
    let (mut groups, mut errors, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for pattern in patterns {
        match glob(pattern) {
            Ok(found) => files.extend(found),
            Err(problem) => errors.push(RuleError {
                file: pattern.clone(),
                line: 0,
                column: 0,
                problem,
                remedy: "name a file, or files by * and ?".to_owned(),
            }),
        }
    }
    files.sort();
    files.dedup();
    for f in &files {
        match read(f, defaults) {
            Ok(found) => groups.extend(found),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}

#[cfg(test)]
mod tests;
