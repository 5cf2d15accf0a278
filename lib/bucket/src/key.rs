//! Names of objects.
//!
//! A key is parsed once, where it enters, and can be used anywhere afterwards: on S3, where it
//! becomes part of a URL, and in a local directory, where it becomes a path. So it has plain
//! segments only. Percent signs are refused, which leaves nothing to encode twice; so are `.`, `..`,
//! backslashes, control characters and empty segments.

use std::fmt;

use object_store::path::Path;
use ulid::Ulid;

/// S3's limit.
const KEY_BYTES_MAX: usize = 1024;
/// The limit of most file systems.
const SEGMENT_BYTES_MAX: usize = 255;

/// A name that may not be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a name for an object: {reason}")]
pub struct KeyError {
    /// The name, shortened where it is long.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The name of an object, relative to the bucket's prefix: `a/b/c`, plain segments, no slash at
/// either end. The empty key is the root; objects don't have it, listings do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The root, for listings.
    pub const ROOT: Self = Self(String::new());

    /// Checks a name.
    ///
    /// # Errors
    /// Empty segments (also by a slash at either end), `.`, `..`, characters other than ASCII
    /// letters, digits and `-_.=+@,:!()`, more than 1024 bytes.
    pub fn parse(name: &str) -> Result<Self, KeyError> {
        let refuse = |reason| Err(KeyError { name: name.chars().take(200).collect(), reason });
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > KEY_BYTES_MAX {
            return refuse("it is longer than 1024 bytes");
        }
        for segment in name.split('/') {
            match segment {
                "" => return refuse("it has an empty segment"),
                "." | ".." => return refuse("it would lead out of its directory"),
                _ if segment.len() > SEGMENT_BYTES_MAX => {
                    return refuse("a segment is longer than 255 bytes");
                }
                _ => {}
            }
            if segment.contains('%') {
                return refuse("it has a percent sign, which could be decoded to something else");
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=+@,:!()".contains(&b)) {
                return refuse("allowed are ASCII letters, digits and -_.=+@,:!()");
            }
        }
        Ok(Self(name.to_owned()))
    }

    /// The key of something below this one.
    ///
    /// # Errors
    /// As [`Self::parse`]; also where the two together are too long.
    pub fn join(&self, name: &str) -> Result<Self, KeyError> {
        let below = Self::parse(name)?;
        if self.0.is_empty() {
            return Ok(below);
        }
        Self::parse(&format!("{}/{}", self.0, below.0))
    }

    /// The directory of a block.
    #[must_use]
    pub fn block(id: Ulid) -> Self {
        Self(id.to_string())
    }

    /// A block's `meta.json`.
    #[must_use]
    pub fn block_meta(id: Ulid) -> Self {
        Self(format!("{id}/meta.json"))
    }

    /// A file of a block: `index`, `chunks/000001`, ….
    ///
    /// # Errors
    /// The path leads out of the block, or is no key.
    pub fn block_file(id: Ulid, path: &str) -> Result<Self, KeyError> {
        Self::block(id).join(path)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// Whether it is the root.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// What follows `directory/`, where this lies in it.
    #[must_use]
    pub fn within(&self, directory: &Self) -> Option<&str> {
        if directory.is_root() {
            return (!self.is_root()).then_some(self.0.as_str());
        }
        self.0.strip_prefix(directory.0.as_str())?.strip_prefix('/')
    }

    pub(crate) fn path(&self) -> Path {
        // Nothing in a key's alphabet is encoded, so this is the same text.
        Path::from(self.0.as_str())
    }

    pub(crate) fn from_path(path: &Path) -> Result<Self, KeyError> {
        Self::parse(path.as_ref())
    }
}

/// A block's name, strictly: 26 characters of Crockford's alphabet in upper case. (`ulid` itself
/// also takes lower case, which would be another object.)
#[must_use]
pub fn parse_ulid(text: &str) -> Option<Ulid> {
    let id = Ulid::from_string(text).ok()?;
    (id.to_string() == text).then_some(id)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_names_are_refused() {
        for name in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/./b",
            "a\\b",
            "..\\a",
            "%2e%2e/a",
            "%252e%252e/a",
            "a%2fb",
            "a\0b",
            "a\nb",
            "ä",
            "a b",
            "a?b",
            "a#1",
            "C:\\x",
            "a*",
            "a;b",
            "a'b",
            "a\"b",
            "<a>",
            "a|b",
            "a`b",
            "$a",
            "{a}",
            "[a]",
            "^a",
            "&a",
        ] {
            assert!(Key::parse(name).is_err(), "{name:?}");
            assert!(Key::block(Ulid::from(1_u128)).join(name).is_err(), "{name:?}");
        }
        assert!(Key::parse(&"a/".repeat(600)).is_err());
        assert!(Key::parse(&"a".repeat(256)).is_err());
    }

    #[test]
    fn the_path_is_the_text() {
        for name in ["01M7Z93MDS9J4WQZYN95AFEATR/chunks/000001", "a-_.=+@,:!()b/c", "...", "a..b"] {
            let key = Key::parse(name).unwrap();
            assert_eq!(key.path().as_ref(), name);
            assert_eq!(Key::from_path(&key.path()).unwrap(), key);
        }
    }

    #[test]
    fn lower_case_ulids_are_other_names() {
        assert!(parse_ulid("01M7Z93MDS9J4WQZYN95AFEATR").is_some());
        for text in [
            "01m7z93mds9j4wqzyn95afeatr",
            "01M7Z93MDS9J4WQZYN95AFEAT",
            "",
            "../x",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        ] {
            assert!(parse_ulid(text).is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_key_leaves_its_prefix(name in "\\PC{0,40}", directory in "[a-z]{1,8}") {
            let directory = Key::parse(&directory).unwrap();
            if let Ok(key) = directory.join(&name) {
                prop_assert_eq!(key.within(&directory), Some(name.as_str()));
                let path = std::path::Path::new("/prefix").join(key.as_str());
                prop_assert!(path.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
                prop_assert!(path.starts_with("/prefix"));
                let stored = key.path();
                prop_assert_eq!(stored.as_ref(), key.as_str());
            }
        }
    }
}
