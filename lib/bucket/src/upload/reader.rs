//! Reads a file part by part, once, and hashes what it reads.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use ring::digest::{Context, SHA256};

use super::md5_lanes::{self, LANES};
use super::spare::Spare;
use super::{Digest, hex};
use crate::error::BucketError;

/// Reads and hashes a file; for one task.
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    size: u64,
    at: u64,
    part_bytes: usize,
    spare: Arc<Spare>,
    sha256: Context,
    /// MD5s of the parts so far, one after another.
    tags: Vec<u8>,
    /// Parts that were read since, all of them whole.
    untagged: usize,
    parts: u64,
}

pub(super) fn file_error(operation: &'static str, path: &Path, source: io::Error) -> BucketError {
    BucketError::File { operation, path: path.display().to_string(), source }
}

/// The size of a plain file.
pub(super) fn size_of(path: &Path) -> Result<u64, BucketError> {
    let meta = std::fs::metadata(path).map_err(|e| file_error("look at", path, e))?;
    if !meta.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file");
        return Err(file_error("read", path, source));
    }
    Ok(meta.len())
}

impl Reader {
    pub(super) fn open(
        path: &Path,
        size: u64,
        part_bytes: usize,
        spare: Arc<Spare>,
    ) -> Result<Self, BucketError> {
        let file = File::open(path).map_err(|e| file_error("open", path, e))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            size,
            at: 0,
            part_bytes,
            spare,
            sha256: Context::new(&SHA256),
            tags: Vec::new(),
            untagged: 0,
            parts: 0,
        })
    }

    pub(super) const fn left(&self) -> u64 {
        self.size - self.at
    }

    /// Reads and hashes on a thread for blocking work.
    pub(super) async fn next(mut self) -> Result<(Bytes, Self), BucketError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let bytes = self.read_part()?;
            Ok((bytes, self))
        });
        let read = read.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        read.map_err(|e| file_error("read", &path, e))
    }

    fn read_part(&mut self) -> io::Result<Bytes> {
        let wanted = self.left().min(self.part_bytes as u64);
        let mut buffer = self.spare.take(usize::try_from(wanted).map_err(io::Error::other)?);
        self.file.read_exact(buffer.as_mut()).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(e.kind(), "it became shorter while it was read")
            }
            _ => e,
        })?;
        let bytes = buffer.freeze();
        self.at += wanted;
        self.parts += 1;
        self.sha256.update(&bytes);
        self.untagged += 1;
        let is_whole = bytes.len() == self.part_bytes;
        if !is_whole || self.untagged == LANES || self.left() == 0 {
            self.tag(&bytes, is_whole)?;
        }
        Ok(bytes)
    }

    /// Hashes the parts that were read since the last time, side by side. They may be sent and gone, so
    /// all but the last one come from the file again: the system still has them. Should it say
    /// something else now, the tag is another one than the store's, and the object is read back.
    fn tag(&mut self, last: &[u8], is_whole: bool) -> io::Result<()> {
        let count = if is_whole { self.untagged } else { self.untagged - 1 };
        if count > usize::from(is_whole) {
            let part_bytes = self.part_bytes as u64;
            let end = self.at - if is_whole { 0 } else { last.len() as u64 };
            let from = end - count as u64 * part_bytes;
            let digests = md5_lanes::digests(count, part_bytes, |part, at, buffer| {
                self.file.read_exact_at(buffer, from + part as u64 * part_bytes + at)
            })?;
            self.tags.extend(digests.iter().flatten());
        }
        if !is_whole || count == 1 {
            self.tags.extend_from_slice(&Md5::digest(last));
        }
        self.untagged = 0;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Digest, BucketError> {
        let mut more = [0_u8; 1];
        let is_longer = self.file.read(&mut more).map_err(|e| file_error("read", &self.path, e))?;
        if is_longer > 0 {
            let source = io::Error::other("it became longer while it was read");
            return Err(file_error("read", &self.path, source));
        }
        let e_tag = if self.parts <= 1 {
            hex(&self.tags)
        } else {
            format!("{}-{}", hex(&Md5::digest(&self.tags)), self.parts)
        };
        Ok(Digest { size: self.size, sha256: hex(self.sha256.finish().as_ref()), e_tag })
    }
}
