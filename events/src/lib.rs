//! Every cluster's Kubernetes events in one view: none lost, none doubled.
//!
//! In the order an event takes: [`watch`] reads it from its cluster's API server, in a sidecar or alone;
//! [`event`] makes it one row, whichever API it came through; [`filter`] says whether it is worth keeping;
//! [`spool`] keeps it on disk until the hub has it; [`forward`] sends it, as [`wire`] says. In the centre
//! [`hub`] writes it to its [`log`] before it acknowledges, [`store`] keeps one row of it, in memory and then
//! in the bucket; [`search`] finds it again, for [`api`], [`loki`] and [`counters`] ([`promql`]). [`apiserver`] is a
//! Kubernetes API server for tests and the demo; nothing else knows of it.
//!
//! The one decision worth knowing: a row's states form a join ([`event::Event::merge`]). Whatever is repeated,
//! reordered or replayed on the way, the same row comes of it; so every part may send again what it is not sure
//! of, and only has to take care never to forget: positions are written after what lies before them, batches
//! stay until they are acknowledged, and what is lost all the same is a gap that reaches the hub.

pub mod api;
pub mod apiserver;
pub mod counters;
pub mod event;
pub mod filter;
pub mod forward;
pub mod hub;
pub mod log;
pub mod loki;
pub mod promql;
pub mod search;
pub mod spool;
pub mod store;
pub mod watch;
pub mod wire;

pub use event::{Event, EventError};
