//! The query layer over endpoints in this process, reached by real gRPC over loopback: exactness against
//! one source that holds everything, faults, and the HTTP API.

mod data;
mod exact;
#[path = "../../../tests/live/expressions.rs"]
mod expressions;
mod faults;
mod fleet;
mod history;
mod http;
mod sidecar;
