//! A sidecar beside real Prometheus servers: what it answers, and what it does when they misbehave.

mod exactness;
mod faults;
mod hot;
mod memory;
mod prometheus;
mod running;
mod store;
