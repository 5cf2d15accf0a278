//! Bytes that lie: whatever a block's files contain, reading it ends with samples or an error, never
//! with a panic, and takes memory in proportion to the files.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use periplus_block::chunk::{ChunkSamples, HistogramValue, encode};
use periplus_block::index::Index;
use periplus_block::source::{BlockFiles, RangedBytes};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_block::{Block, BlockFile, check, dump};
use periplus_model::{Histogram, Labels, MatchOp, Matcher, Span};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A block in memory.
#[derive(Clone)]
struct Memory(HashMap<BlockFile, Bytes>);

impl BlockFiles for Memory {
    fn name(&self) -> String {
        "hostile".into()
    }

    fn open(&self, file: BlockFile) -> io::Result<Option<Arc<dyn RangedBytes>>> {
        Ok(self.0.get(&file).cloned().map(|b| Arc::new(b) as Arc<dyn RangedBytes>))
    }

    fn segments(&self) -> io::Result<u32> {
        Ok(self.0.keys().filter(|f| matches!(f, BlockFile::Segment(_))).count() as u32)
    }
}

const FILES: [BlockFile; 4] =
    [BlockFile::Meta, BlockFile::Index, BlockFile::Tombstones, BlockFile::Segment(0)];

/// Three series, floats and histograms, in as few bytes as it gets.
fn small() -> Memory {
    let dir = tempfile::tempdir().expect("a directory");
    let ulid = ulid::Ulid::from_parts(1, 2);
    let mut writer = BlockWriter::create(dir.path(), ulid).expect("a writer");
    let mut floats = ChunkSamples::new();
    (0..5).for_each(|i| floats.push(i * 1000, i as f64 / 3.0, 0));
    let mut histograms = ChunkSamples::new();
    for i in 0..3 {
        let h = Histogram {
            count: 2 * i + 1,
            sum: 1.5,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![i as i64, 1],
            ..Histogram::default()
        };
        histograms.push_histogram(i as i64 * 1000, HistogramValue::Integer(h), 0);
    }
    for (value, samples) in [("x", &floats), ("y", &histograms), ("z", &floats)] {
        let labels = Labels::from_pairs([("a", value), ("b", "1")]);
        writer.add(&labels, &encode(samples).expect("chunks")).expect("a series");
    }
    writer.finish(BlockInfo::default()).expect("a block");
    let read = |f: &BlockFile| {
        let path = dir.path().join(ulid.to_string()).join(f.to_string());
        (*f, Bytes::from(std::fs::read(path).expect("a file")))
    };
    Memory(FILES.iter().map(read).collect())
}

/// Reads all of a block in every way there is; the dump, where it came to one.
fn read_all(files: &Memory) -> (check::Report, Option<Vec<u8>>) {
    let report = check::check_files(files);
    let Ok(block) = Block::from_files(files) else { return (report, None) };
    for matcher in [
        Matcher::equal("a", "x"),
        Matcher::new("a", MatchOp::Regex, ".+").expect("a matcher"),
        Matcher::new("b", MatchOp::NotRegex, "1.*").expect("a matcher"),
    ] {
        let _ = block.select(&[matcher]);
    }
    let _ = block.index().label_values("a");
    let mut out = Vec::new();
    let done = dump::dump(&block, &mut out);
    (report, done.is_ok().then_some(out))
}

/// The most memory this process ever had, in bytes; 0 where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

#[track_caller]
fn stays_small(before: u64) {
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 160 << 20, "memory grew by {} MiB", grown >> 20);
}

#[test]
fn cut_at_every_length() {
    let good = small();
    let (report, whole) = read_all(&good);
    assert!(report.findings.is_empty() && whole.is_some(), "{report}");
    for file in FILES {
        for len in 0..good.0[&file].len() {
            let mut cut = good.clone();
            cut.0.insert(file, good.0[&file].slice(..len));
            let (report, _) = read_all(&cut);
            assert!(!report.is_ok(), "{file} cut to {len} bytes passes");
        }
    }
}

#[test]
fn every_bit_flipped() {
    let good = small();
    let whole = read_all(&good).1.expect("a dump");
    for file in [BlockFile::Index, BlockFile::Segment(0), BlockFile::Tombstones] {
        for bit in 0..good.0[&file].len() * 8 {
            let mut bytes = good.0[&file].to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut bad = good.clone();
            bad.0.insert(file, bytes.into());
            let (report, dump) = read_all(&bad);
            // Only padding and the choice between equal versions may flip unnoticed.
            assert!(
                !report.is_ok() || dump.as_ref() == Some(&whole),
                "{file}: bit {bit} flipped unnoticed"
            );
        }
    }
}

/// Where the checksummed parts of an index are: (start of content, its end), the checksum behind it.
fn parts(index: &[u8]) -> Vec<(usize, usize)> {
    let toc = index.len() - 52;
    let at = |i: usize| {
        u64::from_be_bytes(index[toc + 8 * i..toc + 8 * i + 8].try_into().expect("8 bytes"))
            as usize
    };
    let section = |at: usize| {
        let len = u32::from_be_bytes(index[at..at + 4].try_into().expect("4 bytes")) as usize;
        (at + 4, at + 4 + len)
    };
    let mut parts = vec![section(at(0)), section(at(5)), (toc, toc + 48)];
    let mut series = at(1).next_multiple_of(16);
    while series < at(2) {
        let len = usize::from(index[series]);
        parts.push((series + 1, series + 1 + len));
        series = (series + 5 + len).next_multiple_of(16);
    }
    let mut list = at(4).next_multiple_of(4);
    while list < at(5) {
        let part = section(list);
        parts.push(part);
        list = (part.1 + 4).next_multiple_of(4);
    }
    parts
}

