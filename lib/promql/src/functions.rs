//! The functions, by family.

pub(crate) mod time;
