//! Compaction of real and of made-up buckets: exact, whatever dies, breaks or lies.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests skip aloud and fail loudly")]

mod corrupt;
mod erase;
mod faults;
mod killed;
mod made_up;
mod memory;
mod progress;
mod s3;
mod thanos;
mod truth;
mod two;
mod verified;
#[path = "../../../lib/bucket/tests/weed/server.rs"]
mod weed;
