//! Where a part's files go.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use periplus_block::source::RangedBytes;

use crate::fetch::PartSource;
use crate::part::PartFile;

/// Makes the files of a part, each when its first byte is about to be written.
pub trait Sinks: Send {
    /// Creates a file.
    ///
    /// # Errors
    /// What creating fails with.
    fn create(&mut self, file: PartFile) -> io::Result<Box<dyn Write + Send>>;
}

/// Files in a directory that exists.
#[derive(Clone, Debug)]
pub struct DirSinks(pub PathBuf);

impl Sinks for DirSinks {
    fn create(&mut self, file: PartFile) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(File::create(self.0.join(file.name()))?))
    }
}

/// Files in memory, for small parts and for tests. A clone shows the same files.
#[derive(Clone, Debug, Default)]
pub struct MemorySinks(Arc<Mutex<Files>>);

type Files = Vec<(PartFile, Vec<u8>)>;

impl MemorySinks {
    /// The bytes of a file; `None` where the part has none of this kind.
    #[must_use]
    pub fn bytes(&self, file: PartFile) -> Option<Bytes> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().find(|(f, _)| *f == file).map(|(_, b)| Bytes::from(b.clone()))
    }
}

impl Sinks for MemorySinks {
    fn create(&mut self, file: PartFile) -> io::Result<Box<dyn Write + Send>> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(f, _)| *f != file);
        files.push((file, Vec::new()));
        Ok(Box::new(MemoryFile { sinks: self.clone(), file }))
    }
}

impl PartSource for MemorySinks {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn open(&self, file: PartFile) -> io::Result<Option<Arc<dyn RangedBytes>>> {
        Ok(self.bytes(file).map(|b| Arc::new(b) as _))
    }
}

struct MemoryFile {
    sinks: MemorySinks,
    file: PartFile,
}

impl Write for MemoryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut files = self.sinks.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = files.iter_mut().find(|(f, _)| *f == self.file) {
            bytes.extend_from_slice(buf);
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What went through a [`Counted`] sink.
#[derive(Default)]
pub(super) struct Count {
    pub(super) bytes: u64,
    /// From where the tail begins, once that is known.
    pub(super) tail: Option<(u64, flate2::Crc)>,
}

/// Counts what goes to a sink.
pub(super) struct Counted {
    inner: Box<dyn Write + Send>,
    count: Arc<Mutex<Count>>,
}

impl Counted {
    pub(super) fn new(inner: Box<dyn Write + Send>) -> (Self, Arc<Mutex<Count>>) {
        let count = Arc::new(Mutex::new(Count::default()));
        (Self { inner, count: Arc::clone(&count) }, count)
    }
}

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.bytes += written as u64;
        if let Some((_, crc)) = &mut count.tail {
            crc.update(buf.get(..written).unwrap_or_default());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
