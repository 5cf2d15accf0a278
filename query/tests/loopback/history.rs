//! Answers from a bucket: alone, compared with what Prometheus said about the same blocks; together with
//! live endpoints, compared with one source that holds everything; and over files that are broken.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail loudly and tell their figures"
)]

mod blocks;
mod convert;
mod faults;
mod raw;
mod recorded;
mod seam;
#[cfg(feature = "sql")]
mod sql;
