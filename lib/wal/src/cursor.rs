//! Reads numbers and strings off a record's bytes; never past its end.

use crate::record::RecordError;

/// What is left of a record.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn short(&self) -> RecordError {
        RecordError { offset: self.total - self.rest.len(), reason: "the record ends too early" }
    }

    pub(crate) fn error(&self, reason: &'static str) -> RecordError {
        RecordError { offset: self.total - self.rest.len(), reason }
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RecordError> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn be64(&mut self) -> Result<u64, RecordError> {
        let (head, rest) = self.rest.split_first_chunk::<8>().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*head))
    }

    pub(crate) fn float(&mut self) -> Result<f64, RecordError> {
        self.be64().map(f64::from_bits)
    }

    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            let bits = u64::from(b & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.error("a varint overflows 64 bits"));
            }
            value |= bits << shift;
            if b < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("a varint overflows 64 bits"))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i64, RecordError> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A count of items of at least `item_bytes_min` bytes each, refused where they can't fit.
    pub(crate) fn count(&mut self, item_bytes_min: usize) -> Result<usize, RecordError> {
        let n = self.uvarint()?;
        usize::try_from(n)
            .ok()
            .filter(|n| *n <= self.rest.len() / item_bytes_min)
            .ok_or_else(|| self.error("a count is larger than the record"))
    }

    pub(crate) fn string(&mut self) -> Result<&'a str, RecordError> {
        let n = self.count(1)?;
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes).map_err(|_| self.error("a label is not valid UTF-8"))
    }
}
