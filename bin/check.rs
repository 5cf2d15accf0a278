//! `periplus check`: whether something is right, before anything relies on it.

mod rules;

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Command;
use periplus_daemon::config::check_file;
use periplus_promql::engine::{Engine, EngineConfig};
use periplus_promql::{parse, script};

/// Check a configuration file, a query or a block, and say everything that is wrong with it.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Check a YAML configuration file
    Config {
        /// The file.
        file: PathBuf,
        /// The command it is for; if not given, it must fit at least one.
        #[arg(long)]
        role: Option<String>,
    },
    /// Run PromQL test scripts and print what differs from what they expect
    #[command(long_about = SCRIPTS_HELP)]
    Promql {
        /// Scripts, in the language of Prometheus's own tests.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Run every evaluation as it is written only, not also pinned to its time, at other times
        /// and as a step of a range.
        #[arg(long)]
        once: bool,
    },
    /// Check a PromQL query and print it as Prometheus's formatter would
    ///
    /// Without a query, reads JSON lines with a field `query` from standard input and prints for each
    /// a line with what the parser says: `ok`, and either `str`, `pretty`, `sexp` (the tree) and `pos`
    /// (byte positions of its nodes), or `err`.
    Query {
        /// The query; `-` reads it from standard input.
        query: Option<String>,
    },
    /// Check rule files: form, expressions and templates
    Rules(rules::Args),
    /// Check TSDB blocks: every checksum, order, reference and sample
    Block {
        /// Directories of blocks.
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
        /// Print all series and samples, a line of JSON for each series.
        #[arg(long)]
        dump: bool,
    },
}

const SCRIPTS_HELP: &str = "Run PromQL test scripts and print what differs from what they expect

