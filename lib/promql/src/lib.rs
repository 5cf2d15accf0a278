//! The PromQL engine: parse, plan, execute. No network and no storage of its own.
//!
//! In the order a query meets them: [`parse`] turns text into a tree ([`parse::ast`]) with a position
//! on every node; [`plan`] resolves times (`@`, `offset`, subqueries, duration expressions) so that
//! every node knows the grid of evaluation times it is for, and `passes` rewrite that plan (constants,
//! step-invariant parts, common subexpressions, matchers, labels that matter, selectors); `exec` runs
//! it: blocks of series pulled from a [`source::Source`] flow through decode, range function and
//! aggregation in one go, on one worker per core, and what is left is combined as whole matrices by
//! `functions` and operators. [`engine`] is the door to all of it; [`partial`] takes aggregations apart
//! that span processes; [`limits`] counts what a query holds and stops it; [`annotations`] carry
//! Prometheus's warnings; [`explain`] shows plans and what they cost.
//!
//! It is not a server, and does not know where samples come from: live fan-out, history and tests
//! implement the same trait.
//!
//! The one decision worth knowing: results are columns over the whole grid of evaluation times
//! ([`value::StepSeries`]), not vectors per step. A series is decoded once, its window slides over
//! the samples while they are in cache, and an instant query is the same with a grid of one.
pub mod annotations;
pub mod engine;
mod exec;
pub mod explain;
mod functions;
pub mod limits;
pub mod parse;
pub mod partial;
mod passes;
pub mod plan;
pub mod script;
pub mod source;
pub mod value;
