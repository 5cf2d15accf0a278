use std::fmt::Write;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Log(String);

impl Visitor for Log {
    fn series(&mut self, series: u64, labels: Labels) {
        writeln!(self.0, "series {series} {labels:?}").unwrap();
    }
    fn sample(&mut self, series: u64, start_ms: i64, t_ms: i64, value: f64) {
        writeln!(self.0, "sample {series} {start_ms} {t_ms} {:x}", value.to_bits()).unwrap();
    }
    fn histogram(&mut self, series: u64, start_ms: i64, t_ms: i64, h: FloatHistogram) {
        writeln!(self.0, "histogram {series} {start_ms} {t_ms} {} {}", h.count, h.sum).unwrap();
    }
    fn tombstone(&mut self, series: u64, min_ms: i64, max_ms: i64) {
        writeln!(self.0, "tombstone {series} {min_ms} {max_ms}").unwrap();
    }
}

#[track_caller]
fn check(record: &[u8], expect: &str) {
    let mut log = Log::default();
    decode(record, &mut log).unwrap();
    assert_eq!(log.0, expect);
}

fn varint(v: i64) -> Vec<u8> {
    let mut raw = ((v << 1) ^ (v >> 63)) as u64;
    let mut out = Vec::new();
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
    out
}

#[test]
fn series_records() {
    let mut r = vec![SERIES];
    r.extend(7u64.to_be_bytes());
    r.extend([2, 8]);
    r.extend(b"__name__\x02up\x03job\x01a");
    check(&r, "series 7 {__name__=\"up\", job=\"a\"}\n");
}

#[test]
fn samples_count_from_the_first() {
    let mut r = vec![SAMPLES];
    r.extend(100u64.to_be_bytes());
    r.extend(5000i64.to_be_bytes());
    for (dref, dt, v) in [(0, 0, 1.5f64), (-3, 10, f64::from_bits(periplus_model::STALE_NAN_BITS))]
    {
        r.extend(varint(dref));
        r.extend(varint(dt));
        r.extend(v.to_bits().to_be_bytes());
    }
    check(&r, "sample 100 0 5000 3ff8000000000000\nsample 97 0 5010 7ff0000000000002\n");
}

#[test]
fn samples_with_start_timestamps() {
    let mut r = vec![SAMPLES_V2];
    let one = 1f64.to_bits().to_be_bytes();
    r.extend([varint(9), varint(1000), varint(400), one.to_vec()].concat());
    r.extend([varint(1), varint(0), vec![START_SAME], one.to_vec()].concat());
    r.extend([varint(1), varint(5), vec![START_NONE], one.to_vec()].concat());
    r.extend([varint(-2), varint(6), vec![2], varint(50), one.to_vec()].concat());
    check(
        &r,
        "sample 9 400 1000 3ff0000000000000\nsample 10 400 1000 3ff0000000000000\n\
         sample 11 0 1005 3ff0000000000000\nsample 9 450 1006 3ff0000000000000\n",
    );
}

#[test]
fn tombstones_and_passed_over_records() {
    let mut r = vec![TOMBSTONES];
    r.extend(3u64.to_be_bytes());
    r.extend([varint(-5), varint(900)].concat());
    check(&r, "tombstone 3 -5 900\n");
    check(&[METADATA, 1, 2, 3], "");
    check(&[SAMPLES], "");
}

#[test]
fn unknown_types_and_short_records_are_errors() {
    let mut log = Log::default();
    assert!(decode(&[], &mut log).is_err());
    assert!(decode(&[99, 0], &mut log).is_err());
    assert!(decode(&[SAMPLES, 0], &mut log).is_err());
    // A count of 2^60 labels in a record of a few bytes.
    let mut r = vec![SERIES];
    r.extend(7u64.to_be_bytes());
    r.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0]);
    let e = decode(&r, &mut log).unwrap_err();
    assert_eq!(e.reason, "a count is larger than the record");
}

proptest! {
    #[test]
    fn no_bytes_panic(kind in 0u8..16, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut record = vec![kind];
        record.extend(rest);
        let _ = decode(&record, &mut Log::default());
    }
}
