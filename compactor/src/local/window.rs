//! A fetched block's files, read through windows.
//!
//! A conversion goes through a block from its beginning to its end. Over mapped files alone all of them
//! would in the end count as this process's memory, however large they are. So what is small, a chunk or
//! a series, is cut out of a window that moves along the file; only what is large by itself (symbols,
//! postings) comes from the mapping.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use periplus_block::BlockFile;
use periplus_block::source::{BlockDir, BlockFiles, RangedBytes};

/// Bytes of a window.
const WINDOW: u64 = 256 << 10;
/// Longer ranges are not read through it.
const SMALL_MAX: u64 = 16 << 10;

/// The block in a directory.
pub(super) struct WindowedBlock(BlockDir);

impl WindowedBlock {
    pub(super) fn new(directory: &Path) -> Self {
        Self(BlockDir::new(directory))
    }
}

impl BlockFiles for WindowedBlock {
    fn name(&self) -> String {
        self.0.name()
    }

    fn open(&self, file: BlockFile) -> io::Result<Option<Arc<dyn RangedBytes>>> {
        let Some(mapped) = self.0.open(file)? else { return Ok(None) };
        let file = File::open(self.0.path().join(file.to_string()))?;
        Ok(Some(Arc::new(Windowed { mapped, file, window: Mutex::default() })))
    }

    fn segments(&self) -> io::Result<u32> {
        self.0.segments()
    }
}

struct Windowed {
    mapped: Arc<dyn RangedBytes>,
    file: File,
    /// Where it begins, and what is in it.
    window: Mutex<(u64, Bytes)>,
}

impl RangedBytes for Windowed {
    fn len(&self) -> u64 {
        self.mapped.len()
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let len = range.end.saturating_sub(range.start);
        if len > SMALL_MAX || range.end > self.len() {
            return self.mapped.read(range);
        }
        let mut window = self.window.lock();
        let (start, bytes) = &*window;
        let at = range.start.checked_sub(*start).filter(|at| at + len <= bytes.len() as u64);
        if let Some(at) = at {
            return Ok(bytes.slice(at as usize..(at + len) as usize));
        }
        let more = WINDOW.min(self.len() - range.start);
        let mut read = vec![0; more as usize];
        self.file.read_exact_at(&mut read, range.start)?;
        let read = Bytes::from(read);
        *window = (range.start, read.clone());
        Ok(read.slice(..len as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_what_the_file_has() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..700_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        std::fs::write(dir.path().join("index"), &bytes).unwrap();
        let block = WindowedBlock::new(dir.path());
        let file = block.open(BlockFile::Index).unwrap().unwrap();
        assert!(block.open(BlockFile::Meta).unwrap().is_none());
        let mut at = 0u64;
        for i in 0..2000u64 {
            let len = [0, 1, 2048, SMALL_MAX, SMALL_MAX + 1, 300_000][(i % 6) as usize];
            at = if i % 97 == 0 { (at * 7 + 13) % 700_000 } else { (at + 1500) % 700_000 };
            let end = (at + len).min(700_000);
            let read = file.read(at..end).unwrap();
            assert_eq!(read, bytes[at as usize..end as usize], "{at}..{end}");
        }
        assert!(file.read(699_999..700_001).is_err());
    }
}
