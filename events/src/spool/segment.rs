//! A segment of the spool: frames, one behind the other.
//!
//! | bytes | meaning, numbers little-endian |
//! |---|---|
//! | 4 | length of the body |
//! | 4 | CRC-32C of all that follows in the frame |
//! | 8 | when it was appended, microseconds since 1970 |
//! | 4 | rows in it |
//! | 4 | length of the body decompressed |
//! | … | the body: a JSON array of rows, zstd |
//!
//! Nobody else reads it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::event::Event;

/// Most rows in a frame.
pub const FRAME_EVENTS_MAX: usize = 256;

const HEAD_BYTES: usize = 24;

/// The longest body, compressed or not, in bytes: 256 rows with the longest messages.
const BODY_BYTES_MAX: usize = 300 << 20;

/// A frame that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The file system's.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes are not what was written.
    #[error("a damaged frame: {0}")]
    Damaged(&'static str),
}

/// What stands before a frame's body.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    body_bytes: usize,
    crc: u32,
    /// When it was appended, microseconds since 1970.
    pub at_us: i64,
    /// Rows in it.
    pub events: u32,
    raw_bytes: usize,
}

/// A frame's rows.
#[derive(Debug)]
pub struct Frame {
    /// When it was appended, microseconds since 1970.
    pub at_us: i64,
    /// The rows.
    pub events: Vec<Event>,
}

/// `00000000000000000007.seg`
#[must_use]
pub fn path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:020}.seg"))
}

/// The id in a segment's file name.
#[must_use]
pub fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// A frame's bytes.
///
/// # Errors
/// Rows that can't be written.
pub fn encode(events: &[Event], at_us: i64) -> io::Result<Vec<u8>> {
    let raw = serde_json::to_vec(events)?;
    let body = zstd::bulk::compress(&raw, 1)?;
    let too_long = || io::Error::other("a frame of the spool would be too long");
    let len = |n: usize| u32::try_from(n).ok().filter(|_| n <= BODY_BYTES_MAX).ok_or_else(too_long);
    let mut tail = Vec::with_capacity(HEAD_BYTES + body.len());
    tail.extend_from_slice(&at_us.to_le_bytes());
    tail.extend_from_slice(&len(events.len())?.to_le_bytes());
    tail.extend_from_slice(&len(raw.len())?.to_le_bytes());
    tail.extend_from_slice(&body);
    let mut frame = Vec::with_capacity(8 + tail.len());
    frame.extend_from_slice(&len(body.len())?.to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(&tail).to_le_bytes());
    frame.extend_from_slice(&tail);
    Ok(frame)
}

/// Reads a segment's frames in order.
#[derive(Debug)]
pub struct Frames {
    file: BufReader<File>,
    offset: u64,
    size: u64,
}

impl Frames {
    /// Begins at `offset`, where a frame begins.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file: BufReader::with_capacity(64 << 10, file), offset, size })
    }

    /// Where the next frame begins.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    fn head(&mut self) -> Result<Option<Head>, FrameError> {
        let rest = self.size.saturating_sub(self.offset);
        if rest < HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; HEAD_BYTES];
        self.file.read_exact(&mut bytes)?;
        let u32_at = |at: usize| {
            let part = bytes.get(at..at + 4).and_then(|p| p.try_into().ok());
            u32::from_le_bytes(part.unwrap_or_default())
        };
        let at_us = bytes.get(8..16).and_then(|p| p.try_into().ok()).unwrap_or_default();
        let head = Head {
            body_bytes: u32_at(0) as usize,
            crc: u32_at(4),
            at_us: i64::from_le_bytes(at_us),
            events: u32_at(16),
            raw_bytes: u32_at(20) as usize,
        };
        // Lengths are believed only as far as the file reaches.
        if head.body_bytes > BODY_BYTES_MAX || head.raw_bytes > BODY_BYTES_MAX {
            return Err(FrameError::Damaged("an impossible length"));
        }
        if (head.body_bytes + HEAD_BYTES) as u64 > rest {
            return Ok(None);
        }
        Ok(Some(head))
    }

    fn body(&mut self) -> Result<Option<(Head, Vec<u8>)>, FrameError> {
        let Some(head) = self.head()? else { return Ok(None) };
        let mut body = vec![0; head.body_bytes];
        self.file.read_exact(&mut body)?;
        let crc = crc32c::crc32c(&head.at_us.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &head.events.to_le_bytes());
        let raw_bytes = u32::try_from(head.raw_bytes).unwrap_or(0);
        let crc = crc32c::crc32c_append(crc, &raw_bytes.to_le_bytes());
        if crc32c::crc32c_append(crc, &body) != head.crc {
            return Err(FrameError::Damaged("its checksum differs"));
        }
        self.offset += (HEAD_BYTES + head.body_bytes) as u64;
        Ok(Some((head, body)))
    }

    /// Checks the next frame and steps over it. `None`: there is no whole one.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn skip(&mut self) -> Result<Option<Head>, FrameError> {
        Ok(self.body()?.map(|(head, _)| head))
    }

    /// Reads the next frame. `None`: there is no whole one.
    ///
    /// # Errors
    /// See [`FrameError`].
    #[expect(clippy::should_implement_trait, reason = "it fails, and borrows")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, body)) = self.body()? else { return Ok(None) };
        let raw = zstd::bulk::decompress(&body, head.raw_bytes)
            .map_err(|_| FrameError::Damaged("it can't be decompressed"))?;
        let events = serde_json::from_slice(&raw)
            .map_err(|_| FrameError::Damaged("its rows can't be read"))?;
        Ok(Some(Frame { at_us: head.at_us, events }))
    }
}
