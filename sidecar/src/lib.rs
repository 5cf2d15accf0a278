//! The sidecar: stands beside a cluster's Prometheus and answers questions about it.
//!
//! In the order a question meets the parts: [`live`] serves gRPC (`thanos.Store`, `thanos.Query`,
//! `thanos.info.Info` and our own `periplus.fleet.v1.Fleet`); [`external`] decides matchers on external labels
//! and puts those labels on series; `read` streams series out of remote read, and [`order`] brings them in the
//! right order once external labels are on them; `execute` evaluates subtrees, in Prometheus's own API where
//! that is exact and in `periplus-promql` over remote read where it is not, after
//! [`hot`], the newest minutes in our own memory; [`prometheus`] talks to the
//! Prometheus and watches its labels, health, lag and gaps.
//!
//! It is not a store: it holds no samples, and what streams through it is bounded by what the client
//! takes.
//!
//! The one decision worth knowing: nothing is ever collected to be sorted or evaluated when it can flow. The
//! order of series changes when labels are added, and other sidecars read whole answers to sort them anew and
//! run out of memory; here only chains of prefixes wait, a handful of series at most. Only where series carry
//! external labels themselves, which is a mistake of configuration and reported as such, they are sorted,
//! within a bound.

mod config;
mod execute;
mod external;
pub mod hot;
pub mod live;
mod metrics;
mod order;
pub mod prometheus;
mod read;
mod service;
pub mod ship;

pub use config::{Access, Config, EvaluateIn, RequestLimits};
pub use service::{Bound, Sidecar, SidecarError, build, run};
