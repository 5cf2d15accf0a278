//! Prometheus TSDB blocks, read and written bit for bit.
//!
//! A block is a directory: `meta.json` says what it is, `index` which series it has and where their
//! chunks are, `chunks/000001` and on hold the chunks, `tombstones` what was deleted since. In the
//! order data flows when one is read:
//!
//! - [`source`]: where the bytes come from, a mapped file or ranges of something far away.
//! - [`index`]: from matchers to postings to a series' labels and chunk references.
//! - [`segment`]: from a reference to a chunk's bytes.
//! - [`chunk`]: from the bytes to columns of timestamps, values and histograms, and back.
//! - [`tombstones`] and [`meta`]: the two small files.
//! - [`block`]: all of these together, which is what most callers open.
//! - [`check`] and [`dump`]: says everything that is wrong with a block; prints all of it.
//! - [`mod@write`]: blocks from sorted series.
//!
//! Every byte is distrusted: lengths and counts are held against the bytes that are there before
//! anything is allocated for them, checksums are verified where the format has them, and no input
//! makes this crate panic. What can't be read fails with an error that names block, series, file,
//! offset and encoding, and fails alone: a bad chunk is not a bad block.
//!
//! The one decision worth knowing: a chunk is decoded whole into columns ([`chunk::ChunkSamples`])
//! instead of being iterated sample by sample. A query looks at nearly every sample of the chunks
//! it opens, columns are what range functions and Parquet want, and the loop that fills them can
//! keep its state in registers.

pub mod source;

pub mod index;
pub mod segment;

pub mod chunk;

pub mod meta;
pub mod tombstones;

pub mod block;
pub mod check;
pub mod dump;
pub mod write;

mod error;
mod section;
pub mod varint;

pub use block::Block;
pub use error::{BlockError, BlockFile, FileError};
