//! File names with `*`, `?` and `[a-z]` in any part, as Go's `filepath.Glob` has them.

use std::path::{Component, Path, PathBuf};

/// Directory entries looked at for one pattern at most.
const ENTRIES_MAX: usize = 100_000;

/// The files a pattern names, in order of name; one without signs names itself.
///
/// # Errors
/// A directory that can't be listed, a malformed class, a pattern with too much to look at.
pub fn glob(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    let mut looked_at = 0;
    let mut is_pattern = false;
    for part in pattern.components() {
        let Component::Normal(name) = part else {
            found.iter_mut().for_each(|p| p.push(part));
            continue;
        };
        let Some(name) = name.to_str().filter(|n| n.contains(['*', '?', '['])) else {
            found.iter_mut().for_each(|p| p.push(name));
            if is_pattern {
                found.retain(|p| p.exists());
            }
            continue;
        };
        is_pattern = true;
        let wanted: Vec<char> = name.chars().collect();
        check(&wanted)?;
        let mut next = Vec::new();
        for dir in &found {
            let at = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            // A directory that is not there has no files.
            let Ok(list) = std::fs::read_dir(at) else { continue };
            for entry in list.filter_map(Result::ok) {
                looked_at += 1;
                if looked_at > ENTRIES_MAX {
                    return Err(format!("more than {ENTRIES_MAX} directory entries to look at"));
                }
                let name = entry.file_name();
                let letters: Vec<char> = name.to_string_lossy().chars().collect();
                if matches(&wanted, &letters) {
                    next.push(dir.join(name));
                }
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

fn check(pattern: &[char]) -> Result<(), String> {
    let open = pattern.iter().filter(|c| **c == '[').count();
    let close = pattern.iter().filter(|c| **c == ']').count();
    if open > close { Err("a [ is not closed by ]".to_owned()) } else { Ok(()) }
}

/// Whether a name is as the pattern says. Linear: of several stars only the last is tried again.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let taken = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(pattern.get(p..).unwrap_or_default(), name.get(n).copied()),
            Some(c) => (name.get(n) == Some(c)).then_some(1),
            None => None,
        };
        match (taken, star) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}

/// The length of the class at the front of `pattern`, where `c` is in it.
fn class(pattern: &[char], c: Option<char>) -> Option<usize> {
    let c = c?;
    let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
    let mut inner = pattern.get(1..end)?;
    let negated = inner.first() == Some(&'^');
    if negated {
        inner = inner.get(1..)?;
    }
    let mut hit = false;
    while let Some(low) = inner.first() {
        match inner.get(1..3) {
            Some(['-', high]) => {
                hit |= (low..=high).contains(&&c);
                inner = inner.get(3..)?;
            }
            _ => {
                hit |= *low == c;
                inner = inner.get(1..)?;
            }
        }
    }
    (hit != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_go_has_it() {
        let m = |p: &str, n: &str| {
            let (p, n): (Vec<char>, Vec<char>) = (p.chars().collect(), n.chars().collect());
            matches(&p, &n)
        };
        for (p, n) in [("*", "x"), ("*.yml", "a.yml"), ("a?c*", "abcdef"), ("[a-c]*.y", "bz.y")] {
            assert!(m(p, n), "{p} {n}");
        }
        for (p, n) in [("*.yml", "a.yaml"), ("?", ""), ("[^a]x", "ax"), ("a", "ab")] {
            assert!(!m(p, n), "{p} {n}");
        }
        assert!(!m(&"*a".repeat(50), &"a".repeat(49)));
    }

    #[test]
    fn every_part_may_be_a_pattern() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/x.yml", "b/x.yml", "b/y.yaml"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(glob(&dir.path().join("*/*.yml")).unwrap().len(), 2);
        assert_eq!(glob(&dir.path().join("b/*")).unwrap().len(), 2);
        assert_eq!(glob(&dir.path().join("none")).unwrap().len(), 1);
        assert!(glob(Path::new("[a")).is_err());
    }
}
