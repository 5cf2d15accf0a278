//! Prometheus TSDB blocks, read and written bit for bit.
//!
//! In the order data flows when a block is read: [`chunk`] turns a chunk's bytes into columns of
//! timestamps, values and histograms, and back.
//!
//! Every byte is distrusted: lengths and counts are held against the bytes that are there before
//! anything is allocated for them, checksums are verified where the format has them, and no input
//! makes this crate panic. What can't be read fails with an error that names the place.
//!
//! The one decision worth knowing: a chunk is decoded whole into columns ([`chunk::ChunkSamples`])
//! instead of being iterated sample by sample. A query looks at nearly every sample of the chunks
//! it opens, columns are what range functions and Parquet want, and the loop that fills them can
//! keep its state in registers.

pub mod chunk;
pub mod varint;
