//! The end of a file: parsed and, where that succeeds, asked everything that is asked of a footer.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use periplus_columnar::{Columns, Footer, SeriesTable};
use periplus_model::{Matcher, TimeRange};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(footer) = Footer::parse("fuzz", bytes.len() as u64, &bytes) else { return };
    let _ = footer.series_groups(&[Matcher::equal("pod", "x")], TimeRange::ALL);
    let _ = footer.sample_ranges([0..footer.rows()], Columns::Raw);
    let _ = footer.histogram_ranges([0..footer.rows()]);
    for group in 0..footer.groups() {
        let range = footer.group_range(group);
        let bytes = bytes.slice(range.start as usize..range.end as usize);
        let _ = SeriesTable::decode(&footer, group, &bytes);
    }
});
