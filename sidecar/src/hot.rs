//! The hot window: the newest minutes of this Prometheus, kept in our own memory by following its
//! write-ahead log, so that recent questions cost Prometheus nothing.
//!
//! [`Follower`] reads the log into a [`Window`] on a thread of its own; [`HotSource`] answers the
//! engine's selections from it, and first reads the log to its end, so that the answer holds whatever
//! Prometheus itself would have shown. The window knows from which time on it is whole
//! ([`Window::covered_from`]): a selection that reaches back further is refused with
//! [`SourceError::Unavailable`], and the caller takes another way. Everything that could make the
//! window differ from Prometheus (a deletion by hand, a sample out of order, a reference never
//! introduced, a log that was cut) moves that time forward or empties the window; nothing is guessed.

mod follow;
mod keep;
mod series;
mod source;
mod window;

pub(crate) use keep::Keeper;

pub use follow::{Follower, HotConfig, HotStatus};
pub use source::HotSource;
pub use window::Window;
