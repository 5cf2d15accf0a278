//! A whole index file: opened and, where that succeeds, read in every way.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use periplus_block::index::Index;
use periplus_model::{MatchOp, Matcher};

fuzz_target!(|data: &[u8]| {
    let Ok(index) = Index::from_bytes(Bytes::copy_from_slice(data)) else { return };
    let _ = index.symbols().count();
    let names: Vec<String> = index.label_names().map(str::to_owned).collect();
    for name in names {
        let values = index.label_values(&name).unwrap_or_default();
        if let Some(value) = values.first() {
            let _ = index.select(&[Matcher::equal(name.as_str(), value.as_str())]);
        }
        if let Ok(any) = Matcher::new(name.as_str(), MatchOp::Regex, ".+") {
            let _ = index.select(&[any]);
        }
    }
    for reference in index.all_series().unwrap_or_default() {
        let _ = index.series(reference);
    }
});
