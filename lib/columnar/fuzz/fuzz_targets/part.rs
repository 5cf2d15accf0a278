//! A whole part from three files that come from one input, cut where its first bytes say.

#![no_main]

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use periplus_block::source::RangedBytes;
use periplus_columnar::{PartFile, PartReader, PartSource};

struct Cut(Bytes, usize, usize);

impl PartSource for Cut {
    fn name(&self) -> String {
        "fuzz".to_owned()
    }

    fn open(&self, file: PartFile) -> io::Result<Option<Arc<dyn RangedBytes>>> {
        let range = match file {
            PartFile::Series => 4..self.1,
            PartFile::Samples => self.1..self.2,
            PartFile::Histograms => self.2..self.0.len(),
        };
        Ok((!range.is_empty()).then(|| Arc::new(self.0.slice(range)) as _))
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(head) = data.first_chunk::<4>() else { return };
    let at = |a: u8, b: u8| usize::from(u16::from_le_bytes([a, b])).clamp(4, data.len());
    let (one, two) = (at(head[0], head[1]), at(head[2], head[3]));
    let cut = Cut(Bytes::copy_from_slice(data), one.min(two), one.max(two));
    let Ok(mut reader) = PartReader::open(&cut) else { return };
    while let Ok(Some(_)) = reader.next_series() {}
});
