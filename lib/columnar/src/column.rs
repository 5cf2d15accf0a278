//! Pages of a column, decoded into plain vectors.

use parquet::basic::Type as Physical;

use crate::error::{ColumnarError, Place, Result};
use crate::page::{
    PageEncoding, PageHeader, PageKind, PageReader, delta, hybrid, levels, plain_f64,
};
use crate::schema::Column;
use crate::thrift::Bad;

/// Distinct texts, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Texts {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, i: u32) -> &str {
        let at = |i: usize| self.ends.get(i).map(|e| *e as usize);
        let start = (i as usize).checked_sub(1).map_or(Some(0), at);
        let range = start.zip(at(i as usize)).map(|(a, b)| a..b);
        range.and_then(|r| self.text.get(r)).unwrap_or("")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|i| self.get(i))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4
    }

    /// Reads a dictionary page: `count` texts, each behind its length.
    fn read(bytes: &[u8], count: usize) -> std::result::Result<Self, Bad> {
        // A text takes four bytes at least.
        if count > bytes.len() / 4 {
            return Err(Bad);
        }
        let mut out = Self { text: String::new(), ends: Vec::with_capacity(count) };
        let mut rest = bytes;
        for _ in 0..count {
            let (len, after) = rest.split_first_chunk::<4>().ok_or(Bad)?;
            let (text, after) =
                after.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(Bad)?;
            out.text.push_str(std::str::from_utf8(text).map_err(|_| Bad)?);
            out.ends.push(u32::try_from(out.text.len()).map_err(|_| Bad)?);
            rest = after;
        }
        out.text.shrink_to_fit();
        Ok(out)
    }
}

/// What a column's pages decode to; which of the vectors is filled depends on the column.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) rep: Vec<u32>,
    pub(crate) def: Vec<u32>,
    pub(crate) ints: Vec<i64>,
    pub(crate) shorts: Vec<i32>,
    pub(crate) floats: Vec<f64>,
    /// Into `texts`, each inside of it.
    pub(crate) indexes: Vec<u32>,
    pub(crate) texts: Texts,
}

/// How much a page may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Values of a data page, nulls included.
    pub(crate) values: usize,
    /// Bytes of a page.
    pub(crate) body: usize,
}

impl Decoded {
    /// Decodes the first page of `bytes`; says how many bytes it takes and how many values it has
    /// (none for a dictionary).
    pub(crate) fn page(
        &mut self,
        pages: &mut PageReader,
        place: &Place,
        column: &Column,
        bytes: &[u8],
        limits: Limits,
    ) -> Result<(usize, usize)> {
        let (header, body, used) = pages.read(place, bytes, limits.body)?;
        if header.kind == PageKind::Dictionary {
            if column.physical != Physical::BYTE_ARRAY || self.texts.len() > 0 {
                return Err(ColumnarError::corrupt(place, "a dictionary that should not be there"));
            }
            self.texts = Texts::read(body, header.values)
                .map_err(|Bad| ColumnarError::corrupt(place, "its dictionary can't be read"))?;
            return Ok((used, 0));
        }
        if header.values > limits.values {
            let reason = format!(
                "a page claims {} values, at most {} are possible",
                header.values, limits.values
            );
            return Err(ColumnarError::corrupt(place, reason));
        }
        self.data(&header, body, column)
            .map_err(|Bad| ColumnarError::corrupt(place, "a page's values can't be read"))?;
        Ok((used, header.values))
    }

    fn data(
        &mut self,
        header: &PageHeader,
        body: &[u8],
        column: &Column,
    ) -> std::result::Result<(), Bad> {
        let (mut body, mut values) = (body, header.values);
        if column.shape.repeats() {
            let before = self.rep.len();
            body = levels(body, header.values, &mut self.rep)?;
            if self.rep.get(before).is_some_and(|first| *first != 0) {
                return Err(Bad);
            }
        }
        if column.shape.may_lack() {
            let before = self.def.len();
            body = levels(body, header.values, &mut self.def)?;
            values = self.def.get(before..).unwrap_or_default().iter().sum::<u32>() as usize;
        }
        match (column.physical, header.encoding) {
            (Physical::INT64, PageEncoding::DeltaBinaryPacked) => {
                delta::decode(body, values, &mut self.ints)
            }
            (Physical::INT32, PageEncoding::Plain) => {
                let bytes = body.get(..values.checked_mul(4).ok_or(Bad)?).ok_or(Bad)?;
                let value = |b: &[u8]| b.first_chunk().map_or(0, |b| i32::from_le_bytes(*b));
                self.shorts.extend(bytes.chunks_exact(4).map(value));
                Ok(())
            }
            (Physical::DOUBLE, PageEncoding::Plain) => plain_f64(body, values, &mut self.floats),
            (Physical::BYTE_ARRAY, PageEncoding::RleDictionary) => {
                let (width, packed) = body.split_first().ok_or(Bad)?;
                let before = self.indexes.len();
                hybrid::decode(packed, u32::from(*width), values, &mut self.indexes)?;
                let max = self.indexes.get(before..).unwrap_or_default().iter().max();
                if max.is_some_and(|max| *max as usize >= self.texts.len()) {
                    return Err(Bad);
                }
                Ok(())
            }
            _ => Err(Bad),
        }
    }

    /// Decodes a whole column chunk of `values` values.
    pub(crate) fn chunk(
        pages: &mut PageReader,
        place: &Place,
        column: &Column,
        bytes: &[u8],
        values: u64,
        limits: Limits,
    ) -> Result<Self> {
        let mut out = Self::default();
        let (mut rest, mut left) = (bytes, values);
        while left > 0 {
            let (used, n) = out.page(pages, place, column, rest, limits)?;
            if n as u64 > left {
                return Err(ColumnarError::corrupt(place, "its pages have more values than it"));
            }
            left -= n as u64;
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(out)
    }
}
