//! query
pub mod plan;
