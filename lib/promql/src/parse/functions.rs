//! The table of functions: names, argument and return types.

use super::ast::ValueType;

/// What the parser knows of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments, optional ones included.
    pub args: &'static [ValueType],
    /// How the last argument repeats: 0 not at all; n > 0 the last n may be left out; −1 the last
    /// may come any number of times.
    pub variadic: i32,
    /// What it returns.
    pub returns: ValueType,
    /// Whether Prometheus guards it with the experimental-functions flag.
    pub experimental: bool,
}
