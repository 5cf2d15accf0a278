//! A whole tombstones file: what parses is written and read back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use periplus_block::tombstones::Tombstones;

fuzz_target!(|data: &[u8]| {
    if let Ok(t) = Tombstones::parse(data) {
        assert_eq!(Tombstones::parse(&t.to_bytes()).expect("our own bytes"), t);
    }
});
