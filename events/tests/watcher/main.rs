//! The watcher against what a real API server said: recordings, replayed byte for byte, and a server of our own
//! that serves recorded objects and fails on demand.

#![expect(clippy::unwrap_used, clippy::print_stderr, clippy::indexing_slicing, reason = "tests")]

mod faults;
mod kills;
mod longrun;
mod memory;
mod recording;
mod recordings;
mod replay;
mod rows;
