//! Follows a log: checkpoint, segments, and the last segment as it grows.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Segment, Visitor, WalError, decode};

const CHECKPOINT_PREFIX: &str = "checkpoint.";

/// Reads a log from its newest checkpoint on and follows it.
pub struct Tail {
    dir: PathBuf,
    /// The checkpoint's segments still to be read.
    checkpoint: VecDeque<PathBuf>,
    /// The number of the live segment to be read next or being read.
    next: u64,
    current: Option<(Segment, Kind)>,
    records: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Checkpoint,
    Live,
}

impl Tail {
    /// Opens the log in `dir` (the `wal` directory of a Prometheus's data directory).
    ///
    /// # Errors
    /// A directory that can't be listed or holds no segments.
    pub fn open(dir: &Path) -> Result<Self, WalError> {
        let listing = Listing::read(dir)?;
        let (checkpoint, after) = match listing.checkpoint {
            Some(n) => {
                let path = dir.join(format!("{CHECKPOINT_PREFIX}{n:08}"));
                let parts = Listing::read(&path)?.segments;
                let paths = parts.iter().map(|i| path.join(format!("{i:08}"))).collect();
                (paths, n + 1)
            }
            None => (VecDeque::new(), 0),
        };
        let first = listing.segments.iter().copied().find(|n| *n >= after);
        // A log that begins neither after a checkpoint nor where its first segment lies has a hole.
        let next = match (first, listing.checkpoint) {
            (Some(n), Some(_)) if n != after => {
                return Err(WalError::Gone { path: segment_path(dir, after) });
            }
            (Some(n), _) => n,
            (None, _) => return Err(WalError::Gone { path: segment_path(dir, after) }),
        };
        Ok(Self { dir: dir.to_owned(), checkpoint, next, current: None, records: 0 })
    }

    /// Visits everything written since the last call. At the first call that is the whole log.
    ///
    /// # Errors
    /// As [`WalError`] says; the tail must not be used any more after one.
    pub fn poll(&mut self, to: &mut impl Visitor) -> Result<u64, WalError> {
        self.poll_some(to, u64::MAX)
    }

    /// As [`poll`](Self::poll), but stops after `records_max` records; returns how many there were.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn poll_some(&mut self, to: &mut impl Visitor, records_max: u64) -> Result<u64, WalError> {
        let before = self.records;
        let until = before.saturating_add(records_max);
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(self.records - before);
            }
            // Whether a successor exists is asked before reading: what was written to this segment
            // before its successor was begun is then certainly read.
            let more = match &self.current {
                Some((_, Kind::Live)) => segment_path(&self.dir, self.next + 1).exists(),
                _ => true,
            };
            self.drain(to, until)?;
            if !more || self.records >= until {
                return Ok(self.records - before);
            }
            if matches!(self.current, Some((_, Kind::Live))) {
                self.next += 1;
            }
            self.current = None;
        }
    }

    fn open_next(&mut self) -> Result<bool, WalError> {
        if let Some(path) = self.checkpoint.pop_front() {
            self.current = Some((Segment::open(&path)?, Kind::Checkpoint));
            return Ok(true);
        }
        let path = segment_path(&self.dir, self.next);
        self.current = Some((Segment::open(&path)?, Kind::Live));
        Ok(true)
    }

    fn drain(&mut self, to: &mut impl Visitor, until: u64) -> Result<(), WalError> {
        let Some((segment, kind)) = &mut self.current else { return Ok(()) };
        let path = match kind {
            Kind::Live => segment_path(&self.dir, self.next),
            Kind::Checkpoint => self.dir.join("checkpoint"),
        };
        while self.records < until {
            let offset = segment.offset();
            let Some(record) = segment.next_record()? else { return Ok(()) };
            decode(record, to).map_err(|e| WalError::Corrupt {
                path: path.clone(),
                offset,
                reason: e.to_string(),
            })?;
            self.records += 1;
        }
        Ok(())
    }
}

fn segment_path(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("{n:08}"))
}

struct Listing {
    segments: Vec<u64>,
    checkpoint: Option<u64>,
}

impl Listing {
    fn read(dir: &Path) -> Result<Self, WalError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => WalError::Gone { path: dir.to_owned() },
            _ => WalError::Io { action: "listing", path: dir.to_owned(), source },
        };
        let mut listing = Self { segments: Vec::new(), checkpoint: None };
        for entry in fs::read_dir(dir).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(n) = name.strip_prefix(CHECKPOINT_PREFIX).and_then(number) {
                listing.checkpoint = listing.checkpoint.max(Some(n));
            } else if let Some(n) = number(name) {
                listing.segments.push(n);
            }
        }
        listing.segments.sort_unstable();
        Ok(listing)
    }
}

/// The number of a segment's name; `checkpoint.N.tmp` and other names have none.
fn number(name: &str) -> Option<u64> {
    (name.len() >= 8 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}
