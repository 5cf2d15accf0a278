//! The HTTP API over real processes: the same JSON as the Prometheus behind it, what Grafana sends, real
//! clients, and hostile input.

mod clients;
mod compare;
mod fleet;
mod grafana;
mod hostile;
mod own;
mod setup;
mod table;
