//! The watcher: from a cluster's API server into the spool.
//!
//! [`Watcher::run`] lists, watches on from where the list stood, and lists again when it must. What it does not
//! do is trust a stream to be alive because it is open, a list to have been short enough ago, or a position
//! because it is on disk. kube brings connections and credentials; its own watcher keeps no position across
//! restarts, shows no gaps and goes on with a list's expired token, so the states here are ours:
//!
//! ```text
//!            ┌────────── expired (410), restored, aged, asked ───────┐
//!            ▼                                                       │
//! start ─► List ── all pages at one resourceVersion ─► Watch ──ends──┤
//!            ▲  └ a page's token expired: anew            ▲          │
//!            └── no cursor on disk                        └──resume──┘
//! ```
//!
//! - [`object`] reads what the server sends, [`split`] cuts bodies into objects, [`api`] asks.
//! - [`run`] is the machine; [`cursor`] is where it stands, on disk; [`seen`] spares repeats.
//! - [`lease`] elects one of several replicas; [`enrich`] looks up owners beside the way.
//! - [`service`] builds all of it from settings.

pub mod api;
pub mod backoff;
pub mod cursor;
pub mod enrich;
pub mod lease;
pub mod metrics;
pub mod object;
pub mod run;
pub mod seen;
pub mod service;
pub mod split;

use std::time::Duration;

use crate::event::Event;
use crate::wire::Gap;

pub use metrics::WatchMetrics;
pub use run::{Start, Watcher};

/// Where rows go: the spool. The calls may block on a disk; the watcher makes them on threads for that.
pub trait Sink: Send + Sync + 'static {
    /// Takes rows. Once it returns they survive the process; once [`sync`](Self::sync) returned, the machine.
    ///
    /// # Errors
    /// None of them may have been taken; the watcher then goes back to where it stood before.
    fn append(&self, events: Vec<Event>) -> std::io::Result<()>;

    /// Takes a gap.
    ///
    /// # Errors
    /// It was not recorded; the watcher tries again with the next list.
    fn gap(&self, gap: Gap) -> std::io::Result<()>;

    /// Makes all that was taken durable.
    ///
    /// # Errors
    /// It is not.
    fn sync(&self) -> std::io::Result<()>;
}

/// How the state at the beginning is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum InitialList {
    /// As a stream where the server's version has it, else in pages.
    #[default]
    Auto,
    /// In pages.
    Pages,
    /// As a stream (sendInitialEvents).
    Stream,
}

/// How a watcher behaves.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// The cluster's name, in every row.
    pub cluster: String,
    /// What positions belong to: the server's address and the namespace.
    pub scope: String,
    /// Longest message kept, in bytes.
    pub message_bytes: usize,
    /// Events in a page of a list.
    pub page_events: u32,
    /// How the state is read.
    pub initial: InitialList,
    /// How long one watch lasts; each takes four fifths to all of it. Below the five minutes after which API
    /// servers compact what is older.
    pub watch_timeout: Duration,
    /// How long after that the server may take to end it.
    pub watch_grace: Duration,
    /// How long a watch may be silent before the server is asked whether it and its storage live.
    pub probe_after: Duration,
    /// A position older than this is not resumed from when a watch ends in order: it is about to expire.
    pub position_age_max: Duration,
    /// The state is listed again after this time, whatever the watch says.
    pub relist_after: Duration,
    /// Rows remembered so that lists need not send them again.
    pub seen_rows: usize,
    /// Gaps shorter than this are not recorded.
    pub gap_least: Duration,
    /// Shortest and longest delay after failures.
    pub backoff: (Duration, Duration),
    /// How often the position is written to disk.
    pub cursor_every: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            scope: String::new(),
            message_bytes: crate::event::MESSAGE_BYTES,
            page_events: 500,
            initial: InitialList::Auto,
            watch_timeout: Duration::from_secs(270),
            watch_grace: Duration::from_secs(30),
            probe_after: Duration::from_secs(30),
            position_age_max: Duration::from_secs(240),
            relist_after: Duration::from_secs(30 * 60),
            seen_rows: 100_000,
            gap_least: Duration::from_secs(1),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            cursor_every: Duration::from_secs(1),
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
