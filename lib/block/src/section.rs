//! Framed bytes: a length, that many bytes, and their CRC-32C (Castagnoli).

use bytes::{Buf, Bytes};

use crate::error::{BlockFile, FileError};
use crate::source::NamedFile;
use crate::varint;

/// Compares the CRC-32C of `content` with the four bytes stored behind it.
pub(crate) fn verify(
    file: BlockFile,
    what: &'static str,
    offset: u64,
    content: &[u8],
    stored: &[u8],
) -> Result<(), FileError> {
    let stored = stored.first_chunk::<4>().copied().unwrap_or_default();
    let stored = u32::from_be_bytes(stored);
    let computed = crc32c::crc32c(content);
    if stored == computed {
        return Ok(());
    }
    Err(FileError::Checksum { file, what, offset, stored, computed })
}

/// Reads the section at `offset`: four bytes of length, the content, its checksum. Gives the
/// content, verified.
pub(crate) fn read(file: &NamedFile, what: &'static str, offset: u64) -> Result<Bytes, FileError> {
    let len = u64::from(file.read(what, offset, 4)?.get_u32());
    // In two steps for a far file too: the length decides how much is asked for.
    let mut content = file.read(what, offset + 4, len + 4)?;
    let stored = content.split_off(content.len() - 4);
    verify(file.file, what, offset, &content, &stored)?;
    Ok(content)
}

/// Reads what is framed by a varint length: the content and `extra` more bytes, after `head` bytes
/// that the length does not count. One read where all of it is no longer than `guess`.
pub(crate) fn read_varint_framed(
    file: &NamedFile,
    what: &'static str,
    offset: u64,
    guess: u64,
    extra: u64,
) -> Result<Bytes, FileError> {
    let mut bytes = file.read_up_to(what, offset, guess)?;
    let (len, rest) = varint::uvarint(&bytes)
        .ok_or_else(|| FileError::corrupt(file.file, what, offset, "its length is no varint"))?;
    let head = bytes.len() - rest.len();
    let whole = len.saturating_add(extra);
    if whole <= rest.len() as u64 {
        bytes.advance(head);
        bytes.truncate(whole as usize);
        return Ok(bytes);
    }
    file.read(what, offset + head as u64, whole)
}

/// Takes parts off the front of bytes; `None` where they end.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        let (v, rest) = varint::uvarint(self.0)?;
        self.0 = rest;
        Some(v)
    }

    pub(crate) fn varint(&mut self) -> Option<i64> {
        let (v, rest) = varint::varint(self.0)?;
        self.0 = rest;
        Some(v)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (v, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*v))
    }

    /// Bytes preceded by their length.
    pub(crate) fn prefixed(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.uvarint()?).ok()?;
        let (v, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(v)
    }
}
