//! Thrift's compact protocol, as much of it as Parquet's headers and footers need.
//!
//! Reading trusts nothing: a length is held against the bytes that are left before anything is made
//! of it, a list can't have more elements than there are bytes, and what is skipped is skipped to a
//! bounded depth.

/// The bytes are no Thrift, or end too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad;

/// How deep structs may lie in each other where they are skipped.
const DEPTH_MAX: usize = 16;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
pub(crate) const I32: u8 = 5;
pub(crate) const I64: u8 = 6;
const DOUBLE: u8 = 7;
pub(crate) const BINARY: u8 = 8;
pub(crate) const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub(crate) const STRUCT: u8 = 12;

/// Reads from the front of a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    fn byte(&mut self) -> Result<u8, Bad> {
        let (first, rest) = self.rest.split_first().ok_or(Bad)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Bad)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn uvarint(&mut self) -> Result<u64, Bad> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Bad);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(Bad);
            }
        }
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Bad> {
        let n = self.uvarint()?;
        Ok((n >> 1).cast_signed() ^ -((n & 1).cast_signed()))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Bad> {
        i32::try_from(self.i64()?).map_err(|_| Bad)
    }

    /// A length, offset or count, which can't be negative.
    pub(crate) fn count(&mut self) -> Result<u64, Bad> {
        u64::try_from(self.i64()?).map_err(|_| Bad)
    }

    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Bad> {
        let len = usize::try_from(self.uvarint()?).map_err(|_| Bad)?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Bad> {
        std::str::from_utf8(self.binary()?).map_err(|_| Bad)
    }

    /// The head of a list of elements of a type: how many there are, at most as many as bytes.
    pub(crate) fn list(&mut self, of: u8) -> Result<usize, Bad> {
        let (len, found) = self.list_head()?;
        if len > 0 && found != of {
            return Err(Bad);
        }
        Ok(len)
    }

    fn list_head(&mut self) -> Result<(usize, u8), Bad> {
        let head = self.byte()?;
        let len = match head >> 4 {
            15 => usize::try_from(self.uvarint()?).map_err(|_| Bad)?,
            short => usize::from(short),
        };
        if len > self.rest.len() {
            return Err(Bad);
        }
        Ok((len, head & 15))
    }

    /// Goes through a struct: `visit` gets each field's number and type, reads its value and says
    /// `true`, or says `false` and it is skipped.
    pub(crate) fn fields(
        &mut self,
        mut visit: impl FnMut(&mut Self, i16, u8) -> Result<bool, Bad>,
    ) -> Result<(), Bad> {
        let mut last = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let id = match head >> 4 {
                0 => i16::try_from(self.i64()?).map_err(|_| Bad)?,
                delta => last.checked_add(i16::from(delta)).ok_or(Bad)?,
            };
            last = id;
            let kind = head & 15;
            if !visit(self, id, kind)? {
                self.skip(kind, 0)?;
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), Bad> {
        if depth > DEPTH_MAX {
            return Err(Bad);
        }
        match kind {
            TRUE | FALSE => {}
            BYTE => drop(self.byte()?),
            I16 | I32 | I64 => drop(self.uvarint()?),
            DOUBLE => drop(self.take(8)?),
            BINARY => drop(self.binary()?),
            LIST | SET => {
                let (len, of) = self.list_head()?;
                for _ in 0..len {
                    match of {
                        TRUE | FALSE => drop(self.byte()?),
                        other => self.skip(other, depth + 1)?,
                    }
                }
            }
            STRUCT => loop {
                let head = self.byte()?;
                if head == 0 {
                    break;
                }
                if head >> 4 == 0 {
                    self.i64()?;
                }
                self.skip(head & 15, depth + 1)?;
            },
            MAP => {
                let len = usize::try_from(self.uvarint()?).map_err(|_| Bad)?;
                if len > 0 {
                    let kinds = self.byte()?;
                    if len > self.rest.len() {
                        return Err(Bad);
                    }
                    for _ in 0..len {
                        self.skip(kinds >> 4, depth + 1)?;
                        self.skip(kinds & 15, depth + 1)?;
                    }
                }
            }
            _ => return Err(Bad),
        }
        Ok(())
    }
}

/// Appends a number as seven bits a byte, lowest first.
pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number, small ones short.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a field of a struct: its head (the number after that of the field before) and an integer.
pub(crate) fn put_i32_field(out: &mut Vec<u8>, delta: u8, value: i32) {
    out.push(delta << 4 | I32);
    put_varint(out, i64::from(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, -1, 63, 64, -65, i64::MAX, i64::MIN, 1 << 40] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Reader::new(&out).i64(), Ok(value));
        }
        assert_eq!(Reader::new(&[0xff; 11]).uvarint(), Err(Bad));
        assert_eq!(Reader::new(&[0x80]).uvarint(), Err(Bad));
    }

    #[test]
    fn a_list_has_no_more_elements_than_bytes() {
        // 4 billion structs in six bytes.
        let bytes = [0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(Reader::new(&bytes).list(STRUCT), Err(Bad));
    }

    #[test]
    fn nesting_ends() {
        // A struct whose field 1 is a struct whose field 1 is a struct ….
        let deep = [0x1c; 100];
        assert_eq!(Reader::new(&deep).fields(|_, _, _| Ok(false)), Err(Bad));
        // Lists of lists, a byte each.
        let deep = [0x19; 100];
        assert_eq!(Reader::new(&deep).fields(|_, _, _| Ok(false)), Err(Bad));
    }
}
