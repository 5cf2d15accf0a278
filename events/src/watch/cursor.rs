//! Where the watch stands, kept on disk.
//!
//! A file of JSON, replaced whole. It is written after what lies before it is safe in the spool, so that after a
//! crash events come twice rather than never.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The largest cursor file read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A position in what the API server has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which server, cluster and namespace it belongs to: elsewhere it means nothing.
    pub scope: String,
    /// All up to this resourceVersion is in the spool.
    pub resource_version: u64,
    /// When the server was last known to have nothing newer, microseconds since 1970.
    pub good_us: i64,
}

/// The file.
#[derive(Clone, Debug)]
pub struct CursorFile {
    path: PathBuf,
}

impl CursorFile {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join("cursor.json") }
    }

    /// The position, if there is one for this scope. A broken file is as none: a list then takes its place.
    #[must_use]
    pub fn load(&self, scope: &str) -> Option<Cursor> {
        let size = std::fs::metadata(&self.path).ok()?.len();
        if size > FILE_BYTES_MAX {
            return None;
        }
        let cursor: Cursor = serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        (cursor.scope == scope && cursor.resource_version > 0).then_some(cursor)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, cursor: &Cursor) -> std::io::Result<()> {
        replace(&self.path, &serde_json::to_vec(cursor)?)
    }
}

/// Replaces a file so that a crash leaves the old or the new content, never a mix.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_for_its_own_scope_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = CursorFile::new(dir.path());
        assert_eq!(file.load("a"), None);
        let cursor = Cursor { scope: "a".into(), resource_version: 7, good_us: 9 };
        file.save(&cursor).expect("saved");
        assert_eq!(file.load("a"), Some(cursor));
        assert_eq!(file.load("b"), None);
        std::fs::write(dir.path().join("cursor.json"), b"{\"scope\":\"a\",\"resou")
            .expect("written");
        assert_eq!(file.load("a"), None);
    }
}
