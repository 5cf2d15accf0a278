//! Rules: alerts and recorded series out of questions about the whole fleet.
//!
//! In the order a rule takes: [`mod@file`] reads Prometheus's rule files, unchanged; [`rule`] is what they
//! say; [`depend`] finds which rules of a group may be evaluated at once; [`group`] evaluates a group at
//! a time, by an [`Evaluator`] ([`local`]: in this process; [`mod@http`]: a query process elsewhere), turning
//! samples into alerts with [`template`] and `expand`; [`alert`] is what becomes of alerts. [`schedule`] says
//! when, [`manager`] runs all groups and loads files anew, [`state`] keeps alerts over restarts, [`notify`]
//! tells Alertmanagers, [`head`] holds the series that rules gave, [`blocks`] puts them on disk and into the bucket and
//! [`remote`] sends them on, [`serve`], [`wire`] and [`page`] show all of it, and [`service`] puts the parts together. [`unit`] runs promtool's unit tests of rules over the same
//! parts with simulated time.
//!
//! It does not know where the fleet is and holds no samples but those that rules gave.
//!
//! The one decision worth knowing: everything that decides about an alert is a function of its past, the
//! answer and the time of evaluation, without I/O and without a clock. So the same code runs in
//! production, under simulated time against Prometheus's own, and in two processes at once with the
//! same result.

pub mod alert;
pub mod blocks;
pub mod depend;
mod evaluate;
mod expand;
pub mod file;
pub mod group;
pub mod head;
mod histogram;
pub mod http;
pub mod local;
pub mod manager;
pub mod metrics;
pub mod notify;
pub mod page;
pub mod remote;
pub mod rule;
pub mod schedule;
pub mod serve;
pub mod service;
pub mod state;
pub mod template;
pub mod unit;
pub mod wire;

#[cfg(test)]
mod tests;

pub use evaluate::{
    Answer, Answering, EvaluateError, Evaluator, Notify, Point, Refused, Sample, SampleValue,
    Silent, Sink,
};

/// The time now, Unix milliseconds.
#[must_use]
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
