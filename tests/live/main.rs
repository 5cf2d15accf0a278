//! The product as real processes beside real Prometheus servers: its answers, and its faults.

mod ask;
mod data;
mod differential;
mod expressions;
mod process;
mod product;
mod prometheus;
