//! Every test script must hold: the project's own in `testdata`, and Prometheus's where the shared
//! data is there.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it finds")]

use std::fs;
use std::path::{Path, PathBuf};

use periplus_promql::engine::{Engine, EngineConfig};
use periplus_promql::script;

fn scripts_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "test"));
    paths.sort();
    paths
}

/// Runs all scripts of a directory and fails with everything that differs.
fn hold(dir: &Path) {
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let only = std::env::var("SCRIPT").unwrap_or_default();
    let mut failed = Vec::new();
    for path in scripts_in(dir) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let report = match script::parse(&text) {
            Ok(script) => script::run(&script, &engine),
            Err(e) => {
                println!("{name}: {e}");
                failed.push(name);
                continue;
            }
        };
        println!("{name}: {report}");
        if !report.passed() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these scripts don't hold: {failed:?}");
}

#[test]
fn own_scripts_hold() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    assert!(!scripts_in(&dir).is_empty());
    hold(&dir);
}

#[test]
fn prometheus_scripts_hold() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/promqltest"));
    if !dir.is_dir() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", dir.display());
        println!("skipped: no {}", dir.display());
        return;
    }
    hold(dir);
}

/// Every function is called, and every operator and aggregation used, in some own script.
#[test]
fn own_scripts_cover_the_language() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let texts: Vec<String> =
        scripts_in(&dir).iter().map(|p| fs::read_to_string(p).unwrap()).collect();
    let queries: Vec<&str> = texts
        .iter()
        .flat_map(|t| t.lines())
        .filter(|l| l.trim_start().starts_with("eval"))
        .collect();
    let used = |what: &str| queries.iter().any(|q| q.contains(what));
    let functions = periplus_promql::parse::functions::FUNCTIONS.iter().map(|f| f.name);
    let mut missing: Vec<String> = functions.map(|f| format!("{f}(")).collect();
    let words = [
        " + ",
        " - ",
        " * ",
        " / ",
        " % ",
        " ^ ",
        " atan2 ",
        " == ",
        " != ",
        " <= ",
        " < ",
        " >= ",
        " > ",
        " and ",
        " or ",
        " unless ",
        " </ ",
        " >/ ",
        " bool ",
        " on (",
        " ignoring (",
        "group_left",
        "group_right",
        "fill (",
        "fill_left",
        "fill_right",
        "sum ",
        "avg ",
        "count ",
        "min ",
        "max ",
        "group ",
        "stddev ",
        "stdvar ",
        "topk ",
        "bottomk",
        "count_values",
        "quantile ",
        "limitk",
        "limit_ratio",
        " by (",
        " without (",
        " offset ",
        " @ ",
        "start()",
        "end()",
        "step()",
        "range()",
        "anchored",
        "smoothed",
        ":",
    ];
    missing.extend(words.iter().map(|w| (*w).to_owned()));
    missing.retain(|what| !used(what));
    assert!(missing.is_empty(), "no own script uses {missing:?}");
}
