//! History as Parquet: what lies in the bucket for a stream and a day, and how it becomes series again.

mod aggregate;
mod checksum;
mod error;
mod fetch;
mod names;
mod page;
mod part;
mod schema;
mod thrift;
mod write;

pub use aggregate::{Aggregate, AggregateHistogram, AggregateSamples};
pub use error::{ColumnarError, Place, Result};
pub use fetch::{Fetched, PartDir, PartSource, coalesce};
pub use names::NameFilter;
pub use part::{
    DAY_MS, Day, FORMAT_VERSION, FileSummary, PREFIX, PartFile, PartMeta, PartSummary, Resolution,
    WINDOW_MS, WINDOWS, stream_id,
};
pub use write::{DirSinks, MemorySinks, PartWriter, Sinks, WriteOptions};
