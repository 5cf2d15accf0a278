//! A log on the local disk: files `NNNNNNNNNNNNNNNNNNNN.log`, written one after another.
//!
//! An append counts once `fdatasync` has said so. After a write or a synchronisation that failed nobody knows
//! what is on disk: that file is cut back to what was acknowledged where that is possible, and never written to again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::frame::{Frames, Piece};
use super::{Damage, Entry, LogError, SegmentId};

/// A segment is closed once it is this long.
const SEGMENT_BYTES: u64 = 64 << 20;

/// A log in a directory that no other process writes to.
#[derive(Debug)]
pub struct DiskLog {
    directory: PathBuf,
    /// Closed and current segments with their lengths.
    segments: BTreeMap<SegmentId, u64>,
    open: Option<Open>,
    next: SegmentId,
    /// Keeps other processes away.
    _lock: File,
}

#[derive(Debug)]
struct Open {
    id: SegmentId,
    file: File,
    length: u64,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LogError {
    let path = path.display().to_string();
    move |source| LogError::File { operation, path, source }
}

fn name(id: SegmentId) -> String {
    format!("{id:020}.log")
}

impl DiskLog {
    /// Opens the log in `directory`, which is made where there is none, and gives `each` what it holds, in order, with
    /// the segment it is in.
    ///
    /// # Errors
    /// The directory can't be read or written, another process has it, or the log is of a newer format.
    pub fn open(
        directory: &Path,
        mut each: impl FnMut(SegmentId, i64, Entry),
    ) -> Result<(Self, Damage), LogError> {
        fs::create_dir_all(directory).map_err(failed("make directory", directory))?;
        let lock_path = directory.join("lock");
        let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
        lock.try_lock().map_err(|error| LogError::File {
            operation: "lock",
            path: lock_path.display().to_string(),
            source: std::io::Error::other(format!("{error}; does another hub use this directory?")),
        })?;
        let mut ids = Vec::new();
        for found in fs::read_dir(directory).map_err(failed("list", directory))? {
            let found = found.map_err(failed("list", directory))?;
            let id = found.file_name().to_str().and_then(|n| n.strip_suffix(".log")?.parse().ok());
            ids.extend(id.map(|id: SegmentId| id));
        }
        ids.sort_unstable();
        let (mut segments, mut damage) = (BTreeMap::new(), Damage::default());
        for id in &ids {
            let path = directory.join(name(*id));
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            segments.insert(*id, bytes.len() as u64);
            let mut frames = Frames::new(&bytes);
            while let Some(piece) = frames.next() {
                match piece {
                    Piece::Entry(first_id, entry) => each(*id, first_id, entry),
                    Piece::Unknown(format) => {
                        let (path, known) = (path.display().to_string(), super::frame::FORMAT);
                        return Err(LogError::Format { path, format, known });
                    }
                    // Every segment may end torn: each start begins a new one.
                    Piece::Broken(n) if frames.left() == 0 => damage.torn_bytes += n,
                    Piece::Broken(n) => damage.lost_bytes += n,
                }
            }
        }
        let next = ids.last().map_or(1, |last| last + 1);
        let log = Self { directory: directory.to_owned(), segments, open: None, next, _lock: lock };
        Ok((log, damage))
    }

    /// Writes and synchronises.
    ///
    /// # Errors
    /// The disk is full or broken; nothing of it may be acknowledged.
    pub fn append(&mut self, frames: &[u8]) -> Result<SegmentId, LogError> {
        let mut open = match self.open.take() {
            Some(open) if open.length < SEGMENT_BYTES => open,
            _ => self.begin()?,
        };
        let path = self.directory.join(name(open.id));
        let written = open
            .file
            .write_all(frames)
            .map_err(failed("write", &path))
            .and_then(|()| open.file.sync_data().map_err(failed("synchronise", &path)));
        if let Err(error) = written {
            // Not acknowledged; that it may still be there harms nobody, it only costs room.
            if let Err(error) = open.file.set_len(open.length) {
                tracing::warn!(%error, path = %path.display(), "cutting the log back");
            }
            if open.length == 0 && fs::remove_file(&path).is_ok() {
                self.segments.remove(&open.id);
            }
            return Err(error);
        }
        open.length += frames.len() as u64;
        let id = open.id;
        self.segments.insert(id, open.length);
        self.open = Some(open);
        Ok(id)
    }

