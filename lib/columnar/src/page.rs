//! One page: its header, its checksum, its levels and its values.
//!
//! Pages are data pages of version 1, compressed with Zstandard, with the CRC-32 that Parquet's page
//! header has room for; a page without it, or with another, is refused. What a page claims to
//! decompress to is held against a limit by its caller before memory is taken.

pub(crate) mod delta;
pub(crate) mod hybrid;

use crate::error::{ColumnarError, Place, Result};
use crate::thrift::{Bad, I32, Reader, STRUCT, put_i32_field};

/// `Encoding` of parquet.thrift, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageEncoding {
    Plain = 0,
    Rle = 3,
    DeltaBinaryPacked = 5,
    RleDictionary = 8,
}

impl PageEncoding {
    fn from_number(n: i32) -> Option<Self> {
        match n {
            0 => Some(Self::Plain),
            // Some writers call a dictionary page's encoding so.
            2 | 8 => Some(Self::RleDictionary),
            5 => Some(Self::DeltaBinaryPacked),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    Data = 0,
    Dictionary = 2,
}

/// What stands before a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub(crate) kind: PageKind,
    pub(crate) uncompressed: usize,
    pub(crate) compressed: usize,
    pub(crate) crc: Option<u32>,
    /// Values, or levels where there are some: nulls count.
    pub(crate) values: usize,
    pub(crate) encoding: PageEncoding,
}

impl PageHeader {
    /// Appends it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_i32_field(out, 1, self.kind as i32);
        put_i32_field(out, 1, self.uncompressed as i32);
        put_i32_field(out, 1, self.compressed as i32);
        let mut last = 3;
        if let Some(crc) = self.crc {
            put_i32_field(out, 1, crc.cast_signed());
            last = 4;
        }
        let field = if self.kind == PageKind::Data { 5u8 } else { 7 };
        out.push((field - last) << 4 | STRUCT);
        put_i32_field(out, 1, self.values as i32);
        match self.kind {
            PageKind::Data => {
                put_i32_field(out, 1, self.encoding as i32);
                put_i32_field(out, 1, PageEncoding::Rle as i32);
                put_i32_field(out, 1, PageEncoding::Rle as i32);
            }
            PageKind::Dictionary => put_i32_field(out, 1, PageEncoding::Plain as i32),
        }
        out.extend_from_slice(&[0, 0]);
    }