A script loads samples and says what queries over them must give:

  load 1m
    errors_total{job=\"api\"} 0 10 20 30

  eval instant at 3m rate(errors_total[2m])
    {job=\"api\"} 0.16666666666666666

  eval range from 1m to 3m step 1m errors_total
    errors_total{job=\"api\"} 10 20 30";

/// Runs the check; `services` are the commands that take a configuration file.
pub(crate) fn run(args: Args, services: &[Command]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match args.what {
        What::Config { file, role } => config(&file, role.as_deref(), services, &mut out),
        What::Promql { files, once } => scripts(&files, once, &mut out),
        What::Query { query: Some(query) } => query_text(&query, &mut out),
        What::Query { query: None } => query_lines(std::io::stdin().lock(), &mut out),
        What::Rules(args) => rules::run(&args, &mut out),
        What::Block { dirs, dump } => {
            let mut bad = 0;
            for dir in &dirs {
                if dump {
                    let block = periplus_block::Block::open(dir)?;
                    periplus_block::dump::dump(&block, &mut out)?;
                    continue;
                }
                let report = periplus_block::check::check(dir);
                writeln!(out, "{report}")?;
                bad += usize::from(!report.is_ok());
            }
            if bad > 0 {
                bail!("{bad} of {} blocks are bad", dirs.len());
            }
            Ok(())
        }
    }
}

fn config(
    file: &std::path::Path,
    role: Option<&str>,
    services: &[Command],
    out: &mut impl std::io::Write,
) -> anyhow::Result<()> {
    let names: Vec<&str> = services.iter().map(Command::get_name).collect();
    if let Some(role) = role.filter(|r| !names.contains(r)) {
        bail!("--role {role}: no such command; one of {}", names.join(", "));
    }
    let asked = services.iter().filter(|s| role.is_none_or(|r| r == s.get_name()));
    let mut problems = Vec::new();
    let mut fits = Vec::new();
    for service in asked {
        match check_file(service, file) {
            Ok(fields) => fits.push((service.get_name(), fields)),
            Err(e) => problems.push(format!("as `periplus {}`: {e}", service.get_name())),
        }
    }
    match fits.first() {
        Some((_, fields)) => {
            let names: Vec<&str> = fits.iter().map(|f| f.0).collect();
            writeln!(out, "{}: ok, {fields} settings for {}", file.display(), names.join(", "))?;
            Ok(())
        }
        None => bail!("{}", problems.join("\n")),
    }
}

/// Runs scripts one after the other; all of them, whatever differs.
fn scripts(files: &[PathBuf], once: bool, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let engine = Engine::new(&EngineConfig::default())?;
    let runner = script::Runner { engine: &engine, reruns: !once, delayed_name_removal: true };
    let mut bad = 0;
    for file in files {
        let name = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {name}"))?;
        match script::parse(&text) {
            Ok(script) => {
                let report = runner.run(&script);
                writeln!(out, "{name}: {report}")?;
                bad += usize::from(!report.passed());
            }
            Err(e) => {
                writeln!(out, "{name}: {e}")?;
                bad += 1;
            }
        }
    }
    if bad > 0 {
        bail!("{bad} of {} scripts do not hold", files.len());
    }
    Ok(())
}

/// Answers JSON lines with JSON lines.
fn query_lines(
    mut from: impl std::io::BufRead,
    out: &mut impl std::io::Write,
) -> anyhow::Result<()> {
    // Escapes make a query of the longest size six times as long.
    let longest = 6 * parse::QUERY_BYTES_MAX as u64 + 1024;
    for number in 1.. {
        let mut line = Vec::new();
        let read = from.by_ref().take(longest).read_until(b'\n', &mut line);
        if read.with_context(|| format!("reading line {number} of standard input"))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let object: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
        let query = object.as_ref().and_then(|o| o.get("query")?.as_str()).with_context(|| {
            format!("line {number} of standard input is no JSON object with a text `query`")
        })?;
        writeln!(out, "{}", parse::golden::answer(query).to_json())?;
    }
    Ok(())
}

fn query_text(query: &str, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let mut text = query.to_owned();
    if query == "-" {
        text.clear();
        let most = parse::QUERY_BYTES_MAX as u64 + 1;
        std::io::stdin().take(most).read_to_string(&mut text).context("reading the query")?;
    }
    match parse::parse(&text) {
        Ok(expr) => {
            writeln!(out, "{}", parse::pretty(&expr))?;
            Ok(())
        }
        Err(e) => bail!("{e}{}", marked(&text, &e)),
    }
}

/// The line of the query that an error is about, with a mark under the place.
fn marked(query: &str, error: &parse::ParseError) -> String {
    let Some((line, column)) = error.line_column else { return String::new() };
    let Some(text) = query.lines().nth(line as usize - 1) else { return String::new() };
    if text.len() > 200 {
        return String::new();
    }
    // The column counts bytes, the eye characters.
    let before = text.get(..column as usize - 1).map_or(0, |t| t.chars().count());
    format!("\n  {text}\n  {}^", " ".repeat(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_run_and_what_differs_is_told() {
        let dir = std::env::temp_dir().join(format!("periplus-check-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let (good, bad) = (dir.join("good.test"), dir.join("bad.test"));
        std::fs::write(&good, "load 1m\n  a 1 2\n\neval instant at 1m a + 1\n  {} 3\n")
            .expect("a file");
        std::fs::write(&bad, "eval instant at 1m 1 + 1\n  3\n").expect("a file");
        let mut out = Vec::new();
        scripts(std::slice::from_ref(&good), false, &mut out).expect("a script that holds");
        let error = scripts(&[bad, good], true, &mut out).expect_err("a script that does not");
        let out = String::from_utf8_lossy(&out);
        assert!(out.contains("1 evaluations hold") && out.contains("the scalar 3"), "{out}");
        assert_eq!(error.to_string(), "1 of 2 scripts do not hold");
        std::fs::remove_dir_all(&dir).expect("the directory");
    }

    #[test]
    fn a_query_is_printed_or_its_fault_marked() {
        let mut out = Vec::new();
        query_text("sum(x)by(a)", &mut out).expect("a query");
        assert_eq!(String::from_utf8_lossy(&out), "sum by (a) (x)\n");
        let error = query_text("sum(é{a=\"1\"} +)", &mut out).expect_err("no query").to_string();
        assert!(error.contains("parse error") && error.ends_with('^'), "{error}");
    }

    #[test]
    fn json_lines_are_answered_by_json_lines() {
        let mut out = Vec::new();
        let lines = "{\"query\":\"a + b\"}\n\n{\"query\": \"sum(\", \"line\": 3}\n";
        query_lines(lines.as_bytes(), &mut out).expect("two queries");
        let out = String::from_utf8_lossy(&out).into_owned();
        let read = |l: &str| serde_json::from_str::<serde_json::Value>(l).expect("JSON");
        let answers: Vec<serde_json::Value> = out.lines().map(read).collect();
        assert_eq!(answers.len(), 2);
        assert_eq!((&answers[0]["ok"], &answers[0]["str"]), (&true.into(), &"a + b".into()));
        assert_eq!(answers[1]["ok"], false);
        let error = query_lines("{}\n".as_bytes(), &mut Vec::new()).expect_err("no query");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
