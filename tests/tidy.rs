//! What a reader of the tree relies on, checked: which crate may use which, that each says what it
//! is for, that no file outgrows a reader, and that dashboards ask only for metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tiers, lowest first; a crate may use those of lower tiers only. A crate that is not named
/// here fails the test: whoever adds one decides where it stands.
const TIERS: &[&[&str]] = &[
    &["periplus-model"],
    // Others may read the formats of blocks.
    &["periplus-block"],
    &[
        "periplus-bucket",
        "periplus-columnar",
        "periplus-daemon",
        "periplus-promql",
        "periplus-proto",
        "periplus-simfleet",
        "periplus-tenancy",
        "periplus-tunnel",
        "periplus-wal",
    ],
    &["periplus-compactor", "periplus-events", "periplus-query", "periplus-sidecar"],
    &["periplus"],
];

/// Crates of the lowest tiers that must stay free of network and runtime.
const OFFLINE: &[&str] = &[
    "periplus-block",
    "periplus-columnar",
    "periplus-model",
    "periplus-promql",
    "periplus-simfleet",
];

/// Crates that would bring the network into one of [`OFFLINE`].
const NETWORK: &[&str] = &["axum", "hyper", "hyper-util", "reqwest", "tonic"];

/// The most lines a source file may have.
const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The workspace's packages as cargo sees them.
fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    json["packages"].as_array().expect("packages").clone()
}

/// The files under version control whose names end as given.
fn tracked(ending: &str) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let all = String::from_utf8(output.stdout).expect("UTF-8 names");
    let fits = |f: &&str| f.ends_with(ending);
    let there = |f: &PathBuf| f.is_file();
    all.split('\0').filter(fits).map(|f| root().join(f)).filter(there).collect()
}

fn tier(name: &str) -> Option<usize> {
    TIERS.iter().position(|t| t.contains(&name))
}

#[test]
fn crates_use_only_crates_of_lower_tiers() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let Some(own) = tier(name) else {
            wrong.push(format!("{name}: not in TIERS of tests/tidy.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = dependency["name"].as_str().expect("a name");
            // What only tests use may point anywhere.
            if dependency["kind"] == "dev" {
                continue;
            }
            if tier(used).is_some_and(|t| t >= own) {
                wrong.push(format!("{name} uses {used}, which is not of a lower tier"));
            }
            if OFFLINE.contains(&name) && NETWORK.contains(&used) {
                wrong.push(format!("{name} uses {used}, but it is to stay free of the network"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        if package["description"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{name}: its Cargo.toml has no description"));
        }
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let text = std::fs::read_to_string(manifest).expect("a manifest");
        if !text.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{name}: it does not take the workspace's lints"));
        }
        for target in package["targets"].as_array().expect("targets") {
            let path = target["src_path"].as_str().expect("a path");
            let kind = target["kind"][0].as_str().unwrap_or_default();
            let text = std::fs::read_to_string(path).expect("a source file");
            let docs = text.lines().take_while(|l| l.starts_with("//!")).count();
            let least = if kind == "lib" { 5 } else { 1 };
            if docs < least {
                wrong.push(format!("{path}: opens with {docs} lines of docs, not {least}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_outgrows_a_reader() {
    let mut wrong = Vec::new();
    for path in tracked(".rs") {
        if path.components().any(|c| c.as_os_str() == "generated") {
            continue;
        }
        let lines = std::fs::read_to_string(&path).expect("UTF-8").lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if ["mod.rs", "utils.rs", "util.rs", "common.rs", "helpers.rs", "misc.rs"].contains(&name) {
            wrong.push(format!("{}: name the mechanism instead", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dashboards_use_metrics_that_exist() {
    let root = root();
    let dashboards: Vec<PathBuf> = [".json", ".yaml", ".yml"]
        .into_iter()
        .flat_map(tracked)
        .filter(|p| p.starts_with(root.join("dashboards")))
        .collect();
    if dashboards.is_empty() {
        return;
    }
    let sources: Vec<String> = tracked(".rs")
        .iter()
        .filter(|p| !p.starts_with(root.join("tests")))
        .map(|p| std::fs::read_to_string(p).expect("UTF-8"))
        .collect();
    let sources: Vec<(&str, BTreeSet<&str>)> = sources
        .iter()
        .map(|s| (s.as_str(), names(s).map(|p| p.trim_end_matches('_')).collect()))
        .collect();
    let texts: Vec<String> =
        dashboards.iter().map(|p| std::fs::read_to_string(p).expect("UTF-8")).collect();
    // Each name once, with a file that uses it.
    let used: BTreeMap<&str, &PathBuf> =
        texts.iter().zip(&dashboards).flat_map(|(t, p)| names(t).map(move |n| (n, p))).collect();
    let wrong: Vec<String> = used
        .iter()
        .filter(|(name, _)| !sources.iter().any(|(s, prefixes)| registers(s, prefixes, name)))
        .map(|(name, path)| format!("{}: {name} is no metric of ours", path.display()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The words of a text that begin as our metrics do.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|w| w.starts_with("periplus_"))
}

/// Whether a source file registers a metric of this name: whole as a string, or a prefix as one of its words and what
/// follows as a string.
fn registers(source: &str, prefixes: &BTreeSet<&str>, name: &str) -> bool {
    // What the registry appends to a name is not part of it in the source.
    let bare = ["_total", "_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    let says = |n: &str| source.contains(&format!("\"{n}\""));
    let mut rests = prefixes.iter().filter_map(|p| bare.strip_prefix(p)?.strip_prefix('_'));
    rests.any(says) || says(bare) || says(name)
}
