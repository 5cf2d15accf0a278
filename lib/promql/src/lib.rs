//! The PromQL engine: parse, plan, execute.
pub mod parse;
pub mod source;
pub mod value;
