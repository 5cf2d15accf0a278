//! What `deploy/` gives an operator to begin with is understood by the binary it was shipped with.

use std::path::{Path, PathBuf};
use std::process::Command;

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(folder);
    let all = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let all: Vec<PathBuf> = all.map(|f| f.expect("an entry").path()).collect();
    let fits = |f: &&PathBuf| f.extension().is_some_and(|e| e == ending);
    let found: Vec<PathBuf> = all.iter().filter(fits).cloned().collect();
    assert!(!found.is_empty(), "{} is empty", dir.display());
    found
}

#[test]
fn configurations_fit_the_role_they_are_named_after() {
    for file in files("config", "yaml") {
        let role = file.file_stem().and_then(|n| n.to_str()).expect("a name");
        let mut check = Command::new(env!("CARGO_BIN_EXE_periplus"));
        check.args(["check", "config", "--role", role]).arg(&file);
        let output = check.output().expect("periplus runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {told}", file.display());
    }
}

#[test]
fn units_start_a_role_that_there_is_with_a_configuration_that_is_shipped() {
    for file in files("systemd", "service") {
        let unit = std::fs::read_to_string(&file).expect("a unit");
        let start = unit.lines().find_map(|l| l.strip_prefix("ExecStart=")).expect("ExecStart");
        let words: Vec<&str> = start.split_whitespace().collect();
        let [_, role, "--config", config] = words[..] else { panic!("{start}") };
        let shipped = files("config", "yaml");
        let name = Path::new(config).file_name();
        assert!(shipped.iter().any(|f| f.file_name() == name), "{config} of {role} is not shipped");
        let help = Command::new(env!("CARGO_BIN_EXE_periplus")).args([role, "--help"]).output();
        assert!(help.expect("periplus runs").status.success(), "there is no {role}");
    }
}
