//! History as Parquet: what lies in the bucket for a stream and a day, and how it becomes series again.
//!
//! A *part* is what one writer writes: of one set of external labels, one UTC day and one resolution.
//! It has up to three files that any Parquet tool reads (`FORMAT.md` describes them). In the order
//! data flows:
//!
//! - [`PartMeta`], [`Day`], [`Resolution`]: what a part is and where it lies.
//! - [`PartWriter`]: series in order of their labels in, files out, in bounded memory.
//! - [`Footer`]: what a reader has to know of a file; small, shared, kept.
//! - [`SeriesTable`]: the series of a row group, selected by matchers and time.
//! - [`SampleReader`], [`HistogramReader`]: from the pages that were fetched to columns of samples.
//! - [`PartReader`]: a part from end to end, to verify it, merge it or downsample it.
//!
//! It does no I/O of its own: bytes in, bytes out. Who asks says which bytes it needs (a footer names
//! ranges), fetches them as it likes and hands them in as
//! [`RangedBytes`](periplus_block::source::RangedBytes). What lies in the bucket and what a query
//! does with it are not its concern.
//!
//! The one decision worth knowing: pages are encoded and decoded here, not by the parquet crate,
//! which only frames what is written. So every page carries a checksum (which that crate does not
//! write), nothing is allocated on the word of a file, and samples go from a decompressed page
//! straight into the engine's buffers. What is written uses plain, delta and dictionary encodings
//! that every tool knows, and tests read it with other implementations.

mod aggregate;
mod error;
mod names;
mod part;

mod schema;

mod write;

mod footer;

mod series;

mod histograms;
mod samples;

mod read;

mod fetch;

mod checksum;
mod column;
mod page;
mod thrift;

pub use aggregate::{AggregateHistogram, AggregateSamples, HistogramTotal};
pub use error::{ColumnarError, Place, Result};
pub use fetch::{Fetched, PartDir, PartSource, coalesce};
pub use footer::{Columns, Footer, split_matchers};
pub use histograms::{HistogramColumn, HistogramReader};
pub use names::NameFilter;
pub use page::crc32;
pub use part::{
    DAY_MS, Day, FORMAT_VERSION, FileSummary, PREFIX, PartFile, PartMeta, PartSummary, Resolution,
    WINDOW_MS, WINDOWS, stream_id,
};
/// The columns of an aggregated part are what Thanos's aggregate chunks hold, in that order.
pub use periplus_block::chunk::Aggregate;
pub use read::{PartReader, PartSeries, SeriesData, difference};
pub use samples::SampleReader;
pub use series::{SeriesTable, Window};
pub use write::{DirSinks, MemorySinks, PartWriter, Sinks, WriteOptions};
