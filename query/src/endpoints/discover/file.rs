//! Files in Prometheus's `file_sd` form, JSON or YAML: `[{"targets": ["host:port", …], "labels": {…}}]`.
//! Labels are ignored: an endpoint says itself what it has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    targets: Vec<String>,
}

/// The targets of all files that `pattern` names; `*` in its last part stands for anything.
///
/// # Errors
/// A file that can't be read or makes no sense, by name. The caller keeps what it had.
pub(super) fn addresses(pattern: &Path) -> Result<BTreeSet<String>, String> {
    let mut all = BTreeSet::new();
    for path in matching(pattern)? {
        let fail = |e: String| format!("{}: {e}", path.display());
        let size = std::fs::metadata(&path).map_err(|e| fail(e.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(fail(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| fail(e.to_string()))?;
        let json = path.extension().is_some_and(|e| e == "json");
        let groups: Vec<Group> = match json {
            true => serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?,
            false => serde_saphyr::from_str(&text).map_err(|e| fail(e.to_string()))?,
        };
        all.extend(groups.into_iter().flat_map(|g| g.targets).filter(|t| !t.is_empty()));
    }
    Ok(all)
}

fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some((before, after)) = name.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
    let dir = pattern.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let list = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let fits = |n: &str| {
        n.len() >= before.len() + after.len() && n.starts_with(before) && n.ends_with(after)
    };
    let mut out: Vec<PathBuf> = list
        .filter_map(Result::ok)
        .filter(|e| e.file_name().to_str().is_some_and(fits))
        .map(|e| e.path())
        .collect();
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_patterns() {
        let dir = tempfile::tempdir().unwrap();
        let write = |n: &str, t: &str| std::fs::write(dir.path().join(n), t).unwrap();
        write("a.json", r#"[{"targets": ["h1:1", "dns+h:2"], "labels": {"x": "y"}}]"#);
        write("b.yml", "- targets: ['h2:1']\n");
        let find = |p: &str| addresses(&dir.path().join(p));
        let set = |a: &[&str]| a.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(find("*.json"), Ok(set(&["h1:1", "dns+h:2"])));
        assert_eq!(find("b.yml"), Ok(set(&["h2:1"])));
        assert_eq!(find("*.none"), Ok(set(&[])));
        assert!(find("missing.json").is_err());
        write("c.json", "{");
        assert!(find("c.json").unwrap_err().contains("c.json"));
    }
}
