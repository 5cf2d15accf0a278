//! A log written here, byte by byte, and read while it grows.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use periplus_model::{FloatHistogram, Labels};
use periplus_wal::{PAGE_BYTES, Tail, Visitor, WalError};
use proptest::prelude::*;

#[derive(Default)]
struct Seen(Vec<(u64, i64, f64)>);

impl Visitor for Seen {
    fn series(&mut self, _: u64, _: Labels) {}
    fn sample(&mut self, series: u64, _: i64, t_ms: i64, value: f64) {
        self.0.push((series, t_ms, value));
    }
    fn histogram(&mut self, _: u64, _: i64, _: i64, _: FloatHistogram) {}
    fn tombstone(&mut self, _: u64, _: i64, _: i64) {}
}

/// A samples record with `n` samples of one series, one a second from `t`.
fn record(series: u64, t: i64, n: usize) -> Vec<u8> {
    let mut r = vec![2u8];
    r.extend(series.to_be_bytes());
    r.extend(t.to_be_bytes());
    for i in 0..n as u64 {
        r.push(0);
        let mut raw = i * 1000 * 2;
        while raw >= 0x80 {
            r.push(raw as u8 | 0x80);
            raw >>= 7;
        }
        r.push(raw as u8);
        r.extend((i as f64).to_bits().to_be_bytes());
    }
    r
}

/// The bytes of a segment that holds `records`, split at pages as Prometheus splits them.
fn segment(records: &[Vec<u8>], compress: bool) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for r in records {
        let (stored, flag) = if compress {
            (snap::raw::Encoder::new().compress_vec(r).unwrap(), 8u8)
        } else {
            (r.clone(), 0)
        };
        let mut rest = stored.as_slice();
        let mut first = true;
        loop {
            let mut room = PAGE_BYTES - out.len() % PAGE_BYTES;
            if room < 7 {
                out.resize(out.len() + room, 0);
                room = PAGE_BYTES;
            }
            let (part, later) = rest.split_at(rest.len().min(room - 7));
            let kind = match (first, later.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            out.push(kind | flag);
            out.extend((part.len() as u16).to_be_bytes());
            out.extend(crc32c::crc32c(part).to_be_bytes());
            out.extend(part);
            first = false;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }
    out
}

fn write(dir: &Path, n: u64, bytes: &[u8]) {
    fs::write(dir.join(format!("{n:08}")), bytes).unwrap();
}

fn append(dir: &Path, n: u64, bytes: &[u8]) {
    OpenOptions::new()
        .append(true)
        .open(dir.join(format!("{n:08}")))
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

#[test]
fn checkpoint_then_segments_then_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    fs::create_dir(d.join("checkpoint.00000003")).unwrap();
    fs::create_dir(d.join("checkpoint.00000009.tmp")).unwrap();
    write(&d.join("checkpoint.00000003"), 0, &segment(&[record(1, 0, 1)], true));
    write(d, 2, &segment(&[record(99, 0, 1)], false));
    write(d, 4, &segment(&[record(2, 0, 1)], false));
    write(d, 5, &segment(&[record(3, 0, 1)], false));
    let mut tail = Tail::open(d).unwrap();
    let mut seen = Seen::default();
    assert_eq!(tail.poll_some(&mut seen, 1).unwrap(), 1);
    assert_eq!(tail.poll_some(&mut seen, 1).unwrap(), 1);
    assert_eq!(tail.poll(&mut seen).unwrap(), 1);
    assert_eq!(seen.0.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(tail.poll(&mut seen).unwrap(), 0);
    append(d, 5, &segment(&[record(4, 0, 1)], false));
    write(d, 6, &segment(&[record(5, 0, 1)], false));
    assert_eq!(tail.poll(&mut seen).unwrap(), 2);
    assert_eq!(seen.0.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[test]
fn large_records_cross_pages() {
    let dir = tempfile::tempdir().unwrap();
    let records = [record(1, 0, 10), record(2, 0, 20_000), record(3, 0, 1)];
    for compress in [false, true] {
        write(dir.path(), 0, &segment(&records, compress));
        let mut seen = Seen::default();
        assert_eq!(Tail::open(dir.path()).unwrap().poll(&mut seen).unwrap(), 3);
        assert_eq!(seen.0.len(), 20_011);
        assert_eq!(seen.0[20_009], (2, 19_999_000, 19_999.0));
    }
}

#[test]
fn a_cut_or_vanished_segment_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let bytes = segment(&[record(1, 0, 10), record(2, 0, 10)], false);
    write(d, 0, &bytes);
    let mut tail = Tail::open(d).unwrap();
    tail.poll(&mut Seen::default()).unwrap();
    File::options().write(true).open(d.join("00000000")).unwrap().set_len(10).unwrap();
    assert!(matches!(tail.poll(&mut Seen::default()), Err(WalError::Gone { .. })));
    // A checkpoint whose following segment is missing has a hole.
    fs::create_dir(d.join("checkpoint.00000003")).unwrap();
    write(d, 7, &bytes);
    assert!(matches!(Tail::open(d), Err(WalError::Gone { .. })));
    assert!(matches!(Tail::open(&d.join("nowhere")), Err(WalError::Gone { .. })));
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = segment(&[record(1, 0, 3), record(2, 0, 3)], true);
    for i in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[i / 8] ^= 1 << (i % 8);
        write(dir.path(), 0, &broken);
        let mut seen = Seen::default();
        if Tail::open(dir.path()).unwrap().poll(&mut seen).is_ok() {
            // A length that grew makes the reader wait for bytes; nothing wrong is ever visited.
            assert!(seen.0.len() < 6, "bit {i} went unnoticed");
        }
        assert!(seen.0.iter().all(|(s, _, v)| *s <= 2 && *v < 3.0), "bit {i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// However the writer's bytes arrive, the reader sees every record once, as soon as it is whole.
    #[test]
    fn any_cut_of_the_writing(
        sizes in proptest::collection::vec(1usize..6000, 1..8),
        cuts in proptest::collection::vec(0.0f64..1.0, 0..12),
        compress: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<_> = sizes.iter().enumerate().map(|(i, n)| record(i as u64, 0, *n)).collect();
        let bytes = segment(&records, compress);
        let mut at: Vec<usize> = cuts.iter().map(|c| (c * bytes.len() as f64) as usize).collect();
        at.sort_unstable();
        at.push(bytes.len());
        write(dir.path(), 0, &[]);
        let mut tail = Tail::open(dir.path()).unwrap();
        let mut seen = Seen::default();
        let mut done = 0;
        for cut in at {
            append(dir.path(), 0, &bytes[done..cut]);
            done = cut;
            tail.poll(&mut seen).unwrap();
        }
        prop_assert_eq!(seen.0.len(), sizes.iter().sum::<usize>());
        prop_assert_eq!(tail.poll(&mut seen).unwrap(), 0);
    }
}
