//! The index, version 2, as Prometheus writes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};

use periplus_model::Labels;

use crate::index::{ChunkMeta, MAGIC, SERIES_ALIGN, SeriesRef};
use crate::varint::{put_uvarint, put_varint};

const VERSION: u8 = 2;

/// Why writing stopped.
pub(super) enum Failed {
    Io(io::Error),
    /// A part of the index does not fit its format.
    TooLarge(&'static str),
}

impl From<io::Error> for Failed {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Gathers what the index will say.
#[derive(Default)]
pub(super) struct IndexWriter {
    series: Vec<(Labels, Vec<ChunkMeta>)>,
}

/// Counts what was written, as every section is named by its offset.
struct Out<'a> {
    to: &'a mut dyn Write,
    at: u64,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn align(&mut self, to: u64) -> io::Result<()> {
        let zeros = [0u8; SERIES_ALIGN as usize];
        let missing = self.at.next_multiple_of(to) - self.at;
        self.put(zeros.get(..missing as usize).unwrap_or_default())
    }

    /// Length, content, checksum.
    fn section(&mut self, content: &[u8], what: &'static str) -> Result<(), Failed> {
        let len = u32::try_from(content.len()).map_err(|_| Failed::TooLarge(what))?;
        self.put(&len.to_be_bytes())?;
        self.put(content)?;
        Ok(self.put(&crc32c::crc32c(content).to_be_bytes())?)
    }
}

fn count(n: usize, what: &'static str) -> Result<[u8; 4], Failed> {
    u32::try_from(n).map(u32::to_be_bytes).map_err(|_| Failed::TooLarge(what))
}

impl IndexWriter {
    /// Adds a series that sorts after all before it.
    pub(super) fn add(&mut self, labels: Labels, chunks: Vec<ChunkMeta>) {
        self.series.push((labels, chunks));
    }

    pub(super) fn last(&self) -> Option<&Labels> {
        self.series.last().map(|(labels, _)| labels)
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn write(&self, to: &mut dyn Write) -> Result<(), Failed> {
        let mut out = Out { to, at: 0 };
        out.put(&MAGIC.to_be_bytes())?;
        out.put(&[VERSION])?;
        let symbols_at = out.at;
        let symbols = self.write_symbols(&mut out)?;
        let series_at = out.at;
        let (all, postings) = self.write_series(&mut out, &symbols)?;
        // Label indices and their table are read by nobody any more: Prometheus writes none either,
        // and names the place where they would be.
        let label_indices_at = out.at;
        let postings_at = out.at;
        let table = write_postings(&mut out, &all, &postings)?;
        let table_at = out.at;
        out.section(&table, "the postings offset table")?;
        let mut toc = Vec::with_capacity(52);
        for at in [symbols_at, series_at, label_indices_at, table_at, postings_at, table_at] {
            toc.extend_from_slice(&at.to_be_bytes());
        }
        toc.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
        Ok(out.put(&toc)?)
    }

    fn write_symbols(&self, out: &mut Out<'_>) -> Result<HashMap<&str, u32>, Failed> {
        const WHAT: &str = "the symbol table";
        // The empty string is the first symbol of every index Prometheus writes.
        let mut symbols = BTreeSet::from([""]);
        for (labels, _) in &self.series {
            for (name, value) in labels {
                symbols.insert(name);
                symbols.insert(value);
            }
        }
        let mut content = count(symbols.len(), WHAT)?.to_vec();
        for symbol in &symbols {
            put_uvarint(&mut content, symbol.len() as u64);
            content.extend_from_slice(symbol.as_bytes());
        }
        out.section(&content, WHAT)?;
        Ok(symbols.into_iter().zip(0..).collect())
    }

    #[expect(clippy::type_complexity, reason = "the list of all series and one per label")]
    fn write_series<'a>(
        &'a self,
        out: &mut Out<'_>,
        symbols: &HashMap<&str, u32>,
    ) -> Result<(Vec<SeriesRef>, BTreeMap<(&'a str, &'a str), Vec<SeriesRef>>), Failed> {
        let mut all = Vec::with_capacity(self.series.len());
        let mut postings: BTreeMap<(&str, &str), Vec<SeriesRef>> = BTreeMap::new();
        let mut content = Vec::new();
        let mut head = Vec::new();
        for (labels, chunks) in &self.series {
            out.align(SERIES_ALIGN)?;
            let reference = u32::try_from(out.at / SERIES_ALIGN)
                .map_err(|_| Failed::TooLarge("the series section"))?;
            all.push(reference);
            content.clear();
            put_uvarint(&mut content, labels.len() as u64);
            for (name, value) in labels {
                for symbol in [name, value] {
                    let number = symbols.get(symbol).copied().unwrap_or_default();
                    put_uvarint(&mut content, u64::from(number));
                }
                postings.entry((name, value)).or_default().push(reference);
            }
            put_chunks(&mut content, chunks);
            head.clear();
            put_uvarint(&mut head, content.len() as u64);
            out.put(&head)?;
            out.put(&content)?;
            out.put(&crc32c::crc32c(&content).to_be_bytes())?;
        }
        Ok((all, postings))
    }
}

fn put_chunks(content: &mut Vec<u8>, chunks: &[ChunkMeta]) {
    put_uvarint(content, chunks.len() as u64);
    let mut before: Option<&ChunkMeta> = None;
    for c in chunks {
        let reference = c.reference.0.cast_signed();
        match before {
            None => put_varint(content, c.range.min_t),
            Some(b) => {
                put_uvarint(content, c.range.min_t.wrapping_sub(b.range.max_t).cast_unsigned());
            }
        }
        put_uvarint(content, c.range.max_t.wrapping_sub(c.range.min_t).cast_unsigned());
        match before {
            None => put_uvarint(content, c.reference.0),
            Some(b) => {
                put_varint(content, reference.wrapping_sub(b.reference.0.cast_signed()));
            }
        }
        before = Some(c);
    }
}

/// Writes the list of all series and then each label's, and gives the table that finds them.
fn write_postings(
    out: &mut Out<'_>,
    all: &[SeriesRef],
    postings: &BTreeMap<(&str, &str), Vec<SeriesRef>>,
) -> Result<Vec<u8>, Failed> {
    const WHAT: &str = "a postings list";
    let mut table = count(postings.len() + 1, "the postings offset table")?.to_vec();
    let lists = postings.iter().map(|((n, v), list)| (*n, *v, list.as_slice()));
    for (name, value, list) in std::iter::once(("", "", all)).chain(lists) {
        out.align(4)?;
        put_uvarint(&mut table, 2);
        for part in [name, value] {
            put_uvarint(&mut table, part.len() as u64);
            table.extend_from_slice(part.as_bytes());
        }
        put_uvarint(&mut table, out.at);
        let mut content = count(list.len(), WHAT)?.to_vec();
        content.extend(list.iter().flat_map(|r| r.to_be_bytes()));
        out.section(&content, WHAT)?;
    }
    Ok(table)
}
