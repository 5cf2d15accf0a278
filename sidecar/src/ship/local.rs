//! Blocks in Prometheus's data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use periplus_block::meta::Meta;
use periplus_bucket::key::parse_ulid;
use ulid::Ulid;

use super::ShipError;

/// A larger `meta.json` is refused.
const META_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a tombstones file without tombstones.
const NO_TOMBSTONES_BYTES: u64 = 9;

/// A block in the data directory.
#[derive(Clone, Debug)]
pub struct LocalBlock {
    /// Its directory.
    pub directory: PathBuf,
    /// Its description.
    pub meta: Meta,
}

/// What is in the data directory.
#[derive(Debug, Default)]
pub struct Scan {
    /// Blocks that can be read, oldest first.
    pub blocks: Vec<LocalBlock>,
    /// Those that can't, and why.
    pub bad: Vec<ShipError>,
}

/// Finds all blocks of a data directory. One that vanishes meanwhile is left out.
///
/// # Errors
/// The directory can't be read.
pub fn scan(tsdb: &Path) -> Result<Scan, ShipError> {
    let mut found = Scan::default();
    let entries = fs::read_dir(tsdb).map_err(|e| ShipError::local("list", tsdb, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| ShipError::local("list", tsdb, e))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(parse_ulid) else { continue };
        match read(id, &entry.path()) {
            Ok(Some(block)) => found.blocks.push(block),
            Ok(None) => {}
            Err(error) => found.bad.push(error),
        }
    }
    found.blocks.sort_by_key(|b| (b.meta.min_time, b.meta.ulid));
    Ok(found)
}

fn read(id: Ulid, directory: &Path) -> Result<Option<LocalBlock>, ShipError> {
    let path = directory.join("meta.json");
    let bad = |reason: String| ShipError::BadBlock { block: id, reason };
    let bytes = match fs::metadata(&path) {
        Ok(meta) if meta.len() > META_BYTES_MAX => {
            return Err(bad(format!("meta.json has {} bytes", meta.len())));
        }
        Ok(_) => fs::read(&path),
        Err(error) => Err(error),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        // Prometheus deletes it right now, or writes it: it writes `meta.json` last as well.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(format!("meta.json: {error}"))),
    };
    let meta = Meta::parse(&bytes).map_err(|e| bad(e.to_string()))?;
    if meta.ulid != id {
        return Err(bad(format!("its meta.json describes {}", meta.ulid)));
    }
    Ok(Some(LocalBlock { directory: directory.to_owned(), meta }))
}

/// A block's files under links of our own, which Prometheus does not delete.
#[derive(Debug)]
pub struct Linked {
    /// The directory of the links.
    pub directory: PathBuf,
    /// Chunk segments by their names, in order.
    pub segments: Vec<String>,
    /// Whether samples were deleted in it, which `index` and `chunks` don't show.
    pub has_tombstones: bool,
}

impl LocalBlock {
    /// Links chunks and index below `upload`. `None`: Prometheus deleted the block meanwhile.
    ///
    /// # Errors
    /// Links can't be made.
    pub fn link(&self, upload: &Path) -> Result<Option<Linked>, ShipError> {
        let directory = upload.join(self.meta.ulid.to_string());
        remove(&directory)?;
        let chunks = directory.join("chunks");
        fs::create_dir_all(&chunks).map_err(|e| ShipError::local("make", &chunks, e))?;
        let mut segments = Vec::new();
        let linked = (|| {
            for entry in fs::read_dir(self.directory.join("chunks"))? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|n| is_segment(n)) else { continue };
                fs::hard_link(entry.path(), chunks.join(name))?;
                segments.push(name.to_owned());
            }
            fs::hard_link(self.directory.join("index"), directory.join("index"))
        })();
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_there() => {
                remove(&directory)?;
                return Ok(None);
            }
            Err(error) => {
                remove(&directory)?;
                return Err(ShipError::local("link the files of", &self.directory, error));
            }
        }
        segments.sort_unstable();
        let tombstones = fs::metadata(self.directory.join("tombstones")).map_or(0, |m| m.len());
        let has_tombstones = tombstones > NO_TOMBSTONES_BYTES;
        Ok(Some(Linked { directory, segments, has_tombstones }))
    }

    fn is_there(&self) -> bool {
        self.directory.join("meta.json").exists()
    }
}

impl Linked {
    /// Removes the links.
    ///
    /// # Errors
    /// They can't be removed.
    pub fn unlink(&self) -> Result<(), ShipError> {
        remove(&self.directory)
    }
}

fn is_segment(name: &str) -> bool {
    name.len() == 6 && name.bytes().all(|b| b.is_ascii_digit())
}

/// Removes a directory that was made here.
pub(super) fn remove(directory: &Path) -> Result<(), ShipError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ShipError::local("remove", directory, error))
        }
        _ => Ok(()),
    }
}
