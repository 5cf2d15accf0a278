//! Unit tests of rules in promtool's format: series, times, and the alerts and values expected.
//!
//! The file (`form`) is promtool's, field by field. Each test (`run`) evaluates the rules at every
//! interval over samples that arrive as time goes on, with the code that evaluates rules in
//! production, and `compare` says what differs in promtool's words.

mod compare;
mod form;
mod run;

#[cfg(test)]
mod promtool;
#[cfg(test)]
mod tests;

use std::path::Path;

use regex::Regex;

/// What a test file amounts to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Tests that were run.
    pub tests: usize,
    /// What differs, in promtool's words; empty: everything is as expected.
    pub failures: Vec<String>,
    /// What is strange but no failure.
    pub warnings: Vec<String>,
}

/// Runs the tests of a file: all, or those whose name one of the expressions `only` matches.
///
/// # Errors
/// The file, or one of its rule files, can't be read or makes no sense; so with an expression.
pub fn test_file(path: &Path, only: &[String]) -> Result<Report, String> {
    let only = match only.is_empty() {
        true => None,
        false => Some(Regex::new(&only.join("|")).map_err(|e| e.to_string())?),
    };
    let mut report = Report::default();
    let file = form::read(path, &mut report.warnings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| format!("starting: {e}"))?;
    for test in &file.tests {
        if only.as_ref().is_some_and(|re| !re.is_match(&test.name)) {
            continue;
        }
        report.tests += 1;
        let look = |t: &form::AlertTest, got| compare::alerts(test, t, got);
        match runtime.block_on(run::run(&file, test, look)) {
            Ok(failures) => report.failures.extend(failures),
            Err(e) => report.failures.push(e),
        }
    }
    Ok(report)
}

/// Labels and annotations of an alert, by name.
pub type FiringAlert =
    (std::collections::BTreeMap<String, String>, std::collections::BTreeMap<String, String>);

/// What fires at one place of a file of tests.
pub type Observed = (usize, i64, String, Vec<FiringAlert>);

/// What fires where a file of tests asks for it: the number of the test, the time in milliseconds, the
/// alert's name, and each alert. What the file expects does not matter.
///
/// # Errors
/// As [`test_file`], or a rule can't be evaluated.
pub fn observe(path: &Path) -> Result<Vec<Observed>, String> {
    let file = form::read(path, &mut Vec::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| format!("starting: {e}"))?;
    let mut out = Vec::new();
    for (i, test) in file.tests.iter().enumerate() {
        let look = |t: &form::AlertTest, got: Vec<FiringAlert>| {
            out.push((i, t.at_ms, t.name.clone(), got));
            None
        };
        let failures = runtime.block_on(run::run(&file, test, look))?;
        if let Some(first) = failures.into_iter().next() {
            return Err(first);
        }
    }
    Ok(out)
}