fn seal(index: &mut [u8], (start, end): (usize, usize)) {
    let crc = crc32c::crc32c(&index[start..end]).to_be_bytes();
    index[end..end + 4].copy_from_slice(&crc);
}

/// Nonsense that carries the right checksum, as an attacker would send it: random bytes and the
/// numbers that are worst as counts, lengths and offsets, in random places.
#[test]
fn nonsense_with_the_right_checksums() {
    let good = small();
    let before = peak_memory();
    let mut rng = StdRng::seed_from_u64(7);
    let index = &good.0[&BlockFile::Index];
    let parts = parts(index);
    assert_eq!(parts.len(), 3 + 3 + 5, "the test knows the layout");
    let worst: [&[u8]; 6] = [
        &[0xff; 4],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80; 10],
        &[0; 8],
    ];
    for _ in 0..6000 {
        let mut bytes = index.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let part = parts[rng.random_range(0..parts.len())];
            let at = rng.random_range(part.0..part.1);
            if rng.random_bool(0.5) {
                bytes[at] = rng.random();
            } else {
                let with = worst[rng.random_range(0..worst.len())];
                let len = with.len().min(part.1 - at);
                bytes[at..at + len].copy_from_slice(&with[..len]);
            }
            seal(&mut bytes, part);
        }
        let mut bad = good.clone();
        bad.0.insert(BlockFile::Index, bytes.into());
        read_all(&bad);
    }
    stays_small(before);
}

/// The same for a chunk's payload, which histograms make the most of.
#[test]
fn nonsense_in_chunks() {
    let good = small();
    let before = peak_memory();
    let mut rng = StdRng::seed_from_u64(8);
    let segment = &good.0[&BlockFile::Segment(0)];
    for _ in 0..6000 {
        let mut bytes = segment.to_vec();
        let mut at = 8;
        while at < bytes.len() {
            let end = at + 2 + usize::from(bytes[at]);
            if rng.random_bool(0.5) {
                let hit = rng.random_range(at + 1..end);
                bytes[hit] = rng.random();
                seal(&mut bytes, (at + 1, end));
            }
            at = end + 4;
        }
        let mut bad = good.clone();
        bad.0.insert(BlockFile::Segment(0), bytes.into());
        read_all(&bad);
    }
    stays_small(before);
}

/// An index whose table names one list of all series ten thousand times: without a bound, a matcher
/// for any value would gather 400 million references.
#[test]
fn one_list_named_by_every_value() {
    let before = peak_memory();
    let (values, refs) = (10_000u32, 40_000u32);
    let mut out = vec![0xba, 0xaa, 0xd7, 0x00, 2];
    let section = |out: &mut Vec<u8>, content: &[u8]| {
        let at = out.len() as u64;
        out.extend_from_slice(&(content.len() as u32).to_be_bytes());
        out.extend_from_slice(content);
        out.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
        at
    };
    let symbols = section(&mut out, &[0, 0, 0, 1, 0]);
    let mut list = refs.to_be_bytes().to_vec();
    (0..refs).for_each(|r| list.extend_from_slice(&r.to_be_bytes()));
    let list = section(&mut out, &list);
    let mut table = values.to_be_bytes().to_vec();
    for v in 0..values {
        table.extend_from_slice(&[2, 1, b'a', 5]);
        table.extend_from_slice(format!("{v:05}").as_bytes());
        periplus_block::varint::put_uvarint(&mut table, list);
    }
    let table = section(&mut out, &table);
    let mut toc: Vec<u8> =
        [symbols, 0, 0, 0, list, table].iter().flat_map(|n| n.to_be_bytes()).collect();
    toc.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
    out.extend_from_slice(&toc);
    let index = Index::from_bytes(out.into()).expect("nothing wrong with its tables");
    let any = Matcher::new("a", MatchOp::Regex, ".+").expect("a matcher");
    let error = index.select(&[any]).expect_err("a label with more series than there are");
    assert!(error.to_string().contains("more series"), "{error}");
    assert_eq!(index.select(&[Matcher::equal("a", "00007")]).map(|l| l.len()).ok(), None);
    stays_small(before);
}

/// Errors say where: block, series, file, offset, encoding.
#[test]
fn errors_name_the_place() {
    let good = small();
    let mut bytes = good.0[&BlockFile::Segment(0)].to_vec();
    bytes[9] = 9;
    let end = 10 + usize::from(bytes[8]);
    seal(&mut bytes, (9, end));
    let mut bad = good.clone();
    bad.0.insert(BlockFile::Segment(0), bytes.clone().into());
    let block = Block::from_files(&bad).expect("a block");
    let all = block.select(&[]).expect("its series");
    let series = block.series(all[0]).expect("a series");
    let mut out = ChunkSamples::new();
    let range = periplus_model::TimeRange::ALL;
    let e = block.decode(&series, &series.chunks[0], range, &mut out).expect_err("an encoding 9");
    assert_eq!(
        e.to_string(),
        "block hostile: series {a=\"x\", b=\"1\"}: chunks/000001: chunk at offset 8: \
         unknown chunk encoding 9; this version reads 1 to 6 and 255"
    );
    // Only that chunk is lost.
    let other = block.series(all[1]).expect("a series");
    block.decode(&other, &other.chunks[0], range, &mut out).expect("its samples");
    assert_eq!(out.len(), 3);

    bytes[end] ^= 1;
    bad.0.insert(BlockFile::Segment(0), bytes.into());
    let block = Block::from_files(&bad).expect("a block");
    let e = block.decode(&series, &series.chunks[0], range, &mut out).expect_err("a bad checksum");
    assert!(e.to_string().contains("checksum of a chunk at offset 8 does not match"), "{e}");
    assert!(e.to_string().contains("series {a=\"x\", b=\"1\"}"), "{e}");
}
