//! Whole blocks as Prometheus itself wrote them, against dumps Prometheus made.

#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::PathBuf;

use periplus_block::chunk::{self, ChunkEncoding, ChunkSamples, EncodedChunk};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_block::{Block, check, dump};
use periplus_model::{MatchOp, Matcher, TimeRange};

const NAMES: [&str; 3] = ["xor-tombstoned", "xor2", "start-timestamps"];

/// The blocks beside this checkout; `None` says that the test is skipped, which CI does not allow.
fn shared() -> Option<PathBuf> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/blocks"));
    if dir.is_dir() {
        return Some(dir);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the shared blocks are missing");
    println!("skipped: no shared blocks beside this checkout");
    None
}

#[test]
fn the_dump_is_the_same_to_the_byte() {
    let Some(dir) = shared() else { return };
    for name in NAMES {
        let block = Block::open(dir.join(name)).unwrap();
        let mut got = Vec::new();
        dump::dump(&block, &mut got).unwrap();
        let want = std::fs::read_to_string(dir.join(format!("{name}.expected.jsonl"))).unwrap();
        let got = String::from_utf8(got).unwrap();
        for (i, (got, want)) in got.lines().zip(want.lines()).enumerate() {
            assert!(got == want, "{name} line {i}:\n{:.2000}\n{:.2000}", got, want);
        }
        assert_eq!(got.lines().count(), want.lines().count());
    }
}

#[test]
fn the_blocks_are_whole() {
    let Some(dir) = shared() else { return };
    for name in NAMES {
        let report = check::check(dir.join(name));
        assert!(report.is_ok(), "{report}");
        assert_eq!(report.findings.len(), 1, "only that the directory has no ULID: {report}");
    }
}

#[test]
fn deletions_are_applied_when_reading_and_only_then() {
    let Some(dir) = shared() else { return };
    let block = Block::open(dir.join("xor-tombstoned")).unwrap();
    let found = block.select(&[Matcher::equal("pod", "web-1")]).unwrap();
    let series = block.series(found[0]).unwrap();
    let deleted = block.tombstones().of(u64::from(found[0]));
    assert_eq!((found.len(), deleted.len()), (1, 1));
    let (mut all, mut left) = (ChunkSamples::new(), ChunkSamples::new());
    for c in &series.chunks {
        block.decode_stored(&series, c, TimeRange::ALL, &mut all).unwrap();
        block.decode(&series, c, TimeRange::ALL, &mut left).unwrap();
    }
    let inside = all.ts.iter().filter(|t| deleted[0].contains(**t)).count();
    assert!(inside > 30, "ten minutes of a sample every 15 s");
    assert_eq!(left.len(), all.len() - inside);
    assert!(!left.ts.iter().any(|t| deleted[0].contains(*t)));
}

#[test]
fn matchers_find_what_a_scan_finds() {
    let Some(dir) = shared() else { return };
    let block = Block::open(dir.join("xor2")).unwrap();
    let all: Vec<_> =
        block.select(&[]).unwrap().iter().map(|r| block.series(*r).unwrap()).collect();
    assert_eq!(all.len() as u64, block.meta().stats.num_series);
    let matcher =
        |(name, op, value): &(&str, MatchOp, &str)| Matcher::new(*name, *op, *value).unwrap();
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let cases: &[&[(&str, MatchOp, &str)]] = &[
        &[("__name__", Equal, "container_cpu_usage_seconds_total"), ("pod", Equal, "web-3")],
        &[("pod", Regex, "web-(1|2)|none")],
        &[("pod", Regex, "web-1|web-2|none")],
        &[("pod", NotEqual, "")],
        &[("pod", Equal, "")],
        &[("pod", NotEqual, "web-1")],
        &[("pod", Regex, ".*")],
        &[("pod", Regex, ".+"), ("pod", NotRegex, ".*[13]")],
        &[("pod", NotRegex, ".+"), ("job", Regex, "a|b")],
        &[("job", Regex, "a||native")],
        &[("ünïcode", Regex, "(?s).*\n.*")],
        &[("dotted.name", Equal, "x"), ("job", NotEqual, "c")],
        &[("nobody", Equal, "x")],
        &[("nobody", NotEqual, "x"), ("job", Equal, "mix")],
        &[("", Equal, ""), ("job", Equal, "mix")],
    ];
    for case in cases {
        let matchers: Vec<Matcher> = case.iter().map(matcher).collect();
        let want: Vec<_> = all
            .iter()
            .filter(|s| matchers.iter().all(|m| m.matches(s.labels.value(&m.name))))
            .map(|s| s.reference)
            .collect();
        assert_eq!(block.select(&matchers).unwrap(), want, "{matchers:?}");
    }
    let names: Vec<&str> = block.index().label_names().collect();
    assert!(names.is_sorted() && names.contains(&"dotted.name") && names.contains(&"__name__"));
    let pods = block.index().label_values("pod").unwrap();
    assert_eq!(pods, ["web-0", "web-1", "web-2", "web-3", "web-4", "web-5"]);
}

