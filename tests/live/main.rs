//! The product as real processes beside real Prometheus servers: its answers, and its faults.

mod ask;
mod data;
mod differential;
mod endpoint;
mod expressions;
mod faults;
mod fleet;
mod limits;
mod network;
mod place;
mod process;
mod product;
mod prometheus;
mod tiers;
