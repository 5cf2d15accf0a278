//! The PromQL engine: parse, plan, execute.
pub mod parse;
