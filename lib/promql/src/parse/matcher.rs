//! From a matcher as written to one that can be asked.

use periplus_model::{Matcher, MatcherError};

use super::ast::LabelMatcher;

impl LabelMatcher {
    /// The matcher, its regular expression compiled. A value that is not UTF-8 is equal to none.
    ///
    /// # Errors
    /// A regular expression that compiles to too much; a malformed one was refused by the parser.
    pub fn compile(&self) -> Result<Matcher, MatcherError> {
        Matcher::from_bytes(self.name.as_str(), self.op, &self.value)
    }
}