    fn begin(&mut self) -> Result<Open, LogError> {
        let id = self.next;
        let path = self.directory.join(name(id));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(failed("create", &path))?;
        self.next += 1;
        self.segments.insert(id, 0);
        // The name has to survive as well.
        let directory = File::open(&self.directory).map_err(failed("open", &self.directory))?;
        directory.sync_all().map_err(failed("synchronise", &self.directory))?;
        Ok(Open { id, file, length: 0 })
    }

    /// Removes closed segments below `floor`.
    pub fn remove_below(&mut self, floor: SegmentId) {
        let old: Vec<SegmentId> = self.segments.range(..floor).map(|(id, _)| *id).collect();
        for id in old {
            if self.open.as_ref().is_some_and(|open| open.id == id) {
                self.open = None;
            }
            let path = self.directory.join(name(id));
            match fs::remove_file(&path) {
                Ok(()) => {
                    self.segments.remove(&id);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.segments.remove(&id);
                }
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "removing a log segment")
                }
            }
        }
    }

    /// The segment that is written to, or will be next.
    #[must_use]
    pub fn current(&self) -> SegmentId {
        self.open.as_ref().map_or(self.next, |open| open.id)
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frame;
    use super::*;
    use crate::event::Event;

    fn frame(n: i64) -> Vec<u8> {
        let events = vec![Event { uid: format!("u{n}"), ..Event::default() }];
        Frame::new(&Entry { cluster: "c".into(), events, ..Entry::default() }).unwrap().numbered(n)
    }

    fn read(directory: &Path) -> (Vec<i64>, Damage) {
        let mut ids = Vec::new();
        let (_, damage) = DiskLog::open(directory, |_, id, _| ids.push(id)).unwrap();
        (ids, damage)
    }

    #[test]
    fn survives_being_opened_again_and_a_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..3 {
            let (mut log, _) = DiskLog::open(dir.path(), |_, _, _| {}).unwrap();
            log.append(&frame(n)).unwrap();
        }
        assert_eq!(read(dir.path()), (vec![0, 1, 2], Damage::default()));
        let last = dir.path().join(name(3));
        let bytes = fs::read(&last).unwrap();
        fs::write(&last, &bytes[..bytes.len() - 3]).unwrap();
        let (ids, damage) = read(dir.path());
        assert_eq!((ids, damage.lost_bytes), (vec![0, 1], 0));
        assert!(damage.torn_bytes > 0);
        // Going on after a torn end loses nothing.
        let (mut log, _) = DiskLog::open(dir.path(), |_, _, _| {}).unwrap();
        log.append(&frame(7)).unwrap();
        drop(log);
        assert_eq!(read(dir.path()).0, [0, 1, 7]);
        // Damage in the middle is told from a torn end.
        let (mut log, _) = DiskLog::open(dir.path(), |_, _, _| {}).unwrap();
        log.append(&[frame(8), frame(9)].concat()).unwrap();
        let path = dir.path().join(name(log.current()));
        drop(log);
        let mut bytes = fs::read(&path).unwrap();
        bytes[30] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (ids, damage) = read(dir.path());
        assert_eq!(ids, [0, 1, 7, 9]);
        assert!(damage.lost_bytes > 0);
    }

    #[test]
    fn old_segments_go_and_a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..3 {
            let (mut log, _) = DiskLog::open(dir.path(), |_, _, _| {}).unwrap();
            log.append(&frame(n)).unwrap();
        }
        let (mut log, _) = DiskLog::open(dir.path(), |_, _, _| {}).unwrap();
        let error = DiskLog::open(dir.path(), |_, _, _| {}).unwrap_err().to_string();
        assert!(error.contains("another hub"), "{error}");
        log.remove_below(3);
        drop(log);
        assert_eq!(read(dir.path()).0, [2]);
    }
}
