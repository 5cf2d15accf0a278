//! A run of rows in memory, packed: columns for what questions are decided by, compressed text for the rest.
//!
//! About 150 bytes for a row of 700. Text is compressed in chunks of [`CHUNK`] rows, so that showing one row costs
//! a tenth of a millisecond, and messages stand apart from the rest, so that looking through them reads nothing else.

use std::cell::RefCell;

use super::columns::{Columns, Row};
use super::filter::{Field, Filter, Text};
use super::summary::{RowKey, Summary};
use crate::event::Event;

/// Rows whose text is compressed together.
const CHUNK: usize = 512;
/// The longest chunk, decompressed.
const CHUNK_BYTES_MAX: usize = 1 << 30;

#[derive(Clone, Debug)]
struct Packed {
    bytes: Box<[u8]>,
    length: usize,
}

thread_local! {
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

impl Packed {
    fn new(text: &str) -> Self {
        // Writing to memory does not fail; were it to, the text would stay as it is.
        let bytes = zstd::bulk::compress(text.as_bytes(), 3).unwrap_or_default();
        Self { bytes: bytes.into(), length: text.len() }
    }

    fn text(&self) -> String {
        let length = self.length.min(CHUNK_BYTES_MAX);
        let bytes = UNPACKER.with_borrow_mut(|unpacker| {
            if unpacker.is_none() {
                *unpacker = zstd::bulk::Decompressor::new().ok();
            }
            unpacker.as_mut().and_then(|u| u.decompress(&self.bytes, length).ok())
        });
        // Made here, and never sent anywhere.
        String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
struct Chunk {
    names: Packed,
    messages: Packed,
    /// A JSON object a line, without what the columns and the others hold.
    rest: Packed,
}

/// A run of rows, ascending by number. Never changes.
#[derive(Clone, Debug)]
pub struct Block {
    /// The columns.
    pub columns: Columns,
    /// What is certainly not in it.
    pub summary: Summary,
    /// The earliest last time.
    pub min_last: i64,
    /// The latest last time.
    pub max_last: i64,
    chunks: Vec<Chunk>,
    bytes: usize,
}

impl Block {
    /// Packs rows, given with their keys, ascending by number.
    #[must_use]
    pub fn new(rows: &[(RowKey, &Row)]) -> Self {
        let columns = Columns::new(rows.iter().map(|(_, r)| *r));
        let summary = Summary::new(rows.iter().map(|(k, r)| (*k, &r.event)));
        let chunks: Vec<Chunk> = rows.chunks(CHUNK).map(pack).collect();
        let packed =
            |c: &Chunk| c.names.bytes.len() + c.messages.bytes.len() + c.rest.bytes.len() + 96;
        let bytes = columns.heap_bytes()
            + summary.heap_bytes()
            + chunks.iter().map(packed).sum::<usize>()
            + size_of::<Self>();
        let min_last = columns.last.iter().copied().min().unwrap_or(i64::MAX);
        let max_last = columns.last.iter().copied().max().unwrap_or(i64::MIN);
        Self { columns, summary, min_last, max_last, chunks, bytes }
    }

    /// Bytes it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows a filter selects.
    #[must_use]
    pub fn select(&self, filter: &Filter) -> Vec<u32> {
        if self.max_last < filter.from_us
            || self.min_last >= filter.to_us
            || !filter.may_be_in(&self.summary)
        {
            return Vec::new();
        }
        let mut rows = self.columns.candidates(filter);
        if filter.asks(Field::Name) {
            self.keep_by(&mut rows, |c| &c.names, |name| filter.takes(Field::Name, name));
        }
        for text in &filter.texts {
            if rows.is_empty() {
                break;
            }
            match text.across() {
                Some(_) => self.keep_by_text(&mut rows, text),
                None => self.keep_by(&mut rows, |c| &c.messages, |m| text.is_match(m)),
            }
        }
        rows
    }

    fn keep_by(
        &self,
        rows: &mut Vec<u32>,
        part: impl Fn(&Chunk) -> &Packed,
        takes: impl Fn(&str) -> bool,
    ) {
        let mut kept = Vec::new();
        for group in rows.chunk_by(|a, b| *a as usize / CHUNK == *b as usize / CHUNK) {
            let Some(chunk) = group.first().and_then(|r| self.chunks.get(*r as usize / CHUNK))
            else {
                continue;
            };
            let text = part(chunk).text();
            let mut lines = text.split('\0').enumerate();
            for row in group {
                let at = *row as usize % CHUNK;
                if lines.by_ref().find(|(i, _)| *i == at).is_some_and(|(_, line)| takes(line)) {
                    kept.push(*row);
                }
            }
        }
        *rows = kept;
    }

    /// Looks through whole chunks at once: most have no match at all.
    fn keep_by_text(&self, rows: &mut Vec<u32>, text: &Text) {
        let Some(regex) = text.across() else { return };
        let mut kept = Vec::new();
        for group in rows.chunk_by(|a, b| *a as usize / CHUNK == *b as usize / CHUNK) {
            let Some(n) = group.first().map(|r| *r as usize / CHUNK) else { continue };
            let Some(chunk) = self.chunks.get(n) else { continue };
            let all = chunk.messages.text();
            let (mut seen, mut row) = (0, 0_usize);
            let mut matching = Vec::new();
            for found in regex.find_iter(all.as_bytes()) {
                let between = all.as_bytes().get(seen..found.start()).unwrap_or_default();
                row += between.iter().filter(|b| **b == 0).count();
                seen = found.start();
                matching.push(u32::try_from(n * CHUNK + row).unwrap_or(u32::MAX));
            }
            matching.dedup();
            kept.extend(group.iter().filter(|r| matching.binary_search(r).is_ok()));
        }
        *rows = kept;
    }

    /// Names of rows, ascending.
    pub fn names(&self, rows: &[u32], mut each: impl FnMut(u32, &str)) {
        let mut wanted = rows.to_vec();
        let at = std::cell::Cell::new(0);
        // Every row is taken; what is wanted is the name.
        let seen = RefCell::new(Vec::new());
        self.keep_by(
            &mut wanted,
            |c| &c.names,
            |name| {
                seen.borrow_mut().push(name.to_owned());
                at.set(at.get() + 1);
                true
            },
        );
        for (row, name) in rows.iter().zip(seen.into_inner()) {
            each(*row, &name);
        }
    }

    /// One row.
    #[must_use]
    pub fn row(&self, row: usize) -> Row {
        self.rows(&[u32::try_from(row).unwrap_or(u32::MAX)])
            .pop()
            .unwrap_or_else(|| self.columns.fill(row, Event::default()))
    }

    /// Some rows, ascending by place.
    #[must_use]
    pub fn rows(&self, rows: &[u32]) -> Vec<Row> {
        let mut out = Vec::with_capacity(rows.len());
        for group in rows.chunk_by(|a, b| *a as usize / CHUNK == *b as usize / CHUNK) {
            let Some(chunk) = group.first().and_then(|r| self.chunks.get(*r as usize / CHUNK))
            else {
                continue;
            };
            let (names, messages, rest) =
                (chunk.names.text(), chunk.messages.text(), chunk.rest.text());
            let lines = names.split('\0').zip(messages.split('\0')).zip(rest.split('\n'));
            let mut lines = lines.enumerate();
            for row in group {
                let at = *row as usize % CHUNK;
                let Some((_, ((name, message), rest))) = lines.by_ref().find(|(i, _)| *i == at)
                else {
                    continue;
                };
                let mut event: Event = serde_json::from_str(rest).unwrap_or_default();
                name.clone_into(&mut event.name);
                message.clone_into(&mut event.message);
                out.push(self.columns.fill(*row as usize, event));
            }
        }
        out
    }

    /// All rows.
    #[must_use]
    pub fn all(&self) -> Vec<Row> {
        let count = u32::try_from(self.columns.rows()).unwrap_or(u32::MAX);
        self.rows(&(0..count).collect::<Vec<_>>())
    }
}

/// A text that can stand between NULs.
fn one(text: &str, into: &mut String) {
    if text.contains('\0') {
        into.push_str(&text.replace('\0', "\u{fffd}"));
    } else {
        into.push_str(text);
    }
}

fn pack(rows: &[(RowKey, &Row)]) -> Chunk {
    let (mut names, mut messages, mut rest) = (String::new(), String::new(), String::new());
    for (i, (_, row)) in rows.iter().enumerate() {
        let e = &row.event;
        if i > 0 {
            names.push('\0');
            messages.push('\0');
            rest.push('\n');
        }
        one(&e.name, &mut names);
        one(&e.message, &mut messages);
        let left = Event {
            uid: e.uid.clone(),
            resource_version: e.resource_version,
            event_name: e.event_name.clone(),
            object_uid: e.object_uid.clone(),
            field_path: e.field_path.clone(),
            truncated: e.truncated,
            action: e.action.clone(),
            reporter_instance: e.reporter_instance.clone(),
            first_us: e.first_us,
            received_us: e.received_us,
            owner: e.owner.clone(),
            labels: e.labels.clone(),
            ..Event::default()
        };
        rest.push_str(&serde_json::to_string(&left).unwrap_or_default());
    }
    Chunk { names: Packed::new(&names), messages: Packed::new(&messages), rest: Packed::new(&rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn row(i: usize) -> Row {
        let event = Event {
            cluster: format!("c{}", i % 3),
            uid: format!("uid-{i}"),
            resource_version: i as u64,
            namespace: format!("ns{}", i % 400),
            event_name: format!("web-{i}.17a"),
            kind: "Pod".into(),
            name: format!("web-{i}"),
            reason: ["BackOff", "Failed", "Unhealthy"][i % 3].into(),
            type_: "Warning".into(),
            message: format!("line {i}\nof <b>text</b> {}", "é".repeat(i % 4)),
            count: i as u32 + 1,
            first_us: i as i64,
            last_us: 1_000 + i as i64,
            received_us: 5,
            labels: [("app".to_owned(), "x".to_owned())].into(),
            ..Event::default()
        };
        Row { id: i as i64 * 10, event }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let rows: Vec<Row> = (0..1300).map(row).collect();
        let keyed: Vec<_> =
            rows.iter().map(|r| (RowKey::new(1, &r.event.cluster, &r.event.uid), r)).collect();
        let block = Block::new(&keyed);
        assert_eq!(block.all(), rows);
        assert_eq!(block.row(777), rows[777]);
        assert_eq!((block.min_last, block.max_last), (1000, 2299));
    }

    #[test]
    fn selection_is_what_the_filter_says_row_by_row() {
        let rows: Vec<Row> = (0..1300).map(row).collect();
        let keyed: Vec<_> =
            rows.iter().map(|r| (RowKey::new(1, &r.event.cluster, &r.event.uid), r)).collect();
        let block = Block::new(&keyed);
        let check = |filter: &Filter| {
            let want: Vec<u32> = (0..)
                .zip(&rows)
                .filter(|(_, r)| filter.selects(r.id, &r.event))
                .map(|(i, _)| i)
                .collect();
            assert_eq!(block.select(filter), want, "{filter:?}");
            want.len()
        };
        let with = |field, values: &[&str]| {
            let mut f = Filter::default();
            f.one_of(field, &values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()).unwrap();
            f
        };
        assert_eq!(check(&Filter::default()), 1300);
        assert!(check(&with(Field::Namespace, &["ns7"])) > 0);
        assert!(check(&with(Field::Reason, &["BackOff", "Failed"])) > 0);
        assert_eq!(check(&with(Field::Name, &["web-700"])), 1);
        assert_eq!(check(&with(Field::Name, &["nobody"])), 0);
        assert!(check(&Filter { from_us: 1100, to_us: 1200, ..Filter::default() }) == 100);
        assert!(check(&Filter { after_id: 12_000, ..Filter::default() }) > 0);
        for text in ["line 12", "LINE 1299\nOF", "éé", "nothing like it", "1\n", ""] {
            for (fold, negate) in [(true, false), (false, false), (true, true)] {
                let texts = vec![Text::holds(text, fold, negate).unwrap()];
                check(&Filter { texts, ..with(Field::Reason, &["Failed"]) });
            }
        }
        check(&Filter {
            texts: vec![Text::matches("^line 5.$", false).unwrap()],
            ..Filter::default()
        });
    }
}
