//! A simulated fleet of Kubernetes clusters: what kubelets, kube-state-metrics, node exporters and
//! applications would serve, with their real metric and label names, at any moment one asks for.
//!
//! In the order the simulation is built up: a [`Fleet`] names its [`Cluster`]s; a cluster has
//! nodes, which boot and reboot, and workloads, whose slots are filled by one pod after another
//! (rolled out, evicted, moved); a pod's container runs, crashes and runs again. From these lives
//! each exporter derives [`Series`]: labels, and segments of time in each of which the value is one
//! [`Signal`]. The same series come out in two forms: as the text a scrape would see
//! ([`exposition`]), and as the samples a Prometheus would have stored ([`Cluster::scraped`]),
//! with target labels, `up`, gaps and stale markers, for months at a time without running months.
//! The same lives give the Kubernetes events that kubelets and controllers write ([`Cluster::events`]).
//!
//! The one decision worth knowing: everything is a pure function of seed and time. Nothing is
//! stepped forward, so two processes, a test and a benchmark see the same fleet, and a counter at
//! any time costs the same few operations. To make that possible every rate is a sum of parts
//! whose integral is known in closed form (see `wave.rs`), so a counter is an integral and never a
//! running total. The price: a node's own CPU counters are not the exact sum of its pods', only of
//! the same size and rhythm.
//!
//! This crate opens no sockets and reads no clock; `periplus demo` serves it.

mod app;
mod cadvisor;
mod events;
pub mod exposition;
mod fleet;
mod life;
mod node_exporter;
pub mod remote_write;
mod samples;
mod series;
mod state_metrics;
mod wave;
mod workload;

pub use events::{EventWrite, Regarding};
pub use fleet::{Cluster, Fleet, FleetConfig, Target};
pub use samples::{ScrapeConfig, ScrapedSeries};
pub use series::{Family, Kind, Segment, Series, Signal};
