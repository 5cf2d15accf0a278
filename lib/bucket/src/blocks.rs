//! Blocks in a bucket, in Thanos's layout.
//!
//! ```text
//! <ulid>/chunks/000001 …      the chunks
//! <ulid>/index                 the series
//! <ulid>/meta.json             put last, deleted first: with it the block is whole, without it not
//! <ulid>/deletion-mark.json    since when it is to be deleted
//! <ulid>/no-compact-mark.json, <ulid>/no-downsample-mark.json
//! ```
//!
//! [`meta`] reads the few fields of `meta.json` that tell blocks apart, [`marks`] the marks, [`scan`]
//! all blocks of a bucket. [`verify`], [`cleanup`] and [`copy`] are what `periplus bucket` runs.
//! Thanos and Prometheus's tools read and write the same files.

pub mod cleanup;
pub mod copy;
pub mod marks;
pub mod meta;
pub mod scan;
pub mod verify;

/// Told how far long work is; the calls come from one task, in order.
pub trait Progress: Send {
    /// So many steps more are to be done, of which this is known now.
    fn more(&mut self, steps: u64);
    /// One step is done.
    fn step(&mut self, what: &str);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn more(&mut self, _steps: u64) {}
    fn step(&mut self, _what: &str) {}
}
