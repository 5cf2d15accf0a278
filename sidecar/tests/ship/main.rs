//! Shipping, against stores that break, processes that die, and the real Prometheus and S3.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests skip aloud and fail loudly")]

mod blocks;
mod faults;
mod head;
mod killed;
#[path = "../live/prometheus.rs"]
#[allow(dead_code, unreachable_pub, clippy::print_stderr, reason = "shared with the other tests")]
mod prometheus;
mod real;
mod rules;
#[path = "../../../lib/bucket/tests/weed/server.rs"]
mod weed;