    /// Reads one from the front; also says how long it is.
    fn read(bytes: &[u8]) -> std::result::Result<(Self, usize), Bad> {
        let mut reader = Reader::new(bytes);
        let (mut kind, mut uncompressed, mut compressed) = (None, None, None);
        let (mut crc, mut data, mut dictionary) = (None, None, None);
        let size = |r: &mut Reader<'_>| usize::try_from(r.i32()?).map_err(|_| Bad);
        reader.fields(|r, id, of| {
            match (id, of) {
                (1, I32) => kind = Some(r.i32()?),
                (2, I32) => uncompressed = Some(size(r)?),
                (3, I32) => compressed = Some(size(r)?),
                (4, I32) => crc = Some(r.i32()?.cast_unsigned()),
                (5, STRUCT) => data = Some(values_and_encoding(r)?),
                (7, STRUCT) => dictionary = Some(values_and_encoding(r)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (kind, (values, encoding)) = match kind {
            Some(0) => (PageKind::Data, data.ok_or(Bad)?),
            Some(2) => (PageKind::Dictionary, dictionary.ok_or(Bad)?),
            _ => return Err(Bad),
        };
        let header = Self {
            kind,
            uncompressed: uncompressed.ok_or(Bad)?,
            compressed: compressed.ok_or(Bad)?,
            crc,
            values,
            encoding: PageEncoding::from_number(encoding).ok_or(Bad)?,
        };
        Ok((header, bytes.len() - reader.left()))
    }
}

fn values_and_encoding(r: &mut Reader<'_>) -> std::result::Result<(usize, i32), Bad> {
    let (mut values, mut encoding) = (None, None);
    r.fields(|r, id, of| {
        match (id, of) {
            (1, I32) => values = Some(usize::try_from(r.i32()?).map_err(|_| Bad)?),
            (2, I32) => encoding = Some(r.i32()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((values.ok_or(Bad)?, encoding.ok_or(Bad)?))
}

/// CRC-32 as Parquet's pages (and gzip) have it; also of a file's tail in the catalog.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Takes pages apart; keeps its buffers from page to page.
pub(crate) struct PageReader {
    zstd: zstd::bulk::Decompressor<'static>,
    body: Vec<u8>,
}

impl PageReader {
    pub(crate) fn new() -> Result<Self> {
        let zstd = zstd::bulk::Decompressor::new().map_err(|e| ColumnarError::Write {
            file: "zstd".to_owned(),
            reason: format!("no decompressor: {e}"),
        })?;
        Ok(Self { zstd, body: Vec::new() })
    }

    /// The page at the front of `bytes`: its header, its decompressed body and how many bytes header
    /// and page take.
    pub(crate) fn read(
        &mut self,
        place: &Place,
        bytes: &[u8],
        body_max: usize,
    ) -> Result<(PageHeader, &[u8], usize)> {
        let bad = |reason: String| ColumnarError::corrupt(place, reason);
        let (header, len) = PageHeader::read(bytes)
            .map_err(|Bad| bad("a page's header can't be read".to_owned()))?;
        let packed =
            bytes.get(len..).and_then(|b| b.get(..header.compressed)).ok_or_else(|| {
                bad(format!(
                    "a page claims {} bytes, {} are there",
                    header.compressed,
                    bytes.len().saturating_sub(len)
                ))
            })?;
        if header.uncompressed > body_max {
            return Err(bad(format!(
                "a page claims to decompress to {} bytes, at most {body_max} are possible",
                header.uncompressed
            )));
        }
        match header.crc {
            None => return Err(bad("a page has no checksum".to_owned())),
            Some(crc) if crc != crc32(packed) => {
                return Err(bad("a page's checksum does not match its bytes".to_owned()));
            }
            Some(_) => {}
        }
        self.body.clear();
        self.body.reserve(header.uncompressed);
        let got = self
            .zstd
            .decompress_to_buffer(packed, &mut self.body)
            .map_err(|e| bad(format!("a page can't be decompressed: {e}")))?;
        if got != header.uncompressed {
            return Err(bad(format!(
                "a page has {got} bytes decompressed, its header says {}",
                header.uncompressed
            )));
        }
        Ok((header, &self.body, len + header.compressed))
    }
}

/// Splits the levels of a kind off the front of a page's body and decodes them: numbers of one bit.
pub(crate) fn levels<'a>(
    body: &'a [u8],
    count: usize,
    out: &mut Vec<u32>,
) -> std::result::Result<&'a [u8], Bad> {
    let (len, rest) = body.split_first_chunk::<4>().ok_or(Bad)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| Bad)?;
    let (packed, rest) = rest.split_at_checked(len).ok_or(Bad)?;
    hybrid::decode(packed, 1, count, out)?;
    Ok(rest)
}

/// Appends `count` plainly stored values of eight bytes each.
pub(crate) fn plain_f64(
    bytes: &[u8],
    count: usize,
    out: &mut Vec<f64>,
) -> std::result::Result<(), Bad> {
    let bytes = bytes.get(..count.checked_mul(8).ok_or(Bad)?).ok_or(Bad)?;
    let value = |b: &[u8]| b.first_chunk::<8>().map_or(0.0, |b| f64::from_le_bytes(*b));
    out.extend(bytes.chunks_exact(8).map(value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        for kind in [PageKind::Data, PageKind::Dictionary] {
            let encoding = match kind {
                PageKind::Data => PageEncoding::DeltaBinaryPacked,
                PageKind::Dictionary => PageEncoding::Plain,
            };
            let header = PageHeader {
                kind,
                uncompressed: 1 << 20,
                compressed: 7,
                crc: Some(0xdead_beef),
                values: 65_536,
                encoding,
            };
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            let len = bytes.len();
            bytes.extend_from_slice(b"more");
            assert_eq!(PageHeader::read(&bytes), Ok((header, len)));
            for cut in 0..len {
                assert!(PageHeader::read(&bytes[..cut]).is_err());
            }
        }
    }
}
