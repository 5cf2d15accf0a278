//! A sidecar beside real Prometheus servers: what it answers, and what it does when they misbehave.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![expect(clippy::print_stderr, reason = "what is skipped and measured is told")]

mod exactness;
mod faults;
mod hot;
mod memory;
mod prometheus;
mod running;
mod store;
