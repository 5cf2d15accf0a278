//! Index versions 1 and 3, which nothing writes any more or yet: made by hand.

use periplus_block::index::{ChunkRef, Index};
use periplus_block::varint::{put_uvarint, put_varint};
use periplus_model::{MatchOp, Matcher, TimeRange};

/// Appends length, content, checksum; gives the offset.
fn section(out: &mut Vec<u8>, content: &[u8]) -> u64 {
    let at = out.len() as u64;
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
    at
}

fn prefixed(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Two series, `{a="x"}` and `{a="y"}`. In version 1 symbols and series are named by their offsets,
/// and the table of postings is in no order.
fn index(version: u8) -> Vec<u8> {
    let old = version == 1;
    let mut out = vec![0xba, 0xaa, 0xd7, 0x00, version];
    let mut symbols = 4u32.to_be_bytes().to_vec();
    let mut named = Vec::new();
    for (i, text) in ["", "a", "x", "y"].into_iter().enumerate() {
        named.push(if old { (out.len() + 4 + symbols.len()) as u64 } else { i as u64 });
        prefixed(&mut symbols, text);
    }
    let symbols_at = section(&mut out, &symbols);
    let mut references = Vec::new();
    for (value, chunk_at) in [(2, 8u64), (3, 40)] {
        if !old {
            out.resize(out.len().next_multiple_of(16), 0);
        }
        references.push(out.len() as u32 / if old { 1 } else { 16 });
        let mut series = vec![1];
        put_uvarint(&mut series, named[1]);
        put_uvarint(&mut series, named[value]);
        series.push(1);
        put_varint(&mut series, -5);
        put_uvarint(&mut series, 15);
        put_uvarint(&mut series, chunk_at);
        put_uvarint(&mut out, series.len() as u64);
        out.extend_from_slice(&series);
        out.extend_from_slice(&crc32c::crc32c(&series).to_be_bytes());
    }
    let mut list = |refs: &[u32]| {
        let mut content = (refs.len() as u32).to_be_bytes().to_vec();
        refs.iter().for_each(|r| content.extend_from_slice(&r.to_be_bytes()));
        section(&mut out, &content)
    };
    let all = list(&references);
    let (x, y) = (list(&references[..1]), list(&references[1..]));
    let mut entries = vec![("", "", all), ("a", "x", x), ("a", "y", y)];
    if old {
        entries.reverse();
    }
    let mut table = 3u32.to_be_bytes().to_vec();
    for (name, value, at) in entries {
        table.push(2);
        prefixed(&mut table, name);
        prefixed(&mut table, value);
        put_uvarint(&mut table, at);
    }
    let table_at = section(&mut out, &table);
    let mut toc: Vec<u8> =
        [symbols_at, 0, 0, 0, all, table_at].iter().flat_map(|n| n.to_be_bytes()).collect();
    toc.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
    out.extend_from_slice(&toc);
    out
}

#[test]
fn all_versions_read_the_same() {
    for version in 1..=3 {
        let index = Index::from_bytes(index(version).into()).expect("an index");
        assert_eq!(index.version(), version);
        assert_eq!(index.label_names().collect::<Vec<_>>(), ["a"]);
        assert_eq!(index.label_values("a").expect("values"), ["x", "y"]);
        assert_eq!(index.symbols().count(), 4);
        let found = |m: Matcher| index.select(&[m]).expect("series");
        assert_eq!(index.all_series().expect("series").len(), 2);
        assert_eq!(found(Matcher::equal("a", "z")), [0u32; 0]);
        let not_x = found(Matcher::new("a", MatchOp::NotEqual, "x").expect("a matcher"));
        assert_eq!(not_x, found(Matcher::equal("a", "y")));
        let series = index.series(not_x[0]).expect("a series");
        assert_eq!(series.labels.iter().collect::<Vec<_>>(), [("a", "y")]);
        assert_eq!(series.chunks.len(), 1);
        assert_eq!(series.chunks[0].range, TimeRange::new(-5, 10));
        assert_eq!(series.chunks[0].reference, ChunkRef::new(0, 40));
    }
}

#[test]
fn other_versions_are_refused_by_name() {
    for version in [0, 4, 255] {
        let error = Index::from_bytes(index(version).into()).err().expect("no such version");
        assert!(error.to_string().contains(&format!("version {version} is not supported")));
    }
}
