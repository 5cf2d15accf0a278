//! A whole meta.json: what parses is written and read back the same, and names no file outside.

#![no_main]

use libfuzzer_sys::fuzz_target;
use periplus_block::meta::Meta;

fuzz_target!(|data: &[u8]| {
    if let Ok(meta) = Meta::parse(data) {
        assert_eq!(Meta::parse(&meta.to_bytes()).expect("our own bytes"), meta);
        for file in meta.thanos.iter().flat_map(|t| &t.files) {
            assert!(!file.rel_path.starts_with('/') && !file.rel_path.contains(".."));
        }
    }
});
