//! Bytes of a log.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | `PEL1` |
//! | 4 | format of the payload, little-endian; 1: an [`Entry`] as JSON, compressed with zstd |
//! | 8 | number of the first event; the others follow it one by one |
//! | 4 | length of the payload |
//! | 4 | CRC-32C of the 16 bytes before and the payload |
//! | … | payload |
//!
//! A reader that meets anything else looks for the next frame that is whole. Only the hub reads and writes it.

use super::Entry;

/// Begins each frame.
const MAGIC: [u8; 4] = *b"PEL1";
/// Bytes before the payload.
pub const HEADER: usize = 24;
/// The payload's format.
pub const FORMAT: u32 = 1;
/// The longest payload, compressed.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// The longest payload, decompressed.
const DECODED_BYTES_MAX: usize = 256 << 20;

/// An entry in bytes, but for its number.
#[derive(Clone, Debug)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// Puts an entry into bytes.
    ///
    /// # Errors
    /// It is longer than a frame may be.
    pub fn new(entry: &Entry) -> std::io::Result<Self> {
        let payload = zstd::bulk::compress(&serde_json::to_vec(entry)?, 1)?;
        let length =
            u32::try_from(payload.len()).ok().filter(|_| payload.len() <= PAYLOAD_BYTES_MAX);
        let Some(length) = length else {
            return Err(std::io::Error::other("a log frame of more than 64 MiB"));
        };
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&payload);
        Ok(Self(bytes))
    }

    /// Its bytes, with the number of its first event.
    #[must_use]
    pub fn numbered(mut self, first_id: i64) -> Vec<u8> {
        if let Some(place) = self.0.get_mut(8..16) {
            place.copy_from_slice(&first_id.to_le_bytes());
        }
        let sum = checksum(&self.0);
        if let Some(place) = self.0.get_mut(20..24) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        self.0
    }

    /// Bytes it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: there is always a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of a whole frame.
fn checksum(frame: &[u8]) -> u32 {
    let head = crc32c::crc32c(frame.get(4..20).unwrap_or_default());
    crc32c::crc32c_append(head, frame.get(HEADER..).unwrap_or_default())
}

/// What a reader meets.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// An entry and the number of its first event.
    Entry(i64, Entry),
    /// A whole frame of a format that is not known.
    Unknown(u32),
    /// Bytes that are no frame, before one or before the end.
    Broken(u64),
}

/// Reads frames one after another.
#[derive(Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Reads from the beginning of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }
}

/// The frame at the beginning of `bytes`, if it is whole.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.get(..4)? != MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let frame = bytes.get(..HEADER + length)?;
    let sum = u32::from_le_bytes(bytes.get(20..24)?.try_into().ok()?);
    (checksum(frame) == sum).then_some(frame)
}

fn decode(frame: &[u8]) -> Option<Piece> {
    let format = u32::from_le_bytes(frame.get(4..8)?.try_into().ok()?);
    if format != FORMAT {
        return Some(Piece::Unknown(format));
    }
    let first_id = i64::from_le_bytes(frame.get(8..16)?.try_into().ok()?);
    let payload = frame.get(HEADER..)?;
    let zstd = crate::wire::Encoding::Zstd;
    let json = crate::wire::decompress(payload, zstd, DECODED_BYTES_MAX).ok()?;
    Some(Piece::Entry(first_id, serde_json::from_slice(&json).ok()?))
}

impl Iterator for Frames<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.rest.is_empty() {
            return None;
        }
        let mut skipped = 0;
        loop {
            let here = self.rest.get(skipped..).unwrap_or_default();
            if let Some(frame) = whole(here) {
                if skipped > 0 {
                    self.rest = here;
                    return Some(Piece::Broken(skipped as u64));
                }
                self.rest = here.get(frame.len()..).unwrap_or_default();
                return Some(decode(frame).unwrap_or(Piece::Broken(frame.len() as u64)));
            }
            // The next place where a frame could begin.
            let after = here.get(1..).unwrap_or_default();
            match after.windows(4).position(|w| w == MAGIC) {
                Some(at) => skipped += at + 1,
                None => {
                    let all = self.rest.len() as u64;
                    self.rest = &[];
                    return Some(Piece::Broken(all));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn entry(n: usize) -> Entry {
        let event =
            |i| Event { uid: format!("u{n}-{i}"), message: "x".repeat(i), ..Event::default() };
        Entry { cluster: format!("c{n}"), events: (0..n).map(event).collect(), ..Entry::default() }
    }

    fn bytes(n: usize) -> Vec<u8> {
        Frame::new(&entry(n)).unwrap().numbered(n as i64 * 1000)
    }

    #[test]
    fn frames_are_read_in_order() {
        let log: Vec<u8> = (0..5).flat_map(bytes).collect();
        let read: Vec<Piece> = Frames::new(&log).collect();
        let want: Vec<Piece> = (0..5).map(|n| Piece::Entry(n as i64 * 1000, entry(n))).collect();
        assert_eq!(read, want);
    }

    #[test]
    fn every_cut_gives_a_prefix_and_every_flipped_byte_loses_one_frame() {
        let log: Vec<u8> = (1..5).flat_map(bytes).collect();
        let ends: Vec<usize> = (1..5)
            .scan(0, |at, n| {
                *at += bytes(n).len();
                Some(*at)
            })
            .collect();
        for cut in 0..log.len() {
            let whole = ends.iter().filter(|e| **e <= cut).count();
            let read: Vec<Piece> = Frames::new(&log[..cut]).collect();
            let entries = read.iter().filter(|p| matches!(p, Piece::Entry(..))).count();
            assert_eq!(entries, whole, "cut at {cut}");
            let torn = cut - whole.checked_sub(1).map_or(0, |i| ends[i]);
            assert_eq!(read.last() == Some(&Piece::Broken(torn as u64)), torn > 0);
        }
        for at in 0..log.len() {
            let mut broken = log.clone();
            broken[at] ^= 0x41;
            let read: Vec<Piece> = Frames::new(&broken).collect();
            let good = read.iter().filter(|p| matches!(p, Piece::Entry(..))).count();
            assert_eq!(good, 3, "flipped at {at}");
        }
    }
}
