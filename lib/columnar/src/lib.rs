//! History as Parquet: what lies in the bucket for a stream and a day, and how it becomes series again.
//!
//! One day of one stream at one resolution is a set of Parquet files that any tool can read; this crate
//! writes them from series, prunes them by matchers and time, and reads them back bit for bit. It does no
//! I/O of its own: bytes in, bytes out.
