//! The watcher against what a real API server said: recordings, replayed byte for byte, and a server of our own
//! that serves recorded objects and fails on demand.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod faults;
#[expect(dead_code, reason = "the hub's own tests use more of it")]
#[path = "../hub/process.rs"]
mod hub;
mod kills;
mod longrun;
mod memory;
mod recording;
mod recordings;
mod replay;
mod rows;
mod whole;

/// The hub's process; nothing unless it is asked to be one.
#[test]
fn child() {
    hub::child();
}
