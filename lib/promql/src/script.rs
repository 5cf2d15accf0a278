//! Test scripts: Prometheus's own language for saying "with this data, this query gives that".
//!
//! A script loads series, evaluates queries over them and says what they must give; the engine is
//! exact when every script of Prometheus holds, and users write scripts for their own queries and
//! rules. In the order a script takes: `syntax` cuts the text into commands; `series` and `items`
//! read series with their values, `literal` histograms; `load` and `eval` make commands of the
//! blocks. [`run`] carries them out: `store` holds the loaded samples as Prometheus's storage would
//! hand them out, `rerun` thinks up the evaluations that must agree with the written one (pinned by
//! `@`, at other times, as one step of a range), `compare` says what differs, and a [`Report`] tells
//! people.
//!
//! Unlike Prometheus's runner, which ends at the first thing that differs, this one goes on, so that
//! a report tells all of it.

mod compare;
mod eval;
mod items;
mod literal;
mod load;
mod report;
mod rerun;
mod run;
mod series;
mod store;
mod syntax;

#[cfg(test)]
mod tests;

pub use report::{Failure, Report};
pub use run::{Runner, run};
pub use series::{StepValue, parse_series};
pub use store::{Store, StoreError};
pub use syntax::{Script, ScriptError, parse};
