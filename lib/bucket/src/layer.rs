//! Wrappers around the one trait, each with one concern.
//!
//! [`count`] sees what callers ask and how it ended; below it [`retry`] bounds and repeats; [`cache`]
//! answers for objects that never change; [`fault`] breaks things, in tests.

pub mod cache;
pub mod count;
pub mod fault;
pub mod retry;
