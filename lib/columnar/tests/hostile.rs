//! Files that were altered, cut short or made to harm: an error that names the file, never a panic,
//! never a wrong sample, never memory on the word of a file.

#![expect(clippy::unwrap_used, reason = "tests fail loudly and skip aloud")]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use periplus_block::chunk::{ChunkSamples, HistogramValue};
use periplus_block::source::RangedBytes;
use periplus_columnar::{
    Day, MemorySinks, PartFile, PartMeta, PartReader, PartSource, PartWriter, Resolution,
    SeriesData, WriteOptions,
};
use periplus_model::{FloatHistogram, Labels, Span};
use ulid::Ulid;

const DAY: Day = Day(20_000);

fn part() -> MemorySinks {
    let meta = PartMeta {
        part: Ulid::from_parts(1, 77),
        external: BTreeMap::from([("cluster".to_owned(), "c1".to_owned())]),
        replica_labels: vec![],
        day: DAY,
        resolution: Resolution::Raw,
        sources: vec![Ulid::from_parts(2, 3)],
        inputs: vec![],
        promoted: vec!["pod".to_owned()],
    };
    let sinks = MemorySinks::default();
    let options = WriteOptions { page_rows: 64, group_rows: 256, ..WriteOptions::default() };
    let mut writer = PartWriter::new(meta, options, Box::new(sinks.clone())).unwrap();
    for i in 0..3 {
        let mut samples = ChunkSamples::new();
        for n in 0..100 {
            let t = DAY.start_ms() + n * 300_000 + 7;
            if i == 1 && n % 2 == 0 {
                let h = FloatHistogram {
                    schema: 2,
                    count: 7.0,
                    positive_spans: vec![Span { offset: 1, length: 2 }],
                    positive_buckets: vec![n as f64, 3.0],
                    ..FloatHistogram::default()
                };
                samples.push_histogram(t, HistogramValue::Float(h), 0);
            } else {
                samples.push(t, (n * i) as f64 / 7.0, 0);
            }
        }
        let labels = Labels::from_pairs([("__name__", format!("m{i}")), ("pod", "p".to_owned())]);
        writer.push(&labels, &samples).unwrap();
    }
    writer.finish().unwrap();
    sinks
}

/// A part of which one file has other bytes.
struct Altered<'a> {
    part: &'a MemorySinks,
    file: PartFile,
    bytes: Bytes,
}

impl PartSource for Altered<'_> {
    fn name(&self) -> String {
        "altered".to_owned()
    }

    fn open(&self, file: PartFile) -> io::Result<Option<Arc<dyn RangedBytes>>> {
        if file == self.file {
            return Ok(Some(Arc::new(self.bytes.clone())));
        }
        self.part.open(file)
    }
}

fn read(part: &dyn PartSource) -> periplus_columnar::Result<Vec<(Labels, SeriesData)>> {
    let mut reader = PartReader::open(part)?;
    let mut out = Vec::new();
    while let Some(series) = reader.next_series()? {
        out.push((series.labels, series.data));
    }
    Ok(out)
}

/// What can be read of altered bytes is an error that names the file, or what was written.
fn check(
    part: &MemorySinks,
    whole: &[(Labels, SeriesData)],
    file: PartFile,
    bytes: Vec<u8>,
) -> bool {
    let altered = Altered { part, file, bytes: Bytes::from(bytes) };
    match read(&altered) {
        Ok(series) => {
            // A flipped bit may lie in what nobody reads: names of the writer, sizes for people.
            assert_eq!(series.len(), whole.len());
            for ((a, x), (b, y)) in series.iter().zip(whole) {
                assert_eq!(a, b);
                assert_eq!(periplus_columnar::difference(x, y), None);
            }
            false
        }
        Err(error) => {
            assert!(error.to_string().contains("altered"), "{error}");
            true
        }
    }
}

#[test]
fn every_cut_is_refused() {
    let part = part();
    let whole = read(&part).unwrap();
    assert_eq!(whole.len(), 3);
    for file in PartFile::ALL {
        let bytes = part.bytes(file).unwrap();
        for len in 0..bytes.len() {
            // Cuts in the data are alike: each is seen by the missing footer.
            if len > 100 && len + 2000 < bytes.len() && len % 17 != 0 {
                continue;
            }
            let refused = check(&part, &whole, file, bytes.slice(..len).to_vec());
            assert!(refused, "{} cut to {len} bytes", file.name());
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let part = part();
    let whole = read(&part).unwrap();
    for file in PartFile::ALL {
        let bytes = part.bytes(file).unwrap();
        let (mut noticed, mut all) = (0, 0);
        for at in 0..bytes.len() {
            // All bits of all bytes take a minute without optimisation: one bit of each byte, another
            // bit from byte to byte.
            let mut altered = bytes.to_vec();
            altered[at] ^= 1 << (at % 8);
            noticed += usize::from(check(&part, &whole, file, altered));
            all += 1;
        }
        assert!(noticed * 3 > all, "{}: {noticed} of {all}", file.name());
    }
}

#[test]
fn garbage_behind_a_magic_is_refused() {
    let part = part();
    let whole = read(&part).unwrap();
    let mut state = 1u64;
    for len in [0usize, 1, 11, 12, 40, 42_000] {
        let mut bytes: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                (state >> 33) as u8
            })
            .collect();
        if len >= 12 {
            let at = len - 8;
            bytes[at..at + 4].copy_from_slice(&((len - 12) as u32).to_le_bytes());
            bytes[len - 4..].copy_from_slice(b"PAR1");
        }
        for file in PartFile::ALL {
            assert!(check(&part, &whole, file, bytes.clone()));
        }
    }
}

#[test]
fn a_footer_that_claims_petabytes_is_refused() {
    let part = part();
    let whole = read(&part).unwrap();
    for file in PartFile::ALL {
        let bytes = part.bytes(file).unwrap();
        // Wherever a varint of the footer could be a count, the largest one of its length.
        let footer = bytes.len()
            - 8
            - u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap())
                as usize;
        for at in (footer..bytes.len() - 8).step_by(3) {
            let mut altered = bytes.to_vec();
            let mut end = at;
            while end < bytes.len() - 9 && end < at + 9 {
                altered[end] = 0xff;
                end += 1;
            }
            altered[end] = 0x7f;
            check(&part, &whole, file, altered);
        }
    }
}

/// Headers of pages that claim as much as a header can: what they would decompress to, how many values.
#[test]
fn pages_that_claim_gigabytes_are_refused() {
    let part = part();
    let whole = read(&part).unwrap();
    for file in PartFile::ALL {
        let bytes = part.bytes(file).unwrap();
        for at in (4..bytes.len().saturating_sub(2000)).step_by(2) {
            let mut altered = bytes.to_vec();
            // The largest number of 32 bits that a header can hold.
            altered[at..at + 5].copy_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0x0f]);
            check(&part, &whole, file, altered);
        }
    }
}

/// All of that again in a process that may have 700 MB of addresses, its code included: whoever took
/// memory on the word of a file would die of it.
#[test]
fn memory_stays_flat() {
    let done = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 700000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--test-threads=1", "claim", "garbage", "flipped"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("4 passed"), "{said}");
}
