//! Chunks one after another into segment files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use ulid::Ulid;

use super::WriteError;
use crate::chunk::EncodedChunk;
use crate::error::BlockFile;
use crate::index::ChunkRef;
use crate::segment::{HEADER_LEN, MAGIC, VERSION};
use crate::varint;

/// A segment is closed before it grows beyond this, as Prometheus does.
const SEGMENT_BYTES_MAX: u64 = 512 << 20;

pub(super) struct SegmentWriter {
    block: Ulid,
    dir: PathBuf,
    /// The segment being written and its length.
    open: Option<(BufWriter<File>, u64)>,
    /// Segments begun so far.
    count: u32,
}

impl SegmentWriter {
    pub(super) fn new(block: Ulid, dir: PathBuf) -> Self {
        Self { block, dir, open: None, count: 0 }
    }

    pub(super) fn add(&mut self, chunk: &EncodedChunk) -> Result<ChunkRef, WriteError> {
        let mut head = Vec::with_capacity(11);
        varint::put_uvarint(&mut head, chunk.payload.len() as u64);
        head.push(chunk.encoding.byte());
        // The checksum is of the encoding and the payload.
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[chunk.encoding.byte()]), &chunk.payload);
        let len = (head.len() + chunk.payload.len() + 4) as u64;
        if self.open.as_ref().is_some_and(|(_, at)| at + len > SEGMENT_BYTES_MAX) {
            self.finish()?;
        }
        self.write(&head, &chunk.payload, crc, len).map_err(|e| self.failed(e))
    }

    fn write(&mut self, head: &[u8], payload: &[u8], crc: u32, len: u64) -> io::Result<ChunkRef> {
        let (out, at) = match &mut self.open {
            Some(open) => open,
            none => none.insert(Self::begin(&self.dir, &mut self.count)?),
        };
        // A segment begins below the limit, but a single chunk may be of any size.
        let offset =
            u32::try_from(*at).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        out.write_all(head)?;
        out.write_all(payload)?;
        out.write_all(&crc.to_be_bytes())?;
        *at += len;
        Ok(ChunkRef::new(self.count - 1, offset))
    }

    fn begin(dir: &std::path::Path, count: &mut u32) -> io::Result<(BufWriter<File>, u64)> {
        let file = File::create_new(dir.join(format!("{:06}", *count + 1)))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&MAGIC.to_be_bytes())?;
        out.write_all(&[VERSION, 0, 0, 0])?;
        *count += 1;
        Ok((out, HEADER_LEN))
    }

    /// Flushes and syncs the open segment.
    pub(super) fn finish(&mut self) -> Result<(), WriteError> {
        let Some((out, _)) = self.open.take() else { return Ok(()) };
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(|e| self.failed(e))
    }

    fn failed(&self, source: io::Error) -> WriteError {
        let name = BlockFile::Segment(self.count.saturating_sub(1)).to_string();
        let path = self.dir.join(name.trim_start_matches("chunks/"));
        WriteError::Io { block: self.block, path, source }
    }
}
