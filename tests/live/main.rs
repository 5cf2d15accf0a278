//! The product as real processes beside real Prometheus servers: its answers, and its faults.

#![expect(clippy::print_stderr, reason = "tests speak to the person who runs them")]

mod api;
mod ask;
mod dashboards;
mod data;
mod deploy;
mod differential;
mod endpoint;
mod expressions;
mod faults;
mod fleet;
mod history;
mod limits;
mod network;
mod place;
mod process;
mod product;
mod prometheus;
mod promql;
mod rules;
mod secure;
mod standalone;
mod tiers;
mod traces;
