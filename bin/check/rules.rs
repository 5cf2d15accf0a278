//! `periplus check rules`: whether rule files can be used.

use std::path::{Path, PathBuf};

use anyhow::bail;
use periplus_query::ruler::file::{FileDefaults, glob, read};

/// Rule files to check.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Rule files, or patterns for them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Checks every file and says everything that is wrong with any.
pub(crate) fn run(args: &Args, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for pattern in &args.files {
        match glob(pattern) {
            Ok(found) if found.is_empty() => bail!("{}: no such file", pattern.display()),
            Ok(found) => files.extend(found),
            Err(e) => bail!("{}: {e}", pattern.display()),
        }
    }
    let mut bad = 0;
    for file in &files {
        bad += usize::from(!one(file, out)?);
    }
    if bad > 0 {
        bail!("{bad} of {} files are bad", files.len());
    }
    Ok(())
}

fn one(file: &Path, out: &mut impl std::io::Write) -> anyhow::Result<bool> {
    match read(file, FileDefaults::default()) {
        Ok(groups) => {
            let rules: usize = groups.iter().map(|g| g.rules.len()).sum();
            let count = groups.len();
            writeln!(out, "{}: ok, {rules} rules in {count} groups", file.display())?;
            let mut seen = std::collections::BTreeSet::new();
            for rule in groups.iter().flat_map(|g| &g.rules) {
                if !seen.insert(rule.identity()) {
                    let name = &rule.name;
                    writeln!(out, "  {name} is there twice with the same labels")?;
                }
            }
            Ok(true)
        }
        Err(errors) => {
            for e in errors {
                writeln!(out, "{e}")?;
            }
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a.yml");
        std::fs::write(&file, "groups:\n- name: a\n  rules:\n  - {record: x, expr: up}\n")
            .expect("a file");
        let mut out = Vec::new();
        run(&Args { files: vec![file.clone()] }, &mut out).expect("a good file");
        std::fs::write(&file, "groups:\n- name: a\n  rules:\n  - {record: x, expr: 'up('}\n")
            .expect("a file");
        let error = run(&Args { files: vec![file] }, &mut out).expect_err("a bad file");
        let out = String::from_utf8_lossy(&out);
        assert!(out.contains("1 rules in 1 groups") && out.contains("a.yml:4"), "{out}");
        assert!(error.to_string().contains("1 of 1 files"), "{error}");
    }

    /// The rules that ship: every file loads, every metric is recorded there, one of ours or in the
    /// demo fleet, and every alert has a runbook.
    #[test]
    fn shipped_rules_ask_for_what_exists() {
        use periplus_promql::parse::selectors;
        use periplus_query::ruler::file::read_all;

        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = root.join("dashboards/rules");
        let groups = read_all(&[dir.join("*.yml")], FileDefaults::default());
        let groups = groups.unwrap_or_else(|e| panic!("{e:?}"));
        let rules: Vec<_> = groups.iter().flat_map(|g| &g.rules).collect();
        assert!(rules.len() > 20, "{} rules", rules.len());
        let sources = glob(&root.join("lib/simfleet/src/*.rs")).expect("sources");
        let read = |p: &PathBuf| std::fs::read_to_string(p).expect("UTF-8");
        let fleet: String = sources.iter().map(read).collect();
        let runbooks = read(&dir.join("README.md"));
        for rule in &rules {
            let matchers = selectors(&rule.expr).into_iter().flat_map(|s| &s.matchers);
            for m in matchers.filter(|m| m.name == "__name__") {
                let name = String::from_utf8_lossy(&m.value).into_owned();
                let known = matches!(name.as_str(), "up" | "ALERTS")
                    || name.starts_with("periplus_")
                    || rules.iter().any(|r| r.alerting.is_none() && r.name == name)
                    || fleet.contains(&format!("\"{name}\""));
                assert!(known, "{}: nobody has a metric {name}", rule.name);
            }
            let heading = format!("\n## {}\n", rule.name);
            assert!(rule.alerting.is_none() || runbooks.contains(&heading), "{}", rule.name);
        }
    }

    /// Unit tests of the rules that ship, one for each alert at least.
    #[test]
    fn shipped_rules_do_what_they_say() {
        use periplus_query::ruler::file::read_all;

        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/rules");
        let files = glob(&dir.join("tests/*.yml")).expect("files");
        let tests: String = files.iter().filter_map(|f| std::fs::read_to_string(f).ok()).collect();
        let groups = read_all(&[dir.join("*.yml")], FileDefaults::default());
        let groups = groups.unwrap_or_else(|e| panic!("{e:?}"));
        for rule in groups.iter().flat_map(|g| &g.rules).filter(|r| r.alerting.is_some()) {
            let named = [format!("alertname: {}\n", rule.name), format!("\"{}\"", rule.name)];
            assert!(named.iter().any(|n| tests.contains(n)), "{} has no test", rule.name);
        }
        for file in files {
            let report =
                periplus_query::ruler::unit::test_file(&file, &[]).expect("a file of tests");
            assert!(report.failures.is_empty(), "{:?}", report.failures);
        }
    }
}
