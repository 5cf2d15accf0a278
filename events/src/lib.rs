//! Every cluster's Kubernetes events in one view: none lost, none doubled.
//!
//! A watcher beside each cluster's sidecar reads the API server's events into a spool on disk and forwards
//! them; the hub in the centre logs, merges, keeps and searches them.

pub mod event;
pub mod wire;

pub use event::{Event, EventError};
