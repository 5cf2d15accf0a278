//! One segment file: pages, fragments, records.
//!
//! A page is 32 KiB. A fragment is a header byte (bits 0–2: 0 the rest of the page is zeros, 1 a whole
//! record, 2 its first, 3 a middle, 4 its last fragment; bit 3: snappy; bit 4: zstd), a big-endian
//! u16 length, a big-endian CRC-32C of what follows, and the bytes. No fragment crosses a page.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::WalError;

/// Size of a page.
pub const PAGE_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
/// The largest record accepted, as stored and decompressed.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

const KIND_MASK: u8 = 0b111;
const SNAPPY: u8 = 1 << 3;
const ZSTD: u8 = 1 << 4;

/// A segment that may still be written to.
pub struct Segment {
    path: PathBuf,
    file: File,
    /// The next byte to look at.
    offset: u64,
    /// Bytes of the page that holds `offset`, as far as they have been read.
    page: Vec<u8>,
    /// Fragments of a record whose end is not there yet, and its header bits.
    partial: Vec<u8>,
    in_record: bool,
    record: Vec<u8>,
}

impl Segment {
    /// Opens a segment at its beginning.
    ///
    /// # Errors
    /// [`WalError::Gone`] where there is no such file; other refusals of the file system.
    pub fn open(path: &Path) -> Result<Self, WalError> {
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => WalError::Gone { path: path.to_owned() },
            _ => WalError::Io { action: "opening", path: path.to_owned(), source },
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            offset: 0,
            page: Vec::with_capacity(PAGE_BYTES),
            partial: Vec::new(),
            in_record: false,
            record: Vec::new(),
        })
    }

    /// Bytes read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a record has begun and its end has not been seen.
    #[must_use]
    pub fn in_record(&self) -> bool {
        self.in_record
    }

    /// The next whole record, decompressed; `None` where the writer has not got further yet.
    ///
    /// # Errors
    /// Bytes that are no log's, a file that shrank.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, WalError> {
        loop {
            let in_page = (self.offset % PAGE_BYTES as u64) as usize;
            if PAGE_BYTES - in_page < HEADER_BYTES {
                if !self.skip_page(in_page)? {
                    return Ok(None);
                }
                continue;
            }
            if !self.have(in_page + 1)? {
                return Ok(None);
            }
            let kind = self.page.get(in_page).copied().unwrap_or(0);
            if kind & KIND_MASK == 0 {
                if !self.skip_page(in_page)? {
                    return Ok(None);
                }
                continue;
            }
            let Some(end) = self.fragment_end(in_page)? else { return Ok(None) };
            if self.take_fragment(kind, in_page, end)? {
                return Ok(Some(&self.record));
            }
        }
    }

    /// Reads on until the page holds `n` bytes; false where the file ends before.
    fn have(&mut self, n: usize) -> Result<bool, WalError> {
        if self.page.len() >= n {
            return Ok(true);
        }
        let page_start = self.offset - self.offset % PAGE_BYTES as u64;
        let held = self.page.len();
        self.page.resize(PAGE_BYTES, 0);
        let mut filled = held;
        while filled < PAGE_BYTES {
            let Some(room) = self.page.get_mut(filled..) else { break };
            match self.file.read_at(room, page_start + filled as u64) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    self.page.truncate(held);
                    return Err(WalError::Io {
                        action: "reading",
                        path: self.path.clone(),
                        source,
                    });
                }
            }
        }
        self.page.truncate(filled);
        if filled == held {
            self.check_not_cut()?;
        }
        Ok(filled >= n)
    }

    fn check_not_cut(&self) -> Result<(), WalError> {
        let len = self
            .file
            .metadata()
            .map_err(|source| WalError::Io {
                action: "asking the size of",
                path: self.path.clone(),
                source,
            })?
            .len();
        if len < self.offset {
            return Err(WalError::Gone { path: self.path.clone() });
        }
        Ok(())
    }

    /// Steps over the padding at the end of a page once all of it is there.
    fn skip_page(&mut self, in_page: usize) -> Result<bool, WalError> {
        if !self.have(PAGE_BYTES)? {
            return Ok(false);
        }
        if self.page.get(in_page..).is_some_and(|pad| pad.iter().any(|b| *b != 0)) {
            return Err(self.corrupt("padding that is not zero"));
        }
        self.advance(PAGE_BYTES - in_page);
        Ok(true)
    }

    fn advance(&mut self, n: usize) {
        self.offset += n as u64;
        if self.offset.is_multiple_of(PAGE_BYTES as u64) {
            self.page.clear();
        }
    }

    fn fragment_end(&mut self, in_page: usize) -> Result<Option<usize>, WalError> {
        if !self.have(in_page + HEADER_BYTES)? {
            return Ok(None);
        }
        let length = match self.page.get(in_page + 1..in_page + 3) {
            Some(&[hi, lo]) => usize::from(u16::from_be_bytes([hi, lo])),
            _ => return Ok(None),
        };
        let end = in_page + HEADER_BYTES + length;
        if end > PAGE_BYTES {
            return Err(self.corrupt("a fragment that crosses its page"));
        }
        Ok(self.have(end)?.then_some(end))
    }

    /// Takes one whole fragment; true when it completes a record.
    fn take_fragment(&mut self, kind: u8, in_page: usize, end: usize) -> Result<bool, WalError> {
        let data = self.page.get(in_page + HEADER_BYTES..end).unwrap_or_default();
        let sum = self.page.get(in_page + 3..in_page + HEADER_BYTES).unwrap_or_default();
        if crc32c::crc32c(data).to_be_bytes() != *sum {
            return Err(self.corrupt("a checksum that does not hold"));
        }
        let first = matches!(kind & KIND_MASK, 1 | 2);
        let last = matches!(kind & KIND_MASK, 1 | 4);
        let both = kind & (SNAPPY | ZSTD) == SNAPPY | ZSTD;
        if kind > (KIND_MASK | SNAPPY | ZSTD) || both {
            return Err(self.corrupt("a fragment header with bits that mean nothing"));
        }
        if kind & KIND_MASK > 4 || first == self.in_record {
            return Err(self.corrupt("a fragment out of order"));
        }
        if self.partial.len() + data.len() > RECORD_BYTES_MAX {
            return Err(self.corrupt("a record larger than the limit"));
        }
        self.partial.extend_from_slice(data);
        self.in_record = !last;
        self.advance(end - in_page);
        if last {
            self.finish(kind)?;
        }
        Ok(last)
    }

    fn finish(&mut self, kind: u8) -> Result<(), WalError> {
        let unpacked = unpack(kind, &self.partial, &mut self.record);
        self.partial.clear();
        if self.partial.capacity() > 4 << 20 {
            self.partial = Vec::new();
        }
        unpacked.map_err(|reason| self.corrupt(&reason))
    }

    fn corrupt(&self, reason: &str) -> WalError {
        WalError::Corrupt {
            path: self.path.clone(),
            offset: self.offset,
            reason: reason.to_owned(),
        }
    }
}

/// Decompresses a record, never to more than [`RECORD_BYTES_MAX`].
fn unpack(kind: u8, stored: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    out.clear();
    if kind & SNAPPY != 0 {
        let len = snap::raw::decompress_len(stored).map_err(|e| format!("snappy: {e}"))?;
        // Snappy packs at best 64 bytes into 3: a larger claim is a lie, refused before it costs.
        if len > RECORD_BYTES_MAX || len > stored.len().saturating_mul(32) {
            return Err(format!("snappy: a claim of {len} bytes from {}", stored.len()));
        }
        out.resize(len, 0);
        snap::raw::Decoder::new().decompress(stored, out).map_err(|e| format!("snappy: {e}"))?;
    } else if kind & ZSTD != 0 {
        let reader = zstd::stream::read::Decoder::new(stored).map_err(|e| format!("zstd: {e}"))?;
        reader
            .take(RECORD_BYTES_MAX as u64 + 1)
            .read_to_end(out)
            .map_err(|e| format!("zstd: {e}"))?;
        if out.len() > RECORD_BYTES_MAX {
            return Err("zstd: a record larger than the limit".to_owned());
        }
    } else {
        out.extend_from_slice(stored);
    }
    Ok(())
}