/// What our encoders make of a chunk's samples are the bytes Prometheus made of them; but for the
/// flags of a histogram chunk, which tell of the chunk before.
#[test]
fn encoding_again_gives_the_same_bytes() {
    let Some(dir) = shared() else { return };
    let block = Block::open(dir.join("xor-tombstoned")).unwrap();
    for reference in block.select(&[]).unwrap() {
        let series = block.series(reference).unwrap();
        for c in &series.chunks {
            let stored = block.chunk(&series, c).unwrap();
            let payload = &stored.payload[..];
            let mut samples = ChunkSamples::new();
            block.decode_stored(&series, c, TimeRange::ALL, &mut samples).unwrap();
            if stored.encoding().unwrap() == ChunkEncoding::Xor {
                let mut again = chunk::XorEncoder::new();
                for (t, v) in samples.ts.iter().zip(&samples.values) {
                    again.append(*t, *v).unwrap();
                }
                assert_eq!(again.finish(), payload);
            } else if samples.len() <= chunk::SAMPLES_PER_CHUNK {
                let again = chunk::encode(&samples).unwrap();
                assert_eq!(again.len(), 1);
                assert_eq!(again[0].payload[..2], payload[..2]);
                assert_eq!(again[0].payload[3..], payload[3..]);
            }
        }
    }
}

/// A block taken apart and written again: index and segment come out as Prometheus wrote them.
#[test]
fn writing_again_gives_the_same_files() {
    let Some(dir) = shared() else { return };
    for name in NAMES {
        let block = Block::open(dir.join(name)).unwrap();
        let out = tempfile::tempdir().unwrap();
        let ulid = ulid::Ulid::generate();
        let mut writer = BlockWriter::create(out.path(), ulid).unwrap();
        for reference in block.select(&[]).unwrap() {
            let series = block.series(reference).unwrap();
            let chunks: Vec<EncodedChunk> = series
                .chunks
                .iter()
                .map(|c| {
                    let stored = block.chunk(&series, c).unwrap();
                    let encoding = stored.encoding().unwrap();
                    EncodedChunk {
                        encoding,
                        range: c.range,
                        samples: chunk::sample_count(encoding, &stored.payload).unwrap(),
                        payload: stored.payload.to_vec(),
                    }
                })
                .collect();
            writer.add(&series.labels, &chunks).unwrap();
        }
        let info = BlockInfo { range: Some(block.meta().range()), ..BlockInfo::default() };
        let meta = writer.finish(info).unwrap();
        assert_eq!(meta.stats.num_float_samples, block.meta().stats.num_float_samples);
        assert_eq!(meta.stats.num_histogram_samples, block.meta().stats.num_histogram_samples);
        assert_eq!((meta.min_time, meta.max_time), (1_759_996_800_000, 1_760_004_000_000));
        let written = out.path().join(ulid.to_string());
        for file in ["index", "chunks/000001"] {
            let want = std::fs::read(dir.join(name).join(file)).unwrap();
            assert!(std::fs::read(written.join(file)).unwrap() == want, "{name} {file}");
        }
        let report = check::check(&written);
        assert!(report.findings.is_empty(), "{report}");
    }
}
