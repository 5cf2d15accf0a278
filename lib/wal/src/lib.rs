//! Reads Prometheus's write-ahead log while Prometheus writes it, so that the newest minutes of a
//! cluster can be asked without asking Prometheus.
//!
//! In the order the bytes take: a [`Segment`] is one file of 32 KiB pages, read fragment by fragment
//! up to where the writer stands, checked, joined and decompressed into records; [`decode`] turns a
//! record into calls on a [`Visitor`]; [`Tail`] begins at the newest checkpoint, walks the segments
//! and then follows the last one as it grows.
//!
//! What makes it exact: Prometheus writes and flushes a scrape's records before it makes the samples
//! visible to queries, and keeps in checkpoint and segments every sample not older than its head's
//! minimum time. So after [`Tail::poll`] returns, everything a query could have seen before the call
//! has been visited.
//!
//! What it is not: a repair tool. Anything unexpected (a bad checksum, a segment that shrank or
//! vanished) is an error; the caller forgets what it knows and opens a new [`Tail`].
//!
//! The layout is documented by Prometheus in `tsdb/docs/format/wal.md`; the reader here knows all
//! record types up to 3.14, start timestamps included. Numbers are big-endian unless varint.

mod cursor;
mod record;
mod segment;
mod tail;

pub use record::{RecordError, Visitor, decode};
pub use segment::{PAGE_BYTES, RECORD_BYTES_MAX, Segment};
pub use tail::Tail;

use std::path::PathBuf;

/// Why the log can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bytes are not a log's.
    #[error("{path} at byte {offset}: {reason}")]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A segment or checkpoint that was still to be read has been removed or cut: Prometheus
    /// truncated or repaired its log. Open a new tail.
    #[error("{path} is gone or was cut while being read; start over")]
    Gone {
        /// The segment.
        path: PathBuf,
    },
}
