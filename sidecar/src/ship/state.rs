//! The file of shipped blocks.
//!
//! `{"version": 1, "uploaded": ["<ulid>", …]}` in Prometheus's data directory, as Thanos's shipper
//! writes it: a sidecar of the one kind goes on where the other stopped, and Prometheus's
//! `--storage.tsdb.delay-compact-file.path` can name it, so that nothing is compacted before it is
//! shipped. It lists local blocks only. When it is lost the bucket is asked instead.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::ShipError;

/// Thanos's name for it.
pub const FILE: &str = "thanos.shipper.json";
/// A larger file is not believed.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct File {
    version: u64,
    #[serde(default)]
    uploaded: Option<Vec<Ulid>>,
}

/// Blocks that are known to be in the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    blocks: BTreeSet<Ulid>,
    is_saved: bool,
}

impl Shipped {
    /// Reads the file. What can't be read counts as nothing, with a warning: it only saves work.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let file = fs::metadata(path).and_then(|meta| {
            if meta.len() > FILE_BYTES_MAX {
                return Err(io::Error::other("larger than 16 MiB"));
            }
            fs::read(path)
        });
        let file = match file {
            Ok(bytes) => serde_json::from_slice::<File>(&bytes).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => Err(error),
        };
        match file {
            Ok(file) if file.version == 1 => Self {
                blocks: file.uploaded.unwrap_or_default().into_iter().collect(),
                is_saved: true,
            },
            Ok(file) => {
                tracing::warn!(path = %path.display(), version = file.version, "the file of shipped blocks has another version; asking the bucket");
                Self::default()
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the file of shipped blocks can't be read; asking the bucket");
                Self::default()
            }
        }
    }

    /// Whether a block is known to be shipped.
    #[must_use]
    pub fn has(&self, block: Ulid) -> bool {
        self.blocks.contains(&block)
    }

    /// Remembers a block.
    pub fn add(&mut self, block: Ulid) {
        self.is_saved &= !self.blocks.insert(block);
    }

    /// Forgets blocks that are gone from the data directory.
    pub fn keep(&mut self, is_there: impl Fn(Ulid) -> bool) {
        let before = self.blocks.len();
        self.blocks.retain(|id| is_there(*id));
        self.is_saved &= before == self.blocks.len();
    }

    /// Writes the file whole, or not at all, where it would say something else.
    ///
    /// # Errors
    /// It can't be written.
    pub fn save(&mut self, path: &Path) -> Result<(), ShipError> {
        if self.is_saved {
            return Ok(());
        }
        let file = File { version: 1, uploaded: Some(self.blocks.iter().copied().collect()) };
        let text = serde_json::to_vec_pretty(&file).unwrap_or_default();
        replace(path, &text)?;
        self.is_saved = true;
        Ok(())
    }
}

/// Writes a file beside, syncs it and renames it over.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ShipError> {
    let beside = path.with_extension("json.tmp");
    let written = (|| {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|e| ShipError::local("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thanos_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(Shipped::load(&path), Shipped::default());
        fs::write(&path, r#"{"version":1,"uploaded":["01M7Z93MDS9J4WQZYN95AFEATR"]}"#).unwrap();
        let mut shipped = Shipped::load(&path);
        assert!(shipped.has("01M7Z93MDS9J4WQZYN95AFEATR".parse().unwrap()));
        shipped.add(Ulid::from(7_u128));
        shipped.save(&path).unwrap();
        assert_eq!(Shipped::load(&path), shipped);
        shipped.keep(|id| id == Ulid::from(7_u128));
        shipped.save(&path).unwrap();
        assert!(!Shipped::load(&path).has("01M7Z93MDS9J4WQZYN95AFEATR".parse().unwrap()));
        for text in ["", "{", r#"{"version":2}"#, r#"{"version":1,"uploaded":["../x"]}"#] {
            fs::write(&path, text).unwrap();
            assert_eq!(Shipped::load(&path), Shipped::default(), "{text}");
        }
        fs::write(&path, r#"{"version":1,"uploaded":null}"#).unwrap();
        assert!(Shipped::load(&path).blocks.is_empty());
    }
}
